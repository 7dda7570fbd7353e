// A map's points as they are now: which are shown, in which color, where on the field, which of them is meant by a place or a direction.
// No drawing here, and nothing of the page: map_canvas.js draws it, map_words.js says it, map_hand.js moves it.

const STRONG = 225; // opacity of 255
const FAINT = { light: 60, dark: 70 }; // of what does not match
const N_POINT_NAMES = 400; // with fewer points in view, the points are named instead of the clusters

const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

class Scene {
  constructor(model) {
    this.model = model;
    this.read();
    const n = this.data.n;
    this.base = shuffled(n);
    this.order = this.base; // in which the points are drawn
    this.sorted = new Uint32Array(n);
    this.colors = new Uint32Array(n);
    this.isShown = new Uint8Array(n); // 0: its dictionary is hidden
    this.isStrong = new Uint8Array(n); // 0: it does not match, lies outside of the lasso or has no score
    [this.px, this.py] = [new Float32Array(n), new Float32Array(n)];
    this.isDark = false;
    [this.width, this.height, this.dpr] = [0, 0, 1]; // of the canvas, in its own pixels, and how many of these a pixel of the page has
    this.hovered = -1;
    this.line = []; // of a lasso that is being drawn
  }

  read() {
    this.data = decode(this.model);
  }

  // --- names
  label = (i) => this.data.texts[this.data.labels[i]] ?? "";
  saeName = (i) => this.model.get("sae_names")[this.data.saes[i]];
  featureName = (i) => `feature ${count(this.data.features[i])}`;
  named = (i) => `${this.label(i) ? `${this.label(i)}, ` : ""}${this.featureName(i)} of ${this.saeName(i)}`;

  // Which labels have every word; .number: the feature that is meant. null: everything.
  matching(text) {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    if (!words.length) return null;
    const found = this.data.texts.map((each) => words.every((word) => each.toLowerCase().includes(word)));
    return Object.assign(found, { number: /^\d+$/.test(text.trim()) ? Number(text) : -1 });
  }

  // The points that a search means, in the order of drawing.
  found(text) {
    const matches = this.matching(text);
    return matches ? this.order.filter((i) => matches[this.data.labels[i]] || this.data.features[i] === matches.number) : [];
  }

  // The same as a list: those of the dictionary first that was selected when the search began, by label and number.
  listed(text) {
    if (this.sought?.text !== text) this.sought = { text, own: this.model.get("sae_names").indexOf(this.model.get("sae_name")) };
    const { own } = this.sought;
    const isAway = (i) => (this.data.saes[i] === own ? 0 : 1 + this.data.saes[i]);
    return [...this.found(text)].filter((i) => this.isShown[i]).sort((i, j) => isAway(i) - isAway(j) || this.label(i).localeCompare(this.label(j), "en") || this.data.features[i] - this.data.features[j]);
  }

  // The ranking's points, where they are ringed.
  get ringed() {
    return this.model.get("is_ringed") ? this.model.get("ranked").filter((i) => i < this.data.n && this.isShown[i]) : [];
  }

  // --- colors: faint points are drawn first
  get stops() {
    return RAMPS[this.isDark ? "dark" : "light"];
  }

  // The scale of what the points are colored by; null: it has none.
  get scale() {
    return this.data.scales[this.model.get("color_by")] ?? null;
  }

  tint(by) {
    const { data, scale } = this;
    const palette = PALETTE.map((rgb) => packed(rgb, STRONG));
    const gray = packed(GRAY, STRONG);
    if (by === "dictionary") return (i) => palette[data.saes[i] % palette.length];
    if (by === "label") return (i) => (data.isNamed[data.labels[i]] ? palette[1] : gray);
    const shades = Array.from({ length: N_SHADES }, (_, i) => packed(ramp(this.stops, i / (N_SHADES - 1)), STRONG));
    return (i) => (scale.steps[i] === UNKNOWN ? gray : shades[scale.steps[i]]);
  }

