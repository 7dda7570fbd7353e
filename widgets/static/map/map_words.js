// What a map says in words: its legend, the selection, the point under the pointer, what is in the lasso.

const N_LISTED = 24; // lassoed features that are named below the map

const SCORED = { reads: "input score", writes: "output score", score: "score" }; // what the last is, a search says
const valued = (by, value) => (by === "score" ? brief(value) : number(value, false));

function dot(rgb) {
  const made = node("span", { "aria-hidden": "true" }, "●");
  made.style.color = `rgb(${rgb})`;
  return made;
}

function scaleParts(scene, by) {
  if (by === "score" && !scene.data.scores.score.length) return [node("span", {}, "No search was shown here yet.")];
  if (by === "label") return [node("span", {}, dot(PALETTE[1]), " has a label"), node("span", {}, dot(GRAY), " has none")];
  const { scale, stops } = scene;
  if (by === "density" && !Number.isFinite(scale?.low)) return [node("span", {}, "On how many tokens they are active an index would know.")];
  if (!scale || !Number.isFinite(scale.low)) return [];
  const bar = node("span", { class: "wbp-ramp", "aria-hidden": "true" });
  bar.style.background = `linear-gradient(90deg, ${stops.map((stop) => `rgb(${stop})`)})`;
  if (by === "density") return [node("span", { class: "wbp-scale" }, `active on ${brief(100 * scale.low)} %`, bar, `${brief(100 * scale.high)} % of tokens`)];
  const isCut = scale.most > scale.high;
  const end = isCut ? `${valued(by, scale.high)} and above, to ${valued(by, scale.most)}` : valued(by, scale.high);
  const why = isCut ? `one in ${Math.round(1 / (1 - USUAL))} lies above ${valued(by, scale.high)}, up to ${valued(by, scale.most)}: they have the scale's last color, so that the others can be told apart` : null;
  const isWhole = scale.steps.every((step) => step !== UNKNOWN);
  return [node("span", { class: "wbp-scale", title: why }, `${SCORED[by]} ${valued(by, scale.low)}`, bar, end), isWhole ? null : node("span", {}, dot(GRAY), " not known")].filter(Boolean);
}

// The scale, and the dictionaries with a box each to hide them.
function drawLegend(legend, scene) {
  const { model } = scene;
  const by = model.get("color_by");
  const names = model.get("sae_names");
  const focused = legend.getRootNode().activeElement;
  const hadFocus = legend.contains(focused) ? focused.value : null;
  const boxes = names.map((name, i) => {
    const box = node("input", { type: "checkbox", value: name });
    box.checked = !model.get("hidden").includes(name);
    box.onchange = () => change(model, { hidden: names.filter((each) => (each === name ? !box.checked : model.get("hidden").includes(each))) });
    const glyph = node("span", { "aria-hidden": "true" }, GLYPHS[i % GLYPHS.length]);
    if (by === "dictionary") glyph.style.color = `rgb(${PALETTE[i % PALETTE.length]})`;
    return node("label", {}, names.length > 1 ? box : null, glyph, name);
  });
  const ranked = model.get("ranked").length;
  const ring = node("input", { type: "checkbox", value: "\n" }); // no dictionary's name
  ring.checked = model.get("is_ringed");
  ring.onchange = () => change(model, { is_ringed: ring.checked });
  const rings = ranked ? [node("label", { title: model.get("ranked_of") }, ring, node("span", { class: "wbp-ringed", "aria-hidden": "true" }, "○"), `${count(ranked)} of the ranking`)] : [];
  legend.replaceChildren(...scaleParts(scene, by), ...boxes, ...rings);
  if (hadFocus != null) [...legend.querySelectorAll("input")].find((box) => box.value === hadFocus)?.focus();
}

function totals(scene, n_strong) {
  const n_saes = scene.model.get("sae_names").length;
  const total = `${several(scene.data.n, "feature")} of ${several(n_saes, "dictionary", "dictionaries")}`;
  return n_strong == null ? total : `${count(n_strong)} of ${total}`;
}

