// What of a circuit is in the picture, what is chosen of it, and its words. No drawing here. A row of the picture is a row of the nodes' table;
// collapsed groups are further rows below them.

const MOST_NODES = 1500; // drawn, of largest size
const MOST_DRAWN = 20000; // edges drawn, of largest |weight|

class CircuitScene extends Layout {
  constructor(model) {
    super();
    this.model = model;
    this.isDark = false;
    [this.width, this.height, this.dpr] = [1, 1, 1]; // of the field, in the page's pixels
    this.hovered = -1;
    this.named = []; // what the last painting of the whole wrote: see placeNames
    this.looks = new Map(); // how a node of one kind, color and size looks, in pixels: see stampNodes
  }

  read() {
    this.data = unpack(this.model);
    this.table = this.data.nodes; // without the rows of groups
  }

  // --- what is shown
  cut() {
    const { data, model } = this;
    const pinned = new Uint8Array(data.n);
    for (const id of model.get("pinned") ?? []) if (data.row.has(id)) pinned[data.row.get(id)] = 1;
    const kept = cutGraph(data.graph, model.get("node_share"), model.get("edge_share"), pinned);
    this.kept = kept.nodes;
    this.n_kept = [kept.nodes, kept.edges].map((each) => each.reduce((sum, isKept) => sum + isKept, 0));
    this.collapse(kept, pinned);
    const { size } = data.nodes;
    const nodes = Array.from(this.px.keys()).filter((i) => i >= data.n || (kept.nodes[i] && this.end[i] === i));
    this.bySize = [...nodes].sort((i, j) => size[j] - size[i]);
    if (nodes.length > MOST_NODES) {
      const isFrame = (i) => ["token", "logit"].includes(data.nodes.kind[i]) || this.pinned[i];
      this.bySize = [...nodes.filter(isFrame), ...this.bySize.filter((i) => !isFrame(i))].slice(0, MOST_NODES).sort((i, j) => size[j] - size[i]);
    }
    this.isShown = new Uint8Array(this.px.length);
    for (const i of this.bySize) this.isShown[i] = 1;
    this.nodes = nodes.filter((i) => this.isShown[i]);
    this.links = linksOf(data, kept.edges, this.isShown, this.end, MOST_DRAWN);
    this.heaviest = this.links.n ? Math.abs(this.links.weights[this.links.n - 1]) : 1;
    this.largest = this.nodes.reduce((most, i) => (data.nodes.kind[i] === "logit" ? most : Math.max(most, size[i] ?? 0)), 1e-12);
    this.arrange();
  }

  // The tables with the collapsed groups' rows below.
  collapse(kept, pinned) {
    const { data, table } = this;
    const { end, groups } = collapse(data, kept.nodes, this.model);
    const influence = influenceOfGroups(data, end, groups.length);
    const isByInfluence = this.model.get("about")?.sized_by === "influence";
    const own = {
      id: (group) => `group ${group.name}`, kind: () => "group", label: (group) => visible(group.name), effect: (group) => group.effect,
      activation: () => null, attribution: () => null, feature: () => -1, size: (group, k) => (isByInfluence ? influence[k] : Math.abs(group.effect)),
    };
    data.nodes = Object.fromEntries(Object.entries(table).map(([name, values]) => [name, groups.length ? [...values, ...groups.map((group, k) => (own[name] ? own[name](group, k) : values[group.top]))] : values]));
    const n = data.n + groups.length;
    [this.end, this.groups] = [end, groups];
    this.groupRow = new Map(groups.map(({ name }, k) => [name, data.n + k]));
    this.influence = Float64Array.from({ length: n }, (_, i) => (i < data.n ? kept.influence[i] : influence[i - data.n]));
    this.pinned = Uint8Array.from({ length: n }, (_, i) => Number(this.membersAt(i).some((row) => pinned[row])));
    for (const name of ["x", "y", "px", "py", "radius"]) this[name] = new Float32Array(n);
  }

  // The nodes that a row of the picture stands for.
  membersAt(i) {
    return i < this.data.n ? [i] : this.groups[i - this.data.n].members;
  }

  // Is a node in the picture, by itself or in a collapsed group?
  isDrawn(i) {
    return Boolean(this.end[i] === i ? this.isShown[i] : this.kept[i] && this.isShown[this.end[i]]);
  }

