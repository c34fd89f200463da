// The course of the sweep: how long each trial trained and how it ended, and how the front grew.

const STATES = { finished: ["m0", 0], stopped: ["m1", 9], failed: ["m7", 3], running: ["m11", 4] };

function drawTimeline() {
  const { ended, hypervolume } = D.timeline, where = $("timeline");
  const timed = ended.some(known), rows = range(0, count).filter((row) => !timed || known(ended[row]));
  const says = timed || T.status.some((status) => status !== "finished");  // else all bars are equal
  $("s-timeline").hidden = rows.length < 2 || !says;
  if ($("s-timeline").hidden) return;
  const unit = timed ? timeUnit(greatest(ended)) : null;
  const at = (row) => (timed ? ended[row] / unit[1] : row);
  const width = Math.max(280, where.clientWidth), height = 240;
  const x = linearScale([timed ? 0 : -0.5, greatest(rows.map(at)) * 1.01 || 1], [MARGIN.left, width - MARGIN.right]);
  const y = linearScale([0, greatest(rows.map((row) => T.epochs[row])) * 1.08 || 1], [height - MARGIN.bottom, MARGIN.top]);
  const svg = newSvg();
  const xLabel = timed ? `wall time at the trial's end (${unit[0]})` : "trial";
  drawAxes(svg, { x, y, width, height, xTicks: x.ticks(width / 90), yTicks: y.ticks(4).filter(Number.isInteger), xLabel, yLabel: "epochs trained" });
  const stems = rows.length <= 400;
  for (const [state, [shadeName, marker]] of Object.entries(STATES)) {
    const own = rows.filter((row) => T.status[row] === state);
    if (!own.length) continue;
    const mark = markerPath(marker, 34), turn = MARKERS[marker][1];
    if (stems) draw(svg, "path", { class: `stem stroke-${shadeName}`, d: own.map((row) => `M${x(at(row)).toFixed(1)} ${y(0)}V${y(T.epochs[row]).toFixed(1)}`).join("") });
    const marks = draw(svg, "g", { class: `fill-${shadeName}` });
    if (stems) own.forEach((row) => draw(marks, "path", { d: mark, transform: `translate(${x(at(row)).toFixed(1)} ${y(T.epochs[row]).toFixed(1)}) rotate(${turn})` }));
    else draw(marks, "path", { d: own.map((row) => `M${(x(at(row)) - 1.5).toFixed(1)} ${(y(T.epochs[row]) - 1.5).toFixed(1)}h3v3h-3z`).join("") });
  }
  const states = Object.keys(STATES).filter((state) => T.status.includes(state));
  fill(where, svg, node("p", { class: "note key-line" }, ...states.flatMap((state) => {
    const [shadeName, marker] = STATES[state];
    return [markerAlone(marker, 80, `fill-${shadeName}`), `${state}: ${T.status.filter((one) => one === state).length}  `];
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
  const height = 190, svg = newSvg();
  const byRun = Map.groupBy(rows.filter((row) => known(D.timeline.hypervolume[row])).sort((a, b) => at(a) - at(b)), (row) => T.run[row]);
  const values = [...byRun.values()].flat().map((row) => D.timeline.hypervolume[row] * D.scale);
  const y = linearScale([0, greatest(values) * 1.08 || 1], [height - MARGIN.bottom, MARGIN.top]);
  drawAxes(svg, { x, y, width, height, xTicks: x.ticks(width / 90), yTicks: y.ticks(4), xLabel: `wall time (${unit[0]})`, yLabel: "hypervolume" });
  [...byRun].forEach(([run, own], i) => {
    const line = linePath(own.map((row) => [x(at(row)), y(D.timeline.hypervolume[row] * D.scale)]), true);
    draw(svg, "path", { class: `curve stroke-m${i % COLORS}`, d: line });
    const last = own[own.length - 1];
    if (byRun.size > 1) draw(svg, "text", { class: "ticks-own", x: Math.min(x(at(last)), width - 8), y: y(D.timeline.hypervolume[last] * D.scale) - 5, "text-anchor": "end" }, D.runs[run].label);
  });
  return node("figure", {}, svg, node("figcaption", { class: "note", text: `Hypervolume of the front of validation accuracy over cost (% × ${D.unit}), against 0 % at the cost of the dense model.` }));
}
