// What is mostly text: figures at the top, summary, what the front beats, importance, where the numbers come from.

function drawHead() {
  $("title").textContent = D.title;
  document.title = `${D.title} · st3sweep report`;
  $("subtitle").textContent = D.runs.map((run) => run.label).join(", ");
  fill($("summary"), ...D.summary.map((text) => node("p", { text })));
  $("made").textContent = `Written by st3sweep ${D.version} on ${D.made}. Accuracies are in percent of top-1, costs are multiply-accumulates of one image, of which those with a zero weight are left out.`;
  $("front-says").textContent = `Each mark is a finished trial. Rings are the front: no other trial is better in ${measureOf(D.objective.key).label.replace(" (%)", "")} and costs no more.`;
  drawTiles();
}

function drawTiles() {
  const rows = frontRows(), ended = Map.groupBy(T.status, (status) => status);
  const tiles = [["trials", count.toLocaleString("en"), ["finished", "stopped", "failed", "running"].filter((state) => ended.has(state)).map((state) => `${ended.get(state).length} ${state}`).join(", ")]];
  if (rows.length) {
    const best = rows[rows.length - 1], chosen = recommended(), key = D.objective.key;
    tiles.push(["on the front", rows.length, `${cost(T.gflops[rows[0]], 3)} to ${cost(T.gflops[best], 3)}`]);
    tiles.push(["most accurate", measured(T[key][best], key), `${nameAndTest(best)} at ${cost(T.gflops[best], 3)}`]);
    if (chosen !== best) tiles.push(["cheapest within 1 point", cost(T.gflops[chosen], 3), `${measured(T[key][chosen], key)}, ${nameAndTest(chosen)}`]);
  }
  const seconds = T.wall_seconds.reduce((sum, value, row) => sum + (known(T.reused_from[row]) ? 0 : value ?? 0), 0);
  if (seconds) tiles.push(["training time", duration(seconds), "sum over all trials"]);
  fill($("tiles"), ...tiles.map(([name, value, more]) => node("div", { class: "tile" }, node("p", { class: "tile-name", text: name }), node("p", { class: "tile-value", text: value }), node("p", { class: "muted", text: more }))));
}

function nameAndTest(row) {
  const key = D.objective.key.replace("val_", "test_");
  return `trial ${nameOf(row)}${known(T[key]?.[row]) ? `, test ${measured(T[key][row], key)}` : ""}`;
}

const FEW = 6;  // sentences about published points that are open
function drawMore() {
  const parts = [];
  if (D.importance?.length) parts.push(importanceSection());
  if (D.against.length)
    parts.push(node("section", { "aria-labelledby": "h-against" }, node("h2", { id: "h-against", text: "Against published points" }),
      node("p", { class: "muted", text: "Test accuracies. One point beats another if it costs no more and is more accurate, with 95 % confidence over seeds." }),
      node("div", { class: "card" }, node("ul", { class: "prose" }, ...D.against.slice(0, FEW).map((text) => node("li", { text }))),
        D.against.length > FEW ? node("details", {}, node("summary", { text: `${D.against.length - FEW} more` }), node("ul", { class: "prose" }, ...D.against.slice(FEW).map((text) => node("li", { text })))) : null)));
  fill($("more"), ...parts);
}

// Bars of how much each setting tells about a measure, with where 95 % of the forests are.
function importanceSection() {
  const groups = D.importance.map(({ of, r2, trials, why_none: none, settings, more }) => {
    const most = greatest(settings.flatMap(({ importance, high }) => [importance, high])) || 1;
    const rows = settings.map(({ setting, importance, low, high, verdict }) => {
      const bar = node("span", { class: `bar${verdict === "matters" ? "" : " weak"}` }), whisker = node("span", { class: "whisker" });
      const at = (value) => `${(100 * Math.max(0, value)) / most}%`;
      bar.style.width = at(importance);
      whisker.style.left = at(low);
      whisker.style.width = `${(100 * (Math.max(0, high) - Math.max(0, low))) / most}%`;
      return node("tr", {}, node("th", { scope: "row" }, ...setting.split(/(?<=[._])/).flatMap((part) => [part, node("wbr")])), node("td", { class: "track" }, node("div", { class: "range" }, bar, whisker)),
        node("td", { class: "number", text: fixed(importance, 2) }), node("td", { text: verdict }));
    });
    return node("div", { class: "card" }, node("h3", { text: `${of[0].toUpperCase()}${of.slice(1)}` }),
      none ? node("p", { class: "muted", text: `Not computed: ${none}.` }) : node("div", { class: "importance" }, node("table", {},
        node("thead", {}, node("tr", {}, ...["setting", "", "share", "verdict"].map((text) => node(text ? "th" : "td", text ? { scope: "col", text } : {})))), node("tbody", {}, ...rows))),
      none ? null : node("p", { class: "note", text: `${several(trials, "trial", "trials")}; the settings explain ${percent(100 * Math.max(0, r2), 0)} of the variance of trials held out.${more ? ` ${several(more, "less important setting is", "less important settings are")} not shown.` : ""}` }));
  });
  return node("section", { "aria-labelledby": "h-importance" }, node("h2", { id: "h-importance", text: "Which settings matter" }),
    node("p", { class: "muted", text: "By how much a random forest errs more when a setting is shuffled, as a fraction of the variance; lines span 95 % of 20 forests. Without a verdict “matters”, these trials do not tell the setting from noise." }),
    node("div", { class: "groups" }, ...groups));
}

function drawOrigin() {
  fill($("origin"), ...D.runs.map((run) => node("div", { class: "card run" },
    D.runs.length > 1 ? node("h3", { text: run.label }) : null,
    node("p", {}, "Folder ", node("code", { text: run.path })),
    run.provenance.length ? node("dl", { class: "facts" }, ...run.provenance.flatMap(([name, value]) => [node("dt", { text: name }), node("dd", { text: value })]))
      : node("p", { class: "muted", text: "The folder holds tables only: what it ran on is not recorded here." }),
    ...run.reproduce.map(([says, command]) => node("div", {}, node("p", { class: "note", text: says }), commandLine(command))),
    run.space ? node("details", {}, node("summary", { text: "Search space" }), node("pre", { tabindex: "0", text: run.space })) : null)));
}
