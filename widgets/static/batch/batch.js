// Several prompts together: one a line in a box, typed, pasted or added from a file; below it the mean effects with their intervals
// (paged.js), and what the selected feature does on each prompt.

const COLUMNS = [
  ["feature", "feature", "its number and its label"],
  ["n_prompts", "prompts", "on how many prompts it is active anywhere", 60],
  ["effect", "effect", "the mean over all prompts of what the metric loses when it is switched off, measured; 0 where it is not active. Bold: the interval lies on one side of 0", 56],
  ["low", "95 %", "the mean's interval (Student's t over prompts): how far another draw of such prompts would move it. Sorted by its lower end", 104],
  ["attribution", "attrib.", "the mean of the effect's first-order estimate", 52],
  ["activation", "activ.", "the mean of how active it is, summed over positions", 52],
];
const HELP = "a prompt | answer | baseline          one a line; answer and baseline may be left out";

function render({ model, el }) {
  const root = node("div", { class: "wbp wbb" });
  const isLive = !model.isSaved;
  const text = node("textarea", { rows: 3, wrap: "off", "aria-label": "Prompts, one a line", placeholder: HELP, title: "prompt | answer | baseline, or with tabs between, as spreadsheets copy. A word gets its leading space; \"quoted\" it is taken as it stands; ⏎ is a new line. Ctrl+Enter ranks", spellcheck: "false" });
  const answer = node("input", { "aria-label": "Answer of all lines", title: "for lines that name none; empty: the model's own first on each", placeholder: "its first", size: 12, spellcheck: "false" });
  const baseline = node("input", { "aria-label": "Baseline of all lines", title: "for lines that name none; empty: the mean over the vocabulary", placeholder: "mean logit", size: 12, spellcheck: "false" });
  const path = node("input", { "aria-label": "File of prompts", title: "a text file, one prompt a line; a name alone is beside the notebook. Enter adds its lines", placeholder: "prompts.txt", size: 12, spellcheck: "false" });
  const load = button("Add lines of", () => path.value.trim() && model.send({ do: "load", path: path.value.trim() }), { title: "adds the file's lines to the box" });
  const loaded = node("span", { class: "wbp-faint", role: "status" });
  const work = worker(model, "Rank all", "");
  const stale = node("div", { class: "wbt-note", role: "status", hidden: true });
  const wrong = node("p", { class: "wbp-faint", role: "status" });
  const said = node("div", { class: "wbt-said" });
  const every = node("section", { class: "wbb-each", "aria-live": "polite" });
  const table = pagedTable(model, root, {
    name: "Features over all prompts", what: "all prompts", example: "n_prompts>2", file: "prompts_together.csv",
    columns: COLUMNS, widths: COLUMNS.map(([, , , width]) => width ?? null),
    cells: (row, { scales, n_prompts }) => {
      const [low, high] = [number(row.low, true, scales.effect), number(row.high, true, scales.effect)];
      const isSure = row.low != null && row.low * row.high > 0;
      const way = isSure ? (row.effect > 0 ? " wbt-more" : " wbt-less") : "";
      const cell = (content, title, more = "") => node("td", { class: `wbp-number${more}`, title }, content);
      return [
        cell(count(row.n_prompts), `active on ${count(row.n_prompts)} of ${several(n_prompts, "prompt")}`),
        cell(number(row.effect, true, scales.effect), `effect ${row.effect}`, way),
        cell(row.low == null ? "–" : `${low} to ${high}`, row.low == null ? "one prompt has no interval" : `${row.low} to ${row.high}`),
        cell(number(row.attribution, true, scales.attribution), `attribution ${row.attribution}`),
        cell(number(row.activation, false, scales.activation), `activation ${row.activation}`),
      ];
    },
  });
  const asking = node("div", { class: "wbb-asking" }, text, node("div", { class: "wbp-bar" }, node("label", {}, "Why ", answer), node("label", {}, "rather than ", baseline), work.run), node("div", { class: "wbp-bar" }, load, path, loaded, work.cancel, work.status));
  root.append(asking, stale, said, wrong, table.bar, table.table, every);
  el.append(root);

  const boxes = [["text", text], ["answer", answer], ["baseline", baseline]];
  for (const [, box] of [...boxes, [null, path]]) box.readOnly = !isLive;
  load.disabled = !isLive;
  let typing;
  const send = () => {
    clearTimeout(typing);
    const changed = boxes.filter(([name, box]) => model.get(name) !== box.value).map(([name, box]) => [name, box.value]);
    if (changed.length) change(model, Object.fromEntries(changed));
  };
  // Small once it is asked, where the rows need the room; it grows by typing alone, so that leaving it moves nothing under the hand.
  const size = () => (text.rows = innerHeight < 900 && model.get("view").rows && !model.get("is_stale") && text.value === model.get("text") ? 2 : Math.min(Math.max(text.value.split("\n").length, 3), 5));
  for (const [, box] of boxes) {
    box.oninput = () => {
      size();
      clearTimeout(typing);
      typing = setTimeout(send, 200);
    };
    box.onchange = send;
  }
  const run = () => (send(), model.send({ do: "run" }));
  work.run.onclick = run;
  asking.onkeydown = (event) => {
    if (event.key !== "Enter" || !isLive) return;
    if (event.target === path) (event.preventDefault(), load.onclick());
    else if (event.target === answer || event.target === baseline || (event.target === text && (event.ctrlKey || event.metaKey))) (event.preventDefault(), event.stopPropagation(), run());
  };

  function draw() {
    const { rows, notes, message, n_prompts, n_asked } = model.get("view");
    wrong.textContent = message || (rows ? "" : "Several prompts of one kind say which features matter beyond one of them.");
    stale.textContent = model.get("is_stale") ? "What is typed was changed since. Rank all, or Ctrl+Enter, ranks it; what was measured already is kept." : "";
    stale.hidden = !rows || !model.get("is_stale");
    root.classList.toggle("wbt-old", !stale.hidden);
    said.hidden = !rows;
    size();
    table.draw();
    if (rows) said.replaceChildren(node("b", {}, n_asked > n_prompts ? `${count(n_prompts)} of ${several(n_asked, "prompt")}` : several(n_prompts, "prompt")), node("span", { class: "wbp-faint" }, n_asked > n_prompts ? " · mean effects over those, the others are not ranked" : " · mean effects over all of them"), ...(notes.length ? [node("div", { class: "wbt-note" }, `⚠ ${notes.map((note) => note[0].toUpperCase() + note.slice(1)).join(". ")}.`)] : []));
  }

  function drawEach() {
    const { feature, label, rows } = model.get("each");
    every.hidden = !rows || feature !== model.get("feature");
    if (every.hidden) return every.replaceChildren();
    const scale = Math.max(...rows.map(({ effect }) => Math.abs(effect ?? 0)));
    const lines = rows.map(({ prompt, answer: why, baseline: than, metric, effect, n_pos }, i) => {
      const ask = button("↑", () => model.send({ do: "ask", at: i }), { class: "wbp-icon", "aria-label": `Ask prompt ${i + 1} above`, title: "asks it as the question above" });
      ask.disabled = !isLive;
      const of = node("td", { class: "wbb-prompt", dir: "auto", title: `${prompt}; logit(${why}) − ${than ? `logit(${than})` : "mean logit"} = ${alone(metric)}` }, node("bdi", {}, prompt));
      return node("tr", {}, node("td", {}, ask), of, node("td", {}, node("code", {}, why)), node("td", {}, than ? node("code", {}, than) : ""), node("td", { class: `wbp-number${n_pos ? "" : " wbt-silent"}`, title: n_pos ? `effect ${effect}` : "not active" }, n_pos ? number(effect, true, scale) : "0"));
    });
    for (const line of lines) line.removeAttribute("data-lm-suppress-shortcuts");
    const head = node("tr", {}, ...["", "prompt", "answer", "rather than", "effect"].map((name, i) => node("th", { scope: "col", class: i === 4 ? "wbp-number" : null }, name)));
    head.removeAttribute("data-lm-suppress-shortcuts");
    const save = csvButton(`feature_${feature}`, "On each prompt", () => root, () => ["prompt", "answer", "baseline", "metric", "effect", "n_pos"], () => rows.map((row) => [row.prompt, row.answer, row.baseline, row.metric, row.effect, row.n_pos]));
    every.replaceChildren(node("h5", {}, `${label || `feature ${feature}`} on each prompt`), node("table", { "aria-label": "The feature on each prompt" }, node("thead", {}, head), node("tbody", {}, ...lines)), save);
  }

  function drawTyped() {
    for (const fill of fills) fill();
    size();
  }
  function drawWork() {
    work.draw();
    const n = model.get("n_typed");
    work.run.firstChild.data = n > 1 ? `Rank all ${count(n)}` : "Rank all";
    work.run.disabled ||= !n;
  }
  const fills = boxes.map(([name, box]) => filled(box, () => model.get(name)));
  const theme = () => root.classList.toggle("wbp-dark", isDark(root));
  const untheme = onTheme(theme);
  theme();
  drawTyped();
  drawWork();
  draw();
  drawEach();
  const unwatch = watch(model, [
    [["view", "is_stale"], draw],
    [["each", "feature"], drawEach],
    [["text", "answer", "baseline"], drawTyped],
    [["progress", "n_typed"], drawWork],
    [["loaded"], () => (loaded.textContent = model.get("loaded"))],
    ...table.watched,
  ]);
  return () => (unwatch(), untheme());
}

export default { render };
