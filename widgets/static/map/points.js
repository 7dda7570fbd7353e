// Many points on one canvas: each is stamped into the image's own pixels, which draws 100,000 in a few milliseconds where canvas calls take
// a hundred. What belongs to a dictionary has its own shape as well as its color.

const SHAPES = [
  (x, y, r) => Math.hypot(x, y) - r, // circle
  (x, y, r) => (Math.abs(x) + Math.abs(y) - 1.3 * r) / 1.41, // diamond
  (x, y, r) => Math.max(Math.abs(x), Math.abs(y)) - 0.86 * r, // square
  (x, y, r) => Math.max(y - 0.8 * r, 0.87 * Math.abs(x) - 0.5 * y - 0.62 * r), // triangle
];
const GLYPHS = ["●", "◆", "■", "▲"];
// Told apart with any kind of color vision (after Okabe and Ito), with contrast ≥ 3 on white and on near black.
const PALETTE = [[0, 114, 178], [213, 94, 0], [0, 152, 111], [196, 104, 158], [140, 110, 30], [122, 122, 122]];
const GRAY = [128, 128, 128];
// Lightness alone tells low from high; the high end stands out from the background.
const RAMPS = {
  light: [[178, 200, 217], [70, 140, 190], [20, 70, 130], [8, 22, 60]],
  dark: [[62, 82, 112], [72, 140, 196], [150, 205, 220], [255, 240, 170]],
};

// Position on a ramp, 0 to 1 → color.
function ramp(stops, share) {
  const at = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const i = Math.min(Math.floor(at), stops.length - 2);
  return stops[i].map((low, k) => Math.round(low + (at - i) * (stops[i + 1][k] - low)));
}

const packed = ([r, g, b], alpha) => ((alpha << 24) | (b << 16) | (g << 8) | r) >>> 0;

// The pixels of one point: their distances (dx, dy) from its middle and how far the shape covers them, 0 to 255.
function stamp(shape, r) {
  const reach = Math.ceil(1.3 * r) + 1;
  const pixels = [];
  for (let dy = -reach; dy <= reach; dy += 1) {
    for (let dx = -reach; dx <= reach; dx += 1) {
      const cover = Math.round(255 * Math.min(Math.max(0.5 - SHAPES[shape](dx, dy, r), 0), 1));
      if (cover) pixels.push([dx, dy, cover]);
    }
  }
  return { reach, pixels };
}

// Stamps the points of `order`, later ones on top. place: number of a point → its middle; colors: packed, with alpha; kinds: which shape.
function splat(context, order, px, py, colors, kinds, r) {
  const { width, height } = context.canvas;
  const stamps = SHAPES.map((_, shape) => stamp(shape, r));
  const margin = Math.max(...stamps.map(({ reach }) => reach)); // points over the edge are drawn in part
  const row = width + 2 * margin;
  const image = new ImageData(row, height + 2 * margin);
  const data = new Uint32Array(image.data.buffer);
  const steps = stamps.map(({ pixels }) => ({ offsets: Int32Array.from(pixels, ([dx, dy]) => dy * row + dx), covers: Uint8Array.from(pixels, ([, , cover]) => cover) }));
  for (let k = 0; k < order.length; k += 1) {
    const i = order[k];
    const x = Math.round(px[i]);
    const y = Math.round(py[i]);
    if (x < 0 || y < 0 || x >= width || y >= height) continue;
    const { offsets, covers } = steps[kinds[i] % SHAPES.length];
    const at = (y + margin) * row + x + margin;
    const color = colors[i] & 0xffffff;
    const alpha = colors[i] >>> 24;
    for (let p = 0; p < offsets.length; p += 1) {
      const there = at + offsets[p];
      const strength = (covers[p] * alpha) / 255;
      if (covers[p] > 200 || strength >= data[there] >>> 24) data[there] = (color | (strength << 24)) >>> 0;
    }
  }
  context.putImageData(image, -margin, -margin);
}

// The pixels inside a closed line, as a mask of the canvas: a point is inside if its pixel is. One test a point, however long the line.
function inside(line, width, height) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.beginPath();
  line.forEach(([x, y]) => context.lineTo(x, y));
  context.fill();
  const { data } = context.getImageData(0, 0, width, height);
  return (x, y) => x >= 0 && y >= 0 && x < width && y < height && data[4 * (Math.floor(y) * width + Math.floor(x)) + 3] > 127;
}

// Those of the names {x, y, text} that can be written without overlaps: what comes first wins.
function placedNames(context, names, most, size, width, height) {
  const taken = [];
  const placed = [];
  context.font = `${size}px system-ui, sans-serif`;
  for (const { x, y, text } of names) {
    if (placed.length >= most) break;
    const half = context.measureText(text).width / 2 + size / 2;
    const box = [x - half, y - size, x + half, y + size];
    if (box[0] < 0 || box[2] > width || box[1] < 0 || box[3] > height) continue;
    if (taken.some((other) => box[0] < other[2] && other[0] < box[2] && box[1] < other[3] && other[1] < box[3])) continue;
    taken.push(box);
    placed.push({ x, y, text });
  }
  return placed;
}

function writeNames(context, names, most, ink, paper, size) {
  const placed = placedNames(context, names, most, size, context.canvas.width, context.canvas.height);
  Object.assign(context, { textAlign: "center", textBaseline: "middle", lineJoin: "round", lineWidth: size / 4, strokeStyle: paper, fillStyle: ink });
  for (const { x, y, text } of placed) {
    context.strokeText(text, x, y);
    context.fillText(text, x, y);
  }
}
