// What is in sight of a map as an SVG file: the points of one color and shape are one path, names and rings as on the canvas. Text enters as
// text nodes of a document that is then written out.

// As SHAPES of points.js, around (x, y).
const OUTLINES = [
  (x, y, r) => `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`,
  (x, y, r) => `M${x} ${y - 1.3 * r}l${1.3 * r} ${1.3 * r}l${-1.3 * r} ${1.3 * r}l${-1.3 * r} ${-1.3 * r}z`,
  (x, y, r) => `M${x - 0.86 * r} ${y - 0.86 * r}h${1.72 * r}v${1.72 * r}h${-1.72 * r}z`,
  (x, y, r) => `M${x} ${y - 1.2 * r}l${1.15 * r} ${2 * r}h${-2.3 * r}z`,
];

function svgOf(scene) {
  const { px, py, colors, data, width, height, dpr, isDark, radius } = scene;
  const part = (tag, attributes, text) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    if (text != null) made.textContent = text;
    return made;
  };
  const short = (value) => Math.round(10 * value) / 10;
  const root = part("svg", { viewBox: `0 0 ${width} ${height}`, width: width / dpr, height: height / dpr, "font-family": "system-ui, sans-serif", "font-size": 11.5 * dpr });
  root.append(part("rect", { width, height, fill: PAPER[isDark] }));
  const paths = new Map(); // of a color and a shape, in the order of drawing: the faint ones come first
  for (const i of scene.order) {
    if (px[i] < 0 || py[i] < 0 || px[i] >= width || py[i] >= height) continue;
    const shape = data.saes[i] % OUTLINES.length;
    const key = `${colors[i]} ${shape}`;
    if (!paths.has(key)) paths.set(key, []);
    paths.get(key).push(OUTLINES[shape](short(px[i]), short(py[i]), short(radius)));
  }
  for (const [key, outlines] of paths) {
    const color = Number(key.split(" ")[0]);
    root.append(part("path", { d: outlines.join(""), fill: `rgb(${color & 255} ${(color >>> 8) & 255} ${(color >>> 16) & 255})`, "fill-opacity": short((color >>> 24) / 255) }));
  }
  const ring = (i, away, stroke) => root.append(part("circle", { cx: short(px[i]), cy: short(py[i]), r: radius + away * dpr, fill: "none", stroke, "stroke-width": 2 * dpr }));
  for (const i of scene.ringed) ring(i, 3, isDark ? "rgb(255 160 80)" : "rgb(200 80 0)");
  if (scene.selected() >= 0) ring(scene.selected(), 6, isDark ? "rgb(255 140 50)" : "rgb(210 80 0)");
  const names = placedNames(document.createElement("canvas").getContext("2d"), scene.names(), 40, 11.5 * dpr, width, height);
  for (const { x, y, text } of names) root.append(part("text", { x: short(x), y: short(y + 4 * dpr), "text-anchor": "middle", fill: isDark ? "#f2f3f5" : "#15171b", stroke: PAPER[isDark], "stroke-width": 3 * dpr, "paint-order": "stroke" }, text));
  return new XMLSerializer().serializeToString(root);
}
