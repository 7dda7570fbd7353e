// Pruning as in workbench/circuits/graph/pruning.py, on arrays: influence over all paths, then the nodes that carry a share of it, then the
// edges that carry a share of it between them, then no loose ends. A test holds both equal. graph: { n, kinds, sources, targets, sizes, wanted };
// sizes: |strength|, 0 into an error or a token; wanted: how much each node counts as an answer.

const SMALLEST_SUM = 1e-10;
const TIE = 1e-9; // values this close to a threshold are equal to it
const isLeaf = (kind) => kind === "error" || kind === "token";

// Rows of nodes, each before all that it leads to.
function inOrder({ n, sources, targets }) {
  const waiting = new Int32Array(n);
  const begins = new Int32Array(n + 1);
  for (let e = 0; e < sources.length; e += 1) {
    waiting[targets[e]] += 1;
    begins[sources[e] + 1] += 1;
  }
  for (let i = 0; i < n; i += 1) begins[i + 1] += begins[i];
  const out = new Int32Array(sources.length);
  const at = begins.slice(0, n);
  for (let e = 0; e < sources.length; e += 1) out[at[sources[e]]++] = targets[e];
  const order = [];
  for (let i = 0; i < n; i += 1) if (!waiting[i]) order.push(i);
  for (let k = 0; k < order.length; k += 1) for (let j = begins[order[k]]; j < begins[order[k] + 1]; j += 1) if (!--waiting[out[j]]) order.push(out[j]);
  return order;
}

// { begins, edges }: the edges of each node at one of their ends together, in their order.
function byEnd(n, ends) {
  const begins = new Int32Array(n + 1);
  for (const end of ends) begins[end + 1] += 1;
  for (let i = 0; i < n; i += 1) begins[i + 1] += begins[i];
  const edges = new Int32Array(ends.length);
  const at = begins.slice(0, n);
  for (let e = 0; e < ends.length; e += 1) edges[at[ends[e]]++] = e;
  return { begins, edges };
}

// The edges by their targets, with their sources and sizes in that order: they are read one after the other, 20,000 of them for each step of a slider.
function byTarget({ n, sources, targets, sizes }) {
  const { begins, edges } = byEnd(n, targets);
  return { begins, edges, from: edges.map((e) => sources[e]), sizes: Float64Array.from(edges, (e) => sizes[e]) };
}

// { influence, shares }: how much of the answer goes back to each node; each edge's share of its target. isKept: of these nodes only.
function influenceOf(graph, isKept = new Uint8Array(graph.n).fill(1)) {
  const { n, wanted } = graph;
  graph.order ??= inOrder(graph);
  graph.into ??= byTarget(graph);
  const influence = new Float64Array(n);
  const shares = new Float64Array(graph.sources.length);
  const { begins, edges, from, sizes } = graph.into;
  for (let k = graph.order.length - 1; k >= 0; k -= 1) {
    const target = graph.order[k];
    if (!isKept[target]) continue;
    const [begin, end] = [begins[target], begins[target + 1]];
    let sum = 0;
    for (let j = begin; j < end; j += 1) if (isKept[from[j]]) sum += sizes[j];
    const most = Math.max(sum, SMALLEST_SUM);
    const passed = influence[target] + wanted[target];
    for (let j = begin; j < end; j += 1) {
      if (!isKept[from[j]]) continue;
      const share = sizes[j] / most;
      shares[edges[j]] = share;
      influence[from[j]] += share * passed;
    }
  }
  return { influence, shares };
}

// Values in descending order, and their sums from the first.
function ranked(values) {
  const order = values.slice().sort().reverse();
  const sums = order.slice();
  for (let i = 1; i < sums.length; i += 1) sums[i] += sums[i - 1];
  return { order, sums };
}

// The value at which the descending cumulative share first reaches `share`.
function threshold({ order, sums }, share) {
  const total = sums[sums.length - 1];
  if (!(total > 0)) return 0;
  const reached = share === 1 ? order.length - 1 : sums.findIndex((sum) => sum / total >= share * (1 - TIE));
  return order[reached < 0 ? order.length - 1 : reached] * (1 - TIE);
}

// The nodes that carry a share of the influence, and the edges between them with what each carries: kept until another share is asked for,
// so that moving the edges' threshold does not work it out anew.
function cutNodes(graph, share, pinned) {
  const { kinds, sources, targets, sizes, wanted, last } = graph;
  if (last && last.share === share && last.pinned.every((isPinned, i) => isPinned === pinned[i])) return last;
  graph.whole ??= influenceOf(graph);
  const { influence } = graph.whole;
  const least = threshold((graph.ranked ??= ranked(influence)), share);
  const stays = Uint8Array.from(kinds, (kind, i) => (kind === "token" || kind === "logit" || pinned[i] ? 1 : 0));
  const nodes = stays.map((stay, i) => (stay || influence[i] >= least ? 1 : 0));
  const smaller = influenceOf(graph, nodes);
  const candidates = new Int32Array(sources.length);
  const scores = new Float64Array(sources.length);
  let n = 0;
  for (let e = 0; e < sources.length; e += 1) {
    if (!(sizes[e] > 0 && nodes[sources[e]] && nodes[targets[e]])) continue;
    scores[n] = smaller.shares[e] * (smaller.influence[targets[e]] + wanted[targets[e]]);
    candidates[n++] = e;
  }
  const found = scores.subarray(0, n);
  graph.last = { share, pinned, stays, nodes, candidates: candidates.subarray(0, n), scores: found, ranked: ranked(found) };
  return graph.last;
}

// { nodes, edges }: 1 for each that is kept. pinned: 1 for each node that stays.
function cutGraph(graph, nodeShare, edgeShare, pinned) {
  const { kinds, sources, targets } = graph;
  const { stays, candidates, scores, ranked: byScore, nodes: first } = cutNodes(graph, nodeShare, pinned);
  const [nodes, edges] = [first.slice(), new Uint8Array(sources.length)];
  const least = threshold(byScore, edgeShare);
  for (let k = 0; k < candidates.length; k += 1) edges[candidates[k]] = scores[k] >= least ? 1 : 0;
  trim(graph, nodes, edges, stays, candidates);
  for (let e = 0; e < sources.length; e += 1) {
    if (!nodes[sources[e]] || !nodes[targets[e]]) edges[e] = 0;
    else if (isLeaf(kinds[targets[e]])) edges[e] = 1; // no influence goes there; it is shown
  }
  return { nodes, edges, influence: graph.whole.influence };
}

// Features and errors that lead nowhere, and features that come from nowhere, go, until none is left.
function trim({ n, kinds, sources, targets }, nodes, edges, stays, candidates) {
  for (let isSettled = false; !isSettled; ) {
    isSettled = true;
    const [outgoing, incoming] = [new Uint8Array(n), new Uint8Array(n)];
    for (const e of candidates) if (edges[e] && nodes[sources[e]] && nodes[targets[e]]) outgoing[sources[e]] = incoming[targets[e]] = 1;
    for (let i = 0; i < n; i += 1) {
      const isLoose = kinds[i] === "feature" ? !outgoing[i] || !incoming[i] : kinds[i] === "error" && !outgoing[i];
      if (nodes[i] && isLoose && !stays[i]) nodes[i] = isSettled = 0;
    }
  }
}
