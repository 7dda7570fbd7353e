// What the hand does in the picture: drag to move, wheel to zoom, click to select, Shift+click to mark, double click to open a group; keys walk along layers and edges.
// acts: { look, zoomBy, select, mark, pin, name, fold, ablate, search, links, clear, hover }

const NEAR = 9; // pixels: how far from a node's edge a click still means it
const STEP = 1.3;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function listenToCircuitPointer(over, scene, acts) {
  let hold = null;
  over.onpointerdown = (event) => {
    if (event.button) return;
    over.focus({ preventScroll: true });
    over.setPointerCapture(event.pointerId);
    hold = { x: event.offsetX, y: event.offsetY, look: scene.look, hasMoved: false };
    acts.hover(-1);
  };
  over.onpointermove = (event) => {
    if (!hold) return acts.hover(scene.nearest(event.offsetX, event.offsetY, NEAR));
    hold.hasMoved ||= Math.hypot(event.offsetX - hold.x, event.offsetY - hold.y) > 4;
    const [cx, cy, zoom] = hold.look;
    const [ux, uy] = scene.units;
    if (hold.hasMoved) acts.look(cx - (event.offsetX - hold.x) / ux / zoom, cy + (event.offsetY - hold.y) / uy / zoom, zoom);
  };
  over.onpointerup = (event) => {
    const held = hold;
    hold = null;
    if (!held || held.hasMoved) return;
    const i = scene.nearest(event.offsetX, event.offsetY, NEAR);
    if (i >= 0) event.shiftKey ? acts.mark(i) : acts.select(i);
  };
  over.onpointercancel = () => (hold = null);
  over.onpointerleave = () => acts.hover(-1);
  over.ondblclick = (event) => {
    const i = scene.nearest(event.offsetX, event.offsetY, NEAR);
    if (i < 0) acts.zoomBy(STEP * STEP, event.offsetX, event.offsetY);
    else if (scene.groupChosen()) acts.fold(); // the first of its clicks has chosen it
  };
  over.addEventListener("wheel", (event) => {
    if (over.getRootNode().activeElement !== over && !event.ctrlKey && !event.metaKey) return; // a page scrolls past a picture that is not in use
    event.preventDefault();
    acts.zoomBy(Math.exp(-Math.sign(event.deltaY) * Math.min(Math.abs(event.deltaY), 120) * 0.0025), event.offsetX, event.offsetY);
  }, { passive: false });
}

function listenToCircuitKeys(over, scene, acts) {
  const does = {
    "+": () => acts.zoomBy(STEP),
    "=": () => acts.zoomBy(STEP),
    "-": () => acts.zoomBy(1 / STEP),
    "0": () => acts.look(),
    " ": () => acts.mark(scene.selected()),
    p: () => acts.pin(),
    g: () => acts.name(),
    c: (event) => (event.shiftKey ? acts.foldAll() : acts.fold()),
    a: () => acts.ablate(),
    "/": () => acts.search(),
    "[": () => follow(scene, acts, "targets"),
    "]": () => follow(scene, acts, "sources"),
    Enter: () => acts.links(),
    Escape: () => acts.clear(),
  };
  over.onkeydown = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const arrow = ARROWS[event.key];
    const act = does[event.key] ?? does[event.key.toLowerCase()];
    if (arrow && event.shiftKey) {
      const [cx, cy, zoom] = scene.look;
      acts.look(cx + (0.15 * arrow[0] * scene.extent[0]) / zoom, cy - (0.15 * arrow[1] * scene.extent[1]) / zoom, zoom);
    } else if (arrow) walkCircuit(scene, acts, ...arrow);
    else if (act) act(event);
    else return;
    event.preventDefault();
  };
}

// From the selection to the next node; without one, to the largest.
function walkCircuit(scene, acts, dx, dy) {
  const from = scene.selected();
  const to = from < 0 || !scene.isShown[from] ? (scene.bySize[0] ?? -1) : scene.toward(from, dx, dy);
  if (to >= 0) acts.select(to);
}

// Along the strongest edge: to what the selection comes from most ("targets": edges into it) or to what it goes to most.
function follow(scene, acts, ends) {
  const [strongest] = scene.edgesOf(scene.chosen(), ends);
  if (strongest != null) acts.select(scene.links[ends === "targets" ? "sources" : "targets"][strongest]);
}
