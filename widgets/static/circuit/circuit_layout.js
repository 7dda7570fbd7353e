// Where the nodes of a scene stand: tokens from left to right, layers from bottom to top; in units of the layout, then in pixels.

const [CELL_X, CELL_Y] = [2.1, 1]; // a node's place in its column, in units of the layout: wide, so that names fit between
const [GAP_X, GAP_Y] = [1.4, 1.7]; // between columns, between layers
const [NARROWEST, PER_CHAR] = [2, 0.42]; // a column: its token's name should fit
const MARGIN = { left: 66, right: 26, top: 30, bottom: 46 }; // pixels: names of layers and tokens stand there
const SMALLEST_RADIUS = 3;
const LARGEST_RADIUS = 13;

const clip = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

// Columns as wide as their fullest cell needs, which grows to a block rather than to a line.
class Layout {
  arrange() {
    const { pos, layer } = this.data.nodes;
    const cells = new Map(); // layer → pos → rows
    for (const i of this.nodes) {
      if (!cells.has(layer[i])) cells.set(layer[i], new Map());
      const line = cells.get(layer[i]);
      if (!line.has(pos[i])) line.set(pos[i], []);
      line.get(pos[i]).push(i);
    }
    this.layers = [...cells.keys()].sort((a, b) => a - b);
    const tokens = this.model.get("tokens") ?? [];
    const n_columns = this.nodes.reduce((most, i) => Math.max(most, pos[i] + 1), Math.max(tokens.length, 1));
    const first = this.nodes.reduce((least, i) => Math.min(least, pos[i]), n_columns - 1);
    const fullest = new Int32Array(n_columns);
    for (const line of cells.values()) for (const [p, mine] of line) fullest[p] = Math.max(fullest[p], mine.length);
    const slots = Array.from(fullest, (count) => Math.max(1, Math.min(count, Math.max(6, Math.ceil(Math.sqrt(2 * count))))));
    const columnAt = new Map();
    let x = 0;
    for (let p = first; p < n_columns; p += 1) {
      const text = Math.min((tokens[p] ?? "").length, 12);
      const width = Math.max(NARROWEST, text * PER_CHAR, fullest[p] > 1 ? slots[p] * CELL_X + GAP_X : 0);
      columnAt.set(p, { pos: p, x: x + width / 2, width });
      x += width;
    }
    this.columns = [...columnAt.values()];
    this.rows = []; // {layer, y}, y upward
    let y = 0;
    for (const each of this.layers) {
      const line = [...cells.get(each)];
      const depth = Math.max(...line.map(([p, mine]) => Math.ceil(mine.length / slots[p])));
      const middle = y + (depth * CELL_Y) / 2;
      this.rows.push({ layer: each, y: middle });
      for (const [p, mine] of line) this.#fill(mine, columnAt.get(p).x, middle, slots[p]);
      y += depth * CELL_Y + GAP_Y;
    }
    this.extent = [Math.max(x, 1), Math.max(y - GAP_Y, 1)];
  }

  // One cell, around its middle, in lines of so many nodes at most.
  #fill(mine, x, y, slots) {
    const n_lines = Math.ceil(mine.length / slots);
    mine.forEach((i, k) => {
      const line = Math.floor(k / slots);
      const inLine = Math.min(slots, mine.length - line * slots);
      this.x[i] = x + CELL_X * ((k % slots) - (inLine - 1) / 2);
      this.y[i] = y + CELL_Y * ((n_lines - 1) / 2 - line);
    });
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
}
