// What is in sight as an SVG file. Text enters as text nodes of a document that is then written out.

const SVG = "http://www.w3.org/2000/svg";

function svgNode(tag, attributes = {}, text = null) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) if (value != null) made.setAttribute(name, typeof value === "number" ? String(Math.round(value * 100) / 100) : value);
  if (text != null) made.textContent = text;
  return made;
}

// As `outline` (circuit_canvas.js).
function svgShape(kind, x, y, r, style) {
  if (kind === "feature") return svgNode("circle", { cx: x, cy: y, r, ...style });
  if (kind === "group") return svgNode("path", { d: `M${x} ${y - 1.3 * r}l${1.3 * r} ${1.3 * r}l${-1.3 * r} ${1.3 * r}l${-1.3 * r} ${-1.3 * r}z`, ...style });
  return svgNode("rect", { x: x - r, y: y - r, width: 2 * r, height: 2 * r, rx: kind === "logit" ? r / 2 : null, ...style });
}

function svgOf(scene) {
  const { width, height, isDark, data } = scene;
  const [ink, paper] = [isDark ? "#f2f3f5" : "#15171b", PAPER[isDark]];
  const root = svgNode("svg", { width, height, viewBox: `0 0 ${width} ${height}`, "font-family": FONT, "font-size": "11.5" });
  root.append(svgNode("title", {}, `Circuit of “${scene.model.get("about").prompt}”`), svgNode("rect", { width, height, fill: paper }));
  for (let e = 0; e < scene.links.n; e += 1) {
    const weight = scene.links.weights[e];
    const share = Math.abs(weight) / scene.heaviest;
    const [x1, y1, x2, y2, up] = curve(scene, e).map((value) => value.toFixed(1));
    const middle = ((Number(y1) + Number(y2)) / 2 - Number(up)).toFixed(1);
    const dash = weight < 0 ? "5 4" : null;
    root.append(svgNode("path", { d: `M${x1} ${y1}C${x1} ${middle} ${x2} ${middle} ${x2} ${y2}`, fill: "none", stroke: `rgb(${signColor(weight)})`, "stroke-width": edgeWidth(share), "stroke-opacity": edgeAlpha(share), "stroke-dasharray": dash }));
  }
  for (const i of scene.nodes) {
    const color = signColor(scene.value(i));
    const [x, y, r] = [scene.px[i], scene.py[i], scene.radius[i]];
    const style = { fill: `rgb(${color})`, "fill-opacity": color === COLORS.purple ? 0.12 : 0.75, stroke: scene.pinned[i] ? ink : `rgb(${color})`, "stroke-width": 1.6 };
    const shape = svgShape(data.nodes.kind[i], x, y, r, style);
    shape.append(svgNode("title", {}, scene.words(i)));
    root.append(shape);
  }
  const pen = document.createElement("canvas").getContext("2d");
  for (const { x, y, text } of scene.named) root.append(svgNode("text", { x, y: y + 4, fill: ink, stroke: paper, "stroke-width": 3, "paint-order": "stroke" }, text));
  for (const { x, y, text, turned, align } of axisNames(pen, scene)) {
    const anchor = { left: "start", center: "middle", right: "end" }[align];
    root.append(svgNode("text", { x, y: y + 4, fill: ink, "text-anchor": anchor, transform: turned ? `rotate(-34 ${x} ${y})` : null }, text));
  }
  return new XMLSerializer().serializeToString(root);
}
