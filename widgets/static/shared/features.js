// The first page of an exported folder: which features match what is typed, sorted by a column. Text enters as text nodes.

const state = JSON.parse(document.getElementById("state").textContent);
const box = document.querySelector("input");
const body = document.querySelector("table.features tbody");
const MOST = 200;
const sorting = { by: "", sign: -1 };
for (const row of state.rows) row.words = [row.label, ...row.active_on, ...row.promoted].join(" ").toLowerCase();

function element(tag, content, className = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.append(...[content].flat());
  return made;
}

function line(row) {
  const link = element("a", row.name);
  link.href = `${row.feature}.html`;
  const chips = (tokens) => element("td", tokens.map((token) => element("code", token)));
  const label = element("td", row.label);
  label.dir = "auto";
  const numbers = ["density", "max_act", ...(state.scored ? ["input", "output"] : [])].map((name) => element("td", row[name], "number"));
  const made = element("tr", [element("td", link, "number"), label, ...numbers]);
  made.append(chips(row.active_on), chips(row.promoted));
  return made;
}

// Every word must occur; a number alone also finds that feature. A word in the label counts more than one among the tokens.
function matches(row, words) {
  return words.every((word) => row.words.includes(word) || word === String(row.feature));
}

// What is not known stands last, whichever way.
function compare(a, b) {
  const [x, y] = [a.sorts[sorting.by], b.sorts[sorting.by]];
  return (x === null) - (y === null) || sorting.sign * (x - y);
}

function show() {
  const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
  const found = state.rows.filter((row) => matches(row, words));
  const weight = (row) => words.filter((word) => row.label.toLowerCase().includes(word) || word === String(row.feature)).length;
  if (sorting.by) found.sort(compare);
  else if (words.length) found.sort((a, b) => weight(b) - weight(a));
  body.replaceChildren(...found.slice(0, MOST).map(line));
  const shown = found.length > MOST ? `; the first ${MOST} are shown` : "";
  const are = found.length === 1 ? "feature matches" : "features match";
  document.getElementById("found").textContent = words.length
    ? `${found.length.toLocaleString("en-US")} of ${state.rows.length.toLocaleString("en-US")} ${are}${shown}`
    : `${state.rows.length.toLocaleString("en-US")} features${shown}`;
}

for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const by = button.dataset.by;
    Object.assign(sorting, { by, sign: sorting.by === by ? -sorting.sign : by === "feature" ? 1 : -1 });
    for (const head of document.querySelectorAll("th[aria-sort]")) head.setAttribute("aria-sort", "none");
    button.parentElement.setAttribute("aria-sort", sorting.sign > 0 ? "ascending" : "descending");
    show();
  });
}
box.addEventListener("input", show);
box.addEventListener("keydown", (event) => {
  const first = body.querySelector("a");
  if (event.key === "Enter" && first) first.click();
});
show();
box.focus();
