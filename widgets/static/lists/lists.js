// Kept features with their notes. Python reads and writes the file; this draws it and asks. A line is made once for each feature and stays,
// so that a note that is being typed is never written over.

function render({ model, el }) {
  const isLive = Boolean(model.widget_manager);
  const root = node("div", { class: "wbp wbl" });
  const path = node("input", { "aria-label": "File of the list", spellcheck: "false", title: "a name alone is beside the notebook; another name opens another list", size: 20 });
  const keep = button("☆ Keep the selection", () => model.send({ do: "keep", feature: model.get("feature") }), { title: "puts the selected feature into the list (K)" });
  const again = button("⟳", () => model.send({ do: "refresh" }), { class: "wbp-icon", "aria-label": "Read the file again", title: "what another notebook has written since; what a cell writes is shown by itself" });
  const where = node("span", { class: "wbp-faint" });
  const wrong = node("p", { class: "wbp-wrong", role: "alert" });
  const empty = node("p", { class: "wbp-faint" }, "Nothing of this dictionary is kept yet. K, or ☆ on a feature’s page, keeps it here.");
  const list = node("ul", { class: "wbl-list", "aria-label": "Kept features" });
  const undo = button("Undo", () => model.send({ do: "undo" }));
  const taken = node("p", { class: "wbp-faint", role: "status" });
  const pages = node("div", { class: "wbl-pages" });
  const close = button("✕", () => dialog.close(), { class: "wbp-icon", "aria-label": "Close" });
  const dialog = node("dialog", { class: "wbp wbl-beside", "aria-label": "Side by side" }, node("div", { class: "wbp-bar" }, node("b", {}, "Side by side"), node("span", { class: "wbp-push" }, close)), pages);
  const pair = button("Side by side", () => set(ticked.slice(0, 2)), { title: "the pages of two features: tick them first" });
  const work = worker(model, "HTML page", "");
  work.run.title = "one offline file: the list, and each feature’s page";
  work.run.classList.remove("wbp-main");
  const files = [["CSV", "csv", "the table"], ["JSON", "json", "the file itself: another person’s list can be it"]].map(([text, what, about]) => button(text, () => model.send({ do: what }), { title: about }));
  const others = node("details", {}, node("summary", { "data-lm-suppress-shortcuts": "true" }), node("ul"));
  root.append(node("div", { class: "wbp-bar" }, keep, path, again, where), wrong, empty, list, node("div", { class: "wbp-bar" }, taken, undo), node("div", { class: "wbp-bar" }, pair, ...files, work.run, work.status), others, dialog);
  el.append(root);
  let ticked = []; // features, the first ticked first
  const set = (features) => change(model, { pair: features });

  const lines = new Map(); // feature → its line
  function made(feature) {
    const tick = node("input", { type: "checkbox", "aria-label": `feature ${feature} side by side` });
    tick.onchange = () => {
      ticked = tick.checked ? [...ticked, feature] : ticked.filter((each) => each !== feature);
      draw();
    };
    const name = button("", () => change(model, { feature }), { class: "wbl-name", title: "select it" });
    name.onkeydown = (event) => walk(event, feature, ".wbl-name");
    const facts = node("span", { class: "wbp-faint wbl-facts" });
    const away = button("✕", () => {
      const [after] = beside(feature, 1);
      model.send({ do: "remove", feature });
      (lines.get(after)?.root.querySelector(".wbl-name") ?? keep).focus();
    }, { class: "wbp-icon", "aria-label": `Remove feature ${feature} from the list` });
    const note = node("input", { "aria-label": `Note on feature ${feature}`, placeholder: "a note", dir: "auto" });
    note.onchange = () => model.send({ do: "note", feature, text: note.value });
    note.onkeydown = (event) => (event.key === "Enter" ? note.onchange() : walk(event, feature, "input[placeholder]"));
    const fill = filled(note, () => model.get("rows").find((row) => row.feature === feature)?.note ?? "");
    for (const each of [tick, away, note]) each.disabled = !isLive;
    return { root: node("li", {}, tick, name, facts, away, note), name, facts, tick, fill };
  }
  const beside = (feature, by) => {
    const rows = model.get("rows").map((row) => row.feature);
    return [rows[rows.indexOf(feature) + by] ?? rows[rows.indexOf(feature) - by]];
  };
  function walk(event, feature, what) {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!by || event.altKey) return;
    event.preventDefault();
    const rows = model.get("rows").map((row) => row.feature);
    lines.get(rows[rows.indexOf(feature) + by])?.root.querySelector(what)?.focus();
  }

  function draw() {
    const rows = model.get("rows");
    const known = new Set(rows.map((row) => row.feature));
    for (const [feature, line] of lines) if (!known.has(feature)) line.root.remove(), lines.delete(feature);
    ticked = ticked.filter((feature) => known.has(feature));
    for (const { feature, label, density, max_act } of rows) {
      if (!lines.has(feature)) {
        lines.set(feature, made(feature));
        list.append(lines.get(feature).root);
      }
      const line = lines.get(feature);
      line.name.replaceChildren(node("span", { class: "wbp-faint" }, `${feature} `), node("b", {}, label || "no label"));
      line.facts.textContent = density == null ? "" : `${brief(100 * density)} % of tokens, max ${alone(max_act, false)}`;
      line.tick.checked = ticked.includes(feature);
      line.root.classList.toggle("wbl-chosen", feature === model.get("feature"));
      line.fill();
    }
    const feature = model.get("feature");
    empty.hidden = Boolean(rows.length) || Boolean(model.get("problem"));
    keep.disabled = !isLive || feature == null || known.has(feature);
    keep.firstChild.data = known.has(feature) ? "★ The selection is kept" : "☆ Keep the selection";
    pair.disabled = !isLive || ticked.length < 2;
    for (const each of files) each.disabled = !isLive || !rows.length;
    path.readOnly = !isLive;
    again.disabled = !isLive;
    where.textContent = model.get("where") ? `kept in ${model.get("where")}` : "";
    wrong.textContent = model.get("problem");
    taken.textContent = model.get("removed") ? `${model.get("removed")} was removed` : "";
    undo.hidden = !model.get("removed");
    undo.disabled = !isLive;
    work.draw();
    work.run.disabled ||= !rows.length;
    const theirs = model.get("others");
    others.hidden = !theirs.length;
    others.firstChild.textContent = `${several(theirs.length, "feature")} of other dictionaries in this file`;
    others.lastChild.replaceChildren(...theirs.map((text) => node("li", {}, text)));
  }

  function drawBeside() {
    const html = model.get("beside");
    pages.innerHTML = html; // escaped in Python, as a card is
    for (const each of pages.querySelectorAll("summary")) each.setAttribute("data-lm-suppress-shortcuts", "true");
    if (html && !dialog.open && root.isConnected && model.get("pair").length > 1) dialog.showModal();
  }
  dialog.addEventListener("close", () => (set([]), pair.focus()));
  dialog.addEventListener("keydown", (event) => event.stopPropagation()); // Escape closes this, and nothing behind it

  path.onchange = () => change(model, { path: path.value });
  path.onkeydown = (event) => {
    if (event.key === "Enter") path.onchange();
  };
  const fillPath = filled(path, () => model.get("path"));
  const theme = () => [root, dialog].forEach((each) => each.classList.toggle("wbp-dark", isDark(root)));
  const unwatch = watch(model, [
    [["rows", "others", "where", "problem", "removed", "feature", "progress"], draw],
    [["path"], fillPath],
    [["beside"], drawBeside],
    [["exported"], () => download(model.get("exported").name, model.get("exported").text, model.get("exported").type, root)],
  ]);
  const untheme = onTheme(theme);
  theme();
  fillPath();
  draw();
  return () => (unwatch(), untheme());
}

export default { render };
