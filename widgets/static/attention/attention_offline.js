// A saved page holds CircuitsVis itself, where there is something to draw.

export function answer(model, data) {
  if (data.bundle) model.set("bundle", data.bundle);
}
