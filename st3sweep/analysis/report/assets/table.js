// The table of trials: filter, sort, pages, CSV.

const PAGE = 25;

function columns() {
  const column = (key, label, value, show, number) => ({ key, label, value, number, put: (cell, row) => putText(cell, show(row)) });
  const plainColumn = (key, label, show = (row) => written(T[key][row] ?? "–"), number = true) => column(key, label, (row) => T[key][row], show, number);
  const searched = [...new Set(T.params.flatMap((params) => Object.keys(params)))]
    .filter((name) => !["seed", "sparsity.target", "sparsity.method"].includes(name)).sort();
  return [
    { key: "run", label: "trial", value: (row) => T.run[row] * 1e9 + T.trial[row], number: false, put: putTrial },
    { ...plainColumn("method", "method", undefined, false), put: putMethod },
    plainColumn("status", "status", undefined, false),
    plainColumn("sparsity", "sparsity %", (row) => (known(T.sparsity[row]) ? (100 * T.sparsity[row]).toFixed(2) : "–")),
    ...D.measures.map(({ key, label }) => plainColumn(key, label.replace("validation", "val").replace(" (%)", " %"), (row) => (isAccuracy(key) ? fixed(T[key][row], 2) : measured(T[key][row], key)))),
    plainColumn("gflops", D.unit, (row) => (known(T.gflops[row]) ? plain(T.gflops[row] * D.scale) : "–")),
    column("fewer", "fewer than dense", fewer, (row) => (known(fewer(row)) ? `${plain(fewer(row), 3)}×` : "–"), true),
    plainColumn("seed", "seed"),
    plainColumn("epochs", "epochs"),
    plainColumn("wall_seconds", "time", (row) => duration(T.wall_seconds[row])),
    ...searched.map((name) => column(`params.${name}`, name, (row) => T.params[row][name] ?? null,
      (row) => (known(T.params[row][name]) ? written(T.params[row][name]) : "–"), false)),
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

// Made before the first filter, between other work: of thousands of trials they take tens of milliseconds.
function prepareTexts(row = 0) {
  const end = performance.now() + 4;
  while (row < count && performance.now() < end) searchText(row++);
  if (row < count) setTimeout(prepareTexts, 0, row);
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

let shownColumns = [], lines = [];
function drawTable() {
  texts.clear();
  shownColumns = columns();
  const states = ["all", ...new Set(T.status)];
  fill($("status"), ...states.map((state) => node("option", { value: state, text: state, selected: state === S.status })));
  fill($("trials").tHead, node("tr", {}, ...shownColumns.map(headOf)));
  lines = Array.from({ length: PAGE }, () => node("tr", {}, ...shownColumns.map(emptyCell)));
  fill($("trials").tBodies[0]);
  drawRows();
  setTimeout(prepareTexts, 0);
}

// The same elements show every page: making them takes longer than all the rest.
function drawRows() {
  const rows = ordered(filtered()), pages = Math.max(1, Math.ceil(rows.length / PAGE));
  S.page = Math.max(0, Math.min(S.page, pages - 1));
  const shown = rows.slice(S.page * PAGE, (S.page + 1) * PAGE);
  $("rows-said").textContent = `${rows.length.toLocaleString("en")} of ${several(count, "trial", "trials")}`;
  markSort();
  shown.forEach((row, place) => {
    const line = lines[place];
    line.dataset.row = row;
    shownColumns.forEach((column, at) => column.put(line.cells[at], row));
  });
  const body = $("trials").tBodies[0];
  if (body.rows.length !== shown.length) fill(body, ...lines.slice(0, shown.length));
  markRow();
  const turn = (by, label) => node("button", { type: "button", text: label, disabled: S.page + by < 0 || S.page + by >= pages, onclick: () => { S.page += by; drawRows(); } });
  fill($("pages"), ...(pages > 1 ? [turn(-1, "Previous"), node("span", { text: `page ${S.page + 1} of ${pages}` }), turn(1, "Next")] : []));
}

function headOf({ key, label, number }) {
  const sort = () => {
    S.sort = { column: key, ascending: S.sort.column === key ? !S.sort.ascending : true };
    S.page = 0;
    drawRows();
  };
  return node("th", { scope: "col", "data-key": key, class: number ? "number" : null },
    node("button", { type: "button", onclick: sort, title: label }, node("span", { class: "clip", text: label }), node("span", { class: "arrow", "aria-hidden": "true" })));
}

function markSort() {
  for (const head of $("trials").tHead.rows[0].cells) {
    const own = head.dataset.key === S.sort.column;
    head.querySelector(".arrow").textContent = own ? (S.sort.ascending ? " ▲" : " ▼") : "";
    if (own) head.setAttribute("aria-sort", S.sort.ascending ? "ascending" : "descending");
    else head.removeAttribute("aria-sort");
  }
}

function emptyCell({ key, number }) {
  if (key === "run") return node("th", { scope: "row" });
  return node("td", { class: number ? "number" : key === "method" ? "clip method" : "clip" });
}

function putTrial(cell, row) {
  fill(cell, node("button", { type: "button", class: "open", text: nameOf(row), "aria-label": `Open trial ${nameOf(row)}`, onclick: () => select(row, { scroll: true }) }),
    T.on_front[row] ? node("span", { class: "badge", text: "front" }) : null);
}

function putMethod(cell, row) {
  fill(cell, known(T.method[row]) ? swatch(T.method[row]) : null, T.method[row] ?? "–");
}

function putText(cell, text) {
  if (cell.textContent === text) return;
  cell.textContent = text;
  if (text.length > 24) cell.title = text;
  else cell.removeAttribute("title");
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
