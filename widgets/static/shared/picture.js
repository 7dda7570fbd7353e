// Pictures as files, on paper of the theme's color: what is drawn on canvases as a PNG, an <svg> of the page as SVG or PNG.

const PAPER = { true: "#14161a", false: "#ffffff" };
const SCALE = 2; // pixels of a PNG to one of an <svg>
// What an <svg> of the page has from style sheets, which a file does not.
const DRAWN = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-opacity", "stroke-dasharray", "font-size", "font-weight", "font-family", "text-anchor", "opacity"];

const asPng = (canvas) => new Promise((done) => canvas.toBlob(done, "image/png"));

function onPaper(width, height, isDark) {
  const whole = document.createElement("canvas");
  Object.assign(whole, { width, height });
  const context = whole.getContext("2d");
  context.fillStyle = PAPER[isDark];
  context.fillRect(0, 0, width, height);
  return [whole, context];
}

// Canvases of one size, one over the other; opacities: of each, 1 where none is given.
function pngOf(canvases, isDark, opacities = []) {
  const [whole, context] = onPaper(canvases[0].width, canvases[0].height, isDark);
  canvases.forEach((canvas, i) => {
    context.globalAlpha = opacities[i] ?? 1;
    context.drawImage(canvas, 0, 0);
  });
  return asPng(whole);
}

// The drawings of the page side by side as one SVG document, as they look now.
function svgFile(drawings, isDark) {
  const sizes = drawings.map((each) => each.viewBox.baseVal);
  const [width, height] = [sizes.reduce((sum, each) => sum + each.width, 0), Math.max(...sizes.map((each) => each.height))];
  const root = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  for (const [name, value] of Object.entries({ viewBox: `-12 -12 ${width + 24} ${height + 24}`, width: width + 24, height: height + 24 })) root.setAttribute(name, value);
  const paper = document.createElementNS(root.namespaceURI, "rect");
  for (const [name, value] of Object.entries({ x: -12, y: -12, width: width + 24, height: height + 24, fill: PAPER[isDark] })) paper.setAttribute(name, value);
  root.append(paper);
  let left = 0;
  drawings.forEach((drawing, i) => {
    const group = document.createElementNS(root.namespaceURI, "g");
    group.setAttribute("transform", `translate(${left} 0)`);
    left += sizes[i].width;
    const [from, copy] = [[...drawing.querySelectorAll("*")], drawing.cloneNode(true)];
    [...copy.querySelectorAll("*")].forEach((each, k) => {
      const style = getComputedStyle(from[k]);
      for (const name of DRAWN) if (style.getPropertyValue(name)) each.setAttribute(name, style.getPropertyValue(name));
      for (const name of ["class", "data-feature", "tabindex"]) each.removeAttribute(name);
    });
    group.append(...copy.childNodes);
    root.append(group);
  });
  return new XMLSerializer().serializeToString(root);
}

// An SVG document, drawn.
async function pngOfSvg(text) {
  const picture = new Image();
  picture.src = `data:image/svg+xml,${encodeURIComponent(text)}`; // which a saved page may load, too
  await picture.decode();
  const [whole, context] = onPaper(SCALE * picture.naturalWidth, SCALE * picture.naturalHeight, false);
  context.drawImage(picture, 0, 0, whole.width, whole.height);
  return asPng(whole);
}

// The two buttons of a picture; svg: gives the document; png: a promise of the picture.
const pictureButtons = (name, root, svg, png) => [
  button("SVG", () => download(`${name}.svg`, svg(), "image/svg+xml", root), { title: "the picture as a file" }),
  button("PNG", () => png().then((blob) => download(`${name}.png`, blob, "image/png", root)), { title: "the picture as pixels" }),
];
