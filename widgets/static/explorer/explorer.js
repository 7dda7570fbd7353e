// Draws the panes on one screen: the question above, the ranking beside one of the others, chosen by a tab; and takes the state away, as
// code, JSON or a file. The panes draw themselves; what they share is the selection, which Python (or page.js) hands on.

const KEYS = [
  ["Enter", "in the question: rank"],
  ["Shift+Enter", "in the question: a new line"],
  ["↑ ↓ PgUp PgDn", "in the table: choose a row, turn the page"],
  ["Space", "in the table: mark the row, for a group (Ctrl+click; Shift+click up to it)"],
  ["Alt+← Alt+→", "back and forward: questions, features, SAEs"],
  ["← →", "on the tabs: the pane beside the ranking"],
  ["B", "on a next token: make it the baseline; Enter makes it the answer"],
  ["/", "open a feature by its number, its label or a text"],
  ["K", "keep the feature in your list; again: see it there"],
  ["1", "the one prompt's ranking"],
  ["2", "a second prompt beside the first: what differs"],
  ["3", "several prompts together: what matters over all of them (Ctrl+Enter ranks)"],
  ["?", "these keys"],
  ["Esc", "closes them, and a preview"],
];
const LEFT = { ranking: ["1", '.wbr tbody tr[tabindex="0"]'], compare: ["2", '[aria-label="Second prompt"]'], batch: ["3", '[aria-label="Prompts, one a line"]'] }; // its key, and where one goes on
const BESIDE = ["card", "finder", "steering", "group", "lists", "circuit", "map", "attention"];

