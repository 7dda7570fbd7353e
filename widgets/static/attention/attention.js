// The heads that carry a feature's effect: a table, and their attention patterns drawn by CircuitsVis, which is loaded once per page.

let loading; // of CircuitsVis, shared by all views of this module
let n_drawn = 0;

function circuitsVis(model) {
  if (globalThis.CircuitsVis) return Promise.resolve(globalThis.CircuitsVis);
  return (loading ??= new Promise((resolve, reject) => {
    const start = () => {
      const text = model.get("bundle");
      if (!text) return;
      model.off("change:bundle", start);
      const address = URL.createObjectURL(new Blob([text, "\nglobalThis.CircuitsVis = CircuitsVis;"], { type: "text/javascript" }));
      import(address).then(() => resolve(globalThis.CircuitsVis), reject);
    };
    model.on("change:bundle", start);
    start();
    if (!model.get("bundle")) model.send({ do: "send_bundle" });
  }));
}

// The trait's bytes as CircuitsVis wants them: head → from → to → attention.
function nested(model, n) {
  const bytes = model.get("patterns");
  const flat = bytes?.byteLength ? new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength)) : [];
  const rows = (start) => Array.from({ length: n }, (_, i) => Array.from(flat.subarray(start + i * n, start + (i + 1) * n)));
  return Array.from({ length: flat.length / (n * n) }, (_, head) => rows(head * n * n));
}

function render({ model, el }) {
  const work = worker(model, "Measure heads", "measuring needs the model: open the notebook");
  const about = node("p", { class: "wba-about" });
  const body = node("tbody");
  const heads = ["head", "moved", "attention", "what it reads at the last position"].map((name, i) => node("th", { scope: "col", class: i === 1 || i === 2 ? "wbp-number" : null }, name));
  const table = node("table", { class: "wba-heads" }, node("thead", {}, node("tr", {}, ...heads)), body);
  const shown = () => model.get("view");
  const save = csvButton("heads", "Heads", () => root, () => ["head", "moved", "attention", ...shown().tokens.map((token, pos) => `reads ${token} (${pos})`)], () => shown().heads.map((head) => [head.name, head.moved, head.attention, ...head.reads]));
  const picture = node("div", { class: "wba-picture" });
  const note = node("p", { class: "wbp-faint" });
  const root = node("div", { class: "wbp" }, node("div", { class: "wbp-bar" }, work.run, work.cancel, work.status), about, table, save, picture, note);
  el.append(root);

  function moved(value, most) {
    const bar = node("i", { class: value < 0 ? "wba-against" : "wba-for" });
    bar.style.width = `${most ? (100 * Math.abs(value)) / most : 0}%`;
    return node("td", { class: "wbp-number" }, number(value, true, most), node("div", { class: "wbp-track" }, bar));
  }

  // A selection changes these words only: CircuitsVis takes longer than all else on the screen, and the head chosen in it stays.
  function drawAbout() {
    const view = model.get("view");
    if (!view.heads) return about.replaceChildren(node("span", { class: "wbp-faint" }, model.get("feature") == null ? "Choose a row of the ranking: which heads read its token and carry its effect to the answer?" : "Which heads read the chosen token and carry the feature's effect to the answer?"));
    const name = view.label ? `${view.label} (${view.feature})` : `feature ${view.feature}`;
    const isOld = ["feature", "prompt", "pos"].some((name) => view.chosen[name] !== model.get(name));
    about.replaceChildren(
      node("b", {}, name), " at ", node("code", {}, view.tokens[view.pos]), ` has effect ${number(view.effect, true, Math.abs(view.effect))} on `, node("code", {}, view.answer), ". ",
      node("span", { class: "wbp-faint" }, `Moved: what of it is gone when the head cannot read that token; over all ${several(view.n_heads, "head")}, one at a time, ${number(view.total, true, Math.abs(view.effect))}.${view.pos === view.tokens.length - 1 ? " From the last position no head has to carry it." : ""}${isOld ? " The selection or the prompt has changed since." : ""}`),
    );
  }

  function draw() {
    const view = model.get("view");
    drawAbout();
    table.hidden = save.hidden = !view.heads;
    if (!view.heads) return;
    const most = Math.max(...view.heads.map((head) => Math.abs(head.moved)), Math.abs(view.effect));
    body.replaceChildren(
      ...view.heads.map((head) => {
        const line = node("tr", {}, node("th", { scope: "row" }, head.name), moved(head.moved, most), node("td", { class: "wbp-number" }, number(head.attention, false)), node("td", { class: "wbp-text" }, ...reads(view.tokens, head.reads)));
        line.removeAttribute("data-lm-suppress-shortcuts");
        return line;
      }),
    );
    show(view);
  }
  function reads(tokens, values) {
    const marks = shaded(tokens, values.map((value) => (value >= 0.005 ? value : null)), 1);
    for (const mark of marks) if (mark.title) mark.title = mark.title.replace("activation", "attention");
    return marks;
  }

  let drawing = 0;
  async function show(view) {
    const mine = (drawing += 1);
    const attention = nested(model, view.tokens.length);
    note.textContent = attention.length ? "Attention from each token (down) to earlier ones (across); choose a head above the pattern. Drawn by CircuitsVis." : `Patterns of ${count(view.tokens.length)} tokens are not drawn.`;
    if (!attention.length) return picture.replaceChildren();
    const { render: draws, AttentionHeads } = await circuitsVis(model);
    if (mine !== drawing || !root.isConnected) return;
    const place = node("div", { id: `circuitsvis-${(n_drawn += 1)}` });
    picture.replaceChildren(place);
    draws(place.id, AttentionHeads, { attention, tokens: view.tokens, attentionHeadNames: view.heads.map((head) => head.name), maxValue: 1, minValue: 0 });
  }

  const theme = () => root.classList.toggle("wbp-dark", isDark(root));
  const unwatch = watch(model, [
    [["view"], draw],
    [["feature", "prompt", "pos"], drawAbout],
    [["progress"], work.draw],
  ]);
  const untheme = onTheme(theme);
  theme();
  work.draw();
  queueMicrotask(draw); // CircuitsVis looks for its place on the page: not before this is on it
  return () => (unwatch(), untheme());
}

export default { render };