  // Edges of some rows that are shown, the strongest first. ends: "sources" (what they go to) or "targets" (what they come from).
  edgesOf(rows, ends) {
    const mine = new Set(rows);
    const { links } = this;
    const other = links[ends === "sources" ? "targets" : "sources"];
    const { begins, edges } = (links[`by_${ends}`] ??= byEnd(this.px.length, links[ends]));
    const found = [...mine].flatMap((i) => Array.from(edges.subarray(begins[i], begins[i + 1])));
    return found.filter((e) => !mine.has(other[e])).sort((a, b) => b - a);
  }

  // --- what is chosen
  // The one row of the picture that is: a node's, or a collapsed group's.
  selected() {
    if (this.model.get("group")) return this.groupRow.get(this.model.get("group")) ?? -1;
    const i = this.data.row.get(this.model.get("node"));
    return i == null ? -1 : this.end[i];
  }

  // The nodes that are meant: a group's members, else the selected node.
  meant() {
    const ids = (this.model.get("groups") ?? {})[this.model.get("group")] ?? [this.model.get("node")];
    return ids.map((id) => this.data.row.get(id)).filter((i) => i != null);
  }

  // The rows of the picture that stand for them.
  chosen() {
    return [...new Set(this.meant().map((i) => this.end[i]))];
  }

  // The group that is chosen, or that the chosen node is in.
  groupChosen() {
    const id = this.model.get("node");
    return this.model.get("group") || (id && Object.entries(this.model.get("groups") ?? {}).find(([, members]) => members.includes(id))?.[0]) || "";
  }

  matches(text) {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    if (!words.length) return null;
    const { label, token, feature, kind, id } = this.table;
    const named = new Map();
    for (const [name, members] of Object.entries(this.model.get("groups") ?? {})) for (const each of members) named.set(each, `${named.get(each) ?? ""} ${name}`);
    const fits = (i) => {
      const said = `${label[i]} ${token[i]} ${kind[i]}${named.get(id[i]) ?? ""}`.toLowerCase();
      return words.every((word) => said.includes(word) || String(feature[i]) === word);
    };
    const found = Array.from(this.end.keys()).filter(fits);
    const rows = new Set(found.map((i) => this.end[i]));
    return Object.assign(this.bySize.filter((i) => rows.has(i)), { hidden: found.filter((i) => !this.isDrawn(i)).length });
  }

  nearest(x, y, reach) {
    let [best, least] = [-1, Infinity];
    for (const i of this.nodes) {
      const away = Math.hypot(this.px[i] - x, this.py[i] - y) - this.radius[i];
      if (away < reach && away < least) [best, least] = [i, away];
    }
    return best;
  }

  // The next node in a direction: along the layer, or the nearest one of the next layer that has any.
  toward(from, dx, dy) {
    const { layer } = this.data.nodes;
    if (dx) {
      const line = this.nodes.filter((i) => layer[i] === layer[from]).sort((i, j) => this.x[i] - this.x[j] || this.y[j] - this.y[i]);
      return line[line.indexOf(from) + dx] ?? -1;
    }
    const there = this.layers[this.layers.indexOf(layer[from]) - dy];
    return this.nodes.filter((i) => layer[i] === there).sort((i, j) => Math.abs(this.x[i] - this.x[from]) - Math.abs(this.x[j] - this.x[from]))[0] ?? -1;
  }

  // --- words
  value(i) {
    const { effect, attribution } = this.data.nodes;
    return effect[i] ?? attribution[i];
  }

  // As node_words in widgets/figures/circuit.py, without the effect.
  words(i) {
    const { kind, label, feature, token, pos, layer } = this.data.nodes;
    if (kind[i] === "group") return `${label[i]}, a group of ${several(this.membersAt(i).length, "node")}`;
    if (kind[i] === "token") return `the token “${token[i]}” (${pos[i]})`;
    if (kind[i] === "logit") return `the logit of “${token[i]}”`;
    const what = kind[i] === "error" ? label[i] || "what the dictionary does not explain" : `feature ${feature[i]}${label[i] ? ` (${label[i]})` : ""}`;
    return `${what} at “${token[i]}” (${pos[i]}), layer ${layer[i]}`;
  }

  // What stands beside a node in the picture.
  name(i) {
    const { kind, label, feature, token } = this.data.nodes;
    if (kind[i] === "logit") return token[i];
    if (kind[i] === "token" || kind[i] === "error") return "";
    return clip(label[i].replace(/ \d?\.?\d+$/, "") || `${feature[i]}`, 22);
  }
}
