// Draws the selected feature's page (`html`, then `rest`, made and escaped by widgets/html/card.py), and round it: a label to set, a text of one's own
// for the feature to read, copies. A link #123 in the page selects feature 123. Python answers `feature` and `text`; "label" is asked for by message.

function render({ model, el }) {
  const root = node("div", { class: "wbp wbk" });
  const name = node("input", { "aria-label": "Label of this feature", placeholder: "call it something", spellcheck: "false" });
  const drafts = new Map(); // feature → a label that is typed and not set yet: it waits for its feature
  let named = null; // the feature whose label is in the box
  const save = button("Set label", () => {
    drafts.delete(named);
    model.send({ do: "label", text: name.value, feature: named });
  });
  const keep = button("☆", () => model.send({ do: "keep" }), { class: "wbp-icon" });
  const copied = node("span", { class: "wbp-faint", role: "status" });
  const copy = (text, what) => copyText(text, root).then(() => say(`${what} copied`));
  // The rest stands in the element that holds the first parts.
  const whole = button("Copy HTML", () => copy(model.get("html").replace(/<\/div>$/, () => `${model.get("rest")}</div>`), "HTML"));
  const json = button("Copy JSON", () => copy(JSON.stringify(JSON.parse(model.get("facts")), null, 1), "JSON"));
  const undo = button("Undo", () => model.send({ do: "unlabel" }), { title: "take back the last label that you gave this feature" });
  const mine = node("span", { class: "wbp-faint" });
  const carry = button("Export", () => model.send({ do: "export" }), { title: "your labels, of all SAEs, as a file to keep or share" });
  const file = node("input", { type: "file", accept: ".json,application/json", class: "wbp-hidden", tabindex: -1, "aria-label": "File of labels" });
  const bring = button("Import …", () => file.click(), { title: "lays the labels of such a file over these" });
  file.onchange = async () => {
    const [chosen] = file.files;
    file.value = "";
    if (chosen) model.send({ do: "import", text: await chosen.text() });
  };
  const owned = node("details", { class: "wbk-own" }, node("summary", {}, "more"), mine, node("div", { class: "wbp-bar" }, carry, bring, file, whole, json));
  const tools = node(
    "div",
    { class: "wbk-tools" },
    name,
    save,
    undo,
    keep,
    owned,
    node("span", { class: "wbp-push" }, copied),
  );
  const page = node("div", { class: "wbk-page" });
  const weaker = node("details", {}, node("summary", { "data-lm-suppress-shortcuts": "true" }, "From strong to weak"), node("div"));
  const text = node("input", { "aria-label": "Try your own text", placeholder: "your own text: where is it active?", spellcheck: "false" });
  const tried = node("div", { class: "wbk-tried", "aria-live": "polite" });
  const trying = node("div", { class: "wbk-try" }, text, tried);
  const empty = node("p", { class: "wbp-faint" });
  root.append(empty, tools, trying, page);
  el.append(root);

  let drawn = ""; // parsing a page takes longer than all else here
  let tall = 0; // the page with its rest, in pixels
  const ruler = new ResizeObserver(() => page.style.minHeight || (tall = page.offsetHeight));
  ruler.observe(page);
  let saying;
  const say = (words) => {
    copied.textContent = words;
    clearTimeout(saying);
    saying = setTimeout(() => (copied.textContent = ""), 2500);
  };

  // JupyterLab takes no key while one of these has the focus.
  function keysAreTheirs(of) {
    for (const each of of.querySelectorAll('a[href^="#"], summary')) each.setAttribute("data-lm-suppress-shortcuts", "true");
  }

  function drawPage() {
    const html = model.get("html");
    page.hidden = !html;
    for (const part of [trying, tools]) part.hidden = !html && !(model.get("is_there") && model.get("problem") && !model.isSaved); // without a page, too, a feature has a name and reads a text
    const isReading = ["waiting", "running"].includes(model.get("progress").stage);
    const failed = model.get("progress").stage === "failed" ? model.get("progress").message : "";
    empty.hidden = Boolean(html) && !model.get("problem");
    empty.textContent = model.get("problem") || failed || (isReading ? "reading the example texts: some seconds, the first time …" : "Choose a feature: in the ranking, on the map, in a search.");
    if (html !== drawn) {
      showPage((drawn = html));
      askForWeaker();
    }
    fillName();
    json.hidden = !model.get("facts"); // a saved file has that of one feature only
    whole.hidden = !model.get("rest") && !model.isSaved;
    if (model.get("problem")) page.style.minHeight = ""; // no rest will come
    const { n = 0, path = "", is_shown = false } = model.get("own");
    for (const each of [name, save, carry, bring]) each.hidden = Boolean(model.isSaved);
    const isKept = model.get("is_kept");
    keep.hidden = isKept == null || Boolean(model.isSaved);
    keep.textContent = isKept ? "★" : "☆";
    keep.setAttribute("aria-label", isKept ? "In your list" : "Keep");
    keep.title = isKept ? "it is in your list: see it there (K)" : "keep this feature in your list, with a note (K)";
    undo.hidden = !is_shown || Boolean(model.isSaved);
    mine.textContent = model.isSaved ? "" : `${several(n, "label")} of yours for this SAE, in ${path}: they stand over the index's, which stays as it is.`;
  }

  // What fills the screen is painted first. The rest is most of a page, and its texts are read for it alone: it is asked for then.
  function showPage(html) {
    page.style.minHeight = `${tall}px`; // else who has scrolled down loses the place meanwhile
    page.innerHTML = html; // escaped in Python: everything from texts, tokens and labels is text in it
    keysAreTheirs(page);
    if (html && !model.isSaved) page.append(weaker); // a saved file has the whole page, and has it at once
    drawRest();
  }

  let rest = []; // the nodes of it
  let drawnRest = "";
  let isAsking = false;
  function drawRest() {
    const html = model.get("rest");
    if (!html) return askForRest();
    whole.hidden = false;
    if (html === drawnRest && rest[0]?.isConnected) return; // a label was given that is not on it: who is reading or selecting goes on
    drawnRest = html;
    for (const each of rest) each.remove();
    const made = document.createElement("template");
    made.innerHTML = html; // escaped, as the page is
    keysAreTheirs(made.content);
    rest = [...made.content.childNodes];
    page.firstElementChild?.append(...rest);
    page.style.minHeight = "";
  }

  function askForRest() {
    if (isAsking || model.isSaved || !model.get("html")) return;
    isAsking = true;
    const ask = () => {
      isAsking = false;
      if (!model.get("rest")) model.send({ do: "rest" });
    };
    requestAnimationFrame(() => setTimeout(ask));
  }

  // The weaker examples are a third of a page and mostly folded away: they come when they are looked at.
  const askForWeaker = () => weaker.open && weaker.isConnected && !model.get("weaker") && model.send({ do: "weaker" });
  weaker.ontoggle = askForWeaker;

  function drawWeaker() {
    weaker.lastChild.innerHTML = model.get("weaker"); // escaped, as the page is
    keysAreTheirs(weaker);
    if (model.get("html") === drawn) askForWeaker(); // a label was given, and they were taken back
  }

  function drawTried() {
    const { tokens, values, scale, max, message } = model.get("tried");
    if (message) return tried.replaceChildren(node("span", { class: "wbp-wrong" }, message));
    if (!tokens) return tried.replaceChildren();
    const found = max > 0 ? `largest activation ${number(max, false, scale)}` : "not active in this text";
    tried.replaceChildren(node("p", { class: "wbp-text" }, ...shaded(tokens, values, scale)), node("div", { class: "wbp-faint" }, found));
  }

  page.onclick = (event) => {
    const link = event.target.closest('a[href^="#"]');
    if (!link) return;
    event.preventDefault();
    change(model, { feature: Number(link.getAttribute("href").slice(1)) });
  };
  let typing;
  const ask = () => {
    clearTimeout(typing);
    if (text.value !== model.get("text")) change(model, { text: text.value });
  };
  text.oninput = () => {
    clearTimeout(typing);
    typing = setTimeout(ask, 200);
  };
  text.onchange = ask;
  name.onkeydown = (event) => {
    if (event.key === "Enter") save.click();
  };
  name.oninput = () => drafts.set(named, name.value);
  const fillName = filled(name, () => {
    named = model.get("feature");
    return drafts.get(named) ?? model.get("title");
  });
  const fillText = filled(text, () => model.get("text"));
  fillText();
  text.disabled = Boolean(model.isSaved);
  drawPage();
  drawTried();
  const unwatch = watch(model, [
    [["html", "problem", "own", "progress", "title", "facts", "is_kept"], drawPage],
    [["rest"], drawRest],
    [["exported"], () => download("labels.json", model.get("exported").text, "application/json", root)],
    [["weaker"], drawWeaker],
    [["tried"], drawTried],
    [["text"], fillText],
  ]);
  return () => (unwatch(), ruler.disconnect());
}

export default { render };
