// A saved page: holds the rows that Python held, and answers the table (ranking.js, placed above) as widgets/ranking.py does.

const state = JSON.parse(document.getElementById("state").textContent);
const ORDERS = ["activation", "attribution", "effect"];
const NUMERIC = ["feature", "pos", "n_pos", ...ORDERS];
const COMPARE = { "<=": (a, b) => a <= b, ">=": (a, b) => a >= b, "<": (a, b) => a < b, ">": (a, b) => a > b, "=": (a, b) => a === b };
const largest = (rows, name) => rows.reduce((most, row) => Math.max(most, Math.abs(row[name] ?? 0)), 0);

function addRanks(rows) {
  for (const row of rows) row.ranks = {};
  for (const name of ORDERS) sorted(rows, name, true).forEach((row, i) => (row.ranks[name] = row[name] == null ? null : i + 1));
  return rows;
}

function sorted(rows, name, isDescending) {
  const key = (row) => (NUMERIC.includes(name) ? row[name] : row[name].trim().toLowerCase() || null);
  const compare = (a, b) => (a === b ? 0 : a == null ? 1 : b == null ? -1 : (a < b ? -1 : 1) * (isDescending ? -1 : 1));
  return [...rows].sort((a, b) => compare(key(a), key(b)));
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

// The query language of widgets/rows.py.
function meets(row, term, columns) {
  const [, name, sign, bound] = term.match(/^([a-z_]+)(<=|>=|<|>|=)(.*)$/i) ?? [];
  if (!name) {
    const word = term.replaceAll('"', "").toLowerCase();
    return columns.some((column) => typeof row[column] === "string" && row[column].toLowerCase().includes(word)) || (/^\d+$/.test(word) && row.feature === Number(word));
  }
  const column = name.toLowerCase();
  if (!NUMERIC.includes(column) || !columns.includes(column)) throw new Error(`no numbers in '${name}'; there are ${columns.filter((c) => NUMERIC.includes(c)).join(", ")}`);
  if (!bound.trim() || Number.isNaN(Number(bound))) throw new Error(`${name}${sign} wants a number, not '${bound}': for example ${name}${sign}0.1`);
  return row[column] != null && COMPARE[sign](row[column], Number(bound));
}

const names = Object.keys(state.rows);
const pairs = addRanks(state.rows.feature.map((_, i) => Object.fromEntries(names.map((name) => [name, state.rows[name][i]]))));
const features = summed(pairs);

function view(get) {
  const rows = get("is_summed") ? features : pairs;
  const shown = get("is_summed") ? ["feature", "label", "n_pos", ...ORDERS] : names;
  const terms = get("query").match(/"[^"]*"|\S+/g) ?? [];
  let matching;
  try {
    if (!rows.length) return get("view");
    matching = rows.filter((row) => terms.every((term) => meets(row, term, shown)));
  } catch (error) {
    return { ...get("view"), message: error.message };
  }
  const size = get("page_size");
  const first = Math.min(get("page"), Math.max(0, Math.ceil(matching.length / size) - 1)) * size;
  const by = shown.includes(get("sort_by")) ? get("sort_by") : "effect";
  const kind = (name) => (ORDERS.includes(name) ? "measure" : NUMERIC.includes(name) ? "integer" : name === "token" ? "token" : "text");
  return {
    columns: shown.map((name) => ({ name, title: name === "n_pos" ? "positions" : name, kind: kind(name) })),
    rows: sorted(matching, by, get("is_descending")).slice(first, first + size),
    scales: Object.fromEntries(ORDERS.map((name) => [name, largest(rows, name)])),
    n_rows: rows.length, n_matching: matching.length, first, message: "",
    unit: get("is_summed") ? "features" : "(feature, position) pairs",
  };
}

function detailOf(feature) {
  const sum = features.find((row) => row.feature === feature);
  if (!sum) return {};
  const own = pairs.filter((row) => row.feature === feature);
  const name = own.some((row) => row.effect != null) ? "effect" : "attribution";
  const first = state.is_start_included ? 0 : 1;
  const values = state.tokens.map((_, pos) => own.find((row) => row.pos === pos)?.[name] ?? null);
  return {
    feature, label: sum.label, name, tokens: state.tokens.slice(first), values: values.slice(first), scale: largest(pairs, name),
    measures: [...ORDERS].reverse().map((order) => ({ name: order, value: sum[order], rank: sum.ranks[order], scale: largest(features, order) })), examples: [], message: "",
  };
}

const traits = { sort_by: "effect", is_descending: true, query: "", page: 0, page_size: 12, is_summed: false, feature: null, view: {}, detail: {} };
const listeners = [];
const get = (name) => traits[name];
const model = {
  get,
  set: (name, value) => (traits[name] = value),
  save_changes() {
    traits.view = view(get);
    traits.detail = detailOf(traits.feature);
    for (const [event, listener] of [...listeners]) if (["change:view", "change:detail"].includes(event)) listener();
  },
  on: (event, listener) => listeners.push([event, listener]),
  off: () => listeners.splice(0),
};
traits.view = view(get);
traits.feature = pairs[0]?.feature ?? null;
traits.detail = detailOf(traits.feature);
document.getElementById("table").replaceChildren();
render({ model, el: document.getElementById("table") });
if (state.n_left_out) document.getElementById("table").append(`${state.n_left_out.toLocaleString("en-US")} more pairs, of smaller effect, are not in this page.`);
