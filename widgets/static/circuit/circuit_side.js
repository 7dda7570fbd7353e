// Groups, marks and what was measured: drawn from the traits, changed by the hand. Python measures.

const N_MOVED = 14;

// Marks get a name; a node is in one group at most, so others let go of it (as Circuit.group does).
function grouped(groups, name, members) {
  const taken = new Set(members);
  const others = Object.entries(groups).filter(([other]) => other !== name).map(([other, has]) => [other, has.filter((id) => !taken.has(id))]);
  const before = Object.hasOwn(groups, name) ? groups[name].filter((id) => !taken.has(id)) : []; // under a name that there is, nodes join
  return { ...Object.fromEntries(others.filter(([, has]) => has.length)), [name]: [...before, ...members] };
}

// The groups of which something is shown, the largest first; a click chooses one. Written anew only where they say something else.
function drawGroups(box, scene, choose) {
  const { model, data } = scene;
  const known = Object.entries(model.get("groups") ?? {}).map(([name, members]) => ({ name, members, shown: members.filter((id) => data.row.has(id) && scene.isDrawn(data.row.get(id))).length }));
  const here = known.filter(({ shown }) => shown).sort((a, b) => b.shown - a.shown);
  const says = JSON.stringify([known.length, model.get("group"), ...here.map(({ name, members, shown }) => [name, members.length, shown, scene.groupRow.has(name)])]);
  if (box.wbxSays === says) return;
  box.wbxSays = says;
  const chips = here.slice(0, 40).map(({ name, members, shown }) => {
    const isChosen = model.get("group") === name;
    return button(`${scene.groupRow.has(name) ? "◆ " : ""}${visible(name)} ${shown === members.length ? count(shown) : `${count(shown)} of ${count(members.length)}`}`, () => choose(isChosen ? "" : name), { "aria-pressed": String(isChosen), "data-group": name });
  });
  const rest = known.length - here.length;
  const more = here.length > 40 ? `and ${count(here.length - 40)} more` : rest ? `${several(rest, "group")} below the thresholds` : "";
  box.replaceChildren(...chips, node("span", { class: "wbp-faint" }, known.length ? more : "No group yet: mark nodes with Space, then give them a name."));
}

// Predicted beside measured.
function movedParts(scene, select) {
  const { model, data } = scene;
  const moved = model.get("moved");
  if (!moved.rows) return [];
  const now = moved.members.length === scene.meant().length && scene.meant().every((i) => moved.members.includes(data.nodes.id[i]));
  const does = moved.value ? `at ${brief(moved.value)}` : "switched off";
  const title = node("h5", {}, `${moved.name} ${does}: what moves`, node("span", { class: "wbp-faint" }, now ? "" : " (another selection than now)"));
  const metric = [["clean", moved.clean], ["predicted by the edges", moved.predicted], ["measured", moved.measured]];
  const own = moved.own == null ? "" : ` Its members' own effects come to ${number(moved.own)}.`;
  const agree = moved.agreement == null ? "" : ` Over all that move, predicted and measured correlate ${number(moved.agreement, false)}.`;
  const said = node("p", {}, "The metric: ", ...metric.flatMap(([name, value], k) => [k ? ", " : "", `${name} `, node("b", {}, number(value))]), `.${own}${agree}`);
  const head = node("thead", {}, node("tr", {}, ...["node", "clean", "predicted", "measured"].map((text, k) => node("th", { scope: "col", class: k ? "wbp-number" : null }, text))));
  const lines = moved.rows.slice(0, N_MOVED).map(([id, clean, predicted, measured]) => {
    const i = data.row.get(id);
    const go = button(i == null ? visible(id) : scene.words(i), () => select(i), { class: "wbx-link" });
    return node("tr", {}, node("td", {}, go), ...[clean, predicted, measured].map((value) => node("td", { class: "wbp-number" }, number(value, false))));
  });
  const rest = moved.n_moved > N_MOVED ? [node("p", { class: "wbp-faint" }, `and ${count(moved.n_moved - N_MOVED)} that move less`)] : [];
  const table = node("table", {}, node("caption", { class: "wbp-hidden" }, "activations of other features"), head, node("tbody", {}, ...lines));
  for (const line of table.querySelectorAll("tr")) line.removeAttribute("data-lm-suppress-shortcuts");
  return [title, said, node("p", { class: "wbp-faint" }, "Activations of the other features, those that move most:"), table, ...rest];
}
