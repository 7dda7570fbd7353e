// Rows that are marked, groups with names, and what each is worth together. Python measures; this draws and asks.

const HEADS = [
  ["group", "a name for several rows"],
  ["features", "how many of it are active here"],
  ["together", "effect: what the metric loses when all of it is switched off at once"],
  ["one by one", "the sum of their own effects, each switched off alone"],
  ["share", "of the metric that is lost together"],
  ["alone", "the metric with this group and nothing else of the dictionary"],
];

function render({ model, el }) {
  const isLive = Boolean(model.widget_manager);
  const work = worker(model, "Ablate together", "measuring needs the model: open the notebook");
  const marked = node("div", { class: "wbg-members" });
  const name = node("input", { "aria-label": "Name of a group", placeholder: "name the marked rows", spellcheck: "false" });
  // A name that there is already takes the rows in: no group is lost to another. "marked" are those that have no group.
  const keep = button("Make a group", () => {
    const known = model.get("groups");
    let [called, n] = [name.value.trim(), Object.keys(known).length + 1];
    const isTaken = (of) => Object.hasOwn(known, of);
    while (!called || called === "marked" || (!name.value.trim() && isTaken(called))) called = `group ${n++}`;
    const before = isTaken(called) ? known[called] : [];
    change(model, { groups: { ...known, [called]: [...before, ...model.get("marked").filter((pair) => without(before, pair).length === before.length)] }, marked: [] });
    name.value = "";
    work.run.focus(); // this button rests now: what is next has the keys
  });
  name.onkeydown = (event) => {
    if (event.key === "Enter") keep.click();
  };
  // What was put together is not lost to a click.
  let [before, after] = [null, ""];
  const held = () => ({ marked: model.get("marked"), groups: model.get("groups") });
  const take = (values) => {
    before = held();
    after = JSON.stringify({ ...before, ...values });
    change(model, values);
    if (!root.contains(root.getRootNode().activeElement) || root.getRootNode().activeElement.disabled) undo.focus();
  };
  const undo = button("Undo", () => {
    const back = before;
    before = null;
    change(model, back);
    controls();
    work.run.focus();
  }, { title: "marked rows and groups as they were before something was taken away" });
  const clear = button("Unmark all", () => take({ marked: [] }));
  const steer = button("Clamp together", () => model.send({ do: "steer" }), { title: "a slider for each marked feature, in Steer" });
  const groups = node("div");
  const copies = node("div");
  const said = node("p", { class: "wbp-faint" });
  const head = node("thead", {}, node("tr", {}, ...HEADS.map(([text, about], i) => node("th", { scope: "col", class: i ? "wbp-number" : null, title: about }, text))));
  const body = node("tbody");
  const table = node("table", { class: "wbg-table" }, head, body);
  const save = button("CSV", () => download("groups.csv", csv(HEADS.map(([text]) => text), cells()), "text/csv", root), { title: "the table as a file" });
  const root = node(
    "div", { class: "wbp" },
    node("h4", {}, "Marked rows"), marked, node("div", { class: "wbp-bar" }, name, keep, steer, clear, undo),
    groups, node("div", { class: "wbp-bar" }, work.run, work.cancel, work.status), node("div", { class: "wbp-bar" }, said, save), table, copies,
  );
  el.append(root);
  const called = ([feature, pos]) => `${model.get("names")[feature] || "feature"} ${feature}${pos < 0 ? "" : ` at ${pos}`}`;
  const cells = () => (model.get("view").rows ?? []).map(({ name: of, n_features, effect, singles, lost, only }) => [of, n_features, effect, singles, lost, only]);
  const chip = (pair, onaway) => {
    const text = button("", () => change(model, { feature: pair[0] }), { class: "wbg-chip", title: `select ${called(pair)}` });
    const label = model.get("names")[pair[0]] || "feature";
    text.append(node("span", { class: "wbg-name" }, label), called(pair).slice(label.length));
    const away = button("✕", onaway, { class: "wbp-icon", "aria-label": `Take away ${called(pair)}` });
    away.disabled = !isLive;
    return node("span", {}, text, away);
  };
  const without = (pairs, pair) => pairs.filter(([feature, pos]) => feature !== pair[0] || pos !== pair[1]);

  function controls() {
    const now = model.get("marked");
    marked.replaceChildren(...(now.length ? now.map((pair) => chip(pair, () => take({ marked: without(now, pair) }))) : [node("span", { class: "wbp-faint" }, "Space or Ctrl+click marks a row of the ranking, Shift+click up to it.")]));
    for (const each of [name, keep, clear, steer]) each.disabled = !isLive || !now.length;
    if (JSON.stringify({ marked: now, groups: model.get("groups") }) !== after) before = null; // what was made since stays
    undo.hidden = !before || !isLive;
    const known = Object.entries(model.get("groups"));
    groups.replaceChildren(...known.map(([of, pairs]) => {
      const away = button("Remove", () => take({ groups: Object.fromEntries(known.filter(([other]) => other !== of)) }), { "aria-label": `Remove the group ${of}` });
      away.disabled = !isLive;
      const rest = (pair) => take({ groups: { ...model.get("groups"), [of]: without(pairs, pair) } });
      return node("section", { class: "wbg-group", "aria-label": of }, node("h5", {}, of, away), node("div", { class: "wbg-members" }, ...pairs.map((pair) => chip(pair, () => rest(pair)))));
    }));
    const offered = model.get("copies");
    copies.replaceChildren(...(offered.length ? [node("h5", { title: "cosine of their directions above 0.95, at one position" }, "Near copies: one thing to the model, split by the dictionary")] : []), ...offered.map(({ token, pairs, effect }) => {
      const mark = button("Mark them", () => change(model, { marked: [...pairs, ...model.get("marked").filter((each) => !pairs.some(([feature, pos]) => feature === each[0] && pos === each[1]))] }));
      mark.disabled = !isLive;
      return node("div", { class: "wbp-bar" }, node("code", {}, token), pairs.map(([feature]) => feature).join(", "), node("span", { class: "wbp-faint" }, `effects ${alone(effect)} in all`), mark);
    }));
    draw();
  }

  function draw() {
    const { rows, metric, sets } = model.get("view");
    const scale = Math.max(...(rows ?? []).flatMap(({ effect, singles }) => [Math.abs(effect), Math.abs(singles ?? 0)])); // they are compared
    table.hidden = save.hidden = !rows;
    said.textContent = "";
    if (!rows) return;
    const now = { ...model.get("groups"), ...(model.get("marked").length ? { marked: model.get("marked") } : {}) };
    const isOld = JSON.stringify(now) !== JSON.stringify(sets);
    table.classList.toggle("wbg-old", isOld);
    said.textContent = `The metric as it is: ${alone(metric)}.${isOld ? " The groups have changed since." : ""}`;
    body.replaceChildren(...rows.map(({ name: of, n_features, effect, singles, lost, only }) => {
      const line = node("tr", {}, node("td", {}, of), ...[count(n_features), number(effect, true, scale), number(singles, true, scale), `${(100 * lost).toFixed(0).replace("-", "−")} %`, number(only, true, scale)].map((text) => node("td", { class: "wbp-number" }, text)));
      line.removeAttribute("data-lm-suppress-shortcuts");
      return line;
    }));
  }

  const theme = () => root.classList.toggle("wbp-dark", isDark(root));
  const unwatch = watch(model, [
    [["marked", "groups", "copies", "names"], controls],
    [["view"], draw],
    [["progress"], work.draw],
  ]);
  const untheme = onTheme(theme);
  theme();
  controls();
  work.draw();
  return () => (unwatch(), untheme());
}

export default { render };
