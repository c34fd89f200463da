// Put everything on the page, and keep it current while a sweep runs.

function drawAll() {
  shade.clear();
  S.measure = D.measures.some(({ key }) => key === S.measure) ? S.measure : D.objective.key;
  drawHead();
  drawControls();
  drawLegend();
  drawFront();
  drawBudget();
  drawTrial();
  drawTable();
  drawTimeline();
  drawMore();
  drawOrigin();
}

function segment(group, options, chosen, change) {
  return options.map(([value, label]) => {
    const input = node("input", { type: "radio", name: group, value, checked: value === chosen });
    input.addEventListener("change", () => change(value));
    return node("label", {}, input, node("span", { text: label }));
  });
}

function drawControls() {
  const short = ({ key, label }) => (key === "val_top1" ? "validation" : key === "test_top1" ? "test" : label);
  fill($("measures"), ...segment("measure", D.measures.map((measure) => [measure.key, short(measure)]), S.measure, (key) => {
    S.measure = key;
    if (key !== "test_top1") S.published = $("published").checked = false;
    drawFront();
  }));
  fill($("scales"), ...segment("scale", [["log", "logarithmic"], ["linear", "linear"]], S.log ? "log" : "linear", (value) => {
    S.log = value === "log";
    drawFront();
  }));
  const costs = Object.keys(D.byCost), named = { gflops: "FLOPs", latency_ms: "time", size_mb: "size" };
  $("cost-choice").hidden = costs.length < 2;
  fill($("costs"), ...segment("cost", costs.map((key) => [key, named[key]]), S.cost, (key) => {
    takeCost(key);
    S.budget = null;
    S.published = $("published").checked = false;
    drawAll();
  }));
  $("published-label").hidden = S.cost !== "gflops" || !D.published.some((point) => known(point.gflops));
}

function drawLegend() {
  const trials = Map.groupBy(T.method.filter((_, row) => T.status[row] === "finished"), (name) => name);
  const names = D.methods.filter(({ name }) => trials.has(name) || (S.published && D.published.some(({ method }) => method === name)));
  const boxes = names.map(({ name }) => {
    const box = node("input", { type: "checkbox", value: name, checked: !S.hidden.has(name) });
    box.addEventListener("change", () => { S.hidden[box.checked ? "delete" : "add"](name); drawFront(); });
    return node("label", { class: "check" }, box, swatch(name, !trials.has(name)), node("span", { class: "clip", text: name }), node("span", { class: "muted", text: trials.has(name) ? ` ${trials.get(name).length}` : " published" }));
  });
  const all = (shown) => { S.hidden = new Set(shown ? [] : names.map(({ name }) => name)); drawLegend(); drawFront(); };
  fill($("legend"), ...boxes, ...(names.length > 2 ? [
    node("button", { type: "button", class: "quiet", text: "Show all", onclick: () => all(true) }),
    node("button", { type: "button", class: "quiet", text: "Hide all", onclick: () => all(false) })] : []));
}

function listen() {
  listenFront();
  $("published").addEventListener("change", () => {
    S.published = $("published").checked;
    if (S.published) S.measure = "test_top1";  // published points are test accuracies
    drawControls();
    drawLegend();
    drawFront();
  });
  const themes = [["light dark", "Theme: automatic"], ["light", "Theme: light"], ["dark", "Theme: dark"]];
  let theme = 0;
  const redraw = () => { shade.clear(); drawFront(); };
  $("theme").addEventListener("click", () => {
    theme = (theme + 1) % themes.length;
    document.documentElement.style.colorScheme = themes[theme][0];
    $("theme").textContent = themes[theme][1];
    redraw();
  });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth === width) return;
    width = window.innerWidth;
    hover(null);
    drawFront();
    drawTrial();
    drawTimeline();
  });
  document.querySelector("#copy-summary").replaceWith(copyButton(() => [D.title, ...D.summary].join("\n\n"), "Copy the summary"));
}

// Take newer data, and keep what the reader has chosen.
function renew(data) {
  const chosen = known(S.selected) ? keyOf(S.selected) : null;
  const focused = document.activeElement?.id;
  takeData(data);
  front.hovered = null;
  S.selected = chosen === null ? null : range(0, count).find((row) => keyOf(row) === chosen) ?? null;
  drawAll();
  if (focused) $(focused)?.focus({ preventScroll: true });
}

async function follow() {
  const label = $("live");
  let tag = null, state = "";
  label.hidden = false;
  for (;;) {
    try {
      const answer = await fetch("data.json", { headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store" });
      if (answer.status === 200) {
        tag = answer.headers.get("ETag");
        renew(await answer.json());
      }
      state = answer.headers.get("X-Run-State") ?? state;
      label.textContent = state === "running" ? "● live: the sweep is running" : `● live: ${state}`;
    } catch {
      label.textContent = "The server has ended; this is the last state.";
    }
    await new Promise((done) => setTimeout(done, 2000));
  }
}

takeData(JSON.parse($("data").textContent));
startTable();
listen();
if (count) S.selected = recommended() ?? null;
drawAll();
document.documentElement.dataset.ready = "yes";
if (document.documentElement.dataset.live === "yes") follow();
