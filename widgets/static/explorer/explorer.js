// Draws the panes on one screen: the question above, the ranking beside one of the others, chosen by a tab; and takes the state away, as
// code, JSON or a file. The panes draw themselves; what they share is the selection, which Python (or page.js) hands on.

const BESIDE = ["card", "finder", "steering", "map", "attention"];

async function render({ model, el, host, signal }) {
  const root = node("div", { class: "wbp wbe" });
  const [top, left, right] = ["wbe-top", "wbe-left", "wbe-right"].map((name) => node("section", { class: name }));
  const tabs = node("div", { class: "wbe-tabs", role: "tablist", "aria-label": "Beside the ranking" });
  const shown = node("div", { class: "wbe-shown" });
  const waiting = node("p", { class: "wbp-faint", role: "status" });
  const said = node("span", { class: "wbp-faint", role: "status" });
  const copy = (name, what) => copyText(model.get(name), root).then(() => (said.textContent = `${what} copied`));
  const foot = node(
    "footer",
    { class: "wbe-foot" },
    button("Copy as Python", () => copy("code", "Python"), { title: "code that makes this view again" }),
    button("Copy as JSON", () => copy("facts", "JSON"), { title: "the state: explorer.restore(…) takes it" }),
    model.isSaved ? null : button("Save as HTML", () => model.send({ do: "save" }), { title: "one file that opens offline" }),
    said,
  );
  right.append(tabs, waiting, shown);
  const dead = node("p", { class: "wbp-wrong", role: "alert", hidden: true }, "The kernel that computed for this view is gone: run the cell again.");
  root.append(dead, top, node("div", { class: "wbe-middle" }, left, right), foot);
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
    for (const [name, parent] of [["prompt", top], ["ranking", left]]) if (panes.has(name)) place(panes.get(name).widget, parent, "");
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

  const keep = (content) => {
    if (!content.page) return;
    download(content.name, content.page, "text/html", root);
    said.textContent = `${content.name} saved`;
  };
  const die = () => (dead.hidden = false); // a view is drawn while its kernel lives: the only change to come is that it does not
  model.on("msg:custom", keep);
  model.on("comm_live_update", die);
  drawPanes();
  const unwatch = watch(model, [[["panes", "tab", "waiting"], drawPanes]]);
  return () => {
    model.off("msg:custom", keep);
    model.off("comm_live_update", die);
    unwatch();
  };
}

// A pane that was made a moment ago may not be known to the page yet.
async function arrived(host, reference, el, signal) {
  for (let tries = 0; ; tries++) {
    try {
      const widget = await host.getWidget(reference);
      return await widget.render({ el, signal });
    } catch (error) {
      if (tries >= 40) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

export default { render };
