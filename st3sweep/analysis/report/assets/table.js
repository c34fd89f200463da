// The table of trials: filter, sort, pages, CSV.

const PAGE = 25;

function columns() {
  const plainColumn = (key, label, show = (row) => written(T[key][row] ?? "–"), number = true) => ({ key, label, value: (row) => T[key][row], show, number });
  const searched = [...new Set(T.params.flatMap((params) => Object.keys(params)))]
    .filter((name) => !["seed", "sparsity.target", "sparsity.method"].includes(name)).sort();
  return [
    { key: "run", label: "trial", value: (row) => T.run[row] * 1e9 + T.trial[row], number: false },
    plainColumn("method", "method", undefined, false),
    plainColumn("status", "status", undefined, false),
    plainColumn("sparsity", "sparsity %", (row) => (known(T.sparsity[row]) ? (100 * T.sparsity[row]).toFixed(2) : "–")),
    ...D.measures.map(({ key, label }) => plainColumn(key, label.replace("validation", "val").replace(" (%)", " %"), (row) => (isAccuracy(key) ? fixed(T[key][row], 2) : measured(T[key][row], key)))),
    plainColumn("gflops", D.unit, (row) => (known(T.gflops[row]) ? plain(T.gflops[row] * D.scale) : "–")),
    { key: "fewer", label: "fewer than dense", value: fewer, show: (row) => (known(fewer(row)) ? `${plain(fewer(row), 3)}×` : "–"), number: true },
    plainColumn("seed", "seed"),
    plainColumn("epochs", "epochs"),
    { ...plainColumn("wall_seconds", "time", (row) => duration(T.wall_seconds[row])) },
    ...searched.map((name) => ({
      key: `params.${name}`, label: name, value: (row) => T.params[row][name] ?? null,
      show: (row) => (known(T.params[row][name]) ? written(T.params[row][name]) : "–"), number: false,
    })),
    ...(T.error.some(known) ? [plainColumn("error", "error", undefined, false)] : []),
  ];
}

function filtered() {
  const asked = S.text.toLowerCase().split(/\s+/).filter(Boolean), rows = [];
  for (let row = 0; row < count; row++) {
    if (S.status !== "all" && T.status[row] !== S.status) continue;
    if (S.frontOnly && !T.on_front[row]) continue;
    if (asked.length && !asked.every((word) => searchText(row).includes(word))) continue;
    rows.push(row);
  }
  return rows;
}

const texts = new Map();
function searchText(row) {
  if (!texts.has(row))
    texts.set(row, [nameOf(row), T.method[row], T.status[row], T.model[row], T.dataset[row], T.error[row], ...settingsOf(row).map(([name, value]) => `${name}=${value}`)].filter(known).join(" ").toLowerCase());
  return texts.get(row);
}

const words = new Intl.Collator("en", { numeric: true });
function ordered(rows) {
  const { column, ascending } = S.sort, value = shownColumns.find(({ key }) => key === column)?.value;
  if (!value) return rows;
  const values = new Array(count);
  for (const row of rows) values[row] = value(row);
  const numeric = rows.every((row) => !known(values[row]) || typeof values[row] === "number");
  if (!numeric) for (const row of rows) if (known(values[row])) values[row] = String(values[row]);
  const sign = ascending ? 1 : -1;
  return rows.toSorted((a, b) => {
    const left = values[a], right = values[b];
    if (!known(left) || !known(right)) return known(right) - known(left) || a - b;  // missing values last
    return sign * (numeric ? left - right : words.compare(left, right)) || a - b;
  });
}

function startTable() {
  const search = node("input", { type: "search", id: "search", placeholder: "e.g. ST-3σ 0.9", autocomplete: "off" });
  search.addEventListener("input", () => { S.text = search.value; S.page = 0; drawRows(); });
  const status = node("select", { id: "status" });
  status.addEventListener("change", () => { S.status = status.value; S.page = 0; drawRows(); });
  const only = node("input", { type: "checkbox", id: "front-only" });
  only.addEventListener("change", () => { S.frontOnly = only.checked; S.page = 0; drawRows(); });
  const csv = node("button", { type: "button", id: "csv", text: "Download CSV", onclick: downloadCsv });
  fill($("table"),
    node("div", { class: "controls" },
      node("label", {}, "Find ", search), node("label", {}, "Status ", status), node("label", { class: "check" }, only, " front only"), csv),
    node("p", { id: "rows-said", class: "note", role: "status" }),
    node("div", { class: "scroll card trials", tabindex: "0", role: "group", "aria-label": "Table of trials" },
      node("table", { id: "trials" }, node("caption", { class: "unseen", text: "Trials" }), node("thead"), node("tbody"))),
    node("nav", { id: "pages", "aria-label": "Pages of the table" }));
}

