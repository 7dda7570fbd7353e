// Answers the circuit (circuit.js) in a saved page: the selection of the other panes is a feature of one SAE, that of the circuit a node. `pages`:
// of some nodes the page, by name.

export function answer(model, { pages }) {
  const nodes = model.get("nodes");
  let [node, feature] = [model.get("node"), model.get("feature")];
  const isOwn = (i) => i >= 0 && nodes.kind[i] === "feature" && (!model.get("home") || model.get("hook_names")[nodes.hook[i]] === model.get("home"));
  const follow = () => {
    if (!nodes.id) return;
    if (model.get("node") !== node) {
      node = model.get("node");
      const i = nodes.id.indexOf(node);
      if (isOwn(i)) model.set("feature", (feature = nodes.feature[i]));
    } else if (model.get("feature") !== feature) {
      feature = model.get("feature");
      const rows = nodes.id.map((_, i) => i).filter((i) => isOwn(i) && nodes.feature[i] === feature);
      const [largest] = rows.sort((i, j) => nodes.size[j] - nodes.size[i]);
      node = largest == null ? "" : nodes.id[largest];
      model.set("group", "");
      model.set("node", node);
    }
    model.set("page", pages[node] ? { html: pages[node] } : { says: "This file does not hold its page." });
  };
  model.on("saved", follow);
}
