// Pictures of a ranking, as SVG in the page's own ink: ranks in three orders, and effect against the cheap orders. Colors show the sign,
// shapes and dashes show it again. A point or line is chosen by a click, or by arrow keys once the picture has the focus.

function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) if (value != null) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const nameOf = (point) => point.label || `feature ${point.feature}`;
const signOf = (point) => ((point.effect ?? point.attribution) > 0 ? "supports" : "opposes");
const about = (point) =>
  `${nameOf(point)} (${point.feature}) at ${point.pos} “${point.token}”\neffect ${number(point.effect)}, attribution ${number(point.attribution)}, activation ${number(point.activation, false)}`;

// About four round numbers that enclose the values and 0.
function ticks(values, n = 4) {
  const low = Math.min(0, ...values);
  const high = Math.max(0, ...values) || (low ? 0 : 1);
  const rough = (high - low) / n;
  const step = [1, 2, 5, 10].map((m) => m * 10 ** Math.floor(Math.log10(rough))).find((m) => m >= rough * 0.999);
  const first = Math.floor(low / step + 1e-9);
  return Array.from({ length: Math.ceil(high / step - 1e-9) - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(6)));
}

// Keys walk through the points in the order in which they are drawn.
function walkable(picture, points, chosen, choose) {
  picture.setAttribute("tabindex", "0");
  picture.setAttribute("data-lm-suppress-shortcuts", "true");
  picture.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!by || !points.length) return;
    event.preventDefault();
    const at = points.findIndex((point) => point.feature === chosen());
    let to = at;
    do to = (to + by + points.length) % points.length;
    while (to !== at && at >= 0 && points[to].feature === chosen());
    choose(points[Math.max(to, 0)].feature);
  });
  return picture;
}

function drawRanks({ points, orders }, chosen, choose) {
  const [width, height, left, right, top, bottom] = [760, 20 + 34 * Math.max(points.length, 6), 70, 320, 28, 10];
  const most = 1.1 * Math.max(10, ...points.flatMap((point) => Object.values(point.ranks).filter(Boolean)));
  const y = (rank) => top + (Math.log10(rank) / Math.log10(most)) * (height - top - bottom);
  const x = (i) => left + (i * (width - left - right)) / (orders.length - 1);
  const made = svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "wbr-picture wbr-ranks", role: "group", "aria-label": `Ranks of the ${points.length} largest effects in three orders; arrow keys choose one` });
  for (let rank = 1; rank <= most; rank *= 10) {
    made.append(svg("line", { x1: left - 14, x2: width - right + 14, y1: y(rank), y2: y(rank), class: "wbr-grid" }));
    made.append(svg("text", { x: left - 22, y: y(rank) + 4, "text-anchor": "end" }, `#${count(rank)}`));
  }
  orders.forEach((order, i) => made.append(svg("text", { x: x(i), y: 12, "text-anchor": "middle", class: "wbr-strong" }, order)));
  let below = 0;
  points.forEach((point) => {
    const places = orders.map((order, i) => [x(i), y(point.ranks[order] ?? most)]);
    const line = svg("g", { class: `wbr-line ${signOf(point)} ${point.feature === chosen() ? "chosen" : ""}`, "data-feature": point.feature }, svg("title", {}, about(point)));
    line.append(svg("path", { d: `M${places.map((place) => place.join(" ")).join("L")}`, class: "wbr-reach" }), svg("path", { d: `M${places.map((place) => place.join(" ")).join("L")}` }));
    for (const [px, py] of places) line.append(svg("circle", { cx: px, cy: py, r: 4 }));
    below = Math.max(below + 19, places.at(-1)[1] + 4); // names keep apart where ranks are close
    line.append(svg("path", { d: `M${places.at(-1)[0] + 7} ${places.at(-1)[1]}L${width - right + 26} ${below - 4}`, class: "wbr-lead" }));
    line.append(svg("text", { x: width - right + 30, y: below }, `${nameOf(point).slice(0, 34)} · ${point.token.trim()}`));
    line.addEventListener("click", () => choose(point.feature));
    made.append(line);
  });
  return [walkable(made, points, chosen, choose)];
}

function scatter(points, by, chosen, choose) {
  const [width, height, left, right, top, bottom] = [400, 300, 48, 12, 22, 34];
  const [xs, ys] = [ticks(points.map((point) => point[by])), ticks(points.map((point) => point.effect))];
  const x = (value) => left + ((value - xs[0]) / (xs.at(-1) - xs[0])) * (width - left - right);
  const y = (value) => height - bottom - ((value - ys[0]) / (ys.at(-1) - ys[0])) * (height - top - bottom);
  const made = svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "wbr-picture", role: "group", "aria-label": `Effect against ${by} of ${points.length} pairs; arrow keys choose one` });
  for (const value of xs) {
    made.append(svg("line", { x1: x(value), x2: x(value), y1: top, y2: height - bottom, class: value ? "wbr-grid" : "wbr-zero" }));
    made.append(svg("text", { x: x(value), y: height - bottom + 15, "text-anchor": "middle" }, String(value).replace("-", "−")));
  }
  for (const value of ys) {
    made.append(svg("line", { x1: left, x2: width - right, y1: y(value), y2: y(value), class: value ? "wbr-grid" : "wbr-zero" }));
    made.append(svg("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, String(value).replace("-", "−")));
  }
  made.append(svg("text", { x: left - 6, y: 11, class: "wbr-strong" }, "effect"), svg("text", { x: width - right, y: height - 3, "text-anchor": "end", class: "wbr-strong" }, by));
  const [from, to] = [Math.max(xs[0], ys[0]), Math.min(xs.at(-1), ys.at(-1))];
  if (by === "attribution" && from < to) {
    made.append(svg("line", { x1: x(from), y1: y(from), x2: x(to), y2: y(to), class: "wbr-zero", "stroke-dasharray": "4 3" }), svg("text", { x: x(from) + 14, y: y(from) - 5, "text-anchor": "start" }, "y = x"));
  }
  const drawn = [...points].sort((a, b) => (a.feature === chosen()) - (b.feature === chosen())); // the chosen one on top
  for (const point of drawn) {
    const isChosen = point.feature === chosen();
    const [px, py, r] = [x(point[by]), y(point.effect), isChosen ? 6 : 4];
    const shape = signOf(point) === "supports" ? svg("circle", { cx: px, cy: py, r }) : svg("rect", { x: px - r, y: py - r, width: 2 * r, height: 2 * r });
    shape.setAttribute("class", `wbr-point ${signOf(point)} ${isChosen ? "chosen" : ""}`);
    shape.setAttribute("data-feature", point.feature);
    shape.append(svg("title", {}, about(point)));
    shape.addEventListener("click", () => choose(point.feature));
    made.append(shape);
  }
  return walkable(made, points, chosen, choose);
}

function drawAgreement({ points, agreement, n_top, n_measured }, chosen, choose) {
  return Object.entries(agreement).map(([by, { correlation, rank, without, pair, overlap }]) =>
    node(
      "div",
      { class: "wbr-panel" },
      node("p", {}, node("b", { class: "wbr-figure" }, number(rank, false)), ` rank correlation of ${by} with effect`, node("br"), `linear correlation ${number(correlation, false)}`, without == null ? "" : node("span", {}, ", but ", node("b", {}, number(without, false)), ` without one pair: ${pair}`), node("br"), node("b", {}, `${overlap} of ${n_top}`), ` largest effects are among its top ${n_top}, over ${count(n_measured)} pairs`),
      scatter(points, by, chosen, choose),
    ),
  );
}