const activeOn = (scene, i) => (Number.isFinite(scene.data.densities[i]) ? `active on ${brief(100 * scene.data.densities[i])} % of tokens` : "on how many tokens is not known");
const scored = (scene, i) => Object.keys(SCORED).filter((by) => Number.isFinite(scene.data.scores[by][i])).map((by) => ` · ${SCORED[by]} ${valued(by, scene.data.scores[by][i])}`).join("");

// The selection: nodes and texts.
function selectionParts(scene) {
  const { model } = scene;
  const [i, name] = [scene.selected(), model.get("sae_name")];
  if (i < 0) return [model.get("feature") == null ? "" : `Feature ${count(model.get("feature"))} of ${name} is not on this map.`];
  const away = scene.isShown[i] ? "" : " · its dictionary is hidden";
  const label = scene.label(i);
  return [node("b", {}, label || scene.featureName(i)), ` ${label ? scene.featureName(i) : ""} of ${name} · ${activeOn(scene, i)}${scored(scene, i)}${away}`];
}

// Beside a point.
function drawTip(tip, scene, i) {
  tip.hidden = i < 0;
  if (i < 0) return;
  tip.replaceChildren(
    node("b", {}, scene.label(i) || "no label"),
    node("div", {}, `${scene.featureName(i)} of ${scene.saeName(i)}`),
    node("div", {}, `${activeOn(scene, i)}${scored(scene, i)}`),
  );
  const [width] = scene.size;
  const [x, y] = [scene.px[i] / scene.dpr, scene.py[i] / scene.dpr];
  const isRight = x > width / 2;
  Object.assign(tip.style, { left: isRight ? "" : `${x + 14}px`, right: isRight ? `${width - x + 14}px` : "", top: `${Math.max(y - 20, 4)}px` });
}

// The features in the lasso: a click selects one.
function drawListed(listed, scene, select) {
  const rows = scene.model.get("lassoed").filter((i) => i < scene.data.n);
  const chips = rows.slice(0, N_LISTED).map((i) => button(cut(scene.label(i), 32) || scene.featureName(i), () => select(i), { title: scene.named(i) }));
  const rest = rows.length > N_LISTED ? node("span", { class: "wbp-faint" }, `and ${count(rows.length - N_LISTED)} more`) : null;
  const clear = button("Clear", () => change(scene.model, { lassoed: [] }), { "aria-label": "Clear the lasso" });
  listed.replaceChildren(...(rows.length ? [node("b", {}, `${several(rows.length, "feature")} in the lasso`), ...chips, rest, clear].filter(Boolean) : []));
}

// What a search finds, or, without one, the ranking's features: a click or Enter goes there. Reached from the box by ↓.
function drawResults(results, scene, visit) {
  const { model } = scene;
  const query = model.get("query").trim();
  const rows = query ? scene.listed(query) : scene.ringed;
  const focused = results.contains(results.getRootNode().activeElement) ? Number(results.getRootNode().activeElement.dataset.row) : null;
  const line = (i) => {
    const made = button("", () => visit(i), { "data-row": i, "aria-pressed": String(i === scene.selected()), title: scene.named(i) });
    const sae = scene.saeName(i) === model.get("sae_name") ? "" : ` of ${scene.saeName(i)}`;
    made.append(`${scene.data.features[i]}`, node("span", { class: "wbp-faint" }, `${sae} `), cut(scene.label(i), 28));
    return made;
  };
  const about = query ? (rows.length ? `${count(rows.length)} found` : `nothing on the map is called “${visible(query)}”`) : model.get("ranked_of");
  const rest = rows.length > N_LISTED ? node("span", { class: "wbp-faint" }, `and ${count(rows.length - N_LISTED)} more`) : null;
  results.replaceChildren(...(query || rows.length ? [node("span", { class: "wbp-faint" }, about), ...rows.slice(0, N_LISTED).map(line), rest].filter(Boolean) : []));
  if (focused != null) results.querySelector(`[data-row="${focused}"]`)?.focus({ preventScroll: true });
}
