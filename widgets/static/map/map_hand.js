// What the hand does on the map: drag to move, wheel to zoom, click to select, Shift-drag for a lasso; arrow keys walk from point to point.
// acts: { look, zoomBy, select, enclose, hover, repaintOver } – what it asks for; isLasso: is the lasso's button pressed?

const NEAR = 14; // pixels: how far from a point a click still means it
const STEP = 1.35; // one step of the zoom
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function listenToPointer(over, scene, acts, isLasso) {
  let hold = null; // a pointer that is down: where it began, and the middle of the view then
  over.onpointerdown = (event) => {
    if (event.button) return;
    over.focus({ preventScroll: true });
    over.setPointerCapture(event.pointerId);
    const draws = event.shiftKey || isLasso();
    hold = { x: event.offsetX, y: event.offsetY, view: [...scene.model.get("view")], draws, hasMoved: false };
    scene.line = draws ? [[event.offsetX, event.offsetY]] : [];
    acts.hover(-1);
  };
  over.onpointermove = (event) => {
    if (!hold) return acts.hover(scene.nearest(event.offsetX, event.offsetY, NEAR));
    hold.hasMoved ||= Math.hypot(event.offsetX - hold.x, event.offsetY - hold.y) > 4;
    if (hold.draws) {
      scene.line.push([event.offsetX, event.offsetY]);
      return acts.repaintOver();
    }
    const [cx, cy, zoom] = hold.view;
    if (hold.hasMoved) acts.look(cx - (event.offsetX - hold.x) / scene.perUnit, cy + (event.offsetY - hold.y) / scene.perUnit, zoom);
  };
  over.onpointerup = (event) => {
    const held = hold;
    hold = null;
    if (!held) return;
    if (held.draws && held.hasMoved) return acts.enclose();
    scene.line = [];
    const i = held.hasMoved ? -1 : scene.nearest(event.offsetX, event.offsetY, NEAR);
    if (i >= 0) acts.select(i);
  };
  const letGo = () => ([hold, scene.line] = [null, []]);
  over.onpointercancel = letGo;
  over.onpointerleave = () => acts.hover(-1);
  over.ondblclick = (event) => acts.zoomBy(STEP * STEP, event.offsetX, event.offsetY);
  over.addEventListener("wheel", (event) => {
    if (over.getRootNode().activeElement !== over && !event.ctrlKey && !event.metaKey) return; // a page scrolls past a map that is not in use
    event.preventDefault();
    acts.zoomBy(Math.exp(-Math.sign(event.deltaY) * Math.min(Math.abs(event.deltaY), 120) * 0.0025), event.offsetX, event.offsetY);
  }, { passive: false });
  return letGo;
}

// letGo: forgets a pointer that is down.
function listenToKeys(over, scene, acts, letGo) {
  over.onkeydown = (event) => {
    const { model } = scene;
    const [cx, cy, zoom] = model.get("view");
    const arrow = ARROWS[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (arrow && event.shiftKey) acts.look(cx + (0.2 * arrow[0]) / zoom, cy - (0.2 * arrow[1]) / zoom, zoom);
    else if (arrow) walk(scene, acts, ...arrow);
    else if (event.key === "+" || event.key === "=") acts.zoomBy(STEP);
    else if (event.key === "-") acts.zoomBy(1 / STEP);
    else if (event.key === "0") acts.look(0, 0, 1);
    else if (event.key === "Escape" && (model.get("lassoed").length || scene.line.length)) {
      letGo();
      change(model, { lassoed: [] });
      acts.repaintOver();
    } else if (event.key === "Escape") change(model, { feature: null });
    else return;
    event.preventDefault();
  };
}

// From the selection to the next point in a direction; without one, to what is nearest to the middle.
function walk(scene, acts, dx, dy) {
  const from = scene.selected();
  const [width, height] = scene.size;
  const isStart = from < 0 || !scene.isShown[from];
  const to = isStart ? scene.nearest(width / 2, height / 2, Infinity) : scene.toward(from, dx, dy);
  if (to < 0) return;
  const [x, y] = [scene.px[to] / scene.dpr, scene.py[to] / scene.dpr];
  if (x < 0 || y < 0 || x > width || y > height) acts.look(scene.data.x[to], scene.data.y[to], scene.model.get("view")[2]);
  acts.select(to);
}
