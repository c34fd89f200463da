// The slider: which trial a budget buys, and the command that exports it.

const STEPS = 200;

// The last trial of the front that costs no more: the best, since the measure improves along it.
function bestWithin(gflops) {
  let best = null;
  for (const row of frontRows()) if (T.gflops[row] <= gflops) best = row;
  return best;
}

function budgetScale() {
  const members = frontRows().map((row) => T.gflops[row]).filter((gflops) => gflops > 0);
  if (!members.length) return null;
  const [low, high] = extent(members);
  // From a little below the cheapest, where nothing is bought, to the dearest.
  return logScale([low / (high / low) ** 0.03 / 1.02, high], [0, STEPS]);
}

function drawBudget() {
  const scale = budgetScale();
  if (!scale) return fill($("budget"), node("p", { class: "muted", text: "No trial has finished yet." }));
  S.budget ??= T.gflops[recommended()];
  const slider = node("input", { type: "range", id: "slider", min: 0, max: STEPS, step: 1, "aria-describedby": "bought" });
  const number = node("input", { type: "number", id: "exact", min: 0, step: "any", inputmode: "decimal" });
  fill($("budget"),
    node("label", { for: "slider", text: "Highest cost of one image" }), slider,
    node("label", { class: "exact" }, number, ` ${D.unit}`),
    node("div", { id: "bought" }));
  number.setAttribute("aria-label", `Highest cost of one image in ${D.unit}`);
  slider.addEventListener("input", () => setBudget(Number(slider.value) >= STEPS ? scale.domain[1] : scale.invert(Number(slider.value)), slider));
  number.addEventListener("input", () => Number(number.value) >= 0 && number.value !== "" && setBudget(Number(number.value) / D.scale, number));
  setBudget(S.budget);
}

function setBudget(gflops, from = null) {
  S.budget = gflops;
  const scale = budgetScale(), slider = $("slider"), number = $("exact"), row = bestWithin(gflops);
  if (from !== slider) slider.value = Math.round(scale(Math.max(gflops, scale.domain[0])));
  if (from !== number) number.value = plain(gflops * D.scale, 6);
  slider.setAttribute("aria-valuetext", `${cost(gflops)}: ${known(row) ? titleOf(row) : "no trial is this cheap"}`);
  fill($("bought"), ...boughtOf(row));
  drawOver();
}

function boughtOf(row) {
  if (!known(row)) return [node("p", { class: "pick", text: "No trial of the front is this cheap." })];
  const run = D.runs[T.run[row]], times = fewer(row);
  const second = D.measures.find(({ key }) => key === D.objective.key.replace("val_", "test_"));
  return [
    node("p", { class: "pick" }, swatch(T.method[row]), node("strong", { text: titleOf(row) })),
    node("p", { class: "figures" },
      node("span", { class: "big", text: measured(T[D.objective.key][row], D.objective.key) }), ` ${measureOf(D.objective.key).label.replace(" (%)", "")}`,
      second ? ` · ${measured(T[second.key][row], second.key)} ${second.label.replace(" (%)", "")}` : ""),
    node("p", { class: "figures", text: `${cost(T.gflops[row])}${times ? `, ${plain(times, 3)}× fewer than dense` : ""}` }),
    commandLine(`st3sweep export ${run.path} ${T.trial[row]}`),
    run.exportable ? null : node("p", { class: "note", text: "This folder holds tables only; the export needs the whole run, with its checkpoints." }),
    node("button", { type: "button", class: "quiet", text: "Open this trial", onclick: () => select(row, { scroll: true }) }),
  ];
}

// The cheapest trial within a point of the best accuracy; the best one for other measures.
function recommended() {
  const rows = frontRows(), last = rows[rows.length - 1];
  if (D.objective.key !== "val_top1") return last;
  return rows.find((row) => T.val_top1[row] >= T.val_top1[last] - 1);
}
