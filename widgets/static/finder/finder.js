// Find features by prompts: lists, filters with counts, results, and where each is active. Python searches; this draws and asks.

// Sliders move on scales of their own: margin and density are fine near 0.
const SLIDERS = [
  { name: "share", title: "active on at least", max: 100, to: (t) => Math.max(t, 1) / 100, from: (v) => 100 * v, say: (v) => `${Math.round(100 * v)} % of the positive` },
  { name: "margin", title: "on negative ones at most", max: 100, to: (t) => Number((2 * (t / 100) ** 2).toPrecision(2)), from: (v) => 100 * Math.sqrt(v / 2), say: (v) => (v ? `${brief(v)} × the mean` : "silent") },
  { name: "max_density", title: "active on at most", max: 100, to: (t) => Number((10 ** (-5 + t / 20)).toPrecision(2)), from: (v) => 20 * (5 + Math.log10(v)), say: (v) => `${brief(100 * v)} % of tokens` },
];

function render({ model, el }) {
  const isLive = Boolean(model.widget_manager);
  const set = (name, prompts) => {
    change(model, { [name]: prompts });
    if (model.get("positive").length && (model.get("way") === "prompts" || model.get("negative").length > 1)) model.send({ do: "run" });
  };
  const way = node("select", { "aria-label": "Find features by" }, ...model.get("ways").map(([name, title]) => node("option", { value: name }, title)));
  way.onchange = () => {
    const isEnough = { prompts: "positive", classifier: "negative", token: "text", attribution: "text", label: "words" };
    change(model, { way: way.value });
    const asked = model.get(isEnough[way.value] ?? "way");
    if (asked.length) model.send({ do: "run" });
  };
  const text = node("textarea", { rows: 1, "aria-label": "Text", placeholder: "a text · Enter finds what is active on it", spellcheck: "false" });
  const words = node("input", { "aria-label": "Words of a label", placeholder: "words, such as: state california", spellcheck: "false", size: 32 });
  const target = node("input", { "aria-label": "Number of a feature", placeholder: "the selection", inputmode: "numeric", size: 9 });
  const answer = node("input", { "aria-label": "Answer to attribute", size: 12, spellcheck: "false" });
  const baseline = node("input", { "aria-label": "Baseline of the answer", size: 12, placeholder: "mean logit", spellcheck: "false" });
  const chips = node("div", { class: "wbf-tokens", role: "group", "aria-label": "Tokens of the text" });
  const featureOf = (value) => (/^[\d,\s]+$/.test(value) && value.trim() ? Number(value.replaceAll(/[,\s]/g, "")) : null);
  const boxes = [
    ["text", text, (value) => value, (value) => value],
    ["words", words, (value) => value, (value) => value],
    ["answer", answer, (value) => value, (value) => value],
    ["baseline", baseline, (value) => value, (value) => value],
    ["target", target, (value) => (value == null ? "" : String(value)), featureOf],
  ];
  const fills = boxes.map(([name, box, shown, read]) => {
    box.onchange = () => change(model, { [name]: read(box.value) });
    box.onkeydown = (event) => {
      if (event.key !== "Enter" || event.shiftKey || !isLive) return;
      event.preventDefault();
      change(model, { [name]: read(box.value) });
      model.send({ do: "run" });
    };
    box.readOnly = !isLive;
    return filled(box, () => shown(model.get(name)));
  });
  const asked = {
    token: node("div", { class: "wbf-asked" }, text, chips),
    attribution: node("div", { class: "wbf-asked wbp-bar" }, node("label", {}, "why ", answer), node("label", {}, "rather than ", baseline)),
    near: node("div", { class: "wbf-asked" }, node("label", {}, "near feature ", target)),
    label: node("div", { class: "wbf-asked" }, words),
  };
  const lists = {
    positive: promptList("positive", "a text that has it · Enter adds it", (prompts) => set("positive", prompts)),
    negative: promptList("negative", "a text that lacks it · Enter adds it", (prompts) => set("negative", prompts)),
  };
  const work = worker(model, "Find", "searching needs the model: open the notebook");
  const sliders = SLIDERS.map(({ name, title, max, to, from, say }) => {
    const range = node("input", { type: "range", min: 0, max, step: 1, "aria-label": `${title} (${name})` });
    const value = node("span", { class: "wbf-value" });
    let moving;
    range.oninput = () => {
      value.textContent = say(to(Number(range.value)));
      clearTimeout(moving);
      moving = setTimeout(() => change(model, { [name]: to(Number(range.value)) }), 40);
    };
    const draw = () => {
      if (root.getRootNode().activeElement !== range) range.value = from(model.get(name));
      value.textContent = say(model.get(name));
      range.setAttribute("aria-valuetext", say(model.get(name)));
      const isUnknown = name === "max_density" && !model.get("has_index");
      if (isUnknown) value.textContent = "needs an index";
      range.disabled = !isLive || isUnknown;
    };
    return { root: node("label", { class: "wbf-slider" }, node("span", {}, title), value, range), draw };
  });
  const removed = node("div", { class: "wbf-removed", role: "status", "aria-label": "What each filter removed" });
  const stale = node("p", { class: "wbp-faint" });
  const note = node("p", { class: "wbp-faint wbf-note" });
  const head = node("thead");
  const body = node("tbody");
  const table = node("table", { role: "grid", "aria-label": "Features found" }, head, body);
  const named = () => model.get("view").columns.map(({ name, title }) => [name, title]);
  const save = csvButton("found", "Features found", () => root, () => ["feature", "label", ...named().map(([, title]) => title)], () => rows.map((row) => [row.feature, row.label, ...named().map(([name]) => row[name])]));
  const depths = () => model.get("lens").rows;
  const saveLens = csvButton("logit_lens", "Logit lens", () => root, () => ["depth", `rank of ${model.get("lens").answer}`, "probability", ...depths()[0].said.flatMap((_, i) => [`says ${i + 1}`, `probability ${i + 1}`])], () => depths().map(({ depth, rank, p, said }) => [depth, rank, p, ...said.flatMap((each) => [each.token, each.p])]));
  const why = node("section", { class: "wbf-why", "aria-live": "polite" });
  const lensed = node("section", { class: "wbf-lens", "aria-label": "Logit lens", hidden: true });
  const code = node("code", { class: "wbf-code", tabindex: 0, "aria-label": "The search as Python" });
  const copy = button("Copy", async () => {
    await copyText(model.get("code"), root);
    copy.textContent = "Copied";
    setTimeout(() => (copy.textContent = "Copy"), 1500);
  });
  const sets = node("div", { class: "wbf-sets" }, lists.positive.root, lists.negative.root);
  const filters = node("div", { class: "wbf-filters" }, ...sliders.map((slider) => slider.root));
  const root = node(
    "div", { class: "wbp" },
    node("div", { class: "wbp-bar wbf-way" }, node("label", {}, "by ", way), work.run, work.cancel, work.status),
    sets, ...Object.values(asked), filters,
    removed, stale, note,
    node("div", { class: "wbf-both" }, lensed, node("div", { class: "wbf-results" }, node("div", { class: "wbf-scroll" }, table), save, why)),
    node("details", {}, node("summary", {}, "This search as Python"), code, copy),
  );
  el.append(root);

  let at = 0; // the row that Tab reaches
  let rows = []; // those that are shown, in their order
  const choose = (i) => {
    const row = rows[i];
    if (!row) return;
    at = i;
    [...body.children].forEach((line, place) => (line.tabIndex = place === i ? 0 : -1));
    body.children[i].focus();
    if (row.feature !== model.get("feature")) change(model, { feature: row.feature });
  };
  body.onkeydown = (event) => {
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: body.children.length - 1, Enter: at, " ": at }[event.key];
    if (to == null) return;
    event.preventDefault();
    choose(Math.min(Math.max(to, 0), body.children.length - 1));
  };

  // The search's own order is by its score, the best first, and decides between equal ones.
  const shownBy = ({ columns }) => (model.get("sort_by") === "feature" || columns?.some(({ name }) => name === model.get("sort_by")) ? model.get("sort_by") : "score");
  function inOrder(view) {
    const by = shownBy(view);
    const sign = model.get("is_descending") ? -1 : 1;
    if (by === "score" && sign < 0) return view.rows;
    return [...view.rows].sort((a, b) => (a[by] == null) - (b[by] == null) || (a[by] == null ? 0 : sign * (a[by] - b[by])));
  }
  const sort = (by) => {
    const isSame = shownBy(model.get("view")) === by;
    change(model, { sort_by: by, is_descending: isSame ? !model.get("is_descending") : by !== "feature" });
    results();
  };
  function header(view, by, text, title) {
    const isSorted = shownBy(view) === by;
    const isDown = model.get("is_descending");
    const press = button(text, () => sort(by), { title });
    if (isSorted) press.append(node("span", { "aria-hidden": "true" }, isDown ? " ▼" : " ▲"));
    return node("th", { scope: "col", "data-column": by, class: by === "feature" ? null : "wbp-number", "aria-sort": isSorted ? (isDown ? "descending" : "ascending") : "none" }, press);
  }

  function bar(value, most, about, isSigned = false) {
    const track = node("i");
    track.style.width = `${most ? (100 * Math.abs(value ?? 0)) / most : 0}%`;
    return node("td", about, number(value, isSigned, most), node("div", { class: "wbp-track" }, track));
  }

  function results() {
    const view = model.get("view");
    const isSame = JSON.stringify(view.asked) === JSON.stringify(model.get("asking"));
    stale.textContent = view.rows && !isSame ? `This is what was asked before: features ${view.wants}.` : "";
    save.hidden = !view.rows;
    if (!view.rows) return;
    note.textContent = view.note;
    removed.replaceChildren(
      ...view.removed.map((each) => node("span", {}, node("span", { class: "wbp-faint" }, `${each.filter}: `), `${count(each.n_before)} → `, node("b", {}, count(each.n_before - each.n_removed)))),
    );
    const scale = (name) => Math.max(...view.rows.map((row) => Math.abs(row[name] ?? 0)), 0);
    const activations = Math.max(...view.columns.filter(({ kind }) => kind === "number").map(({ name }) => scale(name)), 0); // one scale: they are compared
    const focused = root.getRootNode().activeElement;
    const had = head.contains(focused) ? focused.closest("th").dataset.column : null;
    const title = ({ name, title: said, means }) => header(view, name, said, means);
    head.replaceChildren(node("tr", {}, header(view, "feature", "feature", "by number"), ...view.columns.map(title)));
    head.firstChild.removeAttribute("data-lm-suppress-shortcuts");
    if (had) head.querySelector(`[data-column="${had}"] button`)?.focus();
    rows = inOrder(view);
    const most = scale("score");
    const cell = (row, { name, kind }) => {
      const about = { class: "wbp-number", "data-column": name };
      if (kind === "bar") return bar(row[name], most, about);
      const said = { of: `${row[name]} of ${view.n_positive}`, percent: row[name] == null ? "–" : `${written(100 * row[name], 3, 3, "SignificantDigits")} %`, score: row[name] == null ? "–" : number(row[name], false, 1) };
      return node("td", about, said[kind] ?? number(row[name], false, activations));
    };
    at = Math.min(at, Math.max(rows.length - 1, 0));
    const hadFocus = body.contains(root.getRootNode().activeElement);
    const lines = rows.map((row, i) => {
      const name = node("td", { class: "wbf-name", title: row.label || null }, node("div", {}, node("b", {}, row.label.replace(/ [01]\.\d\d$/, "") || `feature ${count(row.feature)}`), row.label ? node("span", { class: "wbp-faint" }, ` ${count(row.feature)}`) : null));
      const line = node("tr", { tabindex: i === at ? 0 : -1, "aria-selected": row.feature === model.get("feature") }, name, ...view.columns.map((column) => cell(row, column)));
      line.onclick = () => choose(i);
      return line;
    });
    body.replaceChildren(...lines);
    table.hidden = save.hidden = !lines.length;
    if (hadFocus) body.children[at]?.focus();
    if (!lines.length) removed.append(node("b", { class: "wbp-wrong" }, view.removed.length ? "No feature passes: loosen the filter that removed the last." : "No feature is found."));
    else if (view.n_passed > lines.length) removed.append(node("span", { class: "wbp-faint" }, `the best ${lines.length} shown`));
    explain();
  }

  // Which prompts, and where: the selection's activations, whether it passed or not.
  function explain() {
    const view = model.get("view");
    const feature = model.get("feature");
    [...body.children].forEach((line, i) => line.setAttribute("aria-selected", rows[i]?.feature === feature));
    const outside = model.get("outside"); // between two messages it may be of the search before
    if (!view.prompts?.length) return why.replaceChildren(); // a search that read no prompts
    const isOfThese = outside.feature === feature && feature != null && outside.acts.length === view.prompts.length;
    const row = view.rows?.find((each) => each.feature === feature) ?? (isOfThese ? outside : null);
    if (!row) return why.replaceChildren(...(view.rows?.length ? [node("p", { class: "wbp-faint" }, "Select a feature to see on which tokens of the prompts it is active.")] : []));
    const scale = Math.max(...row.acts.flat().map(([, act]) => act), 0);
    const lines = view.prompts.map(({ kind, tokens }, i) => {
      const values = tokens.map(() => null);
      for (const [place, act] of row.acts[i]) if (place >= 0) values[place] = act;
      const largest = Math.max(...values.map((value) => value ?? 0), 0);
      return node("li", {}, node("span", { title: kind, "aria-label": kind }, kind === "positive" ? "+" : "−"), node("span", { class: "wbp-number" }, largest ? number(largest, false, scale) : "silent"), node("span", { class: "wbp-text", dir: "auto" }, ...shaded(tokens, values, scale)));
    });
    const where = row === outside ? node("p", { class: "wbp-faint" }, "It does not pass the filters, or is not among the best.") : null;
    why.replaceChildren(...[node("h4", {}, row.label || `feature ${count(row.feature)}`, row.label ? node("span", { class: "wbp-faint" }, ` feature ${count(row.feature)}`) : ""), where, node("ol", {}, ...lines)].filter(Boolean));
  }

  // What is asked in the way that is chosen, and nothing else.
  function drawWay() {
    const chosen = model.get("way");
    way.value = chosen;
    way.disabled = !isLive;
    const isBySets = chosen === "prompts" || chosen === "classifier";
    sets.hidden = !isBySets;
    filters.hidden = chosen !== "prompts";
    for (const [name, box] of Object.entries(asked)) box.hidden = name !== chosen;
    if (["token", "attribution"].includes(chosen) && text.parentElement !== asked[chosen]) asked[chosen].prepend(text); // moved, it would lose the focus
    for (const fill of fills) fill();
    drawTokens();
  }

  function drawTokens() {
    const at = model.get("at");
    const look = (pos) => {
      change(model, { at: pos });
      model.send({ do: "run" });
    };
    const chip = (pos, said) => button(said, () => look(pos), { class: "wbp-token", "aria-pressed": String(pos === at), title: pos == null ? "the largest at any token" : `position ${pos}`, disabled: !isLive });
    const had = [...chips.children].indexOf(root.getRootNode().activeElement);
    const known = model.get("tokens");
    chips.replaceChildren(...(known.length ? [chip(null, "anywhere"), ...known.map(([pos, token]) => chip(pos, token))] : []));
    chips.children[had]?.focus();
  }

  // What the model would say next at the token, if it stopped at each depth: only beside what was found there.
  function drawLens() {
    const { token, pos, answer: own, about, rows, message, asked: of } = model.get("lens");
    lensed.hidden = !of || JSON.stringify(of) !== JSON.stringify(model.get("asking"));
    if (lensed.hidden) return;
    if (message) return lensed.replaceChildren(node("p", { class: "wbp-faint" }, `No logit lens: ${message}`));
    const share = (p) => (p >= 0.995 ? "> 99 %" : p >= 0.01 ? `${Math.round(100 * p)} %` : "< 1 %");
    const line = ({ depth, blocks, said, rank, p }) => {
      const words = said.flatMap(({ token: text, p: chance }) => [node("span", { class: "wbp-faint" }, `${share(chance)} `), node("code", {}, text), "  "]);
      const made = node("tr", { title: `${depth}: ${said.map((each) => `${each.token} ${share(each.p)}`).join(", ")} · ${own} #${count(rank)}, ${share(p)}` }, node("th", { scope: "row", "aria-label": depth }, blocks ? String(blocks - 1) : "–"), node("td", {}, ...words), node("td", { class: "wbp-number" }, `#${count(rank)}`));
      made.removeAttribute("data-lm-suppress-shortcuts");
      return made;
    };
    const top = node("tr", {}, node("th", { scope: "col", title: "after which block; –: the embeddings, before any; the last is the model itself" }, "block"), node("th", { scope: "col" }, "says next"), node("th", { scope: "col", class: "wbp-number", title: `where the token that the model says at last, ${own}, stands at this depth` }, node("code", {}, own)));
    top.removeAttribute("data-lm-suppress-shortcuts");
    lensed.replaceChildren(node("h4", { title: `position ${pos} · ${about}` }, "After ", node("code", {}, token), node("span", { class: "wbp-faint" }, " logit lens")), node("table", {}, node("thead", {}, top), node("tbody", {}, ...rows.map(line))), node("p", { class: "wbf-about wbp-faint" }, about, " ", saveLens));
  }

  // What was found, in sight together with the filters: under a few prompts it would begin below the explorer's fold, and nothing would seem
  // to have happened. Not while one types a prompt. In the next frame: the end may be told before what was found is drawn.
  let stage = null;
  function drawWork() {
    work.draw();
    const before = stage;
    stage = model.get("progress").stage ?? "";
    if (stage === "done" && before !== null && before !== stage) requestAnimationFrame(bringIntoSight);
  }
  function bringIntoSight() {
    const scroller = root.closest(".wbe-shown");
    if (!scroller || sets.contains(root.getRootNode().activeElement)) return;
    const fold = scroller.getBoundingClientRect();
    const first = (filters.hidden ? removed : filters).getBoundingClientRect();
    if (table.getBoundingClientRect().top > fold.bottom - fold.height / 3) scroller.scrollTop += first.top - fold.top;
  }

  function controls() {
    drawWay();
    for (const name of ["positive", "negative"]) lists[name].draw(model.get(name), isLive);
    for (const slider of sliders) slider.draw();
    code.textContent = model.get("code");
    results();
  }
  const theme = () => root.classList.toggle("wbp-dark", isDark(root));
  const unwatch = watch(model, [
    [["positive", "negative", "share", "margin", "max_density", "has_index"], controls],
    [["way", "text", "words", "target", "answer", "baseline", "tokens", "at"], drawWay],
    [["asking"], () => (results(), drawLens())],
    [["lens"], drawLens],
    [["code"], () => (code.textContent = model.get("code"))],
    [["view", "sort_by", "is_descending"], results],
    [["feature", "outside"], explain],
    [["progress"], drawWork],
  ]);
  const untheme = onTheme(theme);
  theme();
  controls();
  drawLens();
  drawWork();
  return () => (unwatch(), untheme());
}

export default { render };
