// A Scene on two canvases: the points with their names, and over them what the hand does.

function paintPoints(canvas, scene) {
  scene.place();
  const context = canvas.getContext("2d");
  splat(context, scene.order, scene.px, scene.py, scene.colors, scene.data.saes, scene.radius);
  const [ink, paper] = scene.isDark ? ["#f2f3f5", "rgb(17 18 21 / 0.85)"] : ["#15171b", "rgb(255 255 255 / 0.88)"];
  writeNames(context, scene.names(), 40, ink, paper, 11.5 * scene.dpr);
}

// The ranking's points, the point under the pointer, the selection, a lasso that is being drawn.
function paintOver(canvas, scene) {
  const { isDark, dpr, px, py, line, hovered } = scene;
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  const ink = isDark ? "#fff" : "#000";
  const ring = (i, r, width, paint) => {
    context.beginPath();
    context.arc(px[i], py[i], r, 0, 7);
    Object.assign(context, { lineWidth: width * dpr, strokeStyle: paint });
    context.stroke();
  };
  for (const i of scene.ringed) {
    ring(i, scene.radius + 3 * dpr, 3, isDark ? "rgb(0 0 0 / 0.55)" : "rgb(255 255 255 / 0.75)");
    ring(i, scene.radius + 3 * dpr, 1.5, isDark ? "rgb(255 160 80)" : "rgb(200 80 0)");
  }
  if (hovered >= 0) ring(hovered, scene.radius + 4 * dpr, 1.5, ink);
  const i = scene.selected();
  if (i >= 0) {
    ring(i, scene.radius + 6 * dpr, 5, isDark ? "rgb(0 0 0 / 0.6)" : "rgb(255 255 255 / 0.8)");
    ring(i, scene.radius + 6 * dpr, 2.5, isDark ? "rgb(255 140 50)" : "rgb(210 80 0)");
  }
  if (line.length < 2) return;
  context.beginPath();
  line.forEach(([x, y]) => context.lineTo(x * dpr, y * dpr));
  context.closePath();
  Object.assign(context, { fillStyle: "rgb(44 123 182 / 0.15)", strokeStyle: ink, lineWidth: 1.5 * dpr });
  context.fill();
  context.stroke();
}
