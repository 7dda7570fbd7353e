// Draws a paged table of ranked features, or pictures of them, and the chosen feature on the prompt. It only draws: whoever holds the rows
// (Python in a notebook, ranking_offline.js in a saved page) sorts, filters and cuts pages, and answers changes of
//   sort_by, is_descending, query, page, is_summed, shows, feature      with new values of      view, detail, picture.

const SIGNED = ["attribution", "effect"];
const sign = (name, value) => (SIGNED.includes(name) ? (value > 0 ? "supports" : "opposes") : "active");

const percentOf = (value, metric) => (metric ? `${((100 * value) / metric).toFixed(Math.abs(value / metric) < 0.0995 ? 1 : 0).replace("-", "−")} %` : "");
const WORDS = {
  feature: "the feature's number in this SAE",
  label: "what the feature is called. The number behind it: how well that fits, by the measure of who said it (F1 on the answer key's texts); 1 is best",
  token: "the token of the prompt at which it is active",
  pos: "that token's position, counted from 0",
  n_pos: "positions at which it is active",
  activation: "how active it is there. #: its rank in this order",
  attribution: "what it gives to the metric, estimated from one gradient. #: its rank in this order",
  effect: "what the metric loses when it is set to 0 there, measured. #: its rank in this order",
};

// One number with its rank and, under it, a bar as long as its share of the largest.
function measure(column, row, scale, digits, metric) {
  const value = row[column.name];
  const bar = node("i", { class: `wbr-fill ${sign(column.name, value)}` });
  bar.style.width = `${value == null || !scale ? 0 : (100 * Math.abs(value)) / scale}%`;
  const rank = row.ranks[column.name];
  return node(
    "td",
    { class: "wbr-measure", title: value == null ? "not measured" : `${column.name} ${value}, rank ${rank}${SIGNED.includes(column.name) && metric ? `; ${percentOf(value, metric)} of ${alone(metric)}` : ""}` },
    node("span", { class: "wbr-rank" }, rank == null ? "" : `#${count(rank)}`),
    node("span", {}, number(value, SIGNED.includes(column.name), digits)),
    node("div", { class: "wbr-track" }, bar),
  );
}

function cell(column, row, { scales, digits = scales }, metric) {
  if (column.kind === "measure") return measure(column, row, scales[column.name], digits[column.name], metric);
  const text = String(row[column.name] ?? "");
  if (column.kind === "token") return node("td", { class: "wbr-token", title: text }, node("code", {}, text));
  return node("td", { class: column.kind === "integer" ? "wbr-integer" : "wbr-text", title: column.kind === "text" ? text : null, dir: column.kind === "text" ? "auto" : null }, text);
}

// Tokens shaded by signed values (null: not shaded); the sign shows as color and as a solid or dashed line.
function signed(tokens, values, name, scale) {
  const line = node("p", { class: "wbr-tokens" });
  tokens.forEach((token, i) => {
    const value = values[i];
    if (value == null) return line.append(inLines(token));
    const mark = node("span", { class: `wbr-mark ${sign(name, value)}`, title: `${name} ${number(value, SIGNED.includes(name), scale)}` }, inLines(token));
    mark.style.setProperty("--shade", `${Math.round(8 + 47 * (scale ? Math.min(Math.abs(value) / scale, 1) : 0))}%`);
    line.append(mark);
  });
  return line;
}

function detail({ feature, label, measures, tokens, name, values, scale, metric, examples, message }) {
  const title = node("h4", {}, node("b", {}, label || `feature ${feature}`), label ? ` feature ${feature}` : "");
  const sums = measures.map((m) =>
    node("span", { class: "wbr-sum" }, `${m.name} `, node("b", {}, number(m.value, SIGNED.includes(m.name), m.scale)), m.rank == null ? "" : ` #${count(m.rank)}`, m.name === "effect" && m.value != null && metric ? ` · ${percentOf(m.value, metric)} of ${alone(metric)}` : ""),
  );
  const parts = [title];
  if (measures.length) parts.push(node("div", { class: "wbr-sums" }, ...sums, "summed over positions"));
  parts.push(signed(tokens, values, name, scale));
  if (examples.length) parts.push(node("h5", {}, "Where it is most active"));
  const list = node("ol", {});
  for (const example of examples) {
    list.append(node("li", {}, node("span", { class: "wbr-integer" }, number(example.max, false, example.scale)), signed(example.tokens, example.activations, "activation", example.scale)));
  }
  if (examples.length) parts.push(list);
  if (message) parts.push(node("p", { class: "wbr-note" }, message));
  return parts;
}

