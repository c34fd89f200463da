// The data, and how values are written. Everything that reaches the page goes through `node` as text.

const $ = (id) => document.getElementById(id);
let D, T, count;

function takeData(data) {
  D = data;
  T = D.trials;
  count = T.trial.length;
  D.byCost = { gflops: { unit: D.unit, scale: D.scale, gflops: T.gflops, gflops_dense: T.gflops_dense, on_front: T.on_front } };
  for (const [key, { unit, values, on_front }] of Object.entries(D.over))
    D.byCost[key] = { unit, scale: 1, gflops: values, gflops_dense: values.map(() => null), on_front };
  takeCost(S.cost);
}

// Another cost, with its unit and front, takes the place of GFLOPs; that of the dense model was not measured.
function takeCost(key) {
  S.cost = D.byCost[key] ? key : "gflops";
  const { unit, scale, ...columns } = D.byCost[S.cost];
  Object.assign(D, { unit, scale });
  Object.assign(T, columns);
}

// What the reader has chosen.
const S = {
  measure: null, cost: "gflops", log: true, hidden: new Set(), published: false, selected: null, budget: null,
  text: "", status: "all", frontOnly: false, sort: { column: "run", ascending: true }, page: 0,
};

// Make an element: attributes (on… are listeners, text is its content), then children, strings as text.
function node(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "text") made.textContent = value;
    else if (name in made && typeof value === "boolean") made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const fill = (where, ...children) => where.replaceChildren(...children.filter((child) => child != null));
const known = (value) => value !== null && value !== undefined;
const fixed = (value, digits) => (known(value) ? value.toFixed(digits).replace(/^-(0\.?0*)$/, "$1") : "–");
const percent = (value, digits = 2) => (known(value) ? `${value.toFixed(digits)} %` : "–");
const isAccuracy = (key) => /_top[15]$/.test(key);
const measured = (value, key) => (isAccuracy(key) ? percent(value) : known(value) ? Number(value.toPrecision(5)).toString() : "–");
const measureOf = (key) => D.measures.find((measure) => measure.key === key);

// Four significant digits of a plain number, without exponent.
function plain(value, digits = 4) {
  if (!known(value)) return "–";
  if (value === 0) return "0";
  const places = Math.max(0, digits - 1 - Math.floor(Math.log10(Math.abs(value))));
  return value.toFixed(Math.min(places, 9)).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "");
}

const cost = (gflops, digits = 4) => (known(gflops) ? `${plain(gflops * D.scale, digits)} ${D.unit}` : "–");

function fewer(row) {
  const own = T.gflops[row], dense = T.gflops_dense[row];
  return known(own) && known(dense) && own > 0 ? dense / own : null;
}

function duration(seconds) {
  if (!known(seconds)) return "–";
  if (seconds < 120) return `${plain(seconds, 3)} s`;
  if (seconds < 7200) return `${plain(seconds / 60, 3)} min`;
  return seconds < 172800 ? `${plain(seconds / 3600, 3)} h` : `${plain(seconds / 86400, 3)} days`;
}

const several = (number, one, many) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

// A trial's name, unique in the report.
const nameOf = (row) => (D.runs.length > 1 ? `${D.runs[T.run[row]].label}/${T.trial[row]}` : `${T.trial[row]}`);
const keyOf = (row) => `${D.runs[T.run[row]].label}/${T.trial[row]}`;

function titleOf(row) {
  const dense = T.method[row] === "dense" || !known(T.sparsity[row]);
  return `Trial ${nameOf(row)} · ${T.method[row] ?? "invalid settings"}${dense ? "" : ` at ${plain(100 * T.sparsity[row])} % sparsity`}`;
}

function seedsOf(row) {
  const seeds = T.seed_count[row];
  if (!known(seeds) || seeds < 2) return known(T.seed[row]) ? `seed ${T.seed[row]}` : "–";
  const mean = measured(T.seed_mean[row], D.objective.key);
  return `seed ${T.seed[row]}; ${seeds} seeds: ${mean} ± ${fixed(T.seed_half[row], 2)} (95 %)`;
}

const written = (value) => (typeof value === "number" ? plain(value, 5) : typeof value === "string" ? value : JSON.stringify(value));
const settingsOf = (row) => Object.entries(T.params[row]).map(([name, value]) => [name, written(value)]);

// The front's rows, cheapest first: along it the measure improves with cost.
function frontRows() {
  const rows = [];
  for (let row = 0; row < count; row++) if (T.on_front[row]) rows.push(row);
  return rows.sort((a, b) => T.gflops[a] - T.gflops[b]);
}

// A button that copies text, and says so.
function copyButton(text, label) {
  const button = node("button", { type: "button", class: "quiet copy", text: label });
  button.addEventListener("click", async () => {
    const given = typeof text === "function" ? text() : text;
    try {
      await navigator.clipboard.writeText(given);
    } catch {  // not allowed here: the old way
      const area = node("textarea", { class: "unseen", "aria-hidden": "true" });
      area.value = given;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
      button.focus();
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = label; }, 1500);
  });
  return button;
}

const commandLine = (command) => node("div", { class: "command" }, node("code", { text: command, tabindex: "0" }), copyButton(command, "Copy"));
