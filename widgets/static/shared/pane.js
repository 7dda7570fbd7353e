// What the panes' modules share; each is this text followed by its own. They only draw: Python computes and answers changed traits.
// All text enters as text nodes: tokens, labels and prompts are data.

// JupyterLab would act on keys pressed here (`x` cuts the cell). It asks the focused element itself, so each carries the attribute.
const FOCUSABLE = ["button", "input", "select", "textarea", "summary", "canvas", "tr", "a"];

// But to save the notebook stays JupyterLab's, wherever the keys are: for that stroke they are lent, before the document hears of it.
function lend(event) {
  if (!(event.ctrlKey || event.metaKey) || event.altKey || event.key.toLowerCase() !== "s") return;
  const held = event.composedPath().filter((each) => each.dataset?.lmSuppressShortcuts);
  for (const each of held) delete each.dataset.lmSuppressShortcuts;
  setTimeout(() => held.forEach((each) => (each.dataset.lmSuppressShortcuts = "true")));
}
if (!globalThis.wbpLends) window.addEventListener("keydown", (globalThis.wbpLends = lend), true);

function node(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value != null && value !== false) made.setAttribute(name, value === true ? "" : value);
  if (FOCUSABLE.includes(tag) || attributes.tabindex != null) made.setAttribute("data-lm-suppress-shortcuts", "true");
  if (tag === "input" || tag === "textarea") made.addEventListener("keydown", untilComposed);
  made.append(...children.filter((child) => child != null));
  return made;
}

// While a word is composed (Japanese, Chinese, Korean), Enter takes the word and arrows choose among its spellings: no handler of ours hears it.
function untilComposed(event) {
  if (event.isComposing || event.keyCode === 229) event.stopImmediatePropagation();
}

function button(text, onclick, attributes = {}) {
  const made = node("button", { type: "button", ...attributes }, text);
  made.onclick = onclick;
  return made;
}

// Numbers in English, whatever the page's language. A format is made once: that takes longer than to use it.
const FORMATS = new Map();
function written(value, least, most, kind = "FractionDigits") {
  const key = `${least} ${most} ${kind}`;
  if (!FORMATS.has(key)) FORMATS.set(key, new Intl.NumberFormat("en-US", { [`minimum${kind}`]: least, [`maximum${kind}`]: most }));
  return FORMATS.get(key).format(value);
}
const count = (n) => written(n, 0, 3);
const several = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

// Decimals for a column whose largest value is `scale`, as in widgets/marks.py.
function number(value, isSigned = true, scale = 1) {
  if (value == null || !Number.isFinite(value)) return "–";
  const digits = scale >= 1 || scale <= 0 ? 2 : Math.min(2 - Math.floor(Math.log10(scale)), 9);
  const text = written(Math.abs(value), digits, digits);
  return (!/[1-9]/.test(text) ? "" : value < 0 ? "−" : isSigned ? "+" : "") + text; // what is rounded to 0 has no sign
}

// One that stands in no column.
const alone = (value, isSigned = true) => number(value, isSigned, Math.abs(value ?? 0));

// Three significant digits, for numbers that span decades.
const brief = (value) => (value == null || !Number.isFinite(value) ? "–" : written(Number(value.toPrecision(3)), 1, 3, "SignificantDigits"));

// As in widgets/marks.py, for text that comes from the page itself and not from Python.
const HIDDEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}]/gu;
const visible = (text) =>
  text.replaceAll("\n", "⏎").replaceAll("\r", "␍").replaceAll("\t", "⇥").replace(HIDDEN, (c) => `\\u${c.codePointAt(0).toString(16).padStart(4, "0")}`);

// The same where text flows: code keeps its lines.
const inLines = (text) => visible(text).replaceAll("⏎", "⏎\n");

// Tokens shaded by values ≥ 0 (null: not shaded).
function shaded(tokens, values, scale) {
  return tokens.map((token, i) => {
    const value = values[i];
    if (value == null || value <= 0) return document.createTextNode(inLines(token));
    const mark = node("span", { class: "wbp-mark", title: `activation ${number(value, false, scale)}` }, inLines(token));
    mark.style.setProperty("--shade", `${Math.round(8 + 47 * (scale ? Math.min(value / scale, 1) : 0))}%`);
    return mark;
  });
}

// Sets traits and tells Python, all in one message.
function change(model, values) {
  for (const [name, value] of Object.entries(values)) model.set(name, value);
  model.save_changes();
}

// What a box shows: read(), unless a person is in it. A box that has the focus is never written to; it catches up when it is left.
function filled(box, read) {
  const fill = () => {
    if (box.getRootNode().activeElement !== box) box.value = read();
  };
  box.addEventListener("blur", fill);
  return fill;
}

// What is typed into a table's filter becomes its trait, and the first page is shown: at once when the box is left, while one types only
// when the hand rests, since every answer draws the table anew. Returns what fills the box from the trait.
function filters(box, model) {
  let typing;
  const ask = () => {
    clearTimeout(typing);
    if (box.value !== model.get("query")) change(model, { query: box.value, page: 0 });
  };
  box.oninput = () => {
    clearTimeout(typing);
    typing = setTimeout(ask, 150);
  };
  box.onchange = ask;
  return filled(box, () => model.get("query"));
}

// Calls each draw when one of its traits changes; returns what takes them off again.
function watch(model, draws) {
  const listeners = draws.flatMap(([names, draw]) => names.map((name) => [`change:${name}`, draw]));
  for (const [event, draw] of listeners) model.on(event, draw);
  return () => listeners.forEach(([event, draw]) => model.off(event, draw));
}

// Is the page dark? Read from the ink, so that it holds in JupyterLab's themes and in a page that follows the system.
function isDark(element) {
  const [r, g, b] = (getComputedStyle(element).color.match(/[\d.]+/g) ?? [0, 0, 0]).map(Number);
  return 0.299 * r + 0.587 * g + 0.114 * b > 140;
}

// Calls draw whenever the theme may have changed; returns what ends it.
function onTheme(draw) {
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  const observer = new MutationObserver(draw);
  for (const element of [document.documentElement, document.body]) observer.observe(element, { attributes: true, attributeFilter: ["class", "style", "data-jp-theme-light", "data-theme"] });
  scheme.addEventListener("change", draw);
  return () => {
    observer.disconnect();
    scheme.removeEventListener("change", draw);
  };
}

// Buttons that start and cancel a pane's long work, and what they say of it. A saved page has no Python behind it: there they rest.
function worker(model, name, without) {
  const isLive = Boolean(model.widget_manager);
  const run = button(name, () => model.send({ do: "run" }), { class: "wbp-main" });
  const cancel = button("Cancel", () => model.send({ do: "cancel" }));
  const status = node("span", { class: "wbp-faint", role: "status" });
  function draw() {
    const { stage, done, total, message, seconds } = model.get("progress");
    const isBusy = stage === "running" || stage === "waiting";
    const [rests, next] = isBusy ? [run, cancel] : [cancel, run];
    next.disabled = !isLive;
    if (rests.getRootNode().activeElement === rests) next.focus(); // before the one that has the keys rests, and they are nowhere
    rests.disabled = true;
    const said = { waiting: "waiting for other work on the model …", running: total ? `${count(done)} of ${count(total)} …` : "working …", done: `done in ${number(seconds, false)} s`, cancelled: "cancelled", failed: message };
    status.setAttribute("aria-live", stage === "running" ? "off" : "polite"); // a count that runs would be read out to its end
    status.textContent = isLive ? said[stage] ?? "" : without;
    status.classList.toggle("wbp-wrong", stage === "failed");
  }
  return { run, cancel, status, draw };
}
