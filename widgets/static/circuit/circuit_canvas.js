// A CircuitScene on two canvases: all of it, and over it what is chosen, found or under the pointer with the names of tokens and layers.

const N_NAMES = 46;
const MOST_CHOSEN = 1000; // edges of what is chosen that are drawn again
const MANY = 150; // nodes from which on each look is drawn once and stamped: to trace 1,500 of them takes 17 ms
const FONT = "system-ui, sans-serif";
const NAMES = `11.5px ${FONT}`;

// A node's outline: circles are features, squares errors and tokens, rounded ones logits, diamonds collapsed groups.
function outline(context, kind, x, y, r) {
  context.beginPath();
  if (kind === "feature") return context.arc(x, y, r, 0, 7);
  if (kind !== "group") return context.roundRect(x - r, y - r, 2 * r, 2 * r, kind === "logit" ? r / 2 : 0);
  const long = 1.3 * r; // as large a diamond as the circle
  context.moveTo(x, y - long);
  for (const [across, down] of [[long, 0], [0, long], [-long, 0]]) context.lineTo(x + across, y + down);
  return context.closePath();
}

const ringAround = (context, scene, i, more) => outline(context, scene.data.nodes.kind[i], scene.px[i], scene.py[i], scene.radius[i] + more);

// What supports is filled, what opposes hollow: a dash around a small node would not be seen. Opaque: edges end at a node.
function drawNode(context, scene, kind, color, x, y, r) {
  const share = color === COLORS.purple ? 0.12 : 0.75;
  const paper = scene.isDark ? [20, 22, 26] : [255, 255, 255];
  outline(context, kind, x, y, r);
  context.fillStyle = `rgb(${color.map((value, k) => Math.round(share * value + (1 - share) * paper[k]))})`;
  context.fill();
  Object.assign(context, { lineWidth: 1.6, strokeStyle: rgb(color) });
  context.stroke();
}

function drawNodes(context, scene, rows) {
  for (const i of rows) {
    const [x, y, r] = [scene.px[i], scene.py[i], scene.radius[i]];
    if (x < -20 || y < -20 || x > scene.width + 20 || y > scene.height + 20) continue;
    drawNode(context, scene, scene.data.nodes.kind[i], signColor(scene.value(i)), x, y, r);
    if (!scene.pinned[i]) continue;
    ringAround(context, scene, i, 2.5);
    context.strokeStyle = scene.isDark ? "#eceef1" : "#16181d";
    context.stroke();
  }
}

// The same into an image's pixels, at whole pixels of the screen.
function stampNodes(scene, { width, height, pixels }, rows) {
  const { looks } = scene; // kept from one painting to the next: to draw them anew took 6 ms
  for (const i of rows) {
    const r = Math.round(2 * scene.radius[i]) / 2;
    const [kind, color] = [scene.data.nodes.kind[i], signColor(scene.value(i))];
    const key = `${kind} ${color} ${r} ${scene.isDark} ${scene.dpr}`;
    if (!looks.has(key)) looks.set(key, lookOf(scene, kind, color, r));
    const look = looks.get(key);
    const [left, top] = [scene.px[i], scene.py[i]].map((at) => Math.round(at * scene.dpr - look.width / 2));
    for (let row = Math.max(0, -top); row < Math.min(look.width, height - top); row += 1) {
      for (let column = Math.max(0, -left); column < Math.min(look.width, width - left); column += 1) {
        const color = look.pixels[row * look.width + column];
        const pixel = (top + row) * width + left + column;
        if (color >>> 24 > 127 || color >>> 24 > pixels[pixel] >>> 24) pixels[pixel] = color;
      }
    }
  }
}

function lookOf(scene, kind, color, r) {
  const width = 2 * Math.ceil((1.3 * r + 2) * scene.dpr);
  const pen = new OffscreenCanvas(width, width).getContext("2d", { willReadFrequently: true });
  pen.scale(scene.dpr, scene.dpr);
  drawNode(pen, scene, kind, color, width / 2 / scene.dpr, width / 2 / scene.dpr, r);
  return { width, pixels: new Uint32Array(pen.getImageData(0, 0, width, width).data.buffer) };
}

