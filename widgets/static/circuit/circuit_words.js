// What a circuit says in words: the selection with what it comes from and goes to, the point under the pointer, the list of all that is shown.

const N_LINES = 12; // edges of a side that are written out
const N_ROWS = 15; // nodes of the list, until more are asked for
const N_ENDS = 3; // edges of each side in a row of the list

function valued(scene, i) {
  const { effect, attribution, activation } = scene.data.nodes;
  const parts = [];
  if (effect[i] != null) parts.push(`effect ${number(effect[i])}`);
  else if (attribution[i] != null) parts.push(`attribution ${number(attribution[i])}`);
  if (scene.data.nodes.kind[i] === "feature" && activation[i] != null) parts.push(`activation ${brief(activation[i])}`);
  parts.push(`influence ${brief(scene.influence[i])}`);
  return parts.join(" · ");
}

const summed = (scene, edges) => edges.reduce((sum, e) => sum + scene.links.weights[e], 0);

// One sentence for those who listen, and the heading of what follows.
function saidParts(scene) {
  const { model, data } = scene;
  const name = model.get("group");
  const rows = scene.meant();
  if (!rows.length) return [model.get("node") ? `${visible(model.get("node"))} is no node of this circuit.` : node("span", { class: "wbp-faint" }, "Nothing is selected.")];
  const hidden = rows.filter((i) => !scene.isDrawn(i)).length;
  const away = hidden ? ` · ${rows.length > 1 ? `${count(hidden)} of them` : "it"} below the thresholds: not drawn` : "";
  if (name) {
    const own = rows.reduce((sum, i) => sum + (scene.value(i) ?? 0), 0);
    const together = model.get("together")[name];
    const known = together == null ? "" : ` · switched off together: ${number(together)}`;
    return [node("b", {}, visible(name)), ` · a group of ${several(rows.length, "node")} · their own effects come to ${number(own)}${known}${scene.groupRow.has(name) ? " · collapsed" : ""}${away}`];
  }
  const [i] = rows;
  const inside = scene.end[i] === i ? "" : `in the collapsed group ${visible(scene.groupChosen())}`;
  const marks = [inside, scene.pinned[i] ? "pinned" : "", model.get("marked").includes(data.nodes.id[i]) ? "marked" : ""].filter(Boolean);
  return [node("b", {}, scene.words(i)), ` · ${[valued(scene, i), ...marks].join(" · ")}${away}`];
}

// What the chosen comes from, or goes to: the strongest edges, each a button that goes there.
function linksPart(scene, ends, select) {
  const rows = scene.chosen();
  const isOut = ends === "sources";
  const edges = scene.edgesOf(rows, ends);
  const other = scene.links[isOut ? "targets" : "sources"];
  const scale = edges.length ? Math.abs(scene.links.weights[edges[0]]) : 1;
  const lines = edges.slice(0, N_LINES).map((e) => {
    const weight = scene.links.weights[e];
    const go = button("", () => select(other[e]), { class: "wbx-link" });
    go.append(node("span", { class: "wbx-weight" }, number(weight, true, Math.min(scale, 1))), bar(weight, scale), node("span", {}, scene.words(other[e])));
    return node("li", {}, go);
  });
  const rest = edges.length > N_LINES ? [node("p", { class: "wbp-faint" }, `and ${count(edges.length - N_LINES)} weaker`)] : [];
  const heading = node("h5", {}, isOut ? "Goes to" : "Comes from", node("span", { class: "wbp-faint" }, edges.length ? ` ${several(edges.length, "edge")}, weights come to ${number(summed(scene, edges))}` : " nothing that is shown"));
  return node("section", { "data-ends": ends }, heading, node("ol", { class: "wbx-links" }, ...lines), ...rest);
}

// As long as a share, in the sign's color; opposed: hatched.
function bar(value, scale) {
  const made = node("i", { class: value < 0 ? "wbx-bar wbx-against" : "wbx-bar", "aria-hidden": "true" });
  made.style.width = `${Math.round(46 * Math.min(Math.abs(value) / (scale || 1), 1))}px`;
  return made;
}

function drawCircuitTip(tip, scene, i) {
  tip.hidden = i < 0;
  if (i < 0) return;
  tip.replaceChildren(node("b", {}, scene.words(i)), node("div", {}, valued(scene, i)));
  const [x, y] = [scene.px[i], scene.py[i]];
  const isRight = x > scene.width / 2;
  Object.assign(tip.style, { left: isRight ? "" : `${x + 16}px`, right: isRight ? `${scene.width - x + 16}px` : "", top: `${Math.max(Math.min(y - 20, scene.height - 70), 4)}px` });
}

function totals(scene) {
  const { data, n_kept, nodes, links, groups } = scene;
  const all = `${count(n_kept[0])} of ${several(data.n, "node")}, ${count(n_kept[1])} of ${several(data.n_edges, "edge")}`;
  const isAll = !groups.length && n_kept[0] <= MOST_NODES && n_kept[1] <= MOST_DRAWN;
  const joined = groups.length ? `${several(groups.length, "group")} collapsed, drawn are` : "drawn are the strongest";
  return isAll ? all : `${all}; ${joined} ${count(nodes.length)} and ${count(links.n)}`;
}

// The list: what the picture shows, the largest first.
function drawWords(body, more, scene, select, n_rows) {
  const rows = (scene.found ?? scene.bySize).slice(0, n_rows);
  const scale = Math.max(...scene.nodes.map((i) => Math.abs(scene.value(i) ?? 0)), 1e-9);
  const ends = (i, mine, other) => {
    const found = scene.edgesOf([i], mine);
    const lines = found.slice(0, N_ENDS).map((e) => node("div", {}, `${number(scene.links.weights[e])} ${scene.words(scene.links[other][e])}`));
    return [...lines, found.length > N_ENDS ? node("div", { class: "wbp-faint" }, `and ${count(found.length - N_ENDS)} more`) : null].filter(Boolean);
  };
  body.replaceChildren(...rows.map((i) => {
    const go = button(scene.words(i), () => select(i), { class: "wbx-link", "data-row": i });
    const value = node("td", { class: "wbp-number" }, number(scene.value(i)), bar(scene.value(i) ?? 0, scale));
    const line = node("tr", {}, value, node("td", {}, go), node("td", {}, ...ends(i, "targets", "sources")), node("td", {}, ...ends(i, "sources", "targets")));
    line.removeAttribute("data-lm-suppress-shortcuts");
    return line;
  }));
  const left = (scene.found ?? scene.bySize).length - rows.length;
  more.hidden = left <= 0;
  more.textContent = `Show ${count(Math.min(left, 100))} more of ${count(left)}`;
}
