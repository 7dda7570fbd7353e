// After rows_offline.js. Answers a paged table (paged.js) in a saved page as widgets/panes/beside/paged.py does in a notebook.

export function answer(model, { rows, numeric }) {
  if (!rows) return;
  const all = asRows(rows);
  const columns = Object.keys(rows);
  model.on("saved", () => {
    const view = model.get("view");
    let matching;
    try {
      matching = all.filter((row) => termsOf(model.get("query")).every((term) => meets(row, term, columns, numeric)));
    } catch (error) {
      return model.set("view", { ...view, message: error.message });
    }
    const size = model.get("page_size");
    const first = Math.min(model.get("page"), Math.max(0, Math.ceil(matching.length / size) - 1)) * size;
    const shown = sorted(matching, model.get("sort_by"), model.get("is_descending")).slice(first, first + size);
    model.set("view", { ...view, rows: shown, n_rows: all.length, n_matching: matching.length, first, message: "" });
  });
}
