// Sliders for features, and what the model writes with them beside what it writes without. Python steers; this draws and asks.

const SIDES = [-1, 1];

function render({ model, el }) {
  const fills = []; // what its boxes show
  const prompt = node("textarea", { rows: 2, "aria-label": "Prompt to continue", placeholder: "a prompt to continue", spellcheck: "false" });
  const sliders = node("div", { class: "wbs-sliders" });
  const marked = node("p", { class: "wbp-faint wbs-marked", hidden: true }, node("i", { class: "wbs-limit", "aria-hidden": "true" }), " up to there texts usually stay readable");
  const add = button("", () => model.send({ do: "add" }), { class: "wbs-add" });
  const other = node("input", { type: "number", min: 0, step: 1, "aria-label": "Number of another feature", class: "wbs-other" });
  const addOther = button("Add", () => give(Number(other.value)), { "aria-label": "Add this feature" });
  const option = (name, attributes) => {
    const input = node("input", { type: "number", ...attributes });
    input.onchange = () => input.value !== "" && input.checkValidity() && change(model, { [name]: Number(input.value) });
    fills.push(filled(input, () => model.get(name)));
    return input;
  };
  const length = option("max_new_tokens", { min: 1, step: 1 });
  const temperature = option("temperature", { min: 0, step: "any", title: "0: always the likeliest token; 1: the model's own probabilities" });
  const seed = option("seed", { min: 0, step: 1, title: "the same seed draws the same luck" });
  const work = worker(model, "Write", "steering needs the model: open the notebook");
  const stale = node("p", { class: "wbp-faint wbs-stale" });
  const result = node("div", { "aria-live": "polite" });
  const root = node(
    "div", { class: "wbp" },
    prompt, sliders, marked,
    node("div", { class: "wbp-bar" }, add, node("label", {}, "feature number ", other), addOther),
    node("div", { class: "wbp-bar" }, node("label", {}, "new tokens ", length), node("label", {}, "temperature ", temperature), node("label", {}, "seed ", seed), work.run, work.cancel, work.status),
    stale, result,
  );
  el.append(root);
  const isLive = Boolean(model.widget_manager);

  const strengths = () => model.get("strengths");
  const facts = (feature) => model.get("about")[feature] ?? {};
  const steer = (feature, strength) => change(model, { strengths: { ...strengths(), [feature]: strength } });
  function give(feature) {
    if (!Number.isInteger(feature) || feature < 0 || feature >= model.get("n_features") || other.value === "") {
      other.setCustomValidity(`a feature from 0 to ${model.get("n_features") - 1}`);
      other.reportValidity();
      return;
    }
    other.value = "";
    model.send({ do: "give", feature });
  }
  other.oninput = () => other.setCustomValidity("");
  other.onkeydown = (event) => {
    if (event.key === "Enter") give(Number(other.value));
  };

  // One line a feature; lines stay while their feature does, so that a slider under the hand is not taken away.
  const lines = new Map();
  function line(feature) {
    const range = node("input", { type: "range", min: -10, max: 10, step: 0.5, "aria-label": `Strength of feature ${feature}` });
    const exact = node("input", { type: "number", step: "any", "aria-label": `Exact strength of feature ${feature}` });
    const name = button("", () => change(model, { feature: Number(feature) }), { class: "wbs-name", title: "Select" });
    const unit = node("span", { class: "wbp-faint wbs-unit" });
    const remove = button("✕", () => {
      const { [feature]: _, ...rest } = strengths();
      change(model, { strengths: rest });
      (sliders.querySelector("input") ?? add).focus();
    }, { class: "wbp-icon", "aria-label": `Remove feature ${feature}` });
    range.oninput = () => {
      exact.value = range.value;
      fill(range);
      unit.textContent = activation(feature, Number(range.value));
    };
    range.onchange = () => steer(feature, Number(range.value));
    exact.onchange = () => Number.isFinite(exact.valueAsNumber) && steer(feature, exact.valueAsNumber);
    const fillExact = filled(exact, () => strengths()[feature] ?? "");
    const ticks = node("div", { class: "wbs-ticks", "aria-hidden": "true" }, node("span", {}, "−10"), node("span", {}, "0"), node("span", {}, "10"), ...SIDES.map((side) => node("i", { class: "wbs-limit", "data-side": side, hidden: true })));
    return { ticks, row: node("div", { class: "wbs-line" }, name, node("div", { class: "wbs-range" }, range, ticks), exact, unit, remove), range, fillExact, name, unit };
  }
  // The track is filled from 0, not from the left end.
  function fill(range) {
    const at = 50 + 5 * Math.min(Math.max(Number(range.value), -10), 10);
    range.style.setProperty("--low", `${Math.min(at, 50)}%`);
    range.style.setProperty("--high", `${Math.max(at, 50)}%`);
  }
  const activation = (feature, strength) => (facts(feature).max_act == null ? "" : `activation ${number(strength * facts(feature).max_act, strength < 0, facts(feature).max_act)}`);

  function controls() {
    const now = strengths();
    for (const [feature, { row }] of lines) if (now[feature] == null) (row.remove(), lines.delete(feature));
    for (const [feature, strength] of Object.entries(now)) {
      if (!lines.has(feature)) {
        lines.set(feature, line(feature));
        sliders.append(lines.get(feature).row);
      }
      const { ticks, range, fillExact, name, unit } = lines.get(feature);
      const { limit } = facts(feature);
      range.step = limit == null || limit >= 0.5 ? 0.5 : 10 ** Math.floor(Math.log10(limit)); // one that is strong has its limit between two halves
      if (root.getRootNode().activeElement !== range || Number(range.value) !== strength) range.value = strength;
      fill(range);
      fillExact();
      const text = facts(feature).label;
      name.replaceChildren(node("b", {}, text || `feature ${feature}`), text ? node("span", { class: "wbp-faint" }, ` ${feature}`) : "");
      unit.textContent = activation(feature, strength);
      unit.classList.toggle("wbp-wrong", limit != null && Math.abs(strength) > limit);
      unit.title = limit == null ? "" : `up to ±${brief(limit)} texts usually stay readable`;
      for (const mark of ticks.querySelectorAll(".wbs-limit")) {
        mark.hidden = limit == null;
        mark.style.left = `${50 + 5 * Number(mark.dataset.side) * (limit ?? 0)}%`;
        mark.title = unit.title;
      }
    }
    marked.hidden = !Object.keys(now).some((feature) => facts(feature).limit != null);
    const feature = model.get("feature");
    const isIn = feature != null && now[feature] != null;
    add.disabled = !isLive || feature == null || isIn;
    add.textContent = feature == null ? "Add the selected feature" : `Add ${facts(feature).label ? `“${facts(feature).label}”` : `feature ${feature}`}`;
    add.hidden = isIn;
    for (const fill of fills) fill();
    said();
  }

  // The result belongs to what was chosen when it was asked for.
  function said() {
    const { chosen } = model.get("view");
    const isSame = (name) => JSON.stringify(model.get(name)) === JSON.stringify(chosen[name]);
    stale.textContent = chosen && !Object.keys(chosen).every(isSame) ? "What is chosen above has changed since this was written." : "";
  }

  function probability(value, most) {
    if (value == null) return node("td", { class: "wbp-number" }, "–");
    const bar = node("i");
    bar.style.width = `${(100 * value) / most}%`;
    return node("td", { class: "wbp-number" }, value >= 0.0005 ? `${(100 * value).toFixed(1)} %` : "< 0.1 %", node("div", { class: "wbp-track" }, bar));
  }

  function draw() {
    const view = model.get("view");
    said();
    if (!view.texts) return result.replaceChildren();
    const texts = view.texts.map(({ name, about, tokens, activations, perplexity, activation: own }) => {
      const written = tokens.length ? shaded(tokens, activations, view.scale) : ["(the text ended here)"];
      const figures = `perplexity ${number(perplexity, false)}${own == null ? "" : ` · own activation ${number(own, false, view.scale)}`}`;
      return node("section", { class: "wbs-text", "aria-label": name }, node("h4", {}, name, about ? node("span", { class: "wbp-faint" }, ` ${about}`) : ""), node("div", { class: "wbp-faint" }, figures), node("p", { class: "wbp-text" }, node("span", { class: "wbp-faint wbs-prompt" }, inLines(view.prompt)), ...written));
    });
    const most = Math.max(...view.next.flatMap(({ values }) => values), 1e-9);
    const rows = view.next.map(({ token, values }) => node("tr", {}, node("td", {}, node("code", {}, token)), ...values.map((value) => probability(value, most))));
    for (const row of rows) row.removeAttribute("data-lm-suppress-shortcuts");
    const heads = ["the next token", ...view.texts.map(({ name }) => name)].map((text, i) => node("th", { scope: "col", class: i ? "wbp-number" : null }, text));
    const table = node("table", { class: "wbs-next" }, node("thead", {}, node("tr", {}, ...heads)), node("tbody", {}, ...rows));
    const save = csvButton("next_tokens", "The next token", () => root, () => ["token", ...view.texts.map(({ name }) => name)], () => view.next.map(({ token, values }) => [token, ...values]));
    result.replaceChildren(...view.notes.map((note) => node("p", { class: "wbs-note" }, `⚠ ${note}`)), node("div", { class: "wbs-texts" }, ...texts), table, save, node("p", { class: "wbp-faint" }, "Blue: the steered features’ own activation when the unsteered model reads the text. Perplexity: how unlikely the text is to the unsteered model."));
  }

  let typing;
  const type = () => {
    clearTimeout(typing);
    if (prompt.value !== model.get("prompt")) change(model, { prompt: prompt.value });
  };
  prompt.oninput = () => {
    clearTimeout(typing);
    typing = setTimeout(type, 150);
  };
  prompt.onchange = type;
  fills.push(filled(prompt, () => model.get("prompt")));
  prompt.onkeydown = (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    type();
    if (!work.run.disabled) model.send({ do: "run" });
  };
  for (const control of isLive ? [] : [other, addOther]) control.disabled = true;

  const theme = () => root.classList.toggle("wbp-dark", isDark(root));
  const unwatch = watch(model, [
    [["strengths", "about", "feature", "prompt", "max_new_tokens", "temperature", "seed"], controls],
    [["view"], draw],
    [["progress"], work.draw],
  ]);
  const untheme = onTheme(theme);
  theme();
  controls();
  draw();
  work.draw();
  return () => (unwatch(), untheme());
}

export default { render };
