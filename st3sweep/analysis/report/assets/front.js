// The plot of accuracy over cost. Axes are SVG, points a canvas, what moves (hover, choice, budget) SVG above it.

const front = { rows: [], xs: null, ys: null, x: null, y: null, published: [] };

function frontLayers() {
  const box = $("front");
  if (!box.firstChild) box.append(newSvg(), node("canvas", { "aria-hidden": "true" }), newSvg());
  const [axes, canvas, over] = box.children;
  return { box, axes, canvas, over };
}

function shownRows() {
  const rows = [], values = T[S.measure];
  for (let row = 0; row < count; row++)
    if (T.status[row] === "finished" && known(values[row]) && known(T.gflops[row]) && !S.hidden.has(T.method[row])) rows.push(row);
  return rows;
}

const publishedShown = () => (S.published && S.measure === "test_top1" ? D.published.filter((point) => known(point.gflops) && !S.hidden.has(point.method)) : []);

function drawFront() {
  const { box, axes, canvas, over } = frontLayers();
  const width = Math.max(280, box.clientWidth), height = Math.round(Math.min(500, Math.max(320, 0.66 * width)));
  const rows = shownRows(), points = publishedShown(), values = T[S.measure];
  const dense = [...new Set(rows.map((row) => T.gflops_dense[row]).filter(known))];
  const costs = [...rows.map((row) => T.gflops[row]), ...dense, ...points.map((point) => point.gflops)];
  const positive = costs.filter((gflops) => gflops > 0);
  const zero = positive.length ? least(positive) * 10 ** (-1 / 3) : 1e-3;  // where a log axis shows 0
  const at = (gflops) => (S.log && gflops === 0 ? zero : gflops) * D.scale;
  const [low, high] = costs.length ? extent(costs.map(at)) : [0.1, 1];
  const range = [MARGIN.left, width - MARGIN.right];
  const room = S.log ? Math.max((high / low) ** 0.05, 1.1) : 1;
  const x = S.log ? logScale([low / room, high * room], range) : linearScale([0, high * 1.05 || 1], range);
  const seen = [...rows.map((row) => values[row]), ...points.map((point) => point.test_top1)];
  const [bottom, top] = isAccuracy(S.measure) ? bulk(seen) : padded(seen);
  const y = linearScale([bottom, top], [height - MARGIN.bottom, MARGIN.top]);
  let xTicks = x.ticks(S.log ? width / 62 : Math.max(3, Math.floor(width / 90)));
  if (S.log && costs.includes(0)) xTicks = [zero * D.scale, ...xTicks.filter((tick) => tick > 1.4 * zero * D.scale)];
  drawAxes(axes, {
    x, y, width, height, xTicks, yTicks: y.ticks(6),
    xFormat: (tick) => (S.log && tick === zero * D.scale ? "0" : plain(tick)),
    xLabel: `cost of one image (${D.unit})`, yLabel: measureOf(S.measure).label,
  });
  Object.assign(front, { rows, x, y, at, width, height, published: points, zero });
  front.xs = Float64Array.from(rows, (row) => x(at(T.gflops[row])));
  front.ys = Float64Array.from(rows, (row) => Math.min(y(values[row]), height - MARGIN.bottom - 7));
  front.order = null;
  paint(canvas, values, bottom);
  markDense(axes, dense);
  drawOver(over);
  const below = rows.filter((row) => values[row] < bottom);
  $("front-note").textContent = !rows.length ? "No finished trial to show."
    : below.length ? `${below.length} of ${several(rows.length, "trial", "trials")} below the axis, down to ${measured(least(below.map((row) => values[row])), S.measure)}: on its lower edge.` : "";
}

function padded(values) {
  const [low, high] = values.length ? extent(values) : [0, 1];
  const margin = 0.06 * (high - low) || 0.06 * Math.abs(high) || 1;
  return [low - margin, high + margin];
}

