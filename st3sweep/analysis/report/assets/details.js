// The trial that is chosen: its numbers and settings, its learning curve, the density of its layers.

function drawTrial() {
  const row = S.selected, where = $("trial");
  $("histories").hidden = !known(row);
  if (!known(row)) {
    $("h-trial").textContent = "Trial";
    return fill(where, node("p", { class: "muted", text: "Choose a trial in the plot or in the table." }));
  }
  $("h-trial").textContent = titleOf(row);
  const pairs = [
    ["status", `${T.status[row]}${T.on_front[row] ? ", on the front" : ""}${known(T.replicate_of[row]) ? `, repeats trial ${T.replicate_of[row]}` : ""}`],
    ...factsOf(row),
    ...(known(T.front_probability?.[row]) ? [["on the front", `with probability ${percent(100 * T.front_probability[row], 0)}`]] : []),
    ["best epoch", known(T.best_epoch[row]) ? `${T.best_epoch[row]} of ${T.epochs[row]}` : `– of ${T.epochs[row]}`],
    ["time", duration(T.wall_seconds[row])],
    ...settingsOf(row),
  ];
  fill(where,
    T.error[row] ? node("pre", { class: "error", tabindex: "0", text: T.error[row] }) : null,
    node("dl", { class: "facts" }, ...pairs.flatMap(([name, value]) => [node("dt", { text: name }), node("dd", { text: value })])));
  $("h-curve").textContent = `Learning curve of trial ${nameOf(row)}`;
  $("h-layers").textContent = `Layers of trial ${nameOf(row)}`;
  fill($("curve"), curveOf(row));
  fill($("layers"), layersOf(row));
}

function curveOf(row) {
  const { start, epoch, value, sparsity, threshold, key } = D.curves, from = start[row], to = start[row + 1];
  if (from === to)
    return node("p", { class: "muted", text: D.curves.left_out ? `Left out: the curves of ${D.curves.left_out} trials would make this file too large.` : "No epoch is recorded." });
  const width = Math.max(240, $("curve").clientWidth), height = 260, rows = range(from, to), svg = newSvg();
  const x = linearScale([Math.min(epoch[from], 1), Math.max(epoch[to - 1], 2)], [MARGIN.left, width - MARGIN.right]);
  const [low, high] = extent(rows.map((i) => value[i]));
  const room = 0.06 * (high - low) || 1;
  const y = linearScale([(low ?? 0) - room, (high ?? 1) + room], [height - MARGIN.bottom, MARGIN.top]);
  const share = linearScale([0, 1], [height - MARGIN.bottom, MARGIN.top]);
  const whole = x.ticks(5).filter(Number.isInteger);
  drawAxes(svg, { x, y, width, height, xTicks: whole, yTicks: y.ticks(4), xLabel: "epoch", yLabel: measureOf(key)?.label ?? "validation top-1 (%)" });
  const line = (values, scale) => linePath(rows.map((i) => (known(values[i]) ? [x(epoch[i]), scale(values[i])] : null)));
  draw(svg, "path", { class: "curve second", d: line(sparsity, share) });
  draw(svg, "path", { class: "curve first", d: line(value, y) });
  const taus = rows.map((i) => threshold[i] ?? null), most = greatest(taus);
  if (most > 0) {
    const tall = linearScale([0, most], [height - MARGIN.bottom, MARGIN.top]);
    draw(svg, "path", { class: "curve third", d: linePath(rows.map((i, place) => (known(taus[place]) ? [x(epoch[i]), tall(taus[place])] : null))) });
  }
  const best = rows.find((i) => epoch[i] === T.best_epoch[row]);
  if (best !== undefined && known(value[best]))
    draw(svg, "circle", { class: "best", cx: x(epoch[best]), cy: y(value[best]), r: 4.5 });
  return node("figure", {},
    svg,
    node("figcaption", { class: "note" },
      node("span", { class: "key first" }), "accuracy, the best epoch marked ", node("span", { class: "key second" }),
      `sparsity, 0 to 100 % over the height (at the end ${percent(100 * sparsity[to - 1])})`,
      ...(most > 0 ? [" ", node("span", { class: "key third" }), `threshold, 0 to ${Number(most.toPrecision(3))} over the height`] : [])));
}

function layersOf(row) {
  const { start, names, layer, density, profiles } = D.layers, from = start[row], to = start[row + 1];
  if (from === to) return node("p", { class: "muted", text: "No layers are recorded." });
  const sum = (value) => range(from, to).reduce((total, i) => total + value(i), 0), all = (i) => names[layer[i]][2];
  const own = sum((i) => all(i) * density[i]) / sum(all);  // density of the model
  const shown = own < 1 ? Object.keys(profiles) : [];  // a dense model has nothing to place
  const bars = range(from, to).map((i) => {
    const [name, shape, weights, macs] = names[layer[i]], share = density[i];
    const ticks = shown.filter((group) => known(profiles[group][layer[i]])).map((group) => {
      const usual = Math.min(1, own * profiles[group][layer[i]]), tick = node("span", { class: `usual ${group}`, title: `${group}: ${percent(100 * usual, 1)} at this model's density` });
      tick.style.left = `${100 * usual}%`;
      return tick;
    });
    const says = `${percent(100 * share, share < 0.01 ? 3 : 1)}`;
    const bar = node("span", { class: "bar" });
    bar.style.width = `${100 * share}%`;
    return node("tr", { title: `${name} ${shape}: ${Math.round(weights * share).toLocaleString("en")} of ${weights.toLocaleString("en")} weights` },
      node("th", { scope: "row", text: name }), node("td", { class: "track" }, node("div", { class: "range" }, bar, ...ticks)), node("td", { class: "number", text: says }),
      node("td", { class: "number", text: cost((macs * share) / 1e9) }));
  });
  const keys = { front: "median of the front", neighbours: "of its neighbours, at most a point behind" };
  const said = shown.length ? node("p", { class: "note" }, "Bar: density of the layer. ", ...shown.flatMap((group) => [node("span", { class: `usual key-tick ${group}` }), ` ${keys[group]} `]), "(at this model's density)") : null;
  return node("div", {}, said, node("div", { class: "scroll layers", tabindex: "0", role: "group", "aria-label": "Density of the layers" },
    node("table", {},
      node("thead", {}, node("tr", {}, node("th", { scope: "col", text: "layer" }), node("th", { scope: "col", class: "unseen", text: "bar" }),
        node("th", { scope: "col", class: "number", text: "density" }), node("th", { scope: "col", class: "number", text: "cost" }))),
      node("tbody", {}, ...bars))));
}
