// A CircuitScene on two canvases: all of it, and over it what is chosen, found or under the pointer with the names of tokens and layers.
// Of many edges the weak ones are stamped into the image's own pixels: 20,000 curves would take the canvas a second.

const COLORS = { orange: [230, 97, 0], purple: [124, 92, 222], gray: [128, 128, 128] };
const [FEW, N_STROKED] = [1000, 150]; // so many edges the canvas strokes all itself; of more only the strongest
const N_NAMES = 46;
const FONT = "system-ui, sans-serif";

const signColor = (value) => (!value ? COLORS.gray : value > 0 ? COLORS.orange : COLORS.purple);
const rgb = (color, alpha = 1) => `rgb(${color.join(" ")} / ${alpha})`;
const edgeWidth = (share) => 0.7 + 4.3 * share;
const edgeAlpha = (share) => 0.3 + 0.55 * Math.sqrt(share);

// An edge's curve leaves and arrives upright.
function curve(scene, e) {
  const { sources, targets } = scene.data;
  const [u, v] = [sources[e], targets[e]];
  return [scene.px[u], scene.py[u], scene.px[v], scene.py[v]];
}

function strokeEdges(context, scene, edges, lift = 0) {
  for (const e of edges) {
    const weight = scene.data.weights[e];
    const share = Math.abs(weight) / scene.heaviest;
    const [x1, y1, x2, y2] = curve(scene, e);
    const middle = (y1 + y2) / 2;
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

// The same curve at 257 places, as shares of the way across and up.
const BENDS = Array.from({ length: 257 }, (_, k) => k / 256).map((t) => [3 * t * t - 2 * t * t * t, 1.5 * t - 1.5 * t * t + t * t * t]);
const [ACROSS, UP] = [Float32Array.from(BENDS, ([s]) => s), Float32Array.from(BENDS, ([, q]) => q)];

// One pixel of the page each, the weakest first, so that the last written is the strongest.
function stampEdges(context, scene, edges) {
  const { px, py, data, heaviest } = scene;
  const [width, height] = [Math.ceil(scene.width), Math.ceil(scene.height)];
  scene.ink ??= document.createElement("canvas");
  if (scene.ink.width !== width || scene.ink.height !== height) Object.assign(scene.ink, { width, height });
  const pen = scene.ink.getContext("2d");
  const image = new ImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const [orange, purple] = [COLORS.orange, COLORS.purple].map(([r, g, b]) => (b << 16) | (g << 8) | r);
  for (let j = 0; j < edges.length; j += 1) {
    const e = edges[j];
    const [u, v, weight] = [data.sources[e], data.targets[e], data.weights[e]];
    const [x1, y1] = [px[u], py[u]];
    const [dx, dy] = [px[v] - x1, py[v] - y1];
    const alpha = Math.round(140 * edgeAlpha(Math.abs(weight) / heaviest));
    const color = ((alpha << 24) | (weight < 0 ? purple : orange)) >>> 0;
    const steps = Math.ceil(Math.max(Math.abs(dx), Math.abs(dy))) || 1;
    if (steps > 8 * (width + height)) continue; // at a high zoom: its ends are thousands of pixels away
    const isDashed = weight < 0;
    const by = 256 / steps;
    let dash = 0;
    for (let k = 0; k <= steps; k += 1) {
      if (isDashed) {
        dash = dash === 8 ? 0 : dash + 1;
        if (dash > 4) continue;
      }
      const t = (k * by) | 0;
      const x = (x1 + dx * ACROSS[t]) | 0;
      const y = (y1 + dy * UP[t]) | 0;
      if (x >= 0 && x < width && y >= 0 && y < height) pixels[y * width + x] = color;
    }
  }
  pen.putImageData(image, 0, 0);
  context.drawImage(scene.ink, 0, 0);
}

// A node's outline: circles are features, squares errors and tokens, rounded ones logits.
function outline(context, scene, i, more = 0) {
  const [x, y, r] = [scene.px[i], scene.py[i], scene.radius[i] + more];
  const kind = scene.data.kinds[i];
  context.beginPath();
  if (kind === "feature") context.arc(x, y, r, 0, 7);
  else context.roundRect(x - r, y - r, 2 * r, 2 * r, kind === "logit" ? r / 2 : 0);
}

// What supports is filled, what opposes hollow: a dash around a small node would not be seen. Opaque: edges end at a node.
function drawNodes(context, scene, rows) {
  const [paper, ink] = scene.isDark ? [[20, 22, 26], "#eceef1"] : [[255, 255, 255], "#16181d"];
  const mixed = new Map(Object.values(COLORS).map((color) => {
    const share = color === COLORS.purple ? 0.12 : 0.75;
    return [color, [`rgb(${color.map((value, k) => Math.round(share * value + (1 - share) * paper[k]))})`, rgb(color)]];
  }));
  context.lineWidth = 1.6;
  for (const i of rows) {
    const [fill, line] = mixed.get(signColor(scene.value(i)));
    outline(context, scene, i);
    context.fillStyle = fill;
    context.fill();
    context.strokeStyle = line;
    context.stroke();
    if (!scene.pinned[i]) continue;
    outline(context, scene, i, 2.5);
    context.strokeStyle = ink;
    context.stroke();
  }
}

// Names beside their nodes, without overlaps: the first come first; four places are tried. [{x, y, text}], x at the left end.
function placeNames(context, scene, rows, most, size = 11.5) {
  context.font = `${size}px ${FONT}`;
  const nodes = scene.nodes.filter((i) => scene.radius[i] > 2.2).map((i) => [scene.px[i] - scene.radius[i], scene.py[i] - scene.radius[i], scene.px[i] + scene.radius[i], scene.py[i] + scene.radius[i]]);
  const grid = new Map(); // boxes by tiles of 64 pixels: 1,500 nodes are not all compared with each name
  const tiles = ([left, top, right, bottom]) => {
    const found = [];
    for (let a = Math.floor(left / 64); a <= right / 64; a += 1) for (let b = Math.floor(top / 64); b <= bottom / 64; b += 1) found.push(`${a} ${b}`);
    return found;
  };
  const take = (box) => tiles(box).forEach((tile) => grid.set(tile, [...(grid.get(tile) ?? []), box]));
  const isFree = (box) => tiles(box).every((tile) => (grid.get(tile) ?? []).every((other) => box[0] >= other[2] || other[0] >= box[2] || box[1] >= other[3] || other[1] >= box[3]));
  nodes.forEach(take);
  const placed = [];
  for (const i of rows) {
    if (placed.length >= most) break;
    const text = scene.name(i);
    if (!text) continue;
    const [x, y, r, width] = [scene.px[i], scene.py[i], scene.radius[i], context.measureText(text).width];
    const spots = [[x - width / 2, y - r - size / 2 - 3], [x + r + 4, y], [x - r - 4 - width, y], [x - width / 2, y + r + size / 2 + 3]];
    const spot = spots.find(([left, middle]) => {
      const box = [left - 2, middle - size / 2 - 1, left + width + 2, middle + size / 2 + 1];
      return box[0] > MARGIN.left - 12 && box[2] < scene.width - 2 && box[1] > 2 && box[3] < scene.height - MARGIN.bottom && isFree(box);
    });
    if (!spot) continue;
    take([spot[0] - 2, spot[1] - size / 2 - 1, spot[0] + width + 2, spot[1] + size / 2 + 1]);
    placed.push({ x: spot[0], y: spot[1], text });
  }
  return placed;
}

function writePlaced(context, scene, placed) {
  const [ink, paper] = scene.isDark ? ["#f2f3f5", "rgb(20 22 26 / 0.9)"] : ["#15171b", "rgb(255 255 255 / 0.9)"];
  Object.assign(context, { textAlign: "left", textBaseline: "middle", lineJoin: "round", lineWidth: 3, strokeStyle: paper, fillStyle: ink });
  for (const { x, y, text } of placed) {
    context.strokeText(text, x, y);
    context.fillText(text, x, y);
  }
}

// The tokens' names below and the layers' on the left, which stay in sight. [{x, y, text, turned}]
function axisNames(context, scene) {
  context.font = `11.5px ${FONT}`;
  const tokens = scene.model.get("tokens") ?? [];
  const bottom = scene.height - MARGIN.bottom + 16;
  const shown = scene.columns.map(({ pos, x, width }) => ({ x: scene.toPixels(x, 0)[0], room: width * scene.units[0] * scene.look[2], text: clip(tokens[pos] ?? `${pos}`, 14) })).filter(({ x }) => x > MARGIN.left - 8 && x < scene.width);
  const isTurned = shown.some(({ text, room }) => context.measureText(text).width > room - 4);
  const found = [];
  let end = -Infinity;
  for (const { x, text } of shown) {
    const half = isTurned ? 7 : context.measureText(text).width / 2;
    if (x - half < end) continue; // columns narrower than a line of text: every second one, or third
    end = x + half;
    found.push({ x, y: bottom, text, turned: isTurned, align: isTurned ? "right" : "center" });
  }
  const above = { token: "tokens", logit: "answer" };
  let last = Infinity;
  for (const { layer, y } of scene.rows) {
    const at = scene.toPixels(0, y)[1];
    const some = scene.nodes.find((i) => scene.data.nodes.layer[i] === layer);
    if (at > scene.height - MARGIN.bottom || at < 8 || last - at < 13) continue;
    last = at;
    found.push({ x: 8, y: at, text: above[scene.data.kinds[some]] ?? `layer ${layer}`, align: "left" });
  }
  return found;
}

function writeAxes(context, scene) {
  const names = axisNames(context, scene);
  const paper = scene.isDark ? "rgb(20 22 26 / 0.85)" : "rgb(255 255 255 / 0.85)";
  Object.assign(context, { textBaseline: "middle", lineJoin: "round", lineWidth: 4, strokeStyle: paper, fillStyle: scene.isDark ? "#c3c7cf" : "#474c56" });
  for (const { x, y, text, turned, align } of names) {
    context.save();
    context.translate(x, y);
    if (turned) context.rotate(-0.6);
    context.textAlign = align;
    context.strokeText(text, 0, 0);
    context.fillText(text, 0, 0);
    context.restore();
  }
}

function begin(canvas, scene) {
  const context = canvas.getContext("2d");
  context.setTransform(1, 0, 0, 1, 0, 0);
  return context;
}

function paintCircuit(canvas, scene) {
  const context = begin(canvas, scene);
  context.clearRect(0, 0, canvas.width, canvas.height);
  scene.place();
  const n_weak = scene.edges.length > FEW ? scene.edges.length - N_STROKED : 0;
  context.scale(scene.dpr, scene.dpr);
  if (n_weak) stampEdges(context, scene, scene.edges.subarray(0, n_weak));
  strokeEdges(context, scene, scene.edges.subarray(n_weak));
  drawNodes(context, scene, scene.nodes);
  scene.named = placeNames(context, scene, scene.bySize, N_NAMES); // written above it, where they give way to those of what is chosen
}

// What is chosen or found at full strength, over the faint rest; the field's own names.
function paintChosen(canvas, scene) {
  const context = begin(canvas, scene);
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.scale(scene.dpr, scene.dpr);
  const { accent, lit, hovered, isShown } = scene;
  const chosen = scene.chosen().filter((i) => isShown[i]);
  const edges = chosen.length ? [...scene.edgesOf(chosen, "sources"), ...scene.edgesOf(chosen, "targets")].sort((a, b) => Math.abs(scene.data.weights[a]) - Math.abs(scene.data.weights[b])).slice(-1500) : [];
  strokeEdges(context, scene, edges, 0.8);
  const ends = [...edges].reverse().flatMap((e) => [scene.data.sources[e], scene.data.targets[e]]);
  const rows = [...new Set([...chosen, ...(lit ?? []), ...ends])];
  drawNodes(context, scene, rows);
  const ring = (i, more, width, color) => {
    outline(context, scene, i, more);
    Object.assign(context, { lineWidth: width, strokeStyle: color });
    context.stroke();
  };
  for (const id of scene.model.get("marked")) if (isShown[scene.data.row.get(id)]) ring(scene.data.row.get(id), 4, 2.5, accent);
  for (const i of chosen) {
    ring(i, 5, 5, scene.isDark ? "rgb(0 0 0 / 0.7)" : "rgb(255 255 255 / 0.9)");
    ring(i, 5, 2.5, scene.isDark ? "#fff" : "#000");
  }
  if (hovered >= 0 && isShown[hovered]) ring(hovered, 3, 1.5, scene.isDark ? "#fff" : "#000");
  writePlaced(context, scene, scene.isDimmed ? placeNames(context, scene, rows, 24) : scene.named);
  writeAxes(context, scene);
}
