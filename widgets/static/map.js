// A map of features: pan, zoom, lasso, search, select. Answers the hand; map_data.js reads the traits, points.js draws.

const NEAR = 14; // pixels: how far from a point a click still means it
const STEP = 1.35; // one step of the zoom
const FAR_ZOOM = 4000;
const STRONG = 225; // opacity of 255
const N_LISTED = 24; // lassoed features that are named below the map
const N_POINT_NAMES = 400; // with fewer points in view, the points are named instead of the clusters

function render({ model, el }) {
  const query = node("input", { type: "search", "aria-label": "Search labels and feature numbers", placeholder: "words of labels, or a number", spellcheck: "false" });
  const color = node("select", { "aria-label": "Color by" }, ...["density", "label", "dictionary", "score"].map((name) => node("option", { value: name }, name)));
  const lassoing = button("Lasso", () => arm(lassoing.getAttribute("aria-pressed") !== "true"), { "aria-pressed": "false", title: "Draw around features (or hold Shift)" });
  const zoomOut = button("−", () => zoomBy(1 / STEP), { "aria-label": "Zoom out" });
  const zoomIn = button("+", () => zoomBy(STEP), { "aria-label": "Zoom in" });
  const whole = button("Whole map", () => look(0, 0, 1));
  const status = node("span", { class: "wbp-faint wbp-push", role: "status" });
  const canvas = node("canvas", { "aria-hidden": "true" });
  canvas.removeAttribute("data-lm-suppress-shortcuts");
  const over = node("canvas", { tabindex: 0, role: "application", "aria-label": "Map of features. Arrow keys select the nearest feature in a direction, plus and minus zoom, Escape clears." });
  const tip = node("div", { class: "wbp-tip", "aria-hidden": "true" });
  const field = node("div", { class: "wbp-map" }, canvas, over, tip);
  const legend = node("div", { class: "wbp-bar wbp-legend" });
  const said = node("div", { class: "wbp-said", "aria-live": "polite" });
  const listed = node("div", { class: "wbp-listed" });
  const hint = node("div", { class: "wbp-faint" }, "Drag to move, click to select; with the map focused the wheel zooms and the arrow keys walk from feature to feature of the dictionary. Shift and drag: lasso.");
  const root = node(
    "div", { class: "wbp" },
    node("div", { class: "wbp-bar" }, query, node("label", {}, "color ", color), lassoing, node("span", {}, zoomOut, " ", zoomIn, " ", whole), status),
    field, legend, said, listed, hint,
  );
  el.append(root);

  let data = decode(model);
  const base = shuffled(data.n);
  const colors = new Uint32Array(data.n);
  const sorted = new Uint32Array(data.n);
  let order = base; // in which the points are drawn
  const isShown = new Uint8Array(data.n); // 0: its dictionary is hidden
  const isStrong = new Uint8Array(data.n); // 0: it does not match, lies outside of the lasso or has no score
  const px = new Float32Array(data.n);
  const py = new Float32Array(data.n);
  let dark = false;
  let dpr = 1;
  let hovered = -1;
  let line = []; // of a lasso that is being drawn
  let request = 0;

  // --- from data to pixels
  const size = () => [canvas.width / dpr, canvas.height / dpr];
  const perUnit = () => {
    const [width, height] = size();
    return 0.95 * model.get("view")[2] * Math.min(width / 2 / data.half[0], height / 2 / data.half[1]);
  };
  function placePoints() {
    const [cx, cy] = model.get("view");
    const k = perUnit() * dpr;
    for (let i = 0; i < data.n; i += 1) {
      px[i] = canvas.width / 2 + k * (data.x[i] - cx);
      py[i] = canvas.height / 2 - k * (data.y[i] - cy);
    }
  }
  function radius() {
    const [width, height] = size();
    const crowd = Math.sqrt((width * height) / Math.max(data.n, 1)) * model.get("view")[2] ** 0.6;
    return dpr * Math.min(Math.max(0.36 * crowd, 1.1), 5);
  }

  function paint() {
    request = 0;
    const start = performance.now();
    placePoints();
    const context = canvas.getContext("2d");
    splat(context, order, px, py, colors, data.saes, radius());
    const names = inView();
    writeNames(context, names, 40, dark ? "#f2f3f5" : "#15171b", dark ? "rgb(17 18 21 / 0.85)" : "rgb(255 255 255 / 0.88)", 11.5 * dpr);
    drawOver();
    root.dataset.paint = (performance.now() - start).toFixed(1);
  }
  const repaint = () => (request ||= requestAnimationFrame(paint));

  function inView() {
    const found = [];
    for (let i = 0; i < data.n && found.length <= N_POINT_NAMES; i += 1) {
      if (isShown[i] && px[i] > 0 && py[i] > 0 && px[i] < canvas.width && py[i] < canvas.height) found.push(i);
    }
    const lift = radius() + 8 * dpr;
    if (found.length <= N_POINT_NAMES) return found.filter((i) => isStrong[i] && label(i)).map((i) => ({ x: px[i], y: py[i] - lift, text: cut(label(i), 28) }));
    const [cx, cy] = model.get("view");
    const k = perUnit() * dpr;
    const said = new Set(); // of several clusters of one name the largest
    return model.get("places").filter(([, , text]) => !said.has(text) && said.add(text)).map(([x, y, text]) => ({ x: canvas.width / 2 + k * (x - cx), y: canvas.height / 2 - k * (y - cy), text: cut(text, 28) }));
  }

  const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
  const label = (i) => data.texts[data.labels[i]] ?? "";
  const named = (i) => `${label(i) ? `${label(i)}, ` : ""}feature ${count(data.features[i])} of ${model.get("sae_names")[data.saes[i]]}`;

  function recolor() {
    const by = model.get("color_by");
    const hidden = new Set(model.get("hidden"));
    const shows = model.get("sae_names").map((name) => !hidden.has(name));
    const matches = matching(model.get("query"));
    const lassoed = model.get("lassoed").length ? new Uint8Array(data.n) : null;
    if (lassoed) for (const i of model.get("lassoed")) lassoed[i] = 1;
    const scale = by === "density" ? data.scales.density : by === "score" ? data.scales.score : null;
    const stops = RAMPS[dark ? "dark" : "light"];
    const shades = Array.from({ length: N_SHADES }, (_, i) => packed(ramp(stops, i / (N_SHADES - 1)), STRONG));
    const palette = PALETTE.map((rgb) => packed(rgb, STRONG));
    const gray = packed(GRAY, STRONG);
    const faded = packed(GRAY, dark ? 70 : 60);
    let n_faint = 0;
    let n_strong = 0; // faint points are drawn first: they fill `sorted` from the front, the others from its end
    const tint = { dictionary: (i) => palette[data.saes[i] % palette.length], label: (i) => (data.isNamed[data.labels[i]] ? palette[1] : gray) }[by] ?? ((i) => (scale.steps[i] === UNKNOWN ? gray : shades[scale.steps[i]]));
    for (let k = 0; k < data.n; k += 1) {
      const i = base[k];
      isShown[i] = shows[data.saes[i]] ? 1 : 0;
      if (!isShown[i]) continue;
      const shade = tint(i);
      const isOut = (matches && !matches[data.labels[i]] && data.features[i] !== matches.number) || (lassoed && !lassoed[i]) || (by === "score" && shade === gray);
      colors[i] = isOut ? faded : shade;
      isStrong[i] = isOut ? 0 : 1;
      if (isOut) sorted[n_faint++] = i;
      else sorted[data.n - ++n_strong] = i;
    }
    const strong = sorted.subarray(data.n - n_strong);
    if (by === "score") strong.sort((i, j) => data.scores[i] - data.scores[j]);
    sorted.copyWithin(n_faint, data.n - n_strong);
    order = sorted.subarray(0, n_faint + n_strong);
    drawLegend(scale, stops);
    const total = `${several(data.n, "feature")} of ${several(model.get("sae_names").length, "dictionary", "dictionaries")}`;
    status.textContent = matches || lassoed ? `${count(n_strong)} of ${total}` : total;
    repaint();
  }

  // Which labels have every word; .number: the feature that is meant. null: everything.
  function matching(text) {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    if (!words.length) return null;
    const found = data.texts.map((each) => words.every((word) => each.toLowerCase().includes(word)));
    return Object.assign(found, { number: /^\d+$/.test(text.trim()) ? Number(text) : -1 });
  }

  function drawLegend(scale, stops) {
    const by = model.get("color_by");
    const hadFocus = legend.contains(root.getRootNode().activeElement) ? root.getRootNode().activeElement.value : null;
    const parts = [];
    if (scale && Number.isFinite(scale.low)) {
      const bar = node("span", { class: "wbp-ramp", "aria-hidden": "true" });
      bar.style.background = `linear-gradient(90deg, ${stops.map((stop) => `rgb(${stop})`)})`;
      const show = (value) => (by === "density" ? `${brief(100 * value)} %` : brief(value));
      parts.push(node("span", { class: "wbp-scale" }, `${by === "density" ? "active on" : "score"} ${show(scale.low)}`, bar, `${show(scale.high)}${by === "density" ? " of tokens" : ""}`));
    }
    if (by === "score" && !data.scores.length) parts.push(node("span", {}, "No search was shown here yet."));
    if (by === "label") parts.push(node("span", {}, dot(PALETTE[1]), " has a label"), node("span", {}, dot(GRAY), " has none"));
    const names = model.get("sae_names");
    names.forEach((name, i) => {
      const box = node("input", { type: "checkbox", value: name });
      box.checked = !model.get("hidden").includes(name);
      box.onchange = () => change(model, { hidden: names.filter((each) => (each === name ? !box.checked : model.get("hidden").includes(each))) });
      const glyph = node("span", { "aria-hidden": "true" }, GLYPHS[i % GLYPHS.length]);
      if (by === "dictionary") glyph.style.color = `rgb(${PALETTE[i % PALETTE.length]})`;
      parts.push(node("label", {}, names.length > 1 ? box : null, glyph, name));
    });
    legend.replaceChildren(...parts);
    if (hadFocus != null) [...legend.querySelectorAll("input")].find((box) => box.value === hadFocus)?.focus();
  }
  function dot(rgb) {
    const made = node("span", { "aria-hidden": "true" }, "●");
    made.style.color = `rgb(${rgb})`;
    return made;
  }

  // --- the selection and what the hand does
  function selected() {
    const sae = model.get("sae_names").indexOf(model.get("sae_name"));
    const feature = model.get("feature");
    if (feature == null) return -1;
    for (let i = 0; i < data.n; i += 1) if (data.features[i] === feature && data.saes[i] === sae) return i;
    return -1;
  }

  function drawOver() {
    const context = over.getContext("2d");
    context.clearRect(0, 0, over.width, over.height);
    const ink = dark ? "#fff" : "#000";
    const ring = (i, r, width, paint) => {
      context.beginPath();
      context.arc(px[i], py[i], r, 0, 7);
      Object.assign(context, { lineWidth: width * dpr, strokeStyle: paint });
      context.stroke();
    };
    if (hovered >= 0) ring(hovered, radius() + 4 * dpr, 1.5, ink);
    const i = selected();
    if (i >= 0) {
      ring(i, radius() + 6 * dpr, 5, dark ? "rgb(0 0 0 / 0.6)" : "rgb(255 255 255 / 0.8)");
      ring(i, radius() + 6 * dpr, 2.5, dark ? "rgb(255 140 50)" : "rgb(210 80 0)");
    }
    if (line.length > 1) {
      context.beginPath();
      line.forEach(([x, y]) => context.lineTo(x * dpr, y * dpr));
      context.closePath();
      Object.assign(context, { fillStyle: "rgb(44 123 182 / 0.15)", strokeStyle: ink, lineWidth: 1.5 * dpr });
      context.fill();
      context.stroke();
    }
  }

  function say() {
    const i = selected();
    const density = i >= 0 ? ` · active on ${brief(100 * data.densities[i])} % of tokens` : "";
    const score = i >= 0 && Number.isFinite(data.scores[i]) ? ` · score ${brief(data.scores[i])}` : "";
    const away = i >= 0 && !isShown[i] ? " · its dictionary is hidden" : "";
    const missing = model.get("feature") != null && i < 0 ? `Feature ${count(model.get("feature"))} of ${model.get("sae_name")} is not on this map.` : "";
    said.replaceChildren(...(i < 0 ? [missing] : [node("b", {}, label(i) || `feature ${count(data.features[i])}`), ` ${label(i) ? `feature ${count(data.features[i])}` : ""} of ${model.get("sae_name")}${density}${score}${away}`]));
    drawOver();
  }

  const select = (i) => change(model, { feature: data.features[i], sae_name: model.get("sae_names")[data.saes[i]] });

  // The nearest shown point to (x, y), in the page's pixels, within `reach`.
  function nearest(x, y, reach) {
    let best = -1;
    let least = (reach * dpr) ** 2;
    for (let i = 0; i < data.n; i += 1) {
      const away = (px[i] - x * dpr) ** 2 + (py[i] - y * dpr) ** 2;
      if (away < least && isShown[i]) [best, least] = [i, away];
    }
    return best;
  }

  // The nearest point of the same dictionary in a direction: what lies off to a side counts as farther.
  function walk(dx, dy) {
    const from = selected();
    if (from < 0 || !isShown[from]) {
      const i = nearest(size()[0] / 2, size()[1] / 2, Infinity);
      if (i >= 0) select(i);
      return;
    }
    let best = -1;
    let least = Infinity;
    for (let i = 0; i < data.n; i += 1) {
      const along = (px[i] - px[from]) * dx + (py[i] - py[from]) * dy;
      const beside = Math.abs((px[i] - px[from]) * dy) + Math.abs((py[i] - py[from]) * dx);
      if (along > 0.01 && beside <= along * 1.2 && along + 2 * beside < least && isShown[i] && data.saes[i] === data.saes[from]) [best, least] = [i, along + 2 * beside];
    }
    if (best < 0) return;
    const [width, height] = size();
    const [x, y] = [px[best] / dpr, py[best] / dpr];
    if (x < 0 || y < 0 || x > width || y > height) look(data.x[best], data.y[best], model.get("view")[2]);
    select(best);
  }

  let keeping;
  function look(cx, cy, zoom) {
    const limit = (value) => Math.min(Math.max(value, -1.2), 1.2);
    model.set("view", [limit(cx), limit(cy), Math.min(Math.max(zoom, 0.5), FAR_ZOOM)]);
    clearTimeout(keeping);
    keeping = setTimeout(() => model.save_changes(), 200); // Python hears of where it ends, not of every step
    repaint();
  }
  function zoomBy(factor, x = size()[0] / 2, y = size()[1] / 2) {
    const [cx, cy, zoom] = model.get("view");
    const k = perUnit();
    const next = Math.min(Math.max(zoom * factor, 0.5), FAR_ZOOM);
    const shift = (1 - zoom / next) / k;
    look(cx + (x - size()[0] / 2) * shift, cy - (y - size()[1] / 2) * shift, next);
  }

  const arm = (isOn) => {
    lassoing.setAttribute("aria-pressed", isOn);
    over.classList.toggle("wbp-lassoing", isOn);
  };
  function enclose() {
    const start = performance.now();
    const [width, height] = size();
    const test = inside(line, Math.ceil(width), Math.ceil(height));
    const found = [];
    for (let i = 0; i < data.n; i += 1) if (isShown[i] && test(px[i] / dpr, py[i] / dpr)) found.push(i);
    line = [];
    arm(false);
    model.set("lassoed", found);
    setTimeout(() => model.save_changes(), 50); // the picture first: Python may have 100,000 rows to read
    root.dataset.lasso = (performance.now() - start).toFixed(1);
  }

  function list() {
    const rows = model.get("lassoed").filter((i) => i < data.n);
    const chips = rows.slice(0, N_LISTED).map((i) => button(cut(label(i), 32) || `feature ${count(data.features[i])}`, () => select(i), { title: named(i) }));
    const rest = rows.length > N_LISTED ? node("span", { class: "wbp-faint" }, `and ${count(rows.length - N_LISTED)} more`) : null;
    const clear = button("Clear", () => change(model, { lassoed: [] }), { "aria-label": "Clear the lasso" });
    listed.replaceChildren(...(rows.length ? [node("b", {}, `${several(rows.length, "feature")} in the lasso`), ...chips, rest, clear].filter(Boolean) : []));
  }

  function hover(x, y) {
    const i = nearest(x, y, NEAR);
    if (i !== hovered) {
      hovered = i;
      drawOver();
    }
    tip.hidden = i < 0;
    if (i < 0) return;
    const score = Number.isFinite(data.scores[i]) ? ` · score ${brief(data.scores[i])}` : "";
    tip.replaceChildren(node("b", {}, label(i) || "no label"), node("div", {}, `feature ${count(data.features[i])} of ${model.get("sae_names")[data.saes[i]]}`), node("div", {}, `active on ${brief(100 * data.densities[i])} % of tokens${score}`));
    const [width] = size();
    const isRight = px[i] / dpr > width / 2;
    Object.assign(tip.style, { left: isRight ? "" : `${px[i] / dpr + 14}px`, right: isRight ? `${width - px[i] / dpr + 14}px` : "", top: `${Math.max(py[i] / dpr - 20, 4)}px` });
  }
  tip.hidden = true;

  let hold = null; // a pointer that is down: where it began, and the middle of the view then
  over.onpointerdown = (event) => {
    if (event.button) return;
    over.focus({ preventScroll: true });
    over.setPointerCapture(event.pointerId);
    const isLasso = event.shiftKey || lassoing.getAttribute("aria-pressed") === "true";
    hold = { x: event.offsetX, y: event.offsetY, view: [...model.get("view")], isLasso, hasMoved: false };
    line = isLasso ? [[event.offsetX, event.offsetY]] : [];
    tip.hidden = true;
  };
  over.onpointermove = (event) => {
    if (!hold) return hover(event.offsetX, event.offsetY);
    hold.hasMoved ||= Math.hypot(event.offsetX - hold.x, event.offsetY - hold.y) > 4;
    if (hold.isLasso) {
      line.push([event.offsetX, event.offsetY]);
      return drawOver();
    }
    if (hold.hasMoved) look(hold.view[0] - (event.offsetX - hold.x) / perUnit(), hold.view[1] + (event.offsetY - hold.y) / perUnit(), hold.view[2]);
  };
  over.onpointerup = (event) => {
    const held = hold;
    hold = null;
    if (!held) return;
    if (held.isLasso && held.hasMoved) return enclose();
    line = [];
    if (held.hasMoved) return;
    const i = nearest(event.offsetX, event.offsetY, NEAR);
    if (i >= 0) select(i);
  };
  over.onpointercancel = () => ([hold, line] = [null, []]);
  over.onpointerleave = () => {
    [hovered, tip.hidden] = [-1, true];
    drawOver();
  };
  over.ondblclick = (event) => zoomBy(STEP * STEP, event.offsetX, event.offsetY);
  over.addEventListener("wheel", (event) => {
    if (root.getRootNode().activeElement !== over && !event.ctrlKey && !event.metaKey) return; // a page scrolls past a map that is not in use
    event.preventDefault();
    zoomBy(Math.exp(-Math.sign(event.deltaY) * Math.min(Math.abs(event.deltaY), 120) * 0.0025), event.offsetX, event.offsetY);
  }, { passive: false });
  over.onkeydown = (event) => {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const pans = { ArrowLeft: [-0.2, 0], ArrowRight: [0.2, 0], ArrowUp: [0, 0.2], ArrowDown: [0, -0.2] };
    const [cx, cy, zoom] = model.get("view");
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (steps[event.key] && event.shiftKey) look(cx + pans[event.key][0] / zoom, cy + pans[event.key][1] / zoom, zoom);
    else if (steps[event.key]) walk(...steps[event.key]);
    else if (event.key === "+" || event.key === "=") zoomBy(STEP);
    else if (event.key === "-") zoomBy(1 / STEP);
    else if (event.key === "0") look(0, 0, 1);
    else if (event.key === "Escape" && (model.get("lassoed").length || line.length)) {
      [line, hold] = [[], null];
      change(model, { lassoed: [] });
      drawOver();
    } else if (event.key === "Escape") change(model, { feature: null });
    else return;
    event.preventDefault();
  };
  let typing;
  query.oninput = () => {
    clearTimeout(typing);
    typing = setTimeout(() => change(model, { query: query.value }), 120);
  };
  query.onkeydown = (event) => {
    if (event.key !== "Enter") return;
    const matches = matching(query.value);
    const from = selected();
    const all = matches ? order.filter((i) => matches[data.labels[i]] || data.features[i] === matches.number) : [];
    if (!all.length) return;
    const i = all[(all.indexOf(from) + 1) % all.length];
    look(data.x[i], data.y[i], Math.max(model.get("view")[2], 4));
    select(i);
  };
  color.onchange = () => change(model, { color_by: color.value });

  // --- and back
  function controls() {
    if (root.getRootNode().activeElement !== query) query.value = model.get("query");
    color.value = model.get("color_by");
    recolor();
  }
  function theme() {
    dark = isDark(root);
    root.classList.toggle("wbp-dark", dark);
    recolor();
  }
  function resize() {
    const { width, height } = field.getBoundingClientRect();
    if (!width) return;
    dpr = Math.min(devicePixelRatio || 1, 2);
    for (const each of [canvas, over]) Object.assign(each, { width: Math.round(width * dpr), height: Math.round(height * dpr) });
    paint();
  }
  const redecode = () => {
    data = decode(model);
    controls();
  };
  const unwatch = watch(model, [
    [["feature", "sae_name"], say],
    [["color_by", "query", "hidden"], controls],
    [["lassoed"], () => (recolor(), list())],
    [["view"], repaint],
    [["scores"], redecode],
  ]);
  const untheme = onTheme(theme);
  const observer = new ResizeObserver(resize);
  observer.observe(field);
  dark = isDark(root);
  root.classList.toggle("wbp-dark", dark);
  controls();
  resize();
  say();
  list();
  return () => {
    unwatch();
    untheme();
    observer.disconnect();
  };
}

export default { render };
