// Pointing at trials in the plot, by pointer and by keyboard, and the note beside the one pointed at.

const NEAR = 28;  // pixels from a point that still point at it

function nearest(event) {
  const { left, top } = $("front").getBoundingClientRect();
  const i = nearestPoint(front.xs, front.ys, event.clientX - left, event.clientY - top, NEAR);
  return i === null ? null : front.rows[i];
}

function nearestPublished(event) {
  const { left, top } = $("front").getBoundingClientRect();
  return front.published.find((point) => Math.hypot(front.x(front.at(point.gflops)) - event.clientX + left, front.y(point.test_top1) - event.clientY + top) < 9) ?? null;
}

function hover(row, aloud = false) {
  if (row === front.hovered && known(row)) return;
  front.hovered = row;
  drawOver();
  if (!known(row)) return hideTip();
  showTip(placeOf(row), tipOf(row));
  if (aloud) $("said").textContent = [titleOf(row), ...factsOf(row).map(([name, value]) => `${name} ${value}`)].join(", ");
}

function factsOf(row) {
  const times = fewer(row);
  const facts = D.measures.map(({ key, label }) => [label.replace(" (%)", ""), measured(T[key][row], key)]);
  return [
    ...facts,
    ["cost", `${cost(T.gflops[row])}${times ? ` (${plain(times, 3)}× fewer than dense)` : ""}`],
    ["sparsity", known(T.sparsity[row]) ? percent(100 * T.sparsity[row]) : "–"],
    ["seeds", seedsOf(row)],
  ];
}

function tipOf(row) {
  const list = (pairs, kind) => node("dl", { class: kind }, ...pairs.flatMap(([name, value]) => [node("dt", { text: name }), node("dd", { text: value })]));
  const settings = settingsOf(row);
  return [
    node("p", { class: "tip-title" }, swatch(T.method[row]), titleOf(row)),
    list(factsOf(row), "facts"),
    settings.length ? node("p", { class: "tip-part", text: "settings searched" }) : null,
    settings.length ? list(settings.slice(0, 8), "facts small") : null,
  ];
}

function showTip([x, y], content) {
  const tip = $("tip"), box = $("front").getBoundingClientRect();
  fill(tip, ...content);
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect(), wide = document.documentElement.clientWidth;
  const left = box.left + x + 16 + width > wide - 8 ? box.left + x - 16 - width : box.left + x + 16;
  tip.style.left = `${Math.max(8, Math.min(left, wide - width - 8)) + window.scrollX}px`;
  tip.style.top = `${Math.max(8, Math.min(box.top + y - height / 2, window.innerHeight - height - 8)) + window.scrollY}px`;
}

function hideTip() {
  $("tip").hidden = true;
}

function select(row, { scroll = false } = {}) {
  S.selected = row;
  drawOver();
  drawTrial();
  markRow();
  if (scroll) $("h-trial").scrollIntoView({ block: "nearest" });
}

// The next row in an order, from the one pointed at or else the one chosen.
function step(rows, by) {
  if (!rows.length) return null;
  const from = rows.indexOf(front.hovered ?? S.selected);
  return rows[from < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.max(0, Math.min(rows.length - 1, from + by))];
}

function onKey(event) {
  const byCost = (front.order ??= front.rows.toSorted((a, b) => T.gflops[a] - T.gflops[b] || T[S.measure][a] - T[S.measure][b]));
  const members = byCost.filter((row) => T.on_front[row]);
  const page = Math.max(1, Math.round(byCost.length / 20));
  const moves = {
    ArrowRight: () => step(byCost, 1), ArrowLeft: () => step(byCost, -1),
    PageUp: () => step(byCost, page), PageDown: () => step(byCost, -page),
    ArrowUp: () => stepFront(members, 1), ArrowDown: () => stepFront(members, -1),
    Home: () => members[0] ?? null, End: () => members[members.length - 1] ?? null,
  };
  if (event.key in moves) hover(moves[event.key](), true);
  else if ((event.key === "Enter" || event.key === " ") && known(front.hovered)) {
    select(front.hovered);
    $("said").textContent = `${titleOf(front.hovered)} opened`;
  } else if (event.key === "Escape") hover(null);
  else return;
  event.preventDefault();
}

function stepFront(members, by) {
  const from = front.hovered ?? S.selected;
  if (!known(from) || members.includes(from)) return step(members, by);
  const dearer = members.filter((row) => T.gflops[row] > T.gflops[from]);
  return by > 0 ? dearer[0] ?? members[members.length - 1] : members[members.length - dearer.length - 1] ?? members[0];
}

function listenFront() {
  const box = $("front");
  box.addEventListener("pointermove", (event) => {
    const point = nearestPublished(event);
    if (point) {
      front.hovered = null;
      drawOver();
      return showTip([front.x(front.at(point.gflops)), front.y(point.test_top1)], publishedTip(point));
    }
    const row = nearest(event);
    if (!known(row)) hideTip();
    hover(row);
    box.classList.toggle("pointing", known(row));
  });
  box.addEventListener("pointerleave", () => hover(null));
  box.addEventListener("click", (event) => {
    const row = nearest(event);
    if (known(row)) select(row);
  });
  box.addEventListener("keydown", onKey);
  box.addEventListener("blur", () => hover(null));
}

function publishedTip(point) {
  const pairs = [["test top-1", percent(point.test_top1)], ["cost", cost(point.gflops)], ["sparsity", percent(100 * point.sparsity)], ["source", point.source]];
  if (point.remark) pairs.push(["remark", point.remark]);
  return [
    node("p", { class: "tip-title" }, swatch(point.method, true), `${point.method}, published`),
    node("dl", { class: "facts" }, ...pairs.flatMap(([name, value]) => [node("dt", { text: name }), node("dd", { text: value })])),
  ];
}
