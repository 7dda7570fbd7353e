// Two prompts side by side: the second question on top (a prompt pane of its own), below it the features of both with each measure on
// either and its difference (paged.js).

const GROUPS = [
  ["effect", "how much the prompt's metric falls when the feature is switched off, measured; summed over positions"],
  ["attribution", "the effect's first-order estimate, summed over positions"],
  ["activation", "how active it is, summed over positions; 0: nowhere on that prompt"],
];
const PARTS = [["first", "1st", "on the first prompt", 41], ["second", "2nd", "on the second prompt", 41], ["difference", "1 − 2", "first − second: below 0, it does more on the second", 51]];

async function render({ model, el, host, signal }) {
  const root = node("div", { class: "wbp wbc" });
  const asking = node("div", { class: "wbc-asking" });
  const said = node("div", { class: "wbt-said" });
  const wrong = node("p", { class: "wbp-faint", role: "status" });
  const stale = node("div", { class: "wbt-note", role: "status", hidden: true });
  const table = pagedTable(model, root, {
    name: "Features on both prompts", what: "both", example: "effect_difference>0.1", file: "two_prompts.csv",
    columns: [["feature", "feature", "its number and its label"], ...GROUPS.flatMap(([name]) => PARTS.map(([part, text, about]) => [`${name}_${part}`, text, `${name} ${about}`]))],
    widths: [null, ...GROUPS.flatMap(() => PARTS.map(([, , , width]) => width))],
    over: () => node("tr", {}, node("td"), ...GROUPS.map(([name, about]) => node("th", { scope: "colgroup", colspan: 3, class: "wbt-group", title: about }, name))),
    cells: (row, { scales }) => GROUPS.flatMap(([name]) => PARTS.map(([part, , about]) => cell(row, scales, name, part, about))),
  });
  root.append(asking, said, stale, wrong, table.bar, table.table);
  el.append(root);

  function cell(row, scales, name, part, about) {
    const value = row[`${name}_${part}`];
    const isSilent = part !== "difference" && !row[`n_pos_${part}`];
    const isSigned = name !== "activation" || part === "difference";
    const text = isSilent ? "0" : number(value, isSigned, scales[name]);
    const way = part === "difference" && value ? (value > 0 ? " wbt-more" : " wbt-less") : "";
    const title = isSilent ? `not active on the ${part} prompt` : value == null ? "not measured" : `${name} ${value} ${about}`;
    return node("td", { class: `wbp-number${way}${isSilent ? " wbt-silent" : ""}`, title }, text);
  }

  function draw() {
    const { rows, questions, notes, message } = model.get("view");
    wrong.textContent = message ?? "";
    stale.textContent = model.get("stale");
    stale.hidden = !rows || !model.get("stale");
    root.classList.toggle("wbt-old", !stale.hidden);
    root.classList.toggle("wbc-asked", Boolean(rows) && stale.hidden);
    said.hidden = !rows;
    table.draw();
    if (!rows) return;
    said.replaceChildren(
      ...questions.map(({ prompt, answer, baseline, metric }, i) =>
        node("span", { class: "wbc-metric", title: prompt }, node("b", {}, i ? "2nd " : "1st "), "logit(", node("code", {}, answer), ") − ", ...(baseline ? ["logit(", node("code", {}, baseline), ")"] : ["mean logit"]), " = ", node("b", {}, alone(metric)))),
      ...(notes.length ? [node("div", { class: "wbt-note" }, `⚠ ${notes.map((note) => note[0].toUpperCase() + note.slice(1)).join(". ")}.`)] : []),
    );
  }

  const theme = () => root.classList.toggle("wbp-dark", isDark(root));
  const untheme = onTheme(theme);
  theme();
  draw();
  const unwatch = watch(model, [[["view", "stale"], draw], ...table.watched]);
  await arrived(host, model.get("asking"), asking, signal);
  return () => (unwatch(), untheme());
}

export default { render };
