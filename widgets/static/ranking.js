// Draws a paged table of ranked features and the page of the selected one. It only draws: whoever holds the model (Python in a notebook,
// page.js in a saved page) sorts, filters and cuts pages, and answers changes of
//   sort_by, is_descending, query, page, is_summed, feature      with new values of      view, detail.
// All text enters as text nodes: tokens and labels are data.

const SIGNED = ["attribution", "effect"];
// JupyterLab would cut the cell at a pressed `x`. It looks for this attribute from the focused element on, and its shortcuts match that
// element itself (":focus"): an attribute on the root alone comes too late.
const FOCUSABLE = ["button", "input", "tr"];

function node(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value != null) made.setAttribute(name, value);
  if (FOCUSABLE.includes(tag)) made.setAttribute("data-lm-suppress-shortcuts", "true");
  made.append(...children.filter((child) => child != null));
  return made;
}

// Decimals for a column whose largest value is `scale`, as in widgets/marks.py.
function number(value, isSigned = true, scale = 1) {
  if (value == null) return "–";
  const digits = scale >= 1 || scale <= 0 ? 2 : Math.min(2 - Math.floor(Math.log10(scale)), 9);
  const text = Math.abs(value).toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return (value < 0 ? "−" : isSigned ? "+" : "") + text;
}

const count = (n) => n.toLocaleString("en-US");
const sign = (name, value) => (SIGNED.includes(name) ? (value > 0 ? "supports" : "opposes") : "active");

// One number with its rank and, under it, a bar as long as its share of the largest.
function measure(column, row, scale) {
  const value = row[column.name];
  const bar = node("i", { class: `wbr-fill ${sign(column.name, value)}` });
  bar.style.width = `${value == null || !scale ? 0 : (100 * Math.abs(value)) / scale}%`;
  const rank = row.ranks[column.name];
  return node(
    "td",
    { class: "wbr-measure", title: value == null ? "not measured" : `${column.name} ${value}, rank ${rank}` },
    node("span", { class: "wbr-rank" }, rank == null ? "" : `#${count(rank)}`),
    node("span", {}, number(value, SIGNED.includes(column.name), scale)),
    node("div", { class: "wbr-track" }, bar),
  );
}

function cell(column, row, scales) {
  if (column.kind === "measure") return measure(column, row, scales[column.name]);
  const text = String(row[column.name] ?? "");
  if (column.kind === "token") return node("td", {}, node("code", {}, text));
  return node("td", { class: column.kind === "integer" ? "wbr-integer" : "wbr-text", title: column.kind === "text" ? text : null }, text);
}

// Tokens shaded by signed values (null: not shaded); the sign shows as color and as a solid or dashed line.
function shaded(tokens, values, name, scale) {
  const line = node("p", { class: "wbr-tokens" });
  tokens.forEach((token, i) => {
    const value = values[i];
    if (value == null) return line.append(token);
    const mark = node("span", { class: `wbr-mark ${sign(name, value)}`, title: `${name} ${number(value, SIGNED.includes(name), scale)}` }, token);
    mark.style.setProperty("--shade", `${Math.round(8 + 47 * (scale ? Math.min(Math.abs(value) / scale, 1) : 0))}%`);
    line.append(mark);
  });
  return line;
}

function detail({ feature, label, measures, tokens, name, values, scale, examples, message }) {
  const title = node("h4", {}, node("b", {}, label || `feature ${feature}`), label ? ` feature ${feature}` : "");
  const sums = measures.map((m) =>
    node("span", { class: "wbr-sum" }, `${m.name} `, node("b", {}, number(m.value, SIGNED.includes(m.name), m.scale)), m.rank == null ? "" : ` #${count(m.rank)}`),
  );
  const parts = [title, node("div", { class: "wbr-sums" }, ...sums, "summed over positions"), shaded(tokens, values, name, scale)];
  if (examples.length) parts.push(node("h5", {}, "Where it is most active"));
  const list = node("ol", {});
  for (const example of examples) {
    list.append(node("li", {}, node("span", { class: "wbr-integer" }, number(example.max, false, example.scale)), shaded(example.tokens, example.activations, "activation", example.scale)));
  }
  if (examples.length) parts.push(list);
  if (message) parts.push(node("p", { class: "wbr-note" }, message));
  return parts;
}

