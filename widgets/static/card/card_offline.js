// Answers the card (card.js) in a saved page: it holds the pages of some features, by number.

export function answer(model, { pages }) {
  const show = () => {
    const feature = model.get("feature");
    const { html = "", title = "", facts = "" } = pages[feature] ?? {};
    model.set("problem", html || feature == null ? "" : `This file holds the pages of ${Object.keys(pages).length} features; that of feature ${feature} is not among them.`);
    model.set("title", title);
    model.set("facts", facts);
    model.set("rest", "");
    model.set("html", html); // the whole page
  };
  model.on("saved", show);
  show();
}
