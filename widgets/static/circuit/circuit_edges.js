// A scene's edges. A few the canvas strokes; it would take a second for 20,000, so that many are stamped into the pixels of an image.

const COLORS = { orange: [230, 97, 0], purple: [124, 92, 222], gray: [128, 128, 128] };
const FEW = 250; // edges that the canvas strokes: 0.1 ms each
const N_FINE = 100; // of more, so many of the strongest are as wide as their weight and smooth; all, where there is time:
const MOST_FINE = 250_000; // pixels along fine curves
const MOST_PIXELS = 400_000; // along the others: of longer ones every second pixel, or third
const ON = 5 / 9; // of a dash, which is 9 pixels long

const signColor = (value) => (!value ? COLORS.gray : value > 0 ? COLORS.orange : COLORS.purple);
const rgb = (color, alpha = 1) => `rgb(${color.join(" ")} / ${alpha})`;
const edgeWidth = (share) => 0.7 + 4.3 * share;
const edgeAlpha = (share) => 0.36 + 0.5 * Math.sqrt(share);

// An edge's curve leaves and arrives upright; between nodes of one layer, which a collapsed group can have, it is a bow above them.
function curve(scene, e) {
  const { sources, targets } = scene.links;
  const [x1, y1, x2, y2] = [scene.px[sources[e]], scene.py[sources[e]], scene.px[targets[e]], scene.py[targets[e]]];
  return [x1, y1, x2, y2, bow(x2 - x1, y2 - y1)];
}

const bow = (dx, dy) => (Math.abs(dy) < 9 ? Math.min(0.2 * Math.abs(dx), 40) : 0);

function strokeEdges(context, scene, edges, lift = 0) {
  for (const e of edges) {
    const weight = scene.links.weights[e];
    const share = Math.abs(weight) / scene.heaviest;
    const [x1, y1, x2, y2, up] = curve(scene, e);
    const middle = (y1 + y2) / 2 - up;
    context.beginPath();
    context.moveTo(x1, y1);
    context.bezierCurveTo(x1, middle, x2, middle, x2, y2);
    context.setLineDash(weight < 0 ? [5, 4] : []);
    context.lineWidth = edgeWidth(share) + lift;
    context.strokeStyle = rgb(signColor(weight), Math.min(edgeAlpha(share) + lift / 3, 1));
    context.stroke();
  }
  context.setLineDash([]);
}

// What is stamped into: pixels of the screen, kept from one painting to the next.
function blank(scene) {
  const [width, height] = [Math.ceil(scene.width * scene.dpr), Math.ceil(scene.height * scene.dpr)];
  if (scene.image?.width !== width || scene.image.height !== height) scene.image = new ImageData(width, height);
  return { width, height, pixels: new Uint32Array(scene.image.data.buffer).fill(0) };
}

// How many pixels each edge is long, and how many all are; 0: at a high zoom its ends are thousands of pixels away.
function lengths(scene) {
  const { px, py, links, dpr } = scene;
  const most = 8 * (scene.width + scene.height);
  const found = new Float32Array(links.n);
  for (let e = 0; e < links.n; e += 1) {
    const u = links.sources[e];
    const v = links.targets[e];
    const length = Math.max(Math.abs(px[v] - px[u]), Math.abs(py[v] - py[u]), 1);
    found[e] = length > most ? 0 : dpr * length;
  }
  return found;
}

// The weakest first, so that the last written is the strongest.
function stampEdges(scene, image) {
  const { links, heaviest, dpr } = scene;
  const length = lengths(scene);
  const total = length.reduce((sum, each) => sum + each, 0);
  const n_coarse = total < MOST_FINE ? 0 : Math.max(0, links.n - N_FINE);
  stampCoarse(scene, image, length.subarray(0, n_coarse), Math.max(1, total / MOST_PIXELS));
  for (let e = n_coarse; e < links.n; e += 1) {
    if (!length[e]) continue;
    const share = Math.abs(links.weights[e]) / heaviest;
    const [r, g, b] = signColor(links.weights[e]);
    const pen = { ink: (b << 16) | (g << 8) | r, alpha: 255 * edgeAlpha(share), isDashed: links.weights[e] < 0 };
    const [x1, y1, x2, y2, up] = curve(scene, e).map((at) => at * dpr);
    stampFine(image, { x: x1, y: y1, dx: x2 - x1, dy: y2 - y1, up }, pen, 1.5 * length[e], (edgeWidth(share) * dpr) / 2); // its middle is half as fast again
  }
}

// One pixel wide, at every `stride`th place. No object is made in here: there are 20,000 edges.
function stampCoarse({ px, py, links, heaviest, dpr }, { width, height, pixels }, length, stride) {
  const { sources, targets, weights } = links;
  const [orange, purple] = [COLORS.orange, COLORS.purple].map(([r, g, b]) => (b << 16) | (g << 8) | r);
  for (let e = 0; e < length.length; e += 1) {
    if (!length[e]) continue;
    const isDashed = weights[e] < 0;
    const alpha = 140 * edgeAlpha(Math.abs(weights[e]) / heaviest);
    const color = ((alpha << 24) | (isDashed ? purple : orange)) >>> 0;
    const x = px[sources[e]] * dpr;
    const y = py[sources[e]] * dpr;
    const dx = px[targets[e]] * dpr - x;
    const dy = py[targets[e]] * dpr - y;
    const up = bow(dx, dy);
    const by = stride / length[e];
    for (let k = 0, t = (by * (e % 8)) / 8; t <= 1; k += 1, t += by) {
      if (isDashed && k % 3 === 2) continue;
      const column = (x + dx * t * t * (3 - 2 * t)) | 0;
      const row = (y + dy * t * (1.5 - 1.5 * t + t * t) - 3 * up * t * (1 - t)) | 0;
      if (column >= 0 && column < width && row >= 0 && row < height) pixels[row * width + column] = color;
    }
  }
}

// As wide as given, with soft sides: at each place a run of pixels across, each as strong as the share of it that is covered.
function stampFine({ width, height, pixels }, { x, y, dx, dy, up }, { ink, alpha, isDashed }, n, half) {
  for (let k = 0; k <= n; k += 1) {
    const t = k / n;
    if (isDashed && ((t * n) / 13.5) % 1 > ON) continue;
    const [fx, fy] = [dx * 6 * t * (1 - t), dy * (1.5 - 3 * t + 3 * t * t) - 3 * up * (1 - 2 * t)];
    const isFlat = Math.abs(fx) > Math.abs(fy);
    const slope = isFlat ? fy / fx : fx / fy;
    const wide = half * Math.sqrt(1 + (slope * slope || 0));
    const [across, along] = [x + dx * t * t * (3 - 2 * t), y + dy * t * (1.5 - 1.5 * t + t * t) - 3 * up * t * (1 - t)];
    const middle = isFlat ? along : across;
    const other = (isFlat ? across : along) | 0;
    if (other < 0 || other >= (isFlat ? width : height)) continue;
    const last = Math.min(middle + wide, isFlat ? height : width);
    for (let at = Math.max(Math.floor(middle - wide), 0); at < last; at += 1) {
      const strength = (alpha * Math.min(1, middle + wide - at, at + 1 - middle + wide, 2 * wide)) | 0;
      const pixel = isFlat ? at * width + other : other * width + at;
      if (strength >= pixels[pixel] >>> 24) pixels[pixel] = ((strength << 24) | ink) >>> 0;
    }
  }
}
