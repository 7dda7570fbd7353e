// The circuit of a prompt: tokens from left to right, layers from bottom to top. The traits' tables become arrays and groups are collapsed
// (circuit_links.js), pruned here (circuit_cut.js), made a scene (circuit_scene.js, circuit_layout.js), drawn (circuit_canvas.js, circuit_edges.js)
// and said (circuit_words.js, circuit_side.js); the hand (circuit_hand.js) changes traits.

const MANY_LINKS = 2000;
const KEYS_LINE = "Keys in the picture: arrows walk, [ and ] follow the strongest edge back and on, Enter its list of edges, Space marks, P pins, G names a group, C collapses or opens a group (Shift+C: all), A ablates, / searches, + − 0 zoom, Shift+arrows move, Esc clears.";

function render({ model, el }) {
  const isLive = Boolean(model.widget_manager);
  const query = node("input", { type: "search", "aria-label": "Search labels, tokens, groups and feature numbers", placeholder: "search", spellcheck: "false" });
  const shares = ["node", "edge"].map((what) => {
    const box = node("input", { type: "range", min: 0.05, max: 1, step: 0.01, "aria-label": `Share of the influence that ${what}s carry` });
    return { what, box, said: node("output", {}) };
  });
  const zoomOut = button("−", () => zoomBy(1 / STEP), { "aria-label": "Zoom out" });
  const zoomIn = button("+", () => zoomBy(STEP), { "aria-label": "Zoom in" });
  const whole = button("Whole", () => look());
  const status = node("span", { class: "wbp-faint wbp-push", role: "status" });
  const canvas = node("canvas", { "aria-hidden": "true" });
  canvas.removeAttribute("data-lm-suppress-shortcuts");
  const over = node("canvas", { tabindex: 0, role: "application", "data-keys": "/", "aria-label": "Circuit. Arrow keys walk from node to node, brackets follow the strongest edge, Space marks, P pins, G names a group, C collapses or opens it, Escape clears." });
  const tip = node("div", { class: "wbx-tip", "aria-hidden": "true", hidden: true });
  const zooms = node("span", { class: "wbx-zoom" }, zoomOut, zoomIn, whole, ...pictureButtons("circuit", el, () => svgOf(scene), () => pngOf([canvas, over], scene.isDark, [scene.isDimmed ? 0.22 : 1])));
  const field = node("div", { class: "wbx-field" }, canvas, over, zooms, tip);
  const title = node("p", { class: "wbx-title" });
  const warned = node("div", { class: "wbx-warned" });
  const said = node("div", { class: "wbx-said", "aria-live": "polite" });
  const pin = button("Pin", () => acts.pin(), { title: "pinned nodes stay, whatever the thresholds (P)" });
  const mark = button("Mark", () => acts.mark(scene.selected()), { title: "mark several nodes to make a group of them (Space, Shift+click)" });
  const unmark = button("Unmark all", () => change(model, { marked: [] }));
  const name = node("input", { "aria-label": "Name of a group", placeholder: "name the marked nodes", spellcheck: "false" });
  const group = button("Make a group", () => keepGroup());
  const ungroup = button("Let go of the group", () => change(model, { groups: Object.fromEntries(Object.entries(model.get("groups")).filter(([other]) => other !== model.get("group"))), group: "" }));
  const work = worker(model, "Build the circuit", "Measuring needs the model: open the notebook.");
  const ablate = button("Ablate", () => acts.ablate(), { title: "switch off all that is chosen at once, and see what else moves (A)" });
  const value = node("input", { type: "number", min: 0, step: "any", "aria-label": "Activation to clamp to", placeholder: "activation" });
  const clamp = button("Clamp", () => clampTo(Number(value.value)), { title: "put all that is chosen to this activation, and see what else moves" });
  const fold = button("Collapse", () => acts.fold(), { title: "one node for the group in the picture, or its members again (C)" });
  const foldAll = button("Collapse all", () => acts.foldAll(), { title: "all groups of which something is shown (Shift+C)" });
  const links = node("div", { class: "wbx-sides" });
  const groups = node("div", { class: "wbx-groups", role: "group", "aria-label": "Groups" });
  const moved = node("section", { class: "wbx-moved", "aria-live": "polite" });
  const page = node("div", { class: "wbx-page" });
  const paged = node("details", {}, node("summary", {}, "Its page"), page);
  const body = node("tbody");
  const more = button("", () => ((n_rows += 100), listed()));
  const head = node("thead", {}, node("tr", {}, ...["", "node", "comes from", "goes to"].map((text) => node("th", { scope: "col" }, text))));
  const words = node("details", { open: true, class: "wbx-list" }, node("summary", {}, "In words"), node("table", { class: "wbx-words" }, head, body), more);
  const empty = node("p", { class: "wbx-empty" });
  const signs = ["wbx-for", "wbx-not"].map((name) => node("span", { class: name }));
  const legend = node("p", { class: "wbp-faint wbx-legend" }, ...signs, node("span", {}, "circles: features"), node("span", {}, "squares: all else"), node("span", {}, "diamonds: collapsed groups"), status);
  const measuring = node("div", { class: "wbp-bar" }, work.run, ablate, node("span", { class: "wbx-clamp" }, value, clamp), work.cancel, work.status);
  const picture = node(
    "div", {},
    node("div", { class: "wbp-bar wbx-top" }, query, ...shares.map(({ what, box, said }) => node("label", {}, `${what}s`, box, said))),
    field, legend, warned, said, node("div", { class: "wbp-bar" }, pin, mark, name, group, unmark, fold, ungroup), measuring, moved, links,
    node("div", { class: "wbp-bar" }, node("h5", {}, "Groups"), foldAll), groups, paged, words, node("p", { class: "wbp-faint" }, KEYS_LINE),
  );
  const start = node("div", { class: "wbp-bar" });
  const root = node("div", { class: "wbp wbx" }, title, empty, start, picture);
  el.append(root);
  const scene = new CircuitScene(model);
  scene.read();
  let n_rows = N_ROWS;

  // --- from the scene to the page
  let request = 0;
  let isStale = true; // the whole, not only what is chosen
  function paint() {
    request = 0;
    const began = performance.now();
    if (isStale) paintCircuit(canvas, scene);
    isStale = false;
    canvas.classList.toggle("wbx-dimmed", scene.isDimmed);
    paintChosen(over, scene);
    root.dataset.paint = (performance.now() - began).toFixed(1);
  }
  const repaintChosen = () => (request ||= requestAnimationFrame(paint));
  const repaint = () => ((isStale = true), repaintChosen());
  const listed = () => drawWords(body, more, scene, select, n_rows);
  let listing;
  const listSoon = () => {
    clearTimeout(listing);
    if (scene.links.n <= MANY_LINKS) listed();
    else listing = setTimeout(listed, 300); // of a large graph the list follows when the hand rests: it is a quarter of a repaint
  };
  function say() {
    const focused = el.getRootNode().activeElement;
    const side = links.contains(focused) ? focused.closest("[data-ends]")?.dataset.ends : null;
    const chosenGroup = groups.contains(focused) ? focused.dataset.group : null;
    scene.found = scene.lit = scene.matches(model.get("query"));
    scene.isDimmed = Boolean(scene.chosen().length || scene.lit);
    repaintChosen();
    said.replaceChildren(...saidParts(scene));
    links.replaceChildren(...(scene.chosen().length ? ["targets", "sources"].map((ends) => linksPart(scene, ends, select)) : []));
    drawGroups(groups, scene, (chosen) => change(model, { group: chosen, node: "" }));
    moved.replaceChildren(...movedParts(scene, select));
    if (side) (links.querySelector(`[data-ends="${side}"] button`) ?? over).focus();
    if (chosenGroup != null) ([...groups.querySelectorAll("button")].find((each) => each.dataset.group === chosenGroup) ?? over).focus();
    for (const each of body.querySelectorAll("[data-row]")) each.setAttribute("aria-current", String(Number(each.dataset.row) === scene.selected()));
    controls();
  }
  function controls() {
    const i = scene.selected();
    const inGroup = scene.groupChosen();
    const n_marked = model.get("marked").length;
    pin.disabled = i < 0 && !n_marked && !model.get("group");
    pin.textContent = pinTargets().length && pinTargets().every((id) => model.get("pinned").includes(id)) ? "Unpin" : "Pin";
    mark.disabled = i < 0;
    mark.textContent = i >= 0 && scene.membersAt(i).every((row) => model.get("marked").includes(scene.data.nodes.id[row])) ? "Unmark" : "Mark";
    group.disabled = name.disabled = !n_marked;
    group.textContent = n_marked ? `Group ${several(n_marked, "marked node")}` : "Make a group";
    unmark.hidden = !n_marked;
    ungroup.hidden = !model.get("group");
    fold.hidden = !inGroup;
    fold.textContent = scene.groupRow.has(inGroup) ? "Open the group" : "Collapse the group";
    foldAll.hidden = !Object.keys(model.get("groups")).length;
    foldAll.textContent = model.get("collapsed").length ? "Open all" : "Collapse all";
    work.draw();
    const isBusy = work.run.disabled && isLive;
    const rests = isBusy || !scene.meant().some((row) => scene.data.kinds[row] !== "logit");
    for (const each of [ablate, clamp, value]) each.disabled = rests;
    for (const each of [ablate, value.parentElement, work.cancel]) each.hidden = !isLive;
    const canBuild = isLive && Boolean(model.get("question").prompt) && !model.get("waiting"); // where it cannot be, the words say why
    work.run.hidden = !canBuild;
    work.run.textContent = scene.data.n ? "Build anew" : "Build the circuit";
    const row = model.get("group") ? -1 : scene.data.row.get(model.get("node"));
    paged.hidden = !(model.get("home") && scene.data.kinds[row] === "feature");
  }
  function drawPage() {
    paged.open = model.get("with_page");
    const { html = "", says = "" } = model.get("page");
    page.replaceChildren(...(says ? [node("p", { class: "wbp-faint" }, says)] : []));
    if (!html) return;
    const inner = node("div");
    inner.innerHTML = html; // escaped in Python, as a card is
    for (const each of inner.querySelectorAll("summary, a")) each.setAttribute("data-lm-suppress-shortcuts", "true");
    page.append(inner);
  }
  function drawTitle() {
    const { prompt, answer, baseline, model: of, metric, notes = [], way, sized_by: sized } = model.get("about") ?? {};
    const isThere = scene.data.n > 0;
    picture.hidden = !isThere;
    title.hidden = !isThere;
    empty.hidden = isThere;
    const question = model.get("question");
    empty.textContent = model.get("waiting") || (question.prompt ? `No circuit of “${question.prompt}” yet: every active feature of every layer is switched off once, which takes a while.` : "No circuit yet: bench.circuit(prompt, metric) makes one.");
    const at = isThere ? measuring : start;
    if (work.run.parentElement !== at) {
      const hadKeys = [work.run, work.cancel].includes(root.getRootNode().activeElement); // moved, they lose them
      at.prepend(work.run);
      at.append(work.cancel, work.status);
      if (hadKeys) (isThere ? over : work.run).focus();
    }
    start.hidden = isThere;
    if (!isThere) return;
    const does = way === "direct" ? ["raises what it leads to", "lowers it"] : ["supports the answer (filled)", "opposes it (hollow)"];
    signs.forEach((sign, k) => (sign.textContent = does[k]));
    const isTyped = question.prompt === prompt; // then it stands above
    const facts = [metric == null ? "" : `metric ${alone(metric)}`, `${way} edges`, sized === "influence" ? "sized by influence" : `sized by |${sized}|`, of].filter(Boolean).join(" · ");
    const asked = question.prompt && question.prompt !== prompt ? [node("span", { class: "wbp-wrong" }, " Of another question than the one that is typed.")] : [];
    title.replaceChildren(node("b", {}, "Which features make ", node("code", {}, answer), ...(baseline ? [" rather than ", node("code", {}, baseline)] : []), "?"), isTyped ? " " : ` ${prompt} `, node("span", { class: "wbp-faint" }, facts), ...asked);
    warned.replaceChildren(...notes.map((note) => node("p", { class: "wbp-faint" }, `⚠ ${note}`)));
  }

  // --- from the hand to the traits
  function select(i) {
    if (i == null || i < 0) return;
    bringToSight(scene.end[i] ?? i);
    const name = scene.groups[i - scene.data.n]?.name ?? "";
    change(model, { node: name ? "" : scene.data.nodes.id[i], group: name });
  }
  function bringToSight(i) {
    if (!scene.isShown[i]) return;
    const [x, y] = scene.toPixels(scene.x[i], scene.y[i]);
    if (x < MARGIN.left - 10 || y < 6 || x > scene.width - 6 || y > scene.height - MARGIN.bottom + 10) look(scene.x[i], scene.y[i], scene.look[2]);
  }
  const pinTargets = () => {
    if (model.get("marked").length) return model.get("marked");
    return scene.meant().map((i) => scene.data.nodes.id[i]);
  };
  let keeping;
  const keepSoon = () => {
    clearTimeout(keeping);
    keeping = setTimeout(() => model.save_changes(), 200); // Python hears of where it ends, not of every step
  };
  function look(x, y, zoom) {
    const [width, height] = scene.extent;
    const isWhole = x == null;
    const within = (at, most) => Math.min(Math.max(at, 0), most);
    model.set("view", isWhole ? [] : [within(x, width), within(y, height), Math.min(Math.max(zoom, 0.5), 60)]);
    keepSoon();
    repaint();
  }
  function zoomBy(factor, x = scene.width / 2, y = scene.height / 2) {
    const [cx, cy, zoom] = scene.look;
    const next = Math.min(Math.max(zoom * factor, 0.5), 60);
    const [mx, my] = scene.toPixels(cx, cy);
    const [ux, uy] = scene.units;
    const shift = 1 / zoom - 1 / next;
    look(cx + ((x - mx) / ux) * shift, cy - ((y - my) / uy) * shift, next);
  }
  function clampTo(to) {
    const nodes = scene.meant().map((i) => scene.data.nodes.id[i]);
    if (isLive && nodes.length && Number.isFinite(to)) model.send({ do: "clamp", nodes, name: model.get("group") || "", value: to });
  }
  function keepGroup() {
    const members = model.get("marked");
    if (!members.length) return;
    const known = model.get("groups");
    let [called, n] = [name.value.trim(), Object.keys(known).length + 1];
    if (!called) do called = `group ${n++}`; while (Object.hasOwn(known, called));
    name.value = "";
    change(model, { groups: grouped(model.get("groups"), called, members), marked: [], group: called, node: "" });
    over.focus();
  }
  const acts = {
    look, zoomBy, select,
    mark(i) {
      if (i < 0) return;
      const ids = scene.membersAt(i).map((row) => scene.data.nodes.id[row]);
      const others = model.get("marked").filter((each) => !ids.includes(each));
      const isMarked = model.get("marked").length === others.length + ids.length;
      change(model, { marked: isMarked ? others : [...others, ...ids] });
    },
    pin() {
      const ids = pinTargets();
      const now = model.get("pinned");
      const isAll = ids.every((id) => now.includes(id));
      if (ids.length) change(model, { pinned: isAll ? now.filter((id) => !ids.includes(id)) : [...now, ...ids.filter((id) => !now.includes(id))] });
    },
    fold() {
      const name = scene.groupChosen();
      if (!name) return;
      const now = model.get("collapsed");
      change(model, { collapsed: now.includes(name) ? now.filter((each) => each !== name) : [...now, name], node: "", group: name });
    },
    foldAll: () => change(model, { collapsed: model.get("collapsed").length ? [] : Object.keys(model.get("groups")) }),
    name: () => (name.disabled ? null : name.focus()),
    ablate: () => (ablate.disabled ? null : clampTo(0)),
    search: () => query.focus(),
    links: () => links.querySelector("button")?.focus(),
    clear: () => change(model, model.get("query") && !scene.chosen().length ? { query: "" } : { node: "", group: "" }),
    hover(i) {
      drawCircuitTip(tip, scene, i);
      if (i === scene.hovered) return;
      scene.hovered = i;
      repaintChosen();
    },
  };
  listenToCircuitPointer(over, scene, acts);
  listenToCircuitKeys(over, scene, acts);
  // None of these may give false back: a browser takes that for "do nothing".
  const back = (event) => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    over.focus();
  };
  links.onkeydown = groups.onkeydown = back;
  name.onkeydown = (event) => {
    if (event.key === "Enter") keepGroup();
    else back(event);
  };
  value.onkeydown = (event) => {
    if (event.key === "Enter" && value.value) clampTo(Number(value.value));
    else back(event);
  };

  query.oninput = () => {
    model.set("query", query.value);
    keepSoon();
  };
  const fill = filled(query, () => model.get("query"));
  query.onkeydown = (event) => {
    if (event.key === "Escape") return back(event);
    const found = event.key === "Enter" ? scene.found ?? [] : [];
    if (found.length) select(found[(found.indexOf(scene.selected()) + 1) % found.length]);
  };
  for (const { what, box } of shares) {
    box.oninput = () => {
      model.set(`${what}_share`, Number(box.value));
      keepSoon();
    };
  }
  paged.ontoggle = () => {
    if (paged.open !== model.get("with_page")) change(model, { with_page: paged.open });
  };

  // --- from the traits, the theme and the window to the scene
  function recut() {
    for (const { what, box, said: share } of shares) {
      const now = model.get(`${what}_share`);
      if (Number(box.value) !== now) box.value = now;
      share.textContent = now.toFixed(2);
    }
    scene.cut();
    searched();
    repaint();
  }
  function searched() {
    fill();
    say();
    status.textContent = scene.found ? `${several(scene.found.length, "node")} found${scene.found.hidden ? `, ${count(scene.found.hidden)} more below the thresholds` : ""} · ${totals(scene)}` : totals(scene);
    listSoon();
  }
  function redraw() {
    drawTitle();
    recut();
    resize();
  }
  function dress() {
    scene.isDark = isDark(root);
    root.classList.toggle("wbp-dark", scene.isDark);
    scene.accent = getComputedStyle(root).getPropertyValue("--accent").trim();
  }
  function resize() {
    const { width, height } = field.getBoundingClientRect();
    if (!width) return;
    scene.dpr = Math.min(devicePixelRatio || 1, 2);
    [scene.width, scene.height] = [Math.floor(width), Math.floor(height)];
    for (const each of [canvas, over]) Object.assign(each, { width: Math.round(scene.width * scene.dpr), height: Math.round(scene.height * scene.dpr) });
    isStale = true;
    paint();
  }
  const unwatch = watch(model, [
    [["node", "group", "marked"], say],
    [["query"], searched],
    [["node_share", "edge_share", "pinned", "groups", "collapsed", "together"], recut],
    [["moved"], say],
    [["view"], repaint],
    [["progress"], controls],
    [["page", "with_page"], drawPage],
    [["question", "waiting", "about"], () => (drawTitle(), controls())],
    [["edges"], () => (scene.read(), redraw())],
  ]);
  const untheme = onTheme(() => (dress(), repaint()));
  const observer = new ResizeObserver(resize);
  observer.observe(field);
  dress();
  redraw();
  drawPage();
  return () => {
    clearTimeout(listing);
    unwatch();
    untheme();
    observer.disconnect();
  };
}

export default { render };
