// Parts that the plots share: colours of the theme, markers of the methods, axes.

const shade = new Map();

// The colour that a variable of the style has in the theme shown.
function color(name) {
  if (!shade.has(name)) {
    const probe = node("span", { hidden: true });
    document.body.append(probe);
    probe.style.color = `var(--${name})`;
    shade.set(name, getComputedStyle(probe).color);
    probe.remove();
  }
  return shade.get(name);
}

const COLORS = 12;
// Mark and its rotation in degrees: those of the package's figures.
const MARKERS = [
  ["circle", 0], ["square", 0], ["star", 0], ["triangle", 180], ["diamond", 0], ["cross", 0],
  ["triangle", 270], ["triangle", 90], ["triangle", 0], ["cross", 45], ["wye", 0], ["wye", 180],
];

// Colour and marker of a method; each round of colours pairs them otherwise.
function styleOf(name) {
  const number = D.methods.find((method) => method.name === name)?.style ?? 0;
  return { color: `m${(number + 5 * Math.floor(number / COLORS)) % COLORS}`, marker: number % MARKERS.length };
}

const markerPath = (marker, size) => markPath(MARKERS[marker][0], size);

const paths = new Map();
function drawMarker(context, marker, size, x, y) {
  const key = `${marker} ${size}`;
  if (!paths.has(key)) {
    const turned = new Path2D();
    turned.addPath(new Path2D(markerPath(marker, size)), new DOMMatrix().rotate(MARKERS[marker][1]));
    paths.set(key, turned);
  }
  context.translate(x, y);
  context.fill(paths.get(key));
  context.translate(-x, -y);
}

function swatch(name, hollow = false) {
  const { color: shadeName, marker } = styleOf(name);
  return markerAlone(marker, 90, `${hollow ? "stroke" : "fill"}-${shadeName}`);
}

// A marker in a text.
function markerAlone(marker, size, kind) {
  const svg = newSvg();
  setAll(svg, { viewBox: "-8 -8 16 16", class: "swatch", "aria-hidden": "true" });
  draw(svg, "path", { d: markerPath(marker, size), transform: `rotate(${MARKERS[marker][1]})`, class: kind });
  return svg;
}

const MARGIN = { left: 54, right: 14, top: 14, bottom: 44 };

// Draw axes with a grid into an svg; x and y are scales over the inner box.
function drawAxes(svg, { x, y, width, height, xLabel, yLabel, xTicks, yTicks, xFormat = plain, yFormat = plain }) {
  clearSvg(svg, width, height);
  const { left, top } = MARGIN, bottom = height - MARGIN.bottom, right = width - MARGIN.right;
  const grid = draw(svg, "g", { class: "grid" });
  for (const tick of xTicks) draw(grid, "line", { x1: x(tick), x2: x(tick), y1: top, y2: bottom });
  for (const tick of yTicks) draw(grid, "line", { y1: y(tick), y2: y(tick), x1: left, x2: right });
  const ticks = draw(svg, "g", { class: "ticks" });
  for (const tick of xTicks) draw(ticks, "text", { x: x(tick), y: bottom + 18, "text-anchor": "middle" }, xFormat(tick));
  for (const tick of yTicks) draw(ticks, "text", { x: left - 8, y: y(tick), dy: "0.32em", "text-anchor": "end" }, yFormat(tick));
  draw(svg, "line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom });
  draw(svg, "text", { class: "label", x: (left + right) / 2, y: height - 6, "text-anchor": "middle" }, xLabel);
  draw(svg, "text", { class: "label", transform: `translate(13 ${(top + bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, yLabel);
}

// Limits that show the bulk of accuracies: more than three interquartile ranges below the lower quartile are cut off.
function bulk(values) {
  const sorted = Float64Array.from(values).sort();
  if (!sorted.length) return [0, 1];
  const lower = quantile(sorted, 0.25), upper = quantile(sorted, 0.75);
  const limit = lower - 3 * Math.max(upper - lower, 1);
  const low = sorted.find((value) => value >= limit), high = sorted[sorted.length - 1];
  const margin = Math.max(0.06 * (high - low), 0.3);
  return [low - margin, high + margin];
}
