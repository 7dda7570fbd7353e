// Find features by prompts: lists, filters with counts, results, and where each is active. Python searches; this draws and asks.

// Sliders move on scales of their own: margin and density are fine near 0.
const SLIDERS = [
  { name: "share", title: "active on at least", max: 100, to: (t) => Math.max(t, 1) / 100, from: (v) => 100 * v, say: (v) => `${Math.round(100 * v)} % of the positive` },
  { name: "margin", title: "on negative ones at most", max: 100, to: (t) => Number((2 * (t / 100) ** 2).toPrecision(2)), from: (v) => 100 * Math.sqrt(v / 2), say: (v) => (v ? `${brief(v)} × the mean` : "silent") },
  { name: "max_density", title: "active on at most", max: 100, to: (t) => Number((10 ** (-5 + t / 20)).toPrecision(2)), from: (v) => 20 * (5 + Math.log10(v)), say: (v) => `${brief(100 * v)} % of tokens` },
];

const MEANS = {
  score: "how well the feature tells texts like the positive prompts from others: F1 over the index's texts; without an index, its mean activation",
  positive: "on how many of the positive prompts it is active",
  weakest: "its largest activation on the positive prompt where that is smallest",
  negative: "its largest activation on any negative prompt",
  density: "the share of the index's tokens at which it is active",
};

function render({ model, el }) {
  const isLive = Boolean(model.widget_manager);
  const set = (name, prompts) => {
    change(model, { [name]: prompts });
    if (model.get("positive").length) model.send({ do: "run" });
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
  const why = node("section", { class: "wbf-why", "aria-live": "polite" });
  const code = node("code", { class: "wbf-code", tabindex: 0, "aria-label": "The search as Python" });
  const copy = button("Copy", async () => {
    await copyText(model.get("code"), root);
    copy.textContent = "Copied";
    setTimeout(() => (copy.textContent = "Copy"), 1500);
  });
  const root = node(
    "div", { class: "wbp" },
    node("div", { class: "wbf-sets" }, lists.positive.root, lists.negative.root),
    node("div", { class: "wbf-filters" }, ...sliders.map((slider) => slider.root)),
    node("div", { class: "wbp-bar" }, work.run, work.cancel, work.status),
    removed, stale, note,
    node("div", { class: "wbf-results" }, node("div", { class: "wbf-scroll" }, table), why),
    node("details", {}, node("summary", {}, "This search as Python"), code, copy),
  );
  el.append(root);

  let at = 0; // the row that Tab reaches
  const choose = (i) => {
    const row = model.get("view").rows[i];
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

  function bar(value, most, isSigned = false) {
    const track = node("i");
    track.style.width = `${most ? (100 * Math.abs(value ?? 0)) / most : 0}%`;
    return node("td", { class: "wbp-number" }, number(value, isSigned, most), node("div", { class: "wbp-track" }, track));
  }

  function results() {
    const view = model.get("view");
    const isSame = JSON.stringify(view.read) === JSON.stringify([model.get("positive"), model.get("negative")]);
    stale.textContent = view.rows && !isSame ? "The prompts have changed since this search." : "";
    if (!view.rows) return;
    note.textContent = view.note;
    removed.replaceChildren(
      ...view.removed.map((each) => node("span", {}, node("span", { class: "wbp-faint" }, `${each.filter}: `), `${count(each.n_before)} → `, node("b", {}, count(each.n_before - each.n_removed)))),
    );
    const names = ["feature", "score", "positive", "weakest", view.prompts.length > view.n_positive ? "negative" : null, view.rows.some((row) => row.density != null) ? "density" : null];
    const shown = names.map((name) => name != null);
    head.replaceChildren(node("tr", {}, ...names.filter(Boolean).map((name, i) => node("th", { scope: "col", class: i ? "wbp-number" : null, title: MEANS[name] }, name))));
    head.firstChild.removeAttribute("data-lm-suppress-shortcuts");
    const most = Math.max(...view.rows.map((row) => Math.abs(row.score ?? 0)), 0);
    const strongest = Math.max(...view.rows.map((row) => row.mean_activation ?? 0), 0);
    at = Math.min(at, Math.max(view.rows.length - 1, 0));
    const hadFocus = body.contains(root.getRootNode().activeElement);
    const lines = view.rows.map((row, i) => {
      const cells = [
        node("td", { class: "wbf-name", title: row.label || null }, node("b", {}, row.label.replace(/ [01]\.\d\d$/, "") || `feature ${count(row.feature)}`), row.label ? node("span", { class: "wbp-faint" }, ` ${count(row.feature)}`) : null),
        bar(row.score, most),
        node("td", { class: "wbp-number" }, `${row.n_positive} of ${view.n_positive}`),
        node("td", { class: "wbp-number" }, number(row.min_activation, false, strongest)),
        node("td", { class: "wbp-number" }, number(row.max_negative, false, strongest)),
        node("td", { class: "wbp-number" }, row.density == null ? "–" : `${brief(100 * row.density)} %`),
      ];
      const line = node("tr", { tabindex: i === at ? 0 : -1, "aria-selected": row.feature === model.get("feature") }, ...cells.filter((_, k) => shown[k]));
      line.onclick = () => choose(i);
      return line;
    });
    body.replaceChildren(...lines);
    table.hidden = !lines.length;
    if (hadFocus) body.children[at]?.focus();
    if (!lines.length) removed.append(node("b", { class: "wbp-wrong" }, "No feature passes: loosen the filter that removed the last."));
    else if (view.n_passed > lines.length) removed.append(node("span", { class: "wbp-faint" }, `the best ${lines.length} shown`));
    explain();
  }

  // Which prompts, and where: the selection's activations, whether it passed or not.
  function explain() {
    const view = model.get("view");
    const feature = model.get("feature");
    [...body.children].forEach((line, i) => line.setAttribute("aria-selected", view.rows[i]?.feature === feature));
    const outside = model.get("outside"); // between two messages it may be of the search before
    const isOfThese = outside.feature === feature && feature != null && outside.acts.length === view.prompts?.length;
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

  function controls() {
    for (const name of ["positive", "negative"]) lists[name].draw(model.get(name), isLive);
    for (const slider of sliders) slider.draw();
    code.textContent = model.get("code");
    results();
  }
  const theme = () => root.classList.toggle("wbp-dark", isDark(root));
  const unwatch = watch(model, [
    [["positive", "negative", "share", "margin", "max_density", "has_index"], controls],
    [["code"], () => (code.textContent = model.get("code"))],
    [["view"], results],
    [["feature", "outside"], explain],
    [["progress"], work.draw],
  ]);
  const untheme = onTheme(theme);
  theme();
  controls();
  work.draw();
  return () => (unwatch(), untheme());
}

export default { render };
