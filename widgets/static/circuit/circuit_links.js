// A circuit's tables as arrays, and what of them is one in the picture: the members of a collapsed group stand in one place, and their edges
// to the same node are joined. Python knows no collapsed group: a node of it, and what is cut, are as before.

// The traits as arrays: what circuit_data (widgets/html/circuit.py) packed. order: all edges, the weakest first.
function unpack(model) {
  const nodes = { ...model.get("nodes") };
  const n = nodes.id?.length ?? 0;
  const bytes = model.get("edges");
  const n_edges = (bytes?.byteLength ?? 0) / 20;
  const buffer = n_edges ? bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) : new ArrayBuffer(0);
  const sources = new Int32Array(buffer, 0, n_edges);
  const targets = new Int32Array(buffer, 4 * n_edges, n_edges);
  const strengths = new Float64Array(buffer, 8 * n_edges, n_edges);
  const weights = new Float32Array(buffer, 16 * n_edges, n_edges);
  const kinds = nodes.kind ?? [];
  const sizes = strengths.map((value, e) => (isLeaf(kinds[targets[e]]) ? 0 : Math.abs(value)));
  const wanted = new Float64Array(n);
  for (const [i, share] of model.get("wanted") ?? []) wanted[i] = share;
  const strong = weights.map(Math.abs);
  const order = Int32Array.from(weights.keys()).sort((a, b) => strong[a] - strong[b]);
  return { n, n_edges, nodes, kinds, sources, targets, strengths, weights, order, graph: { n, kinds, sources, targets, sizes, wanted }, row: new Map((nodes.id ?? []).map((id, i) => [id, i])) };
}

// Where each node stands in the picture, and the collapsed groups of which something is kept as further rows below the nodes':
// { end: row → row, groups: [{ name, members, top, effect, is_measured }] }. top: the largest member that is kept, where the group stands.
function collapse(data, kept, model) {
  const end = Int32Array.from({ length: data.n }, (_, i) => i);
  const groups = [];
  const taken = new Uint8Array(data.n);
  const { size, effect, attribution } = data.nodes;
  for (const name of model.get("collapsed") ?? []) {
    const members = ((model.get("groups") ?? {})[name] ?? []).map((id) => data.row.get(id)).filter((i) => i != null && !taken[i]);
    const shown = members.filter((i) => kept[i]);
    if (!shown.length) continue;
    for (const i of members) [end[i], taken[i]] = [data.n + groups.length, 1];
    const top = shown.reduce((most, i) => ((size[i] ?? 0) > (size[most] ?? 0) ? i : most));
    const measured = (model.get("together") ?? {})[name];
    const summed = members.reduce((sum, i) => sum + (effect[i] ?? attribution[i] ?? 0), 0);
    groups.push({ name, members, shown, top, effect: measured ?? summed, is_measured: measured != null });
  }
  return { end, groups };
}

// What the rest of the graph has of each collapsed group: the influence along the edges that leave it, so that none counts twice.
function influenceOfGroups({ n, graph }, end, n_groups) {
  const found = new Float64Array(n_groups);
  const { influence, shares } = graph.whole;
  for (let e = 0; n_groups && e < graph.sources.length; e += 1) {
    const u = graph.sources[e];
    const v = graph.targets[e];
    if (end[u] >= n && end[u] !== end[v]) found[end[u] - n] += shares[e] * (influence[v] + graph.wanted[v]);
  }
  return found;
}

// The edges of the picture, the weakest first: { sources, targets, weights } by its rows, the strongest `most` of them.
function linksOf(data, isKept, isShown, end, most) {
  const { n, n_edges, order } = data;
  const made = { sources: new Int32Array(n_edges), targets: new Int32Array(n_edges), weights: new Float32Array(n_edges) };
  const sums = new Map(); // of the edges that become one: their place → their weight
  let count = 0;
  const add = (u, v, weight) => {
    made.sources[count] = u;
    made.targets[count] = v;
    made.weights[count++] = weight;
  };
  for (let k = 0; k < n_edges; k += 1) {
    const e = order[k];
    if (!isKept[e]) continue;
    const u = end[data.sources[e]];
    const v = end[data.targets[e]];
    const weight = data.weights[e];
    if (u === v || !weight || !isShown[u] || !isShown[v]) continue;
    if (u < n && v < n) add(u, v, weight);
    else sums.set(u * isShown.length + v, (sums.get(u * isShown.length + v) ?? 0) + weight);
  }
  const joined = [...sums].filter(([, weight]) => weight).sort((a, b) => Math.abs(a[1]) - Math.abs(b[1]));
  insert(made, count, joined.map(([key, weight]) => [Math.floor(key / isShown.length), key % isShown.length, weight]));
  count += joined.length;
  const from = Math.max(0, count - most);
  return { n: count - from, ...Object.fromEntries(Object.entries(made).map(([name, values]) => [name, values.subarray(from, count)])) };
}

// Puts further edges [source, target, weight], the weakest first, in their places among the first `count` of `made`: from the end, so that
// nothing is written over. Sorting all 20,000 took 10 ms.
function insert(made, count, others) {
  let [k, to] = [count - 1, count + others.length - 1];
  for (let j = others.length - 1; j >= 0; j -= 1) {
    const [source, target, weight] = others[j];
    for (; k >= 0 && Math.abs(made.weights[k]) > Math.abs(weight); k -= 1, to -= 1) for (const name of ["sources", "targets", "weights"]) made[name][to] = made[name][k];
    [made.sources[to], made.targets[to], made.weights[to]] = [source, target, weight];
    to -= 1;
  }
}