// Names beside their nodes, without overlaps: the first come first; six places are tried, the last two moved in from the field's edges. The first
// n_must get one of these in any case. [{x, y, text}], x at the left end.
function placeNames(context, scene, rows, most, n_must = 0) {
  const size = 11.5;
  context.font = NAMES;
  const nodes = scene.nodes.filter((i) => scene.radius[i] > 2.2).map((i) => [scene.px[i] - scene.radius[i], scene.py[i] - scene.radius[i], scene.px[i] + scene.radius[i], scene.py[i] + scene.radius[i]]);
  const grid = new Map(); // boxes by tiles of 64 pixels: 1,500 nodes are not all compared with each name
  const tiles = ([left, top, right, bottom]) => {
    const found = [];
    for (let a = Math.floor(left / 64); a <= right / 64; a += 1) for (let b = Math.floor(top / 64); b <= bottom / 64; b += 1) found.push(4096 * a + b);
    return found;
  };
  const take = (box) => tiles(box).forEach((tile) => (grid.has(tile) ? grid.get(tile).push(box) : grid.set(tile, [box])));
  const isFree = (box) => tiles(box).every((tile) => (grid.get(tile) ?? []).every((other) => box[0] >= other[2] || other[0] >= box[2] || box[1] >= other[3] || other[1] >= box[3]));
  nodes.forEach(take);
  const placed = [];
  for (const [k, i] of rows.entries()) {
    if (placed.length >= most) break;
    const text = scene.name(i);
    if (!text) continue;
    const [x, y, r, width] = [scene.px[i], scene.py[i], scene.radius[i], context.measureText(text).width];
    const [above, below] = [y - r - size / 2 - 3, y + r + size / 2 + 3];
    const inside = Math.min(Math.max(x - width / 2, MARGIN.left - 9), scene.width - width - 5);
    const spots = [[x - width / 2, above], [x + r + 4, y], [x - r - 4 - width, y], [x - width / 2, below], [inside, above], [inside, below]];
    const boxed = ([left, middle]) => [left - 2, middle - size / 2 - 1, left + width + 2, middle + size / 2 + 1];
    const isIn = (box) => box[0] > MARGIN.left - 12 && box[2] < scene.width - 2 && box[1] > 2 && box[3] < scene.height - MARGIN.bottom;
    const here = spots.filter((each) => isIn(boxed(each)));
    const spot = here.find((each) => isFree(boxed(each))) ?? (k < n_must ? here[0] : null);
    if (!spot) continue;
    take(boxed(spot));
    placed.push({ x: spot[0], y: spot[1], text });
  }
  return placed;
}

function writePlaced(context, scene, placed) {
  const [ink, paper] = scene.isDark ? ["#f2f3f5", "rgb(20 22 26 / 0.9)"] : ["#15171b", "rgb(255 255 255 / 0.9)"];
  Object.assign(context, { font: NAMES, textAlign: "left", textBaseline: "middle", lineJoin: "round", lineWidth: 3, strokeStyle: paper, fillStyle: ink });
  for (const { x, y, text } of placed) {
    context.strokeText(text, x, y);
    context.fillText(text, x, y);
  }
}

// The tokens' names below and the layers' on the left, which stay in sight. [{x, y, text, turned}]
function axisNames(context, scene) {
  context.font = NAMES;
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
    found.push({ x, y: isTurned ? bottom - 7 : bottom, text: isTurned ? clip(text, 11) : text, turned: isTurned, align: isTurned ? "right" : "center" });
  }
  const above = { token: "tokens", logit: "answer" };
  let last = Infinity;
  for (const { layer, y } of scene.rows) {
    const at = scene.toPixels(0, y)[1];
    const some = scene.nodes.find((i) => scene.data.nodes.layer[i] === layer);
    if (at > scene.height - MARGIN.bottom || at < 8 || last - at < 13) continue;
    last = at;
    found.push({ x: 8, y: at, text: above[scene.data.nodes.kind[some]] ?? `layer ${layer}`, align: "left" });
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
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.scale(scene.dpr, scene.dpr);
  return context;
}

function paintCircuit(canvas, scene) {
  const context = begin(canvas, scene);
  scene.place();
  const { links, nodes } = scene;
  if (links.n <= FEW && nodes.length <= MANY) {
    strokeEdges(context, scene, links.weights.keys());
    drawNodes(context, scene, nodes);
  } else {
    const image = blank(scene);
    stampEdges(scene, image);
    stampNodes(scene, image, nodes);
    context.putImageData(scene.image, 0, 0);
    drawNodes(context, scene, nodes.filter((i) => scene.pinned[i]));
  }
  scene.named = placeNames(context, scene, scene.bySize, N_NAMES); // written above it, where they give way to those of what is chosen
}

// What is chosen or found at full strength, over the faint rest; the field's own names.
function paintChosen(canvas, scene) {
  const context = begin(canvas, scene);
  const { accent, lit, hovered, isShown, links } = scene;
  const chosen = scene.chosen().filter((i) => isShown[i]);
  const edges = [...scene.edgesOf(chosen, "sources"), ...scene.edgesOf(chosen, "targets")].sort((a, b) => a - b).slice(-MOST_CHOSEN);
  strokeEdges(context, scene, edges, 0.8);
  const ends = [...edges].reverse().flatMap((e) => [links.sources[e], links.targets[e]]);
  const rows = [...new Set([...chosen, ...(lit ?? []), ...ends])];
  drawNodes(context, scene, rows);
  const ring = (i, more, width, color) => {
    ringAround(context, scene, i, more);
    Object.assign(context, { lineWidth: width, strokeStyle: color });
    context.stroke();
  };
  const marked = new Set(scene.model.get("marked").map((id) => scene.end[scene.data.row.get(id)]));
  for (const i of marked) if (isShown[i]) ring(i, 4, 2.5, accent);
  for (const i of chosen) {
    ring(i, 5, 5, scene.isDark ? "rgb(0 0 0 / 0.7)" : "rgb(255 255 255 / 0.9)");
    ring(i, 5, 2.5, scene.isDark ? "#fff" : "#000");
  }
  if (hovered >= 0 && isShown[hovered]) ring(hovered, 3, 1.5, scene.isDark ? "#fff" : "#000");
  writePlaced(context, scene, scene.isDimmed ? placeNames(context, scene, rows, 24, chosen.length === 1 ? 1 : 0) : scene.named);
  writeAxes(context, scene);
}
