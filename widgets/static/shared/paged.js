// A table of features of which Python (paged.py), or a saved page (paged_offline.js), sorts, filters and cuts pages: traits sort_by,
// is_descending, query, page, page_size, and view { rows, n_rows, n_matching, first }. A row selects; Enter or a click looks at its page.
//   name: what the table is called; what: what it is of, for its buttons; columns: [name, text, title], the feature's first;
//   over: a row of headings above; cells(row, view): one for each column but the first.

function pagedTable(model, root, { name, what, example, file, columns, over, widths, cells }) {
  const query = node("input", { type: "search", "aria-label": `Filter the features of ${what}`, placeholder: "filter: lakers", title: `words of a label, a feature's number, and conditions such as ${example}`, spellcheck: "false" });
  const status = node("span", { class: "wbp-faint", role: "status" });
  const previous = button("‹", () => change(model, { page: page() - 1 }), { "aria-label": `Previous page of ${what}` });
  const next = button("›", () => change(model, { page: page() + 1 }), { "aria-label": `Next page of ${what}` });
  const done = node("span", { class: "wbp-faint", role: "status" });
  const save = button("CSV", () => model.send({ do: "csv" }), { title: "all rows that match, as a file" });
  const copy = button("Python", () => copyText(model.get("code"), root).then(() => (done.textContent = "Python copied")), { title: "copies code that computes this table", "aria-label": `Copy ${what} as Python` });
  const head = node("thead");
  const body = node("tbody");
  const table = node("div", { class: "wbt-scroll" }, node("table", { role: "grid", "aria-label": name, class: "wbt" }, node("colgroup", {}, ...widths.map((width) => node("col", { style: width && `width: ${width}px` }))), head, body));
  const bar = node("div", { class: "wbp-bar wbt-bar" }, query, previous, next, status, model.isSaved ? null : save, copy, done);

  const page = () => Math.floor((model.get("view").first ?? 0) / model.get("page_size"));
  let at = 0; // the row that Tab reaches
  let isArriving = false; // a key turned the page: when it comes, choose its row `at`
  const focused = () => root.getRootNode().activeElement;
  const mark = () => [...body.children].forEach((line, i) => line.setAttribute("aria-selected", model.get("view").rows?.[i]?.feature === model.get("feature")));
  function choose(i) {
    const row = model.get("view").rows[i];
    if (!row) return;
    at = i;
    [...body.children].forEach((line, place) => (line.tabIndex = place === i ? 0 : -1));
    body.children[i]?.focus();
    change(model, { feature: row.feature });
    mark();
  }
  const look = () => model.isSaved || model.send({ do: "read" });
  body.onkeydown = (event) => {
    const { rows, first, n_matching } = model.get("view");
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1, Enter: at, PageDown: rows.length, PageUp: -1 }[event.key];
    if (to == null) return;
    event.preventDefault();
    if (to >= 0 && to < rows.length) choose(to);
    else if (to < 0 ? first > 0 : first + rows.length < n_matching) {
      isArriving = true;
      at = to < 0 && event.key === "ArrowUp" ? model.get("page_size") - 1 : 0;
      change(model, { page: page() + (to < 0 ? -1 : 1) });
    }
    if (event.key === "Enter") look();
  };

  const sort = (by) => {
    const isSame = model.get("sort_by") === by;
    change(model, { sort_by: by, is_descending: isSame ? !model.get("is_descending") : by !== "feature", page: 0 });
  };
  function header([by, text, title]) {
    const isSorted = model.get("sort_by") === by;
    const down = model.get("is_descending");
    const press = button(text, () => sort(by), { title });
    if (isSorted) press.append(node("span", { class: "wbt-arrow", "aria-hidden": "true" }, down ? " ▼" : " ▲"));
    return node("th", { scope: "col", "data-column": by, class: by === "feature" ? null : "wbp-number", "aria-sort": isSorted ? (down ? "descending" : "ascending") : "none" }, press);
  }
  function drawHead() {
    const had = head.contains(focused()) ? focused().closest("th").dataset.column : null;
    head.replaceChildren(...(over ? [over()] : []), node("tr", {}, ...columns.map(header)));
    for (const row of head.children) row.removeAttribute("data-lm-suppress-shortcuts");
    if (had) head.querySelector(`[data-column="${had}"] button`)?.focus();
  }

  function draw() {
    const view = model.get("view");
    const { rows, n_rows, n_matching, first, n_left_out } = view;
    for (const each of [bar, table]) each.hidden = !rows;
    if (!rows) return;
    drawHead();
    const had = body.contains(focused());
    at = Math.min(at, Math.max(rows.length - 1, 0));
    body.replaceChildren(
      ...rows.map((row, i) => {
        const label = node("td", { class: "wbt-label", dir: "auto", title: `${row.label || "no label"}, feature ${row.feature}` }, node("span", { class: "wbp-faint" }, `${row.feature} `), row.label);
        const line = node("tr", { tabindex: i === at ? 0 : -1, "aria-selected": String(row.feature === model.get("feature")) }, label, ...cells(row, view));
        line.onclick = () => (choose(i), look());
        return line;
      }),
    );
    const last = first + rows.length;
    const left = model.isSaved && n_left_out ? `; ${count(n_left_out)} more are not in this page` : "";
    status.textContent = rows.length ? `${count(first + 1)}–${count(last)} of ${n_matching === n_rows ? "" : `${count(n_matching)} of `}${several(n_rows, "feature")}${left}` : "nothing matches";
    previous.disabled = first === 0;
    next.disabled = last >= n_matching;
    if (had) body.children[at]?.focus();
    if (isArriving) (isArriving = false), choose(at);
  }

  const fill = filters(query, model);
  fill();
  const watched = [
    [["query"], fill],
    [["feature"], mark],
    [["csv"], () => download(file, model.get("csv").text, "text/csv", root)],
  ];
  return { bar, table, draw, watched };
}