  // Gives every point its color and its place in the order; returns how many stand out, or null where nothing is singled out.
  recolor() {
    const { model, data, base, sorted, colors, isShown, isStrong } = this;
    const by = model.get("color_by");
    const hidden = new Set(model.get("hidden"));
    const shows = model.get("sae_names").map((name) => !hidden.has(name));
    const matches = this.matching(model.get("query"));
    const lassoed = model.get("lassoed").length ? new Uint8Array(data.n) : null;
    if (lassoed) for (const i of model.get("lassoed")) lassoed[i] = 1;
    const gray = packed(GRAY, STRONG);
    const faded = packed(GRAY, FAINT[this.isDark ? "dark" : "light"]);
    const tint = this.tint(by);
    let n_faint = 0;
    let n_strong = 0; // faint points fill `sorted` from the front, the others from its end
    for (let k = 0; k < data.n; k += 1) {
      const i = base[k];
      isShown[i] = shows[data.saes[i]] ? 1 : 0;
      if (!isShown[i]) continue;
      const shade = tint(i);
      const isOut = (matches && !matches[data.labels[i]] && data.features[i] !== matches.number) || (lassoed && !lassoed[i]) || (by in data.scores && shade === gray);
      colors[i] = isOut ? faded : shade;
      isStrong[i] = isOut ? 0 : 1;
      if (isOut) sorted[n_faint++] = i;
      else sorted[data.n - ++n_strong] = i;
    }
    const strong = sorted.subarray(data.n - n_strong);
    if (by in data.scores) strong.sort((i, j) => data.scores[by][i] - data.scores[by][j]);
    sorted.copyWithin(n_faint, data.n - n_strong);
    this.order = sorted.subarray(0, n_faint + n_strong);
    return matches || lassoed ? n_strong : null;
  }

  // --- places
  get size() {
    return [this.width / this.dpr, this.height / this.dpr];
  }

  // Pixels of the page to one of the map.
  get perUnit() {
    const [width, height] = this.size;
    const [halfX, halfY] = this.data.half;
    return 0.95 * this.model.get("view")[2] * Math.min(width / 2 / halfX, height / 2 / halfY);
  }

  get radius() {
    const [width, height] = this.size;
    const crowd = Math.sqrt((width * height) / Math.max(this.data.n, 1)) * this.model.get("view")[2] ** 0.6;
    return this.dpr * Math.min(Math.max(0.36 * crowd, 1.1), 5);
  }

  place() {
    const [cx, cy] = this.model.get("view");
    const k = this.perUnit * this.dpr;
    const { data, px, py, width, height } = this;
    for (let i = 0; i < data.n; i += 1) {
      px[i] = width / 2 + k * (data.x[i] - cx);
      py[i] = height / 2 - k * (data.y[i] - cy);
    }
  }

  // What is written on the map: {x, y, text}, the most important first.
  names() {
    const { data, px, py, width, height } = this;
    const found = [];
    for (let i = 0; i < data.n && found.length <= N_POINT_NAMES; i += 1) {
      if (this.isShown[i] && px[i] > 0 && py[i] > 0 && px[i] < width && py[i] < height) found.push(i);
    }
    const lift = this.radius + 8 * this.dpr;
    if (found.length <= N_POINT_NAMES) return found.filter((i) => this.isStrong[i] && this.label(i)).map((i) => ({ x: px[i], y: py[i] - lift, text: cut(this.label(i), 28) }));
    const [cx, cy] = this.model.get("view");
    const k = this.perUnit * this.dpr;
    const said = new Set(); // of several clusters of one name the largest
    return this.model.get("places").filter(([, , text]) => !said.has(text) && said.add(text)).map(([x, y, text]) => ({ x: width / 2 + k * (x - cx), y: height / 2 - k * (y - cy), text: cut(text, 28) }));
  }

  // --- points: -1 where there is none
  selected() {
    const { data, model } = this;
    const sae = model.get("sae_names").indexOf(model.get("sae_name"));
    const feature = model.get("feature");
    if (feature == null) return -1;
    for (let i = 0; i < data.n; i += 1) if (data.features[i] === feature && data.saes[i] === sae) return i;
    return -1;
  }

  // The nearest shown point to (x, y), in the page's pixels, within `reach`.
  nearest(x, y, reach) {
    let best = -1;
    let least = (reach * this.dpr) ** 2;
    for (let i = 0; i < this.data.n; i += 1) {
      const away = (this.px[i] - x * this.dpr) ** 2 + (this.py[i] - y * this.dpr) ** 2;
      if (away < least && this.isShown[i]) [best, least] = [i, away];
    }
    return best;
  }

  // The nearest point of the same dictionary in a direction: what lies off to a side counts as farther.
  toward(from, dx, dy) {
    const { data, px, py } = this;
    let best = -1;
    let least = Infinity;
    for (let i = 0; i < data.n; i += 1) {
      const along = (px[i] - px[from]) * dx + (py[i] - py[from]) * dy;
      const beside = Math.abs((px[i] - px[from]) * dy) + Math.abs((py[i] - py[from]) * dx);
      if (along > 0.01 && beside <= along * 1.2 && along + 2 * beside < least && this.isShown[i] && data.saes[i] === data.saes[from]) [best, least] = [i, along + 2 * beside];
    }
    return best;
  }

  // The shown points inside of the lasso's line.
  enclosed() {
    const [width, height] = this.size;
    const test = inside(this.line, Math.ceil(width), Math.ceil(height));
    const found = [];
    for (let i = 0; i < this.data.n; i += 1) if (this.isShown[i] && test(this.px[i] / this.dpr, this.py[i] / this.dpr)) found.push(i);
    return found;
  }
}
