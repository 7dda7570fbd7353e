// After rows_offline.js. Answers the ranking table (ranking.js) in a saved page as widgets/panes/ranking.py does in a notebook: holds the rows, sorts, filters, cuts pages.

const ORDERS = ["activation", "attribution", "effect"];
const NUMERIC = ["feature", "pos", "n_pos", ...ORDERS];
const largest = (rows, name) => rows.reduce((most, row) => Math.max(most, Math.abs(row[name] ?? 0)), 0);

// As widgets/html/ranking_data.py has it: attribution and effect are in one unit, and their decimals agree.
function digits(rows) {
  const [activation, attribution, effect] = ORDERS.map((name) => largest(rows, name));
  const shared = Math.min(...[attribution, effect].filter((scale) => scale > 0));
  return { activation, attribution: Number.isFinite(shared) ? shared : 0, effect: Number.isFinite(shared) ? shared : 0 };
}

function addRanks(rows) {
  for (const row of rows) row.ranks = {};
  for (const name of ORDERS) sorted(rows, name, true).forEach((row, i) => (row.ranks[name] = row[name] == null ? null : i + 1));
  return rows;
}

function summed(rows) {
  const features = new Map();
  for (const { feature, label, ...row } of rows) {
    if (!features.has(feature)) features.set(feature, { feature, label, n_pos: 0, activation: null, attribution: null, effect: null });
    const sum = features.get(feature);
    sum.n_pos += 1;
    for (const name of ORDERS) if (row[name] != null) sum[name] = (sum[name] ?? 0) + row[name];
  }
  return addRanks(sorted(sorted([...features.values()], "attribution", true), "effect", true));
}

export function answer(model, { rows, tokens, is_start_included, n_left_out, question, pictures = {} }) {
  if (!rows) return;
  model.set("question", question);
  const names = Object.keys(rows);
  const pairs = addRanks(asRows(rows));
  const features = summed(pairs);

  function view() {
    const isSummed = model.get("is_summed");
    const all = isSummed ? features : pairs;
    const shown = isSummed ? ["feature", "label", "n_pos", ...ORDERS] : names;
    const terms = termsOf(model.get("query"));
    let matching;
    try {
      matching = all.filter((row) => terms.every((term) => meets(row, term, shown, NUMERIC)));
    } catch (error) {
      return { ...model.get("view"), message: error.message };
    }
    const size = model.get("page_size");
    const first = Math.min(model.get("page"), Math.max(0, Math.ceil(matching.length / size) - 1)) * size;
    const by = shown.includes(model.get("sort_by")) ? model.get("sort_by") : "effect";
    const kind = (name) => (ORDERS.includes(name) ? "measure" : NUMERIC.includes(name) ? "integer" : name === "token" ? "token" : "text");
    const sortedRows = sorted(matching, by, model.get("is_descending"));
    const at = sortedRows.findIndex((row) => row.feature === model.get("feature"));
    model.set("chosen", at < 0 ? null : at);
    return {
      columns: shown.map((name) => ({ name, title: name === "n_pos" ? "positions" : name, kind: kind(name) })),
      rows: sortedRows.slice(first, first + size),
      scales: Object.fromEntries(ORDERS.map((name) => [name, largest(all, name)])),
      digits: digits(all),
      n_rows: all.length, n_matching: matching.length, first, message: "", n_left_out,
      unit: isSummed ? "features" : "(feature, position) pairs",
    };
  }

  function detail() {
    const feature = model.get("feature");
    const sum = features.find((row) => row.feature === feature);
    if (feature == null) return {};
    const own = pairs.filter((row) => row.feature === feature);
    const name = own.some((row) => row.effect != null) ? "effect" : "attribution";
    const [first, scales] = [is_start_included ? 0 : 1, digits(features)];
    const values = tokens.map((_, pos) => own.find((row) => row.pos === pos)?.[name] ?? null);
    return {
      feature, label: sum?.label ?? "", name, tokens: tokens.slice(first), values: values.slice(first), scale: largest(pairs, name), metric: question.metric,
      measures: sum ? [...ORDERS].reverse().map((order) => ({ name: order, value: sum[order], rank: sum.ranks[order], scale: scales[order] })) : [],
      examples: [], message: sum ? "" : "Not active on this prompt.",
    };
  }

  const refresh = () => {
    model.set("view", view());
    model.set("detail", detail());
    if (pictures[model.get("shows")] !== model.get("picture")) model.set("picture", pictures[model.get("shows")] ?? {});
  };
  model.on("saved", refresh);
  refresh();
}
