// Parts that the plots share: colours of the theme, markers of the methods, scales and axes.

const SVG = "http://www.w3.org/2000/svg";
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
// Type of symbol and its rotation in degrees: those of the package's figures.
const MARKERS = [
  [d3.symbolCircle, 0], [d3.symbolSquare, 0], [d3.symbolStar, 0], [d3.symbolTriangle, 180], [d3.symbolDiamond, 0],
  [d3.symbolCross, 0], [d3.symbolTriangle, 270], [d3.symbolTriangle, 90], [d3.symbolTriangle, 0], [d3.symbolCross, 45],
  [d3.symbolWye, 0], [d3.symbolWye, 180],
];

// Colour and marker of a method; each round of colours pairs them otherwise.
function styleOf(name) {
  const number = D.methods.find((method) => method.name === name)?.style ?? 0;
  return { color: `m${(number + 5 * Math.floor(number / COLORS)) % COLORS}`, marker: number % MARKERS.length };
}

function markerPath(marker, size) {
  return d3.symbol(MARKERS[marker][0], size)();
}

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
  const svg = d3.create("svg").attr("viewBox", "-8 -8 16 16").attr("class", "swatch").attr("aria-hidden", "true");
  svg.append("path").attr("d", markerPath(marker, 90)).attr("transform", `rotate(${MARKERS[marker][1]})`)
    .attr("class", `${hollow ? "stroke" : "fill"}-${shadeName}`);
  return svg.node();
}

const MARGIN = { left: 54, right: 14, top: 14, bottom: 44 };

// Ticks of a log axis: plain numbers, at least four where they fit.
function logTicks([low, high], most) {
  for (const digits of [[1, 1.5, 2, 3, 5, 7], [1, 2, 5], [1, 3], [1]]) {
    const ticks = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
      for (const digit of digits) {
        const tick = digit * 10 ** power;
        if (tick >= low && tick <= high) ticks.push(tick);
      }
    if (ticks.length <= most && ticks.length >= (digits.length > 3 ? 4 : 3)) return ticks;
  }
  return d3.ticks(low, high, Math.min(6, most));
}

// Draw axes with a grid into an svg; x and y are d3 scales over the inner box.
function drawAxes(svg, { x, y, width, height, xLabel, yLabel, xTicks, yTicks, xFormat = plain, yFormat = plain }) {
  svg.selectAll("*").remove();
  svg.attr("viewBox", `0 0 ${width} ${height}`).attr("width", width).attr("height", height).attr("aria-hidden", "true");
  const bottom = height - MARGIN.bottom, right = width - MARGIN.right;
  const grid = svg.append("g").attr("class", "grid");
  for (const tick of xTicks) grid.append("line").attr("x1", x(tick)).attr("x2", x(tick)).attr("y1", MARGIN.top).attr("y2", bottom);
  for (const tick of yTicks) grid.append("line").attr("y1", y(tick)).attr("y2", y(tick)).attr("x1", MARGIN.left).attr("x2", right);
  const ticks = svg.append("g").attr("class", "ticks");
  for (const tick of xTicks) ticks.append("text").attr("x", x(tick)).attr("y", bottom + 18).attr("text-anchor", "middle").text(xFormat(tick));
  for (const tick of yTicks) ticks.append("text").attr("x", MARGIN.left - 8).attr("y", y(tick)).attr("dy", "0.32em").attr("text-anchor", "end").text(yFormat(tick));
  svg.append("line").attr("class", "axis").attr("x1", MARGIN.left).attr("x2", right).attr("y1", bottom).attr("y2", bottom);
  svg.append("text").attr("class", "label").attr("x", (MARGIN.left + right) / 2).attr("y", height - 6).attr("text-anchor", "middle").text(xLabel);
  svg.append("text").attr("class", "label").attr("transform", `translate(13 ${(MARGIN.top + bottom) / 2}) rotate(-90)`).attr("text-anchor", "middle").text(yLabel);
}

// Limits that show the bulk of accuracies: more than three interquartile ranges below the lower quartile are cut off.
function bulk(values) {
  const sorted = Float64Array.from(values).sort();
  if (!sorted.length) return [0, 1];
  const lower = d3.quantileSorted(sorted, 0.25), upper = d3.quantileSorted(sorted, 0.75);
  const least = lower - 3 * Math.max(upper - lower, 1);
  const low = sorted.find((value) => value >= least), high = sorted[sorted.length - 1];
  const margin = Math.max(0.06 * (high - low), 0.3);
  return [low - margin, high + margin];
}
