// What the plots are drawn with: scales and their ticks, paths of marks and lines, SVG elements, the point nearest to a pointer.

const SVG = "http://www.w3.org/2000/svg";

// Numbers of a list

// From `from` up to, without, `to`.
const range = (from, to) => Array.from({ length: to - from }, (_, i) => from + i);

// Least and greatest of the known values, undefined where there is none. A loop: spread arguments overflow at some 100,000.
function extent(values) {
  let low, high;
  for (const value of values) {
    if (!known(value)) continue;
    if (low === undefined || value < low) low = value;
    if (high === undefined || value > high) high = value;
  }
  return [low, high];
}

const least = (values) => extent(values)[0];
const greatest = (values) => extent(values)[1];

// The value below which a share of the sorted values lies, on the straight line between its neighbours.
function quantile(sorted, share) {
  const place = share * (sorted.length - 1), before = Math.floor(place);
  const after = Math.min(before + 1, sorted.length - 1);
  return sorted[before] + (sorted[after] - sorted[before]) * (place - before);
}

// Scales: functions from a value to a place in pixels, with the way back (invert), their limits (domain) and ticks

function linearScale([low, high], [from, to]) {
  const scale = (value) => from + ((value - low) / (high - low)) * (to - from);
  scale.invert = (place) => low + ((place - from) / (to - from)) * (high - low);
  scale.domain = [low, high];
  scale.ticks = (about) => linearTicks(scale.domain, about);
  return scale;
}

// Equal factors are equally far apart; the limits are above 0.
function logScale([low, high], places) {
  const exponents = linearScale([Math.log(low), Math.log(high)], places);
  const scale = (value) => exponents(Math.log(value));
  scale.invert = (place) => Math.exp(exponents.invert(place));
  scale.domain = [low, high];
  scale.ticks = (most) => logTicks(scale.domain, most);
  return scale;
}

// About so many round numbers: multiples of 1, 2 or 5 times a power of ten, whichever is by its factor nearest to the step asked for.
function linearTicks([low, high], about) {
  const wanted = (high - low) / about, power = Math.floor(Math.log10(wanted));
  const distance = (step) => Math.abs(Math.log(step / wanted));
  const step = [1, 2, 5, 10].map((digit) => Number(`${digit}e${power}`)).reduce((best, next) => (distance(next) < distance(best) ? next : best));
  // A limit that is itself a tick may miss it by a rounding error, and a multiple may end in …0004.
  const slack = 1e-9;
  return range(Math.ceil(low / step - slack), Math.floor(high / step + slack) + 1).map((times) => Number((times * step).toPrecision(12)));
}

// Round numbers on a log axis, at least four where they fit; those of a linear axis where the limits are too close.
function logTicks([low, high], most) {
  for (const digits of [[1, 1.5, 2, 3, 5, 7], [1, 2, 5], [1, 3], [1]]) {
    const powers = range(Math.floor(Math.log10(low)), Math.ceil(Math.log10(high)) + 1);
    const ticks = powers.flatMap((power) => digits.map((digit) => Number(`${digit}e${power}`))).filter((tick) => tick >= low && tick <= high);
    if (ticks.length <= most && ticks.length >= (digits.length > 3 ? 4 : 3)) return ticks;
  }
  return linearTicks([low, high], Math.min(6, most));
}

// Marks: outlines around 0, 0, all of one area, so that none looks heavier than another

// Corners at equal angles, clockwise from the top; turn is in degrees.
function around(radii, turn = 0) {
  return radii.map((radius, i) => {
    const angle = 2 * Math.PI * (i / radii.length + turn / 360);
    return [radius * Math.sin(angle), -radius * Math.cos(angle)];
  });
}

// Square arms on the sides of a polygon, the first one down: three make a Y upside down, four a cross.
function arms(number) {
  const inner = 0.5 / Math.tan(Math.PI / number);
  return range(0, number).flatMap((arm) => {
    const sine = Math.sin((2 * Math.PI * arm) / number), cosine = Math.cos((2 * Math.PI * arm) / number);
    return [[0.5, inner], [0.5, inner + 1], [-0.5, inner + 1]].map(([x, y]) => [x * cosine - y * sine, x * sine + y * cosine]);
  });
}

const NOTCH = (3 - Math.sqrt(5)) / 2;  // inner radius of the star whose edges lie on five straight lines
const SLIM = Math.tan(Math.PI / 6);
const OUTLINES = {
  square: around([1, 1, 1, 1], 45),
  triangle: around([1, 1, 1]),
  diamond: around([1, SLIM, 1, SLIM]),
  star: around(range(0, 10).map((i) => (i % 2 ? NOTCH : 1))),
  cross: arms(4),
  wye: arms(3),
};

// The path of a mark with an area in square pixels.
function markPath(name, area) {
  if (name === "circle") {
    const radius = rounded(Math.sqrt(area / Math.PI));
    return `M${radius} 0A${radius} ${radius} 0 1 1 ${-radius} 0A${radius} ${radius} 0 1 1 ${radius} 0Z`;
  }
  const corners = OUTLINES[name], zoom = Math.sqrt(area / areaOf(corners));
  return `M${corners.map(([x, y]) => `${rounded(zoom * x)} ${rounded(zoom * y)}`).join("L")}Z`;
}

// Half the sum of the cross products of neighbouring corners.
function areaOf(corners) {
  const twice = corners.reduce((sum, [x, y], i) => {
    const [nextX, nextY] = corners[(i + 1) % corners.length];
    return sum + x * nextY - nextX * y;
  }, 0);
  return Math.abs(twice) / 2;
}

const rounded = (pixels) => Number(pixels.toFixed(3));

// The path through points [x, y]; null is a gap. With steps, a value holds until the next point.
function linePath(points, steps = false) {
  let path = "", begun = false;
  for (const point of points) {
    if (point !== null) {
      const [x, y] = point.map(rounded);
      path += !begun ? `M${x} ${y}` : steps ? `H${x}V${y}` : `L${x} ${y}`;
    }
    begun = point !== null;
  }
  return path;
}

// Elements

// Append an SVG element with these attributes, and text as its content.
function draw(where, tag, attributes = {}, text = null) {
  const made = document.createElementNS(SVG, tag);
  setAll(made, attributes);
  if (text !== null) made.textContent = text;
  where.append(made);
  return made;
}

function setAll(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
}

const newSvg = () => document.createElementNS(SVG, "svg");

// Empty an svg for a plot of this size. What it shows is told in text beside it.
function clearSvg(svg, width, height) {
  svg.replaceChildren();
  setAll(svg, { viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" });
}

// Pointing

// The index of the point nearest to x, y within a radius, or null. A loop over 5,000 points takes less than a repaint.
function nearestPoint(xs, ys, x, y, radius) {
  let best = null, closest = radius ** 2;
  for (let i = 0; i < xs.length; i++) {
    const square = (xs[i] - x) ** 2 + (ys[i] - y) ** 2;
    if (square < closest || (square === closest && best === null)) [best, closest] = [i, square];
  }
  return best;
}
