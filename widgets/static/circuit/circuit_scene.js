// A circuit's tables as arrays, what of them is shown, and where: tokens from left to right, layers from bottom to top. No drawing here.

const MOST_NODES = 1500; // drawn, of largest size
const MOST_DRAWN = 20000; // edges drawn, of largest |weight|
const [CELL_X, CELL_Y] = [2.1, 1]; // a node's place in its column, in units of the layout: wide, so that names fit between
const [GAP_X, GAP_Y] = [1.4, 1.7]; // between columns, between layers
const [NARROWEST, PER_CHAR] = [2, 0.42]; // a column: its token's name should fit
const MARGIN = { left: 66, right: 26, top: 30, bottom: 46 }; // pixels: names of layers and tokens stand there
const SMALLEST_RADIUS = 3;
const LARGEST_RADIUS = 13;

const clip = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

// The traits as arrays: what circuit_data (widgets/html/circuit.py) packed.
function unpack(model) {
  const nodes = model.get("nodes");
  const n = nodes.id?.length ?? 0;
  const bytes = model.get("edges");
  const n_edges = (bytes?.byteLength ?? 0) / 20;
  const buffer = n_edges ? bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) : new ArrayBuffer(0);
  const sources = new Int32Array(buffer, 0, n_edges);
  const targets = new Int32Array(buffer, 4 * n_edges, n_edges);
  const strengths = new Float64Array(buffer, 8 * n_edges, n_edges);
  const weights = new Float32Array(buffer, 16 * n_edges, n_edges);
  const kinds = nodes.kind ?? [];
  const sizes = strengths.map((value, e) => (isLeaf(kinds[targets[e]]) ? 0 : Math.abs(value)));
  const wanted = new Float64Array(n);
  for (const [i, share] of model.get("wanted") ?? []) wanted[i] = share;
  return { n, n_edges, nodes, kinds, sources, targets, strengths, weights, graph: { n, kinds, sources, targets, sizes, wanted }, row: new Map((nodes.id ?? []).map((id, i) => [id, i])) };
}

class CircuitScene {
  constructor(model) {
    this.model = model;
    this.isDark = false;
    [this.width, this.height, this.dpr] = [1, 1, 1]; // of the field, in the page's pixels
    this.hovered = -1;
    this.named = []; // what the last painting of the whole wrote: see placeNames
    this.read();
  }

  read() {
    this.data = unpack(this.model);
    const { n } = this.data;
    [this.px, this.py, this.radius] = [new Float32Array(n), new Float32Array(n), new Float32Array(n)]; // pixels of the page
    this.cut();
  }

  // --- what is shown
  cut() {
    const { data, model } = this;
    const pinned = new Uint8Array(data.n);
    for (const id of model.get("pinned") ?? []) if (data.row.has(id)) pinned[data.row.get(id)] = 1;
    this.pinned = pinned;
    const kept = cutGraph(data.graph, model.get("node_share"), model.get("edge_share"), pinned);
    this.influence = kept.influence;
    const { size } = data.nodes;
    const nodes = Array.from({ length: data.n }, (_, i) => i).filter((i) => kept.nodes[i]);
    const isFrame = (i) => ["token", "logit"].includes(data.kinds[i]) || pinned[i];
    this.n_kept = [nodes.length, kept.edges.reduce((sum, each) => sum + each, 0)];
    this.nodes = nodes.length <= MOST_NODES ? nodes : nodes.filter(isFrame).concat(nodes.filter((i) => !isFrame(i)).sort((i, j) => size[j] - size[i]).slice(0, MOST_NODES)).slice(0, MOST_NODES).sort((i, j) => i - j);
    this.isShown = new Uint8Array(data.n);
    for (const i of this.nodes) this.isShown[i] = 1;
    const edges = [];
    for (let e = 0; e < data.n_edges; e += 1) if (kept.edges[e] && data.weights[e] && this.isShown[data.sources[e]] && this.isShown[data.targets[e]]) edges.push(e);
    edges.sort((a, b) => Math.abs(data.weights[a]) - Math.abs(data.weights[b])); // the strongest on top
    this.edges = Int32Array.from(edges.slice(-MOST_DRAWN));
    this.heaviest = this.edges.length ? Math.abs(data.weights[this.edges[this.edges.length - 1]]) : 1;
    this.bySize = [...this.nodes].sort((i, j) => size[j] - size[i]);
    this.largest = Math.max(...this.nodes.filter((i) => data.kinds[i] !== "logit").map((i) => size[i] ?? 0), 1e-12);
    this.arrange();
  }

  // Edges of a node that are shown, the strongest first. ends: "sources" (what it goes to) or "targets" (what it comes from).
  edgesOf(rows, ends) {
    const mine = new Set(rows);
    const other = ends === "sources" ? "targets" : "sources";
    return Array.from(this.edges).filter((e) => mine.has(this.data[ends][e]) && !mine.has(this.data[other][e])).reverse();
  }