function paint(canvas, values, bottom) {
  const sharp = window.devicePixelRatio || 1, { width, height, rows, xs, ys } = front;
  canvas.width = width * sharp;
  canvas.height = height * sharp;
  Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
  const context = canvas.getContext("2d");
  context.scale(sharp, sharp);
  paintPublished(context);
  if (S.measure === D.objective.key) paintStaircase(context);
  const size = (rows.length > 1500 ? 26 : rows.length > 400 ? 42 : 64) * (width < 500 ? 0.6 : 1);
  const byMethod = Map.groupBy(rows.keys(), (i) => T.method[rows[i]]);
  for (const { name } of D.methods) {
    const { color: shadeName, marker } = styleOf(name);
    context.fillStyle = color(shadeName);
    for (const i of byMethod.get(name) ?? []) {
      const row = rows[i], repeat = known(T.replicate_of[row]);
      context.globalAlpha = repeat ? 0.4 : T.on_front[row] ? 1 : 0.8;
      drawMarker(context, values[row] < bottom ? 3 : marker, repeat ? size / 2 : size, xs[i], ys[i]);
    }
  }
  context.globalAlpha = 1;
  context.strokeStyle = color("text");
  context.lineWidth = 1.25;
  rows.forEach((row, i) => {
    if (!T.on_front[row]) return;
    context.beginPath();
    context.arc(xs[i], ys[i], Math.sqrt(size), 0, 7);
    context.stroke();
  });
}

// The line under which everything is dominated: a budget buys the best trial at or below it.
function paintStaircase(context) {
  const rows = frontRows(), { x, y, at, width, height } = front;
  if (!rows.length) return;
  context.save();
  context.beginPath();
  context.rect(MARGIN.left, MARGIN.top, width - MARGIN.left - MARGIN.right, height - MARGIN.top - MARGIN.bottom);
  context.clip();
  context.beginPath();
  context.moveTo(x(at(T.gflops[rows[0]])), height);
  rows.forEach((row, i) => {
    const left = x(at(T.gflops[row])), value = y(T[S.measure][row]);
    if (i) context.lineTo(left, y(T[S.measure][rows[i - 1]]));
    context.lineTo(left, value);
  });
  context.lineTo(width, y(T[S.measure][rows[rows.length - 1]]));
  context.strokeStyle = color("text");
  context.lineWidth = 1.25;
  context.stroke();
  context.lineTo(width, height);
  context.closePath();
  context.globalAlpha = 0.05;
  context.fillStyle = color("accent");
  context.fill();
  context.restore();
}

function paintPublished(context) {
  const { x, y, at } = front;
  for (const [name, points] of Map.groupBy(front.published, (point) => point.method)) {
    const { color: shadeName, marker } = styleOf(name);
    const line = points.toSorted((a, b) => a.gflops - b.gflops).map((point) => [x(at(point.gflops)), y(point.test_top1)]);
    context.strokeStyle = color(shadeName);
    context.lineWidth = 1.2;
    context.setLineDash([2, 3]);
    context.beginPath();
    line.forEach(([left, top], i) => (i ? context.lineTo(left, top) : context.moveTo(left, top)));
    context.stroke();
    context.setLineDash([]);
    context.lineWidth = 1.5;
    for (const [left, top] of line) {
      context.save();
      context.translate(left, top);
      context.rotate((MARKERS[marker][1] * Math.PI) / 180);
      const outline = new Path2D(markerPath(marker, 56));
      context.fillStyle = color("card");
      context.fill(outline);
      context.stroke(outline);
      context.restore();
    }
  }
}

function markDense(axes, costs) {
  for (const gflops of costs.slice(0, 3)) {
    const left = front.x(front.at(gflops)), bottom = front.height - MARGIN.bottom;
    draw(axes, "line", { class: "dense", x1: left, x2: left, y1: MARGIN.top, y2: bottom });
    draw(axes, "text", { class: "dense", transform: `translate(${left - 5} ${bottom - 6}) rotate(-90)` }, `dense: ${cost(gflops)}`);
  }
}

function placeOf(row) {
  const i = front.rows.indexOf(row);
  return i < 0 ? null : [front.xs[i], front.ys[i]];
}

// Rings of the trial that is chosen and of the one that the budget buys, and the budget's line.
function drawOver(over = frontLayers().over) {
  clearSvg(over, front.width, front.height);
  if (known(S.budget)) {
    const right = front.width - MARGIN.right, bottom = front.height - MARGIN.bottom, left = Math.min(front.x(front.at(S.budget)), right);
    if (left >= MARGIN.left) {
      draw(over, "rect", { class: "beyond", x: left, y: MARGIN.top, width: right - left, height: bottom - MARGIN.top });
      draw(over, "line", { class: "budget", x1: left, x2: left, y1: MARGIN.top, y2: bottom });
    }
    ring(over, bestWithin(S.budget), "bought", 11);
  }
  ring(over, S.selected, "chosen", 14);
  ring(over, front.hovered, "hovered", 11);
}

function ring(over, row, kind, radius) {
  const place = known(row) ? placeOf(row) : null;
  if (place) draw(over, "circle", { class: kind, cx: place[0], cy: place[1], r: radius });
}
