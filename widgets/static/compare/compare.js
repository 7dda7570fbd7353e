// Two prompts side by side: the second question on top (a prompt pane of its own), below it the features of both with each measure on
// either and its difference. Python sorts, filters and cuts; a row selects, Enter or a click opens its page.

const GROUPS = [
  ["effect", "how much the prompt's metric falls when the feature is switched off, measured; summed over positions"],
  ["attribution", "the effect's first-order estimate, summed over positions"],
  ["activation", "how active it is, summed over positions; 0: nowhere on that prompt"],
];
const PARTS = [["first", "1st", "on the first prompt"], ["second", "2nd", "on the second prompt"], ["difference", "1 − 2", "first − second: below 0, it does more on the second"]];

async function render({ model, el, host, signal }) {
  const root = node("div", { class: "wbp wbc" });
  const asking = node("div", { class: "wbc-asking" });
  const said = node("div", { class: "wbc-said" });
  const query = node("input", { type: "search", "aria-label": "Filter the features of both", placeholder: "filter: lakers effect_difference>0.1", title: "words, a feature's number, and conditions such as effect_difference>0.1", spellcheck: "false" });
  const status = node("span", { class: "wbp-faint", role: "status" });
  const previous = button("‹", () => change(model, { page: page() - 1 }), { "aria-label": "Previous page of both" });
  const next = button("›", () => change(model, { page: page() + 1 }), { "aria-label": "Next page of both" });
  const done = node("span", { class: "wbp-faint", role: "status" });
  const save = button("CSV", () => model.send({ do: "csv" }), { title: "all rows that match, as a file" });
  const copy = button("Copy as Python", () => copyText(model.get("code"), root).then(() => (done.textContent = "Python copied")), { title: "code that computes this comparison" });
  const columns = node("colgroup", {}, node("col"), ...GROUPS.flatMap(() => PARTS.map(([part]) => node("col", { class: `wbc-${part}` }))));
  const head = node("thead");
  const body = node("tbody");
  const table = node("div", { class: "wbc-scroll" }, node("table", { role: "grid", "aria-label": "Features on both prompts" }, columns, head, body));
  const bar = node("div", { class: "wbp-bar wbc-bar" }, query, previous, next, status, model.isSaved ? null : save, copy, done);
  const wrong = node("p", { class: "wbp-faint", role: "status" });
  const stale = node("div", { class: "wbc-note", role: "status", hidden: true });
  root.append(asking, said, stale, wrong, bar, table);
  el.append(root);

  const page = () => Math.floor((model.get("view").first ?? 0) / model.get("page_size"));
  let at = 0; // the row that Tab reaches
  let isArriving = false; // a key turned the page: when it comes, choose its row `at`
  const mark = () => [...body.children].forEach((line, i) => line.setAttribute("aria-selected", model.get("view").rows[i]?.feature === model.get("feature")));
  function choose(i) {
    const row = model.get("view").rows[i];
    if (!row) return;
    at = i;
    [...body.children].forEach((line, place) => (line.tabIndex = place === i ? 0 : -1));
    body.children[i]?.focus();
    change(model, { feature: row.feature });
    mark();
  }
  const look = () => model.isSaved || model.send({ do: "read" });
  body.onkeydown = (event) => {
    const { rows, first, n_matching } = model.get("view");
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1, Enter: at, PageDown: rows.length, PageUp: -1 }[event.key];
    if (to == null) return;
    event.preventDefault();
    if (to >= 0 && to < rows.length) choose(to);
    else if (to < 0 ? first > 0 : first + rows.length < n_matching) {
      isArriving = true;
      at = to < 0 && event.key === "ArrowUp" ? model.get("page_size") - 1 : 0;
      change(model, { page: page() + (to < 0 ? -1 : 1) });
    }
    if (event.key === "Enter") look();
  };

  const sort = (name) => {
    const isSame = model.get("sort_by") === name;
    change(model, { sort_by: name, is_descending: isSame ? !model.get("is_descending") : name !== "feature", page: 0 });
  };
  function header(name, text, title) {
    const isSorted = model.get("sort_by") === name;
    const down = model.get("is_descending");
    const press = button(text, () => sort(name), { title });
    if (isSorted) press.append(node("span", { class: "wbc-arrow", "aria-hidden": "true" }, down ? " ▼" : " ▲"));
    return node("th", { scope: "col", "data-column": name, class: name === "feature" ? null : "wbp-number", "aria-sort": isSorted ? (down ? "descending" : "ascending") : "none" }, press);
  }
  function drawHead() {
    const had = head.contains(root.getRootNode().activeElement) ? root.getRootNode().activeElement.closest("th").dataset.column : null;
    const over = GROUPS.map(([name, about]) => node("th", { scope: "colgroup", colspan: 3, class: "wbc-group", title: about }, name));
    const names = GROUPS.flatMap(([name]) => PARTS.map(([part, text, about]) => header(`${name}_${part}`, text, `${name} ${about}`)));
    head.replaceChildren(node("tr", {}, node("td"), ...over), node("tr", {}, header("feature", "feature", "its number and its label"), ...names));
    for (const row of head.children) row.removeAttribute("data-lm-suppress-shortcuts");
    if (had) head.querySelector(`[data-column="${had}"] button`)?.focus();
  }

  function cells(row, scales) {
    return GROUPS.flatMap(([name]) => PARTS.map(([part, , about]) => {
      const value = row[`${name}_${part}`];
      const isSilent = part !== "difference" && !row[`n_pos_${part}`];
      const isSigned = name !== "activation" || part === "difference";
      const text = isSilent ? "0" : number(value, isSigned, scales[name]);
      const way = part === "difference" && value ? (value > 0 ? " wbc-more" : " wbc-less") : "";
      const title = isSilent ? `not active on the ${part} prompt` : value == null ? "not measured" : `${name} ${value} ${about}`;
      return node("td", { class: `wbp-number${way}${isSilent ? " wbc-silent" : ""}`, title }, text);
    }));
  }

  function draw() {
    const { rows, scales, questions, notes, message, n_rows, n_matching, first } = model.get("view");
    wrong.textContent = message ?? "";
    stale.textContent = model.get("stale");
    stale.hidden = !rows || !model.get("stale");
    root.classList.toggle("wbc-old", !stale.hidden);
    root.classList.toggle("wbc-asked", Boolean(rows) && stale.hidden);
    for (const each of [said, bar, table]) each.hidden = !rows;
    if (!rows) return;
    said.replaceChildren(
      ...questions.map(({ prompt, answer, baseline, metric }, i) =>
        node("span", { class: "wbc-metric", title: prompt }, node("b", {}, i ? "2nd " : "1st "), "logit(", node("code", {}, answer), ") − ", ...(baseline ? ["logit(", node("code", {}, baseline), ")"] : ["mean logit"]), " = ", node("b", {}, number(metric)))),
      ...(notes.length ? [node("div", { class: "wbc-note" }, `⚠ ${notes.map((note) => note[0].toUpperCase() + note.slice(1)).join(". ")}.`)] : []),
    );
    drawHead();
    const had = body.contains(root.getRootNode().activeElement);
    at = Math.min(at, Math.max(rows.length - 1, 0));
    body.replaceChildren(
      ...rows.map((row, i) => {
        const label = node("td", { class: "wbc-label", dir: "auto", title: `${row.label || "no label"}, feature ${row.feature}` }, node("span", { class: "wbp-faint" }, `${row.feature} `), row.label);
        const line = node("tr", { tabindex: i === at ? 0 : -1, "aria-selected": String(row.feature === model.get("feature")) }, label, ...cells(row, scales));
        line.onclick = () => (choose(i), look());
        return line;
      }),
    );
    const last = first + rows.length;
    status.textContent = rows.length ? `${count(first + 1)}–${count(last)} of ${n_matching === n_rows ? "" : `${count(n_matching)} of `}${several(n_rows, "feature")}` : "nothing matches";
    previous.disabled = first === 0 || Boolean(model.isSaved);
    next.disabled = last >= n_matching || Boolean(model.isSaved);
    query.readOnly = Boolean(model.isSaved);
    for (const each of head.querySelectorAll("button")) each.disabled = Boolean(model.isSaved);
    if (had) body.children[at]?.focus();
    if (isArriving) (isArriving = false), choose(at);
  }

  const fill = filters(query, model);
  const theme = () => root.classList.toggle("wbp-dark", isDark(root));
  const untheme = onTheme(theme);
  theme();
  fill();
  draw();
  const unwatch = watch(model, [
    [["view", "stale"], draw],
    [["query"], fill],
    [["feature"], mark],
    [["csv"], () => download("two_prompts.csv", model.get("csv").text, "text/csv", root)],
  ]);
  await arrived(host, model.get("asking"), asking, signal);
  return () => (unwatch(), untheme());
}

export default { render };