async function render({ model, el, host, signal }) {
  const root = node("div", { class: "wbp wbe" });
  const [top, left, right] = ["wbe-top", "wbe-left", "wbe-right"].map((name) => node("section", { class: name }));
  const tabs = node("div", { class: "wbe-tabs", role: "tablist", "aria-label": "Beside the ranking" });
  const shown = node("div", { class: "wbe-shown" });
  const waiting = node("p", { class: "wbp-faint", role: "status" });
  const preview = node("section", { class: "wbe-preview", "aria-label": "Preview", hidden: true });
  const back = button("‹", () => model.send({ do: "back" }), { class: "wbp-icon", "aria-label": "Back", title: "back to what was looked at before (Alt+←)" });
  const forward = button("›", () => model.send({ do: "forward" }), { class: "wbp-icon", "aria-label": "Forward", title: "forward again (Alt+→)" });
  const compared = button("⇄", () => show("compare"), { class: "wbp-icon", "aria-label": "Second prompt", "aria-pressed": "false", title: "a second prompt beside this one: the same features on both, by how much they differ (2)" });
  const together = button("☰", () => show("batch"), { class: "wbp-icon", "aria-label": "Several prompts", "aria-pressed": "false", title: "several prompts together: mean effects with their intervals (3)" });
  const keys = node("section", { class: "wbe-keys", role: "dialog", "aria-label": "Keys", hidden: true }, node("h4", {}, "Keys"), node("dl", {}, ...KEYS.flatMap(([key, does]) => [node("dt", {}, key), node("dd", {}, does)])));
  function toggleKeys() {
    keys.hidden = !keys.hidden;
    if (!keys.hidden) keys.scrollIntoView({ block: "nearest" }); // the foot may lie below the window
  }
  const help = button("? keys", toggleKeys, { title: "what the keys do (?)" });
  const seek = opener(model, root);
  const said = node("span", { class: "wbp-faint", role: "status" });
  const copy = (name, what) => copyText(model.get(name), root).then(() => (said.textContent = `${what} copied`));
  const foot = node(
    "footer",
    { class: "wbe-foot" },
    button("Copy as Python", () => copy("code", "Python"), { title: "code that makes this view again" }),
    button("Copy as JSON", () => copy("facts", "JSON"), { title: "the state: explorer.restore(…) takes it" }),
    model.isSaved ? null : button("Save as HTML", () => model.send({ do: "save" }), { title: "one file that opens offline" }),
    help,
    said,
  );
  right.append(tabs, preview, waiting, shown);
  if (!model.isSaved) top.append(node("span", { class: "wbe-ways" }, back, forward, seek.button, compared, together));
  const dead = node("p", { class: "wbp-wrong", role: "alert", hidden: true }, "The kernel that computed for this view is gone: run the cell again.");
  root.append(dead, top, node("div", { class: "wbe-middle" }, left, right), foot, keys, seek.root);
  el.append(root);

  const drawn = new Map(); // reference → its element
  async function place(reference, parent, className) {
    if (!drawn.has(reference)) {
      const here = node("div", { class: className });
      drawn.set(reference, here);
      parent.append(here);
      await arrived(host, reference, here, signal);
    }
    return drawn.get(reference);
  }

  async function drawPanes() {
    const panes = new Map(model.get("panes").map((pane) => [pane.name, pane]));
    const references = new Set([...panes.values()].map((pane) => pane.widget).filter(Boolean));
    for (const [reference, element] of drawn) {
      if (references.has(reference)) continue;
      element.remove();
      drawn.delete(reference);
    }
    const seen = model.get("left");
    for (const [name, press] of [["compare", compared], ["batch", together]]) press.setAttribute("aria-pressed", String(name === seen));
    for (const [name, parent] of [["prompt", top], ["ranking", left], ...(seen === "ranking" ? [] : [[seen, left]])]) if (panes.has(name)) place(panes.get(name).widget, parent, "");
    for (const name of Object.keys(LEFT)) drawn.get(panes.get(name)?.widget)?.toggleAttribute("hidden", seen !== name);
    const beside = BESIDE.filter((name) => panes.has(name));
    const hadFocus = tabs.contains(el.getRootNode().activeElement);
    tabs.replaceChildren(
      ...beside.map((name, i) => {
        const isChosen = name === model.get("tab");
        const tab = button(panes.get(name).title, () => change(model, { tab: name }), { role: "tab", "aria-selected": String(isChosen), tabindex: isChosen ? 0 : -1, "data-tab": name });
        tab.onkeydown = (event) => {
          const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
          if (!by) return;
          event.preventDefault();
          change(model, { tab: beside[(i + by + beside.length) % beside.length] });
        };
        return tab;
      }),
    );
    if (hadFocus) tabs.querySelector('[aria-selected="true"]')?.focus();
    const chosen = panes.get(model.get("tab")) ?? panes.get(beside[0]);
    if (!chosen) return;
    for (const name of beside) drawn.get(panes.get(name).widget)?.toggleAttribute("hidden", panes.get(name) !== chosen);
    waiting.hidden = Boolean(chosen.widget);
    waiting.textContent = model.get("waiting") || (model.isSaved ? "The map was not drawn when this page was saved." : "");
    if (!chosen.widget) return;
    const here = await place(chosen.widget, shown, "wbe-pane");
    here.setAttribute("role", "tabpanel");
    here.setAttribute("aria-label", chosen.title);
  }

  // A feature of another SAE, beside what there is: nothing is left for it until it is followed.
  function drawPreview() {
    const { sae, feature, title, html } = model.get("preview");
    preview.hidden = feature == null;
    if (preview.hidden) return preview.replaceChildren();
    const page = node("div", { class: "wbe-previewed" });
    page.innerHTML = html; // escaped in Python, as a card is
    for (const each of page.querySelectorAll("summary")) each.setAttribute("data-lm-suppress-shortcuts", "true");
    preview.replaceChildren(node("div", { class: "wbp-bar" }, ...(html ? [] : [node("b", {}, title || `feature ${feature}`), node("span", { class: "wbp-faint" }, ` feature ${count(feature)} of ${sae}`)]), button(`Look through ${sae}`, () => model.send({ do: "follow" }), { class: "wbp-main" }), button("✕", () => model.send({ do: "leave" }), { class: "wbp-icon", "aria-label": "Close the preview" })), page);
  }

  // What stands on the left: asked for again, the ranking comes back. Its box, or its rows, are where one goes on.
  async function show(name) {
    const seen = model.get("left") === name ? "ranking" : name;
    change(model, { left: seen });
    await drawPanes();
    const here = LEFT[seen][1];
    for (let tries = 0; tries < 40 && seen !== "ranking" && !left.querySelector(here); tries++) await new Promise((resolve) => setTimeout(resolve, 25));
    (left.querySelector(here) ?? compared).focus();
  }

  function drawWays() {
    const [canBack, canForward] = model.get("can_go");
    const had = [back, forward].includes(el.getRootNode().activeElement);
    back.disabled = !canBack;
    forward.disabled = !canForward;
    if (had) rest(el.getRootNode().activeElement);
  }
  // The keys stay with the explorer: a button that rests has none, and the next Alt+← would be the browser's own, which leaves the page.
  const rest = (first) => [first, back, forward, seek.button].find((each) => !each.disabled).focus();

  // A box that is typed in is left first: what is in it is told, and then the answer may be written there.
  function go(way) {
    const active = el.getRootNode().activeElement;
    if (root.contains(active) && /^(INPUT|TEXTAREA)$/.test(active.tagName)) rest({ back, forward }[way]);
    model.send({ do: way });
  }
  root.addEventListener("keydown", (event) => {
    const isTyping = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName) && !["checkbox", "range"].includes(event.target.type);
    const hasModifier = event.ctrlKey || event.metaKey || event.altKey;
    const asked = Object.keys(LEFT).find((name) => LEFT[name][0] === event.key);
    const way = event.altKey && { ArrowLeft: "back", ArrowRight: "forward" }[event.key];
    if (way && !model.isSaved) (event.preventDefault(), event.stopPropagation(), go(way));
    else if (event.target.dataset.keys?.includes(event.key)) return; // which has a use of its own for it
    else if (event.key === "/" && !isTyping && !model.isSaved) (event.preventDefault(), seek.open());
    else if (asked && !isTyping && !hasModifier && !model.isSaved) (event.preventDefault(), asked === "ranking" && model.get("left") === asked ? null : show(asked));
    else if (event.key.toLowerCase() === "k" && !isTyping && !hasModifier && !model.isSaved) (event.preventDefault(), model.send({ do: "keep" }));
    else if (event.key === "?" && !isTyping) (event.preventDefault(), toggleKeys());
    else if (event.key === "Escape" && !keys.hidden) keys.hidden = true;
    else if (event.key === "Escape" && !preview.hidden && !isTyping) model.send({ do: "leave" });
  }, true);

  const keep = (content) => {
    if (!content.page) return;
    download(content.name, content.page, "text/html", root);
    said.textContent = `${content.name} saved`;
  };
  const die = () => (dead.hidden = false); // a view is drawn while its kernel lives: the only change to come is that it does not
  model.on("msg:custom", keep);
  model.on("comm_live_update", die);
  drawPanes();
  drawPreview();
  drawWays();
  const unwatch = watch(model, [
    [["panes", "tab", "waiting", "left"], drawPanes],
    [["preview"], drawPreview],
    [["can_go"], drawWays],
    [["notice"], () => (said.textContent = model.get("notice"))],
    [["offers"], seek.draw],
  ]);
  return () => {
    model.off("msg:custom", keep);
    model.off("comm_live_update", die);
    unwatch();
  };
}