let shownColumns = [];
function drawTable() {
  texts.clear();
  shownColumns = columns();
  const states = ["all", ...new Set(T.status)];
  fill($("status"), ...states.map((state) => node("option", { value: state, text: state, selected: state === S.status })));
  drawRows();
}

function drawRows() {
  const all = shownColumns, rows = ordered(filtered()), pages = Math.max(1, Math.ceil(rows.length / PAGE));
  S.page = Math.max(0, Math.min(S.page, pages - 1));
  const shown = rows.slice(S.page * PAGE, (S.page + 1) * PAGE);
  $("rows-said").textContent = `${rows.length.toLocaleString("en")} of ${several(count, "trial", "trials")}`;
  fill($("trials").tHead, node("tr", {}, ...all.map(headOf)));
  fill($("trials").tBodies[0], ...shown.map((row) => node("tr", { "data-row": row, class: row === S.selected ? "chosen" : null }, ...all.map((column) => cellOf(column, row)))));
  const turn = (by, label) => node("button", { type: "button", text: label, disabled: S.page + by < 0 || S.page + by >= pages, onclick: () => { S.page += by; drawRows(); } });
  fill($("pages"), ...(pages > 1 ? [turn(-1, "Previous"), node("span", { text: `page ${S.page + 1} of ${pages}` }), turn(1, "Next")] : []));
}

function headOf({ key, label, number }) {
  const own = S.sort.column === key;
  const sort = () => {
    S.sort = { column: key, ascending: own ? !S.sort.ascending : true };
    S.page = 0;
    drawRows();
    $("trials").querySelector(`th[data-key="${CSS.escape(key)}"] button`).focus();
  };
  return node("th", { scope: "col", "data-key": key, class: number ? "number" : null, "aria-sort": own ? (S.sort.ascending ? "ascending" : "descending") : null },
    node("button", { type: "button", onclick: sort, title: label }, node("span", { class: "clip", text: label }), node("span", { class: "arrow", "aria-hidden": "true", text: own ? (S.sort.ascending ? " ▲" : " ▼") : "" })));
}

function cellOf({ key, show, number }, row) {
  if (key === "run")
    return node("th", { scope: "row" }, node("button", { type: "button", class: "open", text: nameOf(row), "aria-label": `Open trial ${nameOf(row)}`, onclick: () => select(row, { scroll: true }) }),
      T.on_front[row] ? node("span", { class: "badge", text: "front" }) : null);
  if (key === "method") return node("td", { class: "method" }, known(T.method[row]) ? swatch(T.method[row]) : null, node("span", { class: "clip", text: T.method[row] ?? "–" }));
  const text = show(row);
  return node("td", { class: number ? "number" : null }, node("span", { class: "clip", text, title: text.length > 24 ? text : null }));
}

function markRow() {
  for (const line of $("trials").tBodies[0].rows) line.classList.toggle("chosen", Number(line.dataset.row) === S.selected);
}

// The rows that are shown, with every digit, in the columns and units of the run's own tables.
function csvText() {
  const skipped = new Set(["seed_mean", "seed_half", "run", "params"]);
  const keys = Object.keys(T).filter((key) => !skipped.has(key));
  const quote = (value) => (!known(value) ? "" : /[",\n\r]/.test(String(value)) ? `"${String(value).replaceAll('"', '""')}"` : String(value));
  const lines = ordered(filtered()).map((row) => [D.runs[T.run[row]].label, ...keys.map((key) => T[key][row]), JSON.stringify(T.params[row])].map(quote).join(","));
  return [["run", ...keys, "params"].join(","), ...lines, ""].join("\r\n");
}

function downloadCsv() {
  const link = node("a", { href: URL.createObjectURL(new Blob([csvText()], { type: "text/csv" })), download: "trials.csv" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
