// A map of features: pan, zoom, lasso, search, select. The traits' bytes become arrays (map_data.js), these a Scene (map_scene.js), which is
// drawn (map_canvas.js with points.js) and said (map_words.js); what the hand does (map_hand.js) changes traits, and the circle is closed.

const FAR_ZOOM = 4000;

function render({ model, el }) {
  const query = node("input", { type: "search", "aria-label": "Search labels and feature numbers", placeholder: "words of labels, or a number", spellcheck: "false" });
  const color = node("select", { "aria-label": "Color by" }, ...["density", "label", "dictionary", "reads", "writes", "score"].map((name) => node("option", { value: name }, name)));
  for (const option of color.options) option.hidden = option.disabled = SCORES.includes(option.value) && !model.get(option.value)?.byteLength;
  const lassoing = button("Lasso", () => arm(!isArmed()), { "aria-pressed": "false", title: "Draw around features (or hold Shift)" });
  const zoomOut = button("−", () => zoomBy(1 / STEP), { "aria-label": "Zoom out" });
  const zoomIn = button("+", () => zoomBy(STEP), { "aria-label": "Zoom in" });
  const whole = button("Whole", () => look(0, 0, 1), { title: "the whole map" });
  const scene = new Scene(model);
  const pictures = pictureButtons("map", el, () => svgOf(scene), () => pngOf([canvas, over], scene.isDark));
  const status = node("div", { class: "wbp-faint wbp-total", role: "status" });
  const canvas = node("canvas", { "aria-hidden": "true" });
  canvas.removeAttribute("data-lm-suppress-shortcuts");
  const over = node("canvas", { tabindex: 0, role: "application", "aria-label": "Map of features. Arrow keys select the nearest feature in a direction, plus and minus zoom, Escape clears." });
  const tip = node("div", { class: "wbp-tip", "aria-hidden": "true", hidden: true });
  const field = node("div", { class: "wbp-map" }, canvas, over, node("div", { class: "wbp-zoom" }, zoomOut, zoomIn, whole), tip);
  const legend = node("div", { class: "wbp-bar wbp-legend" });
  const said = node("div", { class: "wbp-said", "aria-live": "polite" });
  const listed = node("div", { class: "wbp-listed" });
  const results = node("div", { class: "wbp-results", role: "group", "aria-label": "Features found on the map" });
  const hint = node("div", { class: "wbp-faint" }, "Drag to move, click to select; with the map focused the wheel zooms and the arrow keys walk from feature to feature of the dictionary. Shift and drag: lasso.");
  const root = node(
    "div", { class: "wbp" },
    node("div", { class: "wbp-bar" }, query, node("label", {}, "color ", color), lassoing),
    results, field, status, legend, said, listed, node("div", { class: "wbp-bar" }, ...pictures), hint,
  );
  el.append(root);

  // --- from the scene to the page
  let request = 0;
  function paint() {
    request = 0;
    const start = performance.now();
    paintPoints(canvas, scene);
    repaintOver();
    root.dataset.paint = (performance.now() - start).toFixed(1);
  }
  const repaint = () => (request ||= requestAnimationFrame(paint));
  const repaintOver = () => paintOver(over, scene);
  function recolor() {
    status.textContent = totals(scene, scene.recolor());
    drawLegend(legend, scene);
    repaint();
  }
  function say() {
    said.replaceChildren(...selectionParts(scene));
    repaintOver();
  }
  const list = () => drawListed(listed, scene, select);
  // The middle of the view goes to a point that is named in the list.
  const visit = (i) => {
    look(scene.data.x[i], scene.data.y[i], Math.max(model.get("view")[2], 4));
    select(i);
  };
  const answer = () => drawResults(results, scene, visit);

  // --- from the hand to the traits
  const select = (i) => change(model, { feature: scene.data.features[i], sae_name: scene.saeName(i) });
  let keeping;
  function look(cx, cy, zoom) {
    const limit = (value) => Math.min(Math.max(value, -1.2), 1.2);
    model.set("view", [limit(cx), limit(cy), Math.min(Math.max(zoom, 0.5), FAR_ZOOM)]);
    clearTimeout(keeping);
    keeping = setTimeout(() => model.save_changes(), 200); // Python hears of where it ends, not of every step
    repaint();
  }
  // The place (x, y), in the page's pixels, stays where it is.
  function zoomBy(factor, x = scene.size[0] / 2, y = scene.size[1] / 2) {
    const [cx, cy, zoom] = model.get("view");
    const next = Math.min(Math.max(zoom * factor, 0.5), FAR_ZOOM);
    const shift = (1 - zoom / next) / scene.perUnit;
    look(cx + (x - scene.size[0] / 2) * shift, cy - (y - scene.size[1] / 2) * shift, next);
  }
  const isArmed = () => lassoing.getAttribute("aria-pressed") === "true";
  function arm(isOn) {
    lassoing.setAttribute("aria-pressed", isOn);
    over.classList.toggle("wbp-lassoing", isOn);
  }
  function enclose() {
    const start = performance.now();
    const found = scene.enclosed();
    scene.line = [];
    arm(false);
    model.set("lassoed", found);
    setTimeout(() => model.save_changes(), 50); // the picture first: Python may have 100,000 rows to read
    root.dataset.lasso = (performance.now() - start).toFixed(1);
  }
  function hover(i) {
    drawTip(tip, scene, i);
    if (i === scene.hovered) return;
    scene.hovered = i;
    repaintOver();
  }
  const acts = { look, zoomBy, select, enclose, hover, repaintOver };
  listenToKeys(over, scene, acts, listenToPointer(over, scene, acts, isArmed));

  let typing;
  const ask = () => {
    clearTimeout(typing);
    if (query.value !== model.get("query")) change(model, { query: query.value });
  };
  query.oninput = () => {
    clearTimeout(typing);
    typing = setTimeout(ask, 120);
  };
  query.onchange = ask;
  const fill = filled(query, () => model.get("query"));
  query.onkeydown = (event) => {
    if (event.key === "ArrowDown" && results.querySelector("button")) return event.preventDefault(), results.querySelector("button").focus();
    if (event.key !== "Enter") return;
    ask();
    const found = scene.listed(query.value);
    if (found.length) visit(found[(found.indexOf(scene.selected()) + 1) % found.length]);
  };
  results.onkeydown = (event) => {
    const all = [...results.querySelectorAll("button")];
    const at = all.indexOf(event.target);
    const to = { ArrowDown: at + 1, ArrowRight: at + 1, ArrowUp: at - 1, ArrowLeft: at - 1, Home: 0, End: all.length - 1 }[event.key];
    if (to == null || event.altKey || at < 0) return;
    event.preventDefault();
    (to < 0 ? query : all[Math.min(to, all.length - 1)]).focus();
  };
  color.onchange = () => change(model, { color_by: color.value });

  // --- from the traits, the theme and the window to the scene
  function controls() {
    fill();
    color.value = model.get("color_by");
    recolor();
    answer();
  }
  function dress() {
    scene.isDark = isDark(root);
    root.classList.toggle("wbp-dark", scene.isDark);
  }
  function resize() {
    const { width, height } = field.getBoundingClientRect();
    if (!width) return;
    scene.dpr = Math.min(devicePixelRatio || 1, 2);
    [scene.width, scene.height] = [Math.round(width * scene.dpr), Math.round(height * scene.dpr)];
    for (const each of [canvas, over]) Object.assign(each, { width: scene.width, height: scene.height });
    paint();
  }
  const unwatch = watch(model, [
    [["feature", "sae_name"], () => (say(), answer())],
    [["color_by", "query", "hidden"], controls],
    [["ranked", "ranked_of", "is_ringed"], () => (answer(), drawLegend(legend, scene), repaintOver())],
    [["lassoed"], () => (recolor(), list())],
    [["view"], repaint],
    [["scores", "numbers", "texts"], () => (scene.read(), controls(), say())],
  ]);
  const untheme = onTheme(() => (dress(), recolor()));
  const observer = new ResizeObserver(resize);
  observer.observe(field);
  dress();
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