// One box that opens anything: as one types, Python offers what it may mean; ↑ ↓ walk, Enter opens.
function opener(model, parent) {
  const id = `wbe-offers-${Math.random().toString(36).slice(2)}`; // two explorers may stand in one notebook
  const list = node("ul", { role: "listbox", id, "aria-label": "What it may mean" });
  const box = node("input", { type: "search", role: "combobox", "aria-label": "Open a feature", "aria-controls": id, "aria-expanded": "true", placeholder: "a feature’s number, words of its label, or a text", spellcheck: "false", autocomplete: "off" });
  const root = node("section", { class: "wbe-open", role: "dialog", "aria-label": "Open", hidden: true }, box, list);
  let [at, before, typing] = [0, null, null];
  const close = () => {
    root.hidden = true;
    if (before?.isConnected) before.focus();
  };
  const open = () => {
    before = parent.getRootNode().activeElement;
    root.hidden = false;
    box.select();
    box.focus();
    draw();
  };
  const take = (i) => {
    clearTimeout(typing);
    if (!box.value.trim()) return;
    model.send({ do: "open", typed: box.value, at: i });
    if (!(box.value === model.get("sought") && model.get("offers")[i]?.wrong)) close();
  };
  function draw() {
    const offers = box.value.trim() ? model.get("offers") : [];
    at = Math.min(at, Math.max(offers.length - 1, 0));
    list.replaceChildren(
      ...offers.map(({ feature, text, wrong }, i) => {
        const said = wrong ? [node("span", { class: "wbp-wrong" }, wrong)] : feature == null ? ["what is active on “", node("b", {}, text), "”"] : [node("b", {}, text || "no label"), node("span", { class: "wbp-faint" }, ` feature ${count(feature)}`)];
        const line = node("li", { role: "option", id: `${id}-${i}`, "aria-selected": String(i === at) }, ...said);
        line.onmousedown = (event) => (event.preventDefault(), take(i));
        return line;
      }),
    );
    if (offers.length) box.setAttribute("aria-activedescendant", `${id}-${at}`);
    else box.removeAttribute("aria-activedescendant");
  }
  box.oninput = () => {
    at = 0;
    clearTimeout(typing);
    typing = setTimeout(() => (change(model, { sought: box.value }), draw()), 100); // what was sought before is offered already
  };
  box.onkeydown = (event) => {
    const n = list.children.length;
    const to = { ArrowDown: at + 1, ArrowUp: at - 1 }[event.key];
    if (to != null && n) (event.preventDefault(), (at = (to + n) % n), draw());
    else if (event.key === "Enter") (event.preventDefault(), take(at));
    else if (event.key === "Escape") (event.preventDefault(), event.stopPropagation(), close());
  };
  box.onblur = () => setTimeout(() => root.contains(parent.getRootNode().activeElement) || (root.hidden = true), 100);
  return { root, open, draw, button: button("⌕", open, { class: "wbp-icon", "aria-label": "Open a feature", title: "open a feature by its number, its label, or a text (/)" }) };
}

export default { render };
