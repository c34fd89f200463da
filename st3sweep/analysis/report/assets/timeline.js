// The course of the sweep: how long each trial trained and how it ended, and how the front grew.

const STATES = { finished: ["m0", 0], stopped: ["m1", 9], failed: ["m7", 3], running: ["m11", 4] };

function drawTimeline() {
  const { ended, hypervolume } = D.timeline, where = $("timeline");
  const timed = ended.some(known), rows = d3.range(count).filter((row) => !timed || known(ended[row]));
  const says = timed || T.status.some((status) => status !== "finished");  // else all bars are equal
  $("s-timeline").hidden = rows.length < 2 || !says;
  if ($("s-timeline").hidden) return;
  const unit = timed ? timeUnit(d3.max(ended)) : null;
  const at = (row) => (timed ? ended[row] / unit[1] : row);
  const width = Math.max(280, where.clientWidth), height = 240;
  const x = d3.scaleLinear([timed ? 0 : -0.5, d3.max(rows, at) * 1.01 || 1], [MARGIN.left, width - MARGIN.right]);
  const y = d3.scaleLinear([0, d3.max(rows, (row) => T.epochs[row]) * 1.08 || 1], [height - MARGIN.bottom, MARGIN.top]);
  const svg = d3.select(document.createElementNS(SVG, "svg"));
  const xLabel = timed ? `wall time at the trial's end (${unit[0]})` : "trial";
  drawAxes(svg, { x, y, width, height, xTicks: x.ticks(width / 90), yTicks: y.ticks(4).filter(Number.isInteger), xLabel, yLabel: "epochs trained" });
  const stems = rows.length <= 400;
  for (const [state, [shadeName, marker]] of Object.entries(STATES)) {
    const own = rows.filter((row) => T.status[row] === state);
    if (!own.length) continue;
    const symbol = d3.symbol(MARKERS[marker][0], stems ? 34 : 12)(), turn = MARKERS[marker][1];
    if (stems) svg.append("path").attr("class", `stem stroke-${shadeName}`).attr("d", own.map((row) => `M${x(at(row)).toFixed(1)} ${y(0)}V${y(T.epochs[row]).toFixed(1)}`).join(""));
    const marks = svg.append("g").attr("class", `fill-${shadeName}`);
    if (stems) own.forEach((row) => marks.append("path").attr("d", symbol).attr("transform", `translate(${x(at(row)).toFixed(1)} ${y(T.epochs[row]).toFixed(1)}) rotate(${turn})`));
    else marks.append("path").attr("d", own.map((row) => `M${(x(at(row)) - 1.5).toFixed(1)} ${(y(T.epochs[row]) - 1.5).toFixed(1)}h3v3h-3z`).join(""));
  }
  const states = Object.keys(STATES).filter((state) => T.status.includes(state));
  fill(where, svg.node(), node("p", { class: "note key-line" }, ...states.flatMap((state) => {
    const mark = d3.create("svg").attr("viewBox", "-8 -8 16 16").attr("class", "swatch").attr("aria-hidden", "true");
    mark.append("path").attr("d", markerPath(STATES[state][1], 80)).attr("transform", `rotate(${MARKERS[STATES[state][1]][1]})`).attr("class", `fill-${STATES[state][0]}`);
    return [mark.node(), `${state}: ${T.status.filter((one) => one === state).length}  `];
  })), timed && hypervolume.some(known) ? growth(rows, x, at, width, unit) : null);
  if (D.rungs.length) where.append(rungs());
  $("timeline-says").textContent = timed
    ? "Epochs that each trial trained, at the time when it was over; below, the area under the front by then."
    : "Epochs that each trial trained. The folder holds no ledger, so trials stand in the order of their numbers.";
}

const rungs = () => node("table", { class: "rungs" }, node("caption", { class: "note", text: "Early stopping" }),
  node("thead", {}, node("tr", {}, ...["rung", "trials that reached it", "stopped there", "trained by then"].map((text) => node("th", { scope: "col", text })))),
  node("tbody", {}, ...D.rungs.map(({ rung, reached, stopped, trained }) => node("tr", {}, node("th", { scope: "row", text: `${rung}` }), node("td", { text: `${reached}` }),
    node("td", { text: `${stopped} (${percent((100 * stopped) / reached, 0)})` }), node("td", { text: known(trained) ? percent(100 * trained, 0) : "–" })))));

const timeUnit = (seconds) => (seconds >= 7200 ? ["hours", 3600] : seconds >= 120 ? ["minutes", 60] : ["seconds", 1]);

function growth(rows, x, at, width, unit) {
  const height = 190, svg = d3.select(document.createElementNS(SVG, "svg"));
  const byRun = d3.group(d3.sort(rows.filter((row) => known(D.timeline.hypervolume[row])), at), (row) => T.run[row]);
  const values = [...byRun.values()].flat().map((row) => D.timeline.hypervolume[row] * D.scale);
  const y = d3.scaleLinear([0, d3.max(values) * 1.08 || 1], [height - MARGIN.bottom, MARGIN.top]);
  drawAxes(svg, { x, y, width, height, xTicks: x.ticks(width / 90), yTicks: y.ticks(4), xLabel: `wall time (${unit[0]})`, yLabel: "hypervolume" });
  [...byRun].forEach(([run, own], i) => {
    const line = d3.line().x((row) => x(at(row))).y((row) => y(D.timeline.hypervolume[row] * D.scale)).curve(d3.curveStepAfter)(own);
    svg.append("path").attr("class", "curve").attr("d", line).attr("class", `curve stroke-m${i % COLORS}`);
    const last = own[own.length - 1];
    if (byRun.size > 1) svg.append("text").attr("class", "ticks-own").attr("x", Math.min(x(at(last)), width - 8)).attr("y", y(D.timeline.hypervolume[last] * D.scale) - 5).attr("text-anchor", "end").text(D.runs[run].label);
  });
  return node("figure", {}, svg.node(), node("figcaption", { class: "note", text: `Hypervolume of the front of validation accuracy over cost (% × ${D.unit}), against 0 % at the cost of the dense model.` }));
}