  // --- where it stands: columns as wide as their fullest cell needs, which grows to a block rather than to a line
  arrange() {
    const { pos, layer } = this.data.nodes;
    const cells = new Map();
    for (const i of this.nodes) {
      const key = `${layer[i]} ${pos[i]}`;
      if (!cells.has(key)) cells.set(key, []);
      cells.get(key).push(i);
    }
    this.layers = [...new Set(this.nodes.map((i) => layer[i]))].sort((a, b) => a - b);
    const n_columns = Math.max(this.model.get("tokens")?.length ?? 0, ...this.nodes.map((i) => pos[i] + 1), 1);
    const first = Math.min(...this.nodes.map((i) => pos[i]), n_columns - 1);
    const fullest = new Int32Array(n_columns);
    for (const [key, mine] of cells) fullest[key.split(" ")[1]] = Math.max(fullest[key.split(" ")[1]], mine.length);
    const slots = Array.from(fullest, (count) => Math.max(1, Math.min(count, Math.max(6, Math.ceil(Math.sqrt(2 * count))))));
    this.columns = []; // {pos, x, width}
    let x = 0;
    for (let p = first; p < n_columns; p += 1) {
      const text = Math.min((this.model.get("tokens")[p] ?? "").length, 12);
      const width = Math.max(NARROWEST, text * PER_CHAR, fullest[p] > 1 ? slots[p] * CELL_X + GAP_X : 0);
      this.columns.push({ pos: p, x: x + width / 2, width });
      x += width;
    }
    const columnAt = new Map(this.columns.map((column) => [column.pos, column]));
    this.rows = []; // {layer, y}, y upward
    let y = 0;
    [this.x, this.y] = [new Float32Array(this.data.n), new Float32Array(this.data.n)];
    for (const each of this.layers) {
      const depth = Math.max(...[...cells].filter(([key]) => Number(key.split(" ")[0]) === each).map(([key, mine]) => Math.ceil(mine.length / slots[key.split(" ")[1]])));
      this.rows.push({ layer: each, y: y + (depth * CELL_Y) / 2 });
      for (const [key, mine] of cells) {
        const [l, p] = key.split(" ").map(Number);
        if (l !== each) continue;
        const lines = Math.ceil(mine.length / slots[p]);
        mine.forEach((i, k) => {
          const line = Math.floor(k / slots[p]);
          const inLine = Math.min(slots[p], mine.length - line * slots[p]);
          this.x[i] = columnAt.get(p).x + CELL_X * ((k % slots[p]) - (inLine - 1) / 2);
          this.y[i] = y + (depth * CELL_Y) / 2 + CELL_Y * ((lines - 1) / 2 - line);
        });
      }
      y += depth * CELL_Y + GAP_Y;
    }
    this.extent = [Math.max(x, 1), Math.max(y - GAP_Y, 1)];
  }

  // Pixels to a unit at zoom 1, across and up: the whole fits into the field.
  get units() {
    const across = (this.width - MARGIN.left - MARGIN.right) / this.extent[0];
    const up = (this.height - MARGIN.top - MARGIN.bottom) / this.extent[1];
    return [Math.min(Math.max(across, 1), 40), Math.min(Math.max(up, 1), 60)];
  }

  // [middle x, middle y, zoom]; without one, or with the default, the whole.
  get look() {
    const view = this.model.get("view");
    return view?.length === 3 ? view : [this.extent[0] / 2, this.extent[1] / 2, 1];
  }

  toPixels(x, y) {
    const [cx, cy, zoom] = this.look;
    const [ux, uy] = this.units;
    const middle = [(MARGIN.left + this.width - MARGIN.right) / 2, (MARGIN.top + this.height - MARGIN.bottom) / 2];
    return [middle[0] + (x - cx) * ux * zoom, middle[1] - (y - cy) * uy * zoom];
  }

  place() {
    const [ux, uy] = this.units;
    const room = Math.min(CELL_X * ux, CELL_Y * uy) * this.look[2];
    const most = Math.min(Math.max(0.47 * room, 1.5), LARGEST_RADIUS);
    const least = Math.min(SMALLEST_RADIUS, most);
    for (const i of this.nodes) {
      [this.px[i], this.py[i]] = this.toPixels(this.x[i], this.y[i]);
      this.radius[i] = least + (most - least) * Math.sqrt(Math.min((this.data.nodes.size[i] ?? 0) / this.largest, 1));
    }
  }

  // --- what is chosen
  selected() {
    return this.data.row.get(this.model.get("node")) ?? -1;
  }

  // The rows that are meant: a group's members, else the selected node.
  chosen() {
    const group = (this.model.get("groups") ?? {})[this.model.get("group")];
    if (group) return group.map((id) => this.data.row.get(id)).filter((i) => i != null);
    return this.selected() >= 0 ? [this.selected()] : [];
  }

  matches(text) {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    if (!words.length) return null;
    const { label, token, feature, kind, id } = this.data.nodes;
    const groups = Object.entries(this.model.get("groups") ?? {});
    const fits = (i) => {
      const inGroups = groups.filter(([, members]) => members.includes(id[i])).map(([name]) => name);
      const said = [label[i], token[i], kind[i], ...inGroups].join(" ").toLowerCase();
      return words.every((word) => said.includes(word) || String(feature[i]) === word);
    };
    const hidden = Array.from(this.isShown).filter((isShown, i) => !isShown && fits(i)).length;
    return Object.assign(this.bySize.filter(fits), { hidden });
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
    if (kind[i] === "token") return `the token “${token[i]}” (${pos[i]})`;
    if (kind[i] === "logit") return `the logit of “${token[i]}”`;
    const what = kind[i] === "error" ? label[i] || "what the dictionary does not explain" : `feature ${feature[i]}${label[i] ? ` (${label[i]})` : ""}`;
    return `${what} at “${token[i]}” (${pos[i]}), layer ${layer[i]}`;
  }

  // What stands beside a node in the picture.
  name(i) {
    const { kind, label, feature, token } = this.data.nodes;
    if (kind[i] === "token") return "";
    if (kind[i] === "logit") return token[i];
    if (kind[i] === "error") return "";
    return clip(label[i].replace(/ \d?\.?\d+$/, "") || `${feature[i]}`, 22);
  }
}