function render({ model, el }) {
  const root = node("div", { class: "wbr" });
  const query = node("input", { type: "search", "aria-label": "Filter rows", placeholder: "filter:  lakers  effect>0.1  pos=8", spellcheck: "false" });
  const summed = node("input", { type: "checkbox" });
  const status = node("span", { class: "wbr-status", role: "status" });
  const head = node("thead");
  const body = node("tbody");
  const [previous, next] = ["‹ Previous", "Next ›"].map((text) => node("button", { type: "button" }, text));
  const where = node("span");
  const selected = node("section", { class: "wbr-detail", "aria-live": "polite" });
  root.append(
    node("div", { class: "wbr-bar" }, query, node("label", {}, summed, " sum over positions"), status),
    node("div", { class: "wbr-scroll" }, node("table", { role: "grid", "aria-label": "Features, ranked" }, head, body)),
    node("div", { class: "wbr-pager" }, previous, where, next, node("span", { class: "wbr-hint" }, "↑ ↓ choose a feature")),
    selected,
  );
  el.append(root);

  let at = 0; // the row that Tab reaches
  let isArriving = false; // a key turned the page: when it comes, choose its row `at`
  const change = (values) => {
    for (const [name, value] of Object.entries(values)) model.set(name, value);
    model.save_changes();
  };
  const reach = (i) => {
    at = i;
    [...body.children].forEach((line, place) => (line.tabIndex = place === i ? 0 : -1));
    body.children[i]?.focus();
  };
  const choose = (row) => change({ feature: row.feature });
  const sort = ({ name, kind }) => {
    const isSame = model.get("sort_by") === name;
    change({ sort_by: name, is_descending: isSame ? !model.get("is_descending") : kind === "measure", page: 0 });
  };

  function drawHead({ columns }) {
    const hadFocus = document.activeElement?.closest?.("th")?.dataset.column;
    head.replaceChildren(
      node("tr", {}, ...columns.map((column) => {
        const isSorted = model.get("sort_by") === column.name;
        const arrow = isSorted ? (model.get("is_descending") ? "▼" : "▲") : "";
        const order = isSorted ? (model.get("is_descending") ? "descending" : "ascending") : "none";
        const button = node("button", { type: "button" }, column.title, node("span", { class: "wbr-arrow", "aria-hidden": "true" }, arrow));
        button.onclick = () => sort(column);
        return node("th", { scope: "col", class: `wbr-${column.kind}`, "aria-sort": order, "data-column": column.name }, button);
      })),
    );
    if (hadFocus && root.contains(head)) head.querySelector(`[data-column="${hadFocus}"] button`)?.focus();
  }

  function drawBody({ columns, rows, scales }) {
    const hadFocus = body.contains(document.activeElement);
    at = Math.min(at, Math.max(rows.length - 1, 0));
    const lines = rows.map((row, i) => {
      const line = node("tr", { tabindex: i === at ? 0 : -1, "aria-selected": row.feature === model.get("feature") }, ...columns.map((column) => cell(column, row, scales)));
      line.onclick = () => {
        reach(i);
        choose(row);
      };
      return line;
    });
    body.replaceChildren(...lines);
    if (hadFocus) body.children[at]?.focus();
  }

  function drawView() {
    const view = model.get("view");
    drawHead(view);
    drawBody(view);
    const last = view.first + view.rows.length;
    status.textContent = view.message || (view.n_matching === view.n_rows ? `${count(view.n_rows)} ${view.unit}` : `${count(view.n_matching)} of ${count(view.n_rows)} ${view.unit}`);
    status.classList.toggle("wbr-wrong", Boolean(view.message));
    where.textContent = view.rows.length ? `${count(view.first + 1)}–${count(last)} of ${count(view.n_matching)}` : "nothing matches";
    previous.disabled = view.first === 0;
    next.disabled = last >= view.n_matching;
    if (isArriving && view.rows[at]) {
      isArriving = false;
      choose(view.rows[at]);
    }
  }

  function drawControls() {
    if (document.activeElement !== query) query.value = model.get("query");
    summed.checked = model.get("is_summed");
  }

  function drawDetail() {
    const shown = model.get("detail");
    selected.replaceChildren(...(shown.feature == null ? [] : detail(shown)));
    const { rows } = model.get("view");
    [...body.children].forEach((line, i) => line.setAttribute("aria-selected", rows[i]?.feature === shown.feature));
  }

  function move(key) {
    const { rows, first, n_matching } = model.get("view");
    const page = model.get("page");
    const hasNext = first + rows.length < n_matching;
    const turn = (by, row) => {
      at = row;
      isArriving = true;
      change({ page: page + by });
    };
    if (key === "PageDown" || (key === "ArrowDown" && at === rows.length - 1)) return hasNext && turn(1, 0);
    if (key === "PageUp" || (key === "ArrowUp" && at === 0)) return page > 0 && turn(-1, key === "ArrowUp" ? Infinity : 0);
    reach({ ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1, Enter: at, " ": at }[key]);
    if (rows[at]) choose(rows[at]);
  }

  let typing;
  query.oninput = () => {
    clearTimeout(typing);
    typing = setTimeout(() => change({ query: query.value, page: 0 }), 150);
  };
  summed.onchange = () => change({ is_summed: summed.checked, page: 0 });
  previous.onclick = () => change({ page: model.get("page") - 1 });
  next.onclick = () => change({ page: model.get("page") + 1 });
  body.onkeydown = (event) => {
    if (!["ArrowDown", "ArrowUp", "Home", "End", "PageDown", "PageUp", "Enter", " "].includes(event.key)) return;
    event.preventDefault();
    move(event.key);
  };

  const draws = [["change:view", drawView], ["change:detail", drawDetail], ["change:query", drawControls], ["change:is_summed", drawControls]];
  for (const [event, draw] of draws) model.on(event, draw);
  drawControls();
  drawView();
  drawDetail();
  return () => draws.forEach(([event, draw]) => model.off(event, draw));
}

export default { render };
