// What a saved page does with rows that Python would sort and filter (widgets/rows.py): the same order, the same query language.

const COMPARE = { "<=": (a, b) => a <= b, ">=": (a, b) => a >= b, "<": (a, b) => a < b, ">": (a, b) => a > b, "=": (a, b) => a === b };

// Equal values keep their order, missing ones come last either way; text in any case.
function sorted(rows, name, isDescending) {
  const key = (row) => (typeof row[name] === "string" ? row[name].trim().toLowerCase() || null : row[name]);
  const compare = (a, b) => (a === b ? 0 : a == null ? 1 : b == null ? -1 : (a < b ? -1 : 1) * (isDescending ? -1 : 1));
  return [...rows].sort((a, b) => compare(key(a), key(b)));
}

// Does a row meet one term of a query? numeric: the columns of numbers. Throws an Error that says what is wrong.
function meets(row, term, columns, numeric) {
  const [, name, sign, bound] = term.match(/^([a-z_]+)(<=|>=|<|>|=)(.*)$/i) ?? [];
  if (!name) {
    const word = term.replaceAll('"', "").toLowerCase();
    return columns.some((column) => typeof row[column] === "string" && row[column].toLowerCase().includes(word)) || (/^\d+$/.test(word) && row.feature === Number(word));
  }
  const column = name.toLowerCase();
  const known = columns.filter((each) => numeric.includes(each));
  if (!known.includes(column)) throw new Error(`no numbers in '${name}'; there are ${known.join(", ")}`);
  if (!bound.trim() || Number.isNaN(Number(bound))) throw new Error(`${name}${sign} wants a number, not '${bound}': for example ${name}${sign}0.1`);
  return row[column] != null && COMPARE[sign](row[column], Number(bound));
}

const termsOf = (query) => query.match(/"[^"]*"|\S+/g) ?? [];

// Columns → rows.
const asRows = (columns) => Object.values(columns)[0].map((_, i) => Object.fromEntries(Object.keys(columns).map((name) => [name, columns[name][i]])));