function render({ model, el }) {
  const root = node("div", { class: "wbp wbr" });
  const query = node("input", { type: "search", "aria-label": "Filter rows", placeholder: "filter: lakers", title: "words, a feature's number, and conditions such as effect>0.1 pos=8", spellcheck: "false" });
  const summed = node("input", { type: "checkbox", "aria-label": "sum over positions", title: "one row a feature, summed over positions" });
  const status = node("span", { class: "wbr-status", role: "status" });
  const views = node("div", { class: "wbr-views", role: "group", "aria-label": "Show as" });
  const names = { table: "Table", ranks: "Ranks", agreement: "Agreement" };
  for (const [shows, text] of Object.entries(names)) views.append(button(text, () => change(model, { shows }), { "data-shows": shows }));
  const head = node("thead");
  const body = node("tbody");
  const previous = button("‹ Previous", () => change(model, { page: model.get("page") - 1 }));
  const next = button("Next ›", () => change(model, { page: model.get("page") + 1 }));
  const where = node("span");
  const hint = node("span", { class: "wbr-hint" });
  const selected = node("section", { class: "wbr-detail", "aria-label": "The chosen feature" }); // the row is read as it is chosen: this is long
  const rows = node(
    "div",
    {},
    node("div", { class: "wbr-scroll" }, node("table", { role: "grid", "aria-label": "Features, ranked" }, head, body)),
    node("div", { class: "wbr-pager" }, previous, where, next, model.isSaved ? null : button("CSV", () => model.send({ do: "csv" }), { title: "all rows that match, as a file" }), hint),
  );
  const drawing = node("div", { class: "wbr-drawing" });
  const drawn = () => [...drawing.querySelectorAll("svg")];
  const asSvg = () => svgFile(drawn(), isDark(root));
  const pictures = node("span", { class: "wbr-pictures" }, ...pictureButtons("ranking", root, asSvg, () => pngOfSvg(asSvg())));
  const filter = [query, node("label", {}, summed, " sum", node("span", { class: "wbr-long" }, " over positions")), status];
  const what = node("div", { class: "wbr-what" });
  const stale = node("div", { class: "wbr-stale", role: "status", hidden: true });
  const legend = node(
    "div", { class: "wbr-legend" },
    node("span", { title: "the metric falls when it is switched off" }, node("i", { class: "wbr-fill supports" }), " supports the answer"),
    node("span", { title: "the metric rises when it is switched off" }, node("i", { class: "wbr-fill opposes" }), " opposes it"),
    node("span", {}, node("i", { class: "wbr-fill" }), " activation has no sign"),
    node("span", { title: "1 is the largest" }, "#3: its rank in that column"),
  );
  const empty = node("p", { class: "wbr-empty" }, "No prompt was ranked yet.");
  const full = node("div", {}, what, stale, node("div", { class: "wbr-bar" }, views, ...filter, pictures), rows, drawing, legend, selected);
  root.append(empty, full);
  el.append(root);

  let at = 0; // the row that Tab reaches
  let isArriving = false; // a key turned the page: when it comes, choose its row `at`
  const reach = (i) => {
    at = i;
    [...body.children].forEach((line, place) => (line.tabIndex = place === i ? 0 : -1));
    body.children[i]?.focus();
  };
  // Marked rows make a group; a row that is summed over positions stands for all of them.
  const pairOf = (row) => [row.feature, row.pos ?? -1];
  const isMarked = (row) => model.get("marked").some(([feature, pos]) => feature === row.feature && (pos === (row.pos ?? -1) || pos < 0));
  function toggle(places, isOn = null) {
    const rows = places.map((i) => model.get("view").rows[i]).filter(Boolean);
    let now = model.get("marked");
    for (const row of rows) {
      const rest = now.filter(([feature, pos]) => feature !== row.feature || (pos !== (row.pos ?? -1) && pos >= 0));
      now = isOn ?? !isMarked(row) ? [...rest, pairOf(row)] : rest;
    }
    change(model, { marked: now });
  }
  const drawMarks = () => [...body.children].forEach((line, i) => line.classList.toggle("wbr-marked", Boolean(model.get("view").rows?.[i]) && isMarked(model.get("view").rows[i])));
  const mark = () => [...body.children].forEach((line, i) => line.setAttribute("aria-selected", model.get("view").rows?.[i]?.feature === model.get("feature")));
  const choose = ({ feature, pos }) => {
    change(model, { feature, pair: pos == null ? [] : [feature, pos] });
    mark(); // at once: what Python knows of it follows
  };
  const sort = ({ name, kind }) => {
    const isSame = model.get("sort_by") === name;
    change(model, { sort_by: name, is_descending: isSame ? !model.get("is_descending") : kind === "measure", page: 0 });
  };

  function drawHead({ columns }) {
    const hadFocus = root.contains(document.activeElement) ? document.activeElement.closest("th")?.dataset.column : null;
    head.replaceChildren(
      node("tr", {}, ...columns.map((column) => {
        const isSorted = model.get("sort_by") === column.name;
        const arrow = isSorted ? (model.get("is_descending") ? "▼" : "▲") : "";
        const order = isSorted ? (model.get("is_descending") ? "descending" : "ascending") : "none";
        const title = button(column.title, () => sort(column), { title: WORDS[column.name] });
        title.append(node("span", { class: "wbr-arrow", "aria-hidden": "true" }, arrow));
        return node("th", { scope: "col", class: `wbr-${column.kind}`, "aria-sort": order, "data-column": column.name }, title);
      })),
    );
    if (hadFocus) head.querySelector(`[data-column="${hadFocus}"] button`)?.focus();
  }

  function drawBody(view) {
    const { columns, rows } = view;
    const { metric } = model.get("question");
    const hadFocus = body.contains(document.activeElement);
    at = Math.min(at, Math.max(rows.length - 1, 0));
    const lines = rows.map((row, i) => {
      const line = node("tr", { tabindex: i === at ? 0 : -1, "aria-selected": String(row.feature === model.get("feature")) }, ...columns.map((column) => cell(column, row, view, metric)));
      line.onclick = (event) => {
        if (event.ctrlKey || event.metaKey) toggle([i]);
        else if (event.shiftKey) toggle(Array.from({ length: Math.abs(i - at) + 1 }, (_, k) => Math.min(i, at) + k), true);
        reach(i);
        choose(row);
      };
      return line;
    });
    body.replaceChildren(...lines);
    drawMarks();
    if (hadFocus) body.children[at]?.focus();
  }

  function drawView() {
    const view = model.get("view");
    empty.hidden = Boolean(view.rows);
    full.hidden = !view.rows;
    if (!view.rows) return;
    drawHead(view);
    drawBody(view);
    const last = view.first + view.rows.length;
    const left = view.n_left_out ? `; ${count(view.n_left_out)} of smaller effect are not in this page` : "";
    const n = view.n_matching === view.n_rows ? count(view.n_rows) : `${count(view.n_matching)} of ${count(view.n_rows)}`;
    status.textContent = view.message || `${n} ${view.unit.replace("(feature, position) ", "")}${left}`;
    status.title = view.unit;
    status.classList.toggle("wbp-wrong", Boolean(view.message));
    where.textContent = view.rows.length ? `${count(view.first + 1)}–${count(last)} of ${count(view.n_matching)}` : "nothing matches";
    previous.disabled = view.first === 0;
    next.disabled = last >= view.n_matching;
    drawHint();
    if (isArriving && view.rows[at]) {
      isArriving = false;
      choose(view.rows[at]);
    }
  }

  // What the numbers are of; and whose rows they are, where another question is being typed.
  function drawQuestion() {
    const { answer, baseline, metric, caveat, notes = [] } = model.get("question");
    what.hidden = metric == null;
    if (metric == null) return;
    const other = baseline ? node("span", {}, "logit(", node("code", {}, baseline), ")") : "mean logit";
    what.replaceChildren("logit(", node("code", {}, answer), ") − ", other, " = ", node("b", {}, alone(metric)), node("span", { class: "wbp-faint wbr-long" }, " · effects are what of it is lost"), ...(caveat ? [node("div", { class: "wbr-caveat" }, `⚠ ${caveat}`)] : []), ...notes.map((note) => node("div", { class: "wbr-known" }, `⚠ ${note}`)));
  }
  function drawStale() {
    const of = model.get("stale");
    stale.hidden = !of;
    full.classList.toggle("wbr-old", Boolean(of));
    stale.textContent = of ? `These rows are of ${of}. Enter ranks what is typed now.` : "";
  }

  // A selection that is not on this page: on which one it is, or that a filter hides it.
  function drawHint() {
    const { rows } = model.get("view");
    if (!rows) return;
    const chosen = model.get("chosen");
    const feature = model.get("feature");
    const isHere = feature == null || rows.some((row) => row.feature === feature);
    if (isHere) return hint.replaceChildren("↑ ↓ choose a feature");
    if (chosen != null) return hint.replaceChildren(`feature ${feature} is on another page `, button("go to it", () => change(model, { page: Math.floor(chosen / model.get("page_size")) })));
    const isActive = model.get("detail").measures?.length > 0;
    if (isActive) return hint.replaceChildren(`feature ${feature} is hidden by the filter `, button("clear the filter", () => change(model, { query: "", page: 0 })));
    hint.replaceChildren(`feature ${feature} is not active on this prompt`);
  }

  function drawControls() {
    fill();
    summed.checked = model.get("is_summed");
    for (const each of views.children) each.setAttribute("aria-pressed", each.dataset.shows === model.get("shows"));
    const isTable = model.get("shows") === "table";
    rows.hidden = !isTable;
    drawing.hidden = pictures.hidden = isTable;
    for (const each of filter) each.classList.toggle("wbr-away", !isTable);
  }

  function drawPicture() {
    const shown = model.get("picture");
    const hadFocus = drawing.contains(document.activeElement) ? [...drawing.querySelectorAll("svg")].indexOf(document.activeElement) : -1;
    const chosen = () => model.get("feature");
    const select = (feature) => change(model, { feature });
    if (!shown.points?.length) drawing.replaceChildren(node("p", { class: "wbr-note" }, "No effect was measured yet."));
    else drawing.replaceChildren(...(shown.kind === "ranks" ? drawRanks : drawAgreement)(shown, chosen, select));
    drawing.querySelectorAll("svg")[hadFocus]?.focus();
  }

  function drawDetail() {
    const shown = model.get("detail");
    selected.replaceChildren(...(shown.feature == null ? [] : detail(shown)));
    drawHint();
  }

  function drawChoice() {
    if (model.get("view").rows) mark();
    if (model.get("shows") !== "table") drawPicture();
  }

  function move(key) {
    const { rows, first, n_matching } = model.get("view");
    const page = model.get("page");
    const hasNext = first + rows.length < n_matching;
    const turn = (by, row) => {
      at = row;
      isArriving = true;
      change(model, { page: page + by });
    };
    if (key === "PageDown" || (key === "ArrowDown" && at === rows.length - 1)) return hasNext && turn(1, 0);
    if (key === "PageUp" || (key === "ArrowUp" && at === 0)) return page > 0 && turn(-1, key === "ArrowUp" ? Infinity : 0);
    reach({ ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1, Enter: at, " ": at }[key]);
    if (rows[at]) choose(rows[at]);
  }

  const fill = filters(query, model);
  summed.onchange = () => change(model, { is_summed: summed.checked, page: 0 });
  body.onkeydown = (event) => {
    if (!["ArrowDown", "ArrowUp", "Home", "End", "PageDown", "PageUp", "Enter", " "].includes(event.key)) return;
    event.preventDefault();
    if (event.key === " ") toggle([at]);
    else move(event.key);
  };

  drawControls();
  drawQuestion();
  drawStale();
  drawView();
  drawDetail();
  drawPicture();
  return watch(model, [
    [["view"], drawView],
    [["question"], drawQuestion],
    [["stale"], drawStale],
    [["marked"], drawMarks],
    [["csv"], () => download("ranking.csv", model.get("csv").text, "text/csv", root)],
    [["detail"], drawDetail],
    [["chosen"], drawHint],
    [["picture"], drawPicture],
    [["feature"], drawChoice],
    [["query", "is_summed", "shows"], drawControls],
  ]);
}

export default { render };
