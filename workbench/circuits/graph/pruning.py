"""What of a circuit matters: influence, pruning, scores, paths. Arithmetic on the tables, no model.

    A[t, s]    how much of target t is lost without source s; error and token nodes are leaves: nothing goes into them
    N          |A|, each row divided by its sum: the shares of what a node is made of
    influence  w (N + N² + N³ + …)                    w: how much each logit node counts, summing to 1
    nodes      those of largest influence whose sum first reaches 0.8 of all; tokens and logits anyway
    edges      N'[t, s] · (influence'[t] + w[t]) among the nodes that are left, the largest whose sum first reaches 0.98 of all
    then       features and errors that lead nowhere, and features that come from nowhere, go, until none is left

replacement = influence of tokens / (tokens + errors).  completeness = Σ (1 − errors' share of t's row) · (influence[t] + w[t]) / Σ
(influence + w). Ameisen et al. 2025, "Circuit Tracing"; the conventions are those of the circuit-tracer library, to be comparable.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import nlargest
from numbers import Real

import numpy as np
import pandas as pd
from scipy import sparse

from workbench.given import whole

SMALLEST_SUM = 1e-10  # of a row: below it a node is made of nothing
TIE = 1e-9  # values this close to a threshold, relatively, are equal to it: rounding decides nothing, here or in a page's JavaScript


@dataclass(frozen=True)
class Scores:
    """How much of a graph is features rather than errors, 0 to 1; NaN where nothing reaches the logits. As circuit-tracer defines them."""

    replacement: float  # share of the influence that comes from tokens rather than from errors
    completeness: float  # share of what the nodes are made of that is no error


@dataclass(frozen=True)
class Graph:
    """The tables as a matrix. matrix[t, s], by rows of `nodes`; wanted by row."""

    matrix: sparse.csr_matrix
    kind: np.ndarray
    wanted: np.ndarray

    @classmethod
    def of(cls, nodes: pd.DataFrame, edges: pd.DataFrame, wanted: Mapping[str, float]) -> "Graph":
        """The sizes of the edges; errors and tokens are made of nothing, and constants (direct effects have them) make nothing: shares
        are of what the prompt says. wanted: node → its weight in the answer."""
        row = {node: i for i, node in enumerate(nodes["node"])}
        source, target = (edges[name].map(row).to_numpy(dtype=np.int64) for name in ("source", "target"))
        kind = nodes["kind"].to_numpy(dtype=object)
        is_nothing = np.isin(kind[target], ("error", "token")) | (kind[source] == "constant")
        size = np.where(is_nothing, 0.0, np.abs(strength(edges)))
        matrix = sparse.csr_matrix((size, (target, source)), shape=(len(nodes), len(nodes)))
        return cls(matrix, kind, np.array([wanted.get(node, 0.0) for node in nodes["node"]]))

    @property
    def shares(self) -> sparse.csr_matrix:
        """N: rows sum to 1, or to 0."""
        sums = np.asarray(self.matrix.sum(1)).ravel()
        return sparse.csr_matrix(sparse.diags(1 / np.maximum(sums, SMALLEST_SUM)) @ self.matrix)

    def influence(self) -> np.ndarray:
        """(n_nodes) what each is of the answer over all paths: wanted · (N + N² + …). Raises ValueError for a graph with a cycle."""
        shares = self.shares
        step, total = self.wanted @ shares, np.zeros(len(self.wanted))
        for _ in range(1 + len(self.wanted)):  # at most as many steps as a path has nodes; one more sees that it ended
            if not np.abs(step).max(initial=0.0) > 0:
                return total
            total, step = total + step, step @ shares
        raise ValueError("the graph has a cycle: influence has no end there")

    def keep(self, is_kept: np.ndarray) -> "Graph":
        """The graph of these nodes only; the others keep their rows, empty."""
        return Graph(sparse.csr_matrix(_mask(is_kept) @ self.matrix @ _mask(is_kept)), self.kind, self.wanted)


def strength(edges: pd.DataFrame) -> np.ndarray:
    """What an edge says of its target: the measured change, else the attributed one, else (direct effects) the weight."""
    found = edges["change"].fillna(edges["attributed"]).fillna(edges["weight"])
    return found.to_numpy(dtype=float)


def influence_of(nodes: pd.DataFrame, edges: pd.DataFrame, wanted: Mapping[str, float]) -> np.ndarray:
    """`Graph.influence` from the tables."""
    return Graph.of(nodes, edges, wanted).influence()


def scores_of(nodes: pd.DataFrame, edges: pd.DataFrame, wanted: Mapping[str, float]) -> Scores:
    """Both scores from the tables."""
    graph = Graph.of(nodes, edges, wanted)
    influence, is_error, is_token = graph.influence(), graph.kind == "error", graph.kind == "token"
    of_tokens, of_errors = influence[is_token].sum(), influence[is_error].sum()
    explained = 1 - np.asarray(graph.shares[:, is_error].sum(1)).ravel()
    total = influence + graph.wanted
    if not total.sum() > 0 or not of_tokens + of_errors > 0:
        return Scores(float("nan"), float("nan"))
    return Scores(float(of_tokens / (of_tokens + of_errors)), float((explained * total).sum() / total.sum()))


def cut(
    nodes: pd.DataFrame,
    edges: pd.DataFrame,
    wanted: Mapping[str, float],
    node_share: float,
    edge_share: float,
    n_features: int | None = None,
    pinned: Sequence[str] = (),
) -> tuple[list[str], np.ndarray]:
    """(the nodes that are kept, which edges are). Raises ValueError for a share that is none."""
    _check(node_share, edge_share, n_features)
    graph = Graph.of(nodes, edges, wanted)
    stays = np.isin(graph.kind, ("token", "logit")) | nodes["node"].isin(set(pinned)).to_numpy()
    influence = graph.influence()
    is_kept = stays | (influence >= _threshold(influence, node_share))
    if n_features is not None:
        candidates = np.where(is_kept & (graph.kind == "feature"), influence, -1.0)
        dropped = np.argsort(-candidates, kind="stable")[n_features:]
        is_kept[dropped[(graph.kind[dropped] == "feature") & ~stays[dropped]]] = False
    smaller = graph.keep(is_kept)
    shares = sparse.coo_matrix(smaller.shares)
    score = shares.data * (smaller.influence() + graph.wanted)[shares.row]
    is_edge = score >= _threshold(score, edge_share)
    pairs = sparse.csr_matrix((is_edge.astype(float), (shares.row, shares.col)), shape=shares.shape)
    is_kept = _without_loose_ends(pairs, graph.kind, is_kept, stays)
    pairs = sparse.csr_matrix(_mask(is_kept) @ pairs @ _mask(is_kept))
    row = {node: i for i, node in enumerate(nodes["node"])}
    source, target = (edges[name].map(row).to_numpy(dtype=np.int64) for name in ("source", "target"))
    known = np.asarray(pairs[target, source]).ravel() > 0
    into_leaf = np.isin(graph.kind[target], ("error", "token")) & is_kept[source] & is_kept[target]  # no influence goes there; it is shown
    return nodes["node"][is_kept].tolist(), known | into_leaf


def strongest(
    nodes: pd.DataFrame, edges: pd.DataFrame, n_features: int, share: float, pinned: Sequence[str] = ()
) -> tuple[list[str], np.ndarray]:
    """(the nodes that are kept, which edges are): features by their effect on either metric, edges by their share of the target."""
    _check(1.0, 1.0, n_features)
    if not 0 <= share < 1:
        raise ValueError(f"share={share}: expected the least share of a target that an edge makes, from 0 up to below 1, such as 0.05")
    size = [nodes[name].abs().fillna(nodes[name.replace("effect", "attribution")].abs()) for name in ("effect", "effect_mean")]
    is_feature = (nodes["kind"] == "feature").to_numpy()
    order = np.argsort(-np.where(is_feature, np.fmax(*size), -1.0), kind="stable")[:n_features]
    is_kept = nodes["kind"].isin(("token", "logit")).to_numpy() | nodes["node"].isin(set(pinned)).to_numpy()
    is_kept[order[is_feature[order]]] = True
    kept = nodes["node"][is_kept].tolist()
    inside = (edges["source"].isin(kept) & edges["target"].isin(kept)).to_numpy()
    sizes = np.where(inside, np.abs(strength(edges)), 0.0)
    sums = pd.Series(sizes).groupby(edges["target"].to_numpy()).transform("sum").to_numpy()
    return kept, inside & (sizes >= share * np.maximum(sums, SMALLEST_SUM))


def _mask(is_kept: np.ndarray) -> sparse.dia_matrix:
    return sparse.dia_matrix(sparse.diags(is_kept.astype(float)))


def _threshold(values: np.ndarray, share: float) -> float:
    """The value at which the descending cumulative share first reaches `share`, less a TIE; the smallest one for all of it."""
    order = np.sort(values)[::-1]
    sums = np.cumsum(order)
    if not len(sums) or not sums[-1] > 0:
        return 0.0
    reached = len(order) - 1 if share == 1 else int(np.searchsorted(sums / sums[-1], share * (1 - TIE)))
    return float(order[reached]) * (1 - TIE)


def _without_loose_ends(pairs: sparse.csr_matrix, kind: np.ndarray, is_kept: np.ndarray, stays: np.ndarray) -> np.ndarray:
    """Features and errors without an outgoing edge, and features without an incoming one, go, until nothing changes."""
    is_kept = is_kept.copy()
    while True:
        leads = sparse.csr_matrix(_mask(is_kept) @ pairs @ _mask(is_kept))
        outgoing, incoming = np.asarray(leads.sum(0)).ravel() > 0, np.asarray(leads.sum(1)).ravel() > 0
        is_loose = (np.isin(kind, ("feature", "error")) & ~outgoing) | ((kind == "feature") & ~incoming)
        left = is_kept & ~(is_loose & ~stays)
        if (left == is_kept).all():
            return left
        is_kept = left


def paths_between(nodes: pd.DataFrame, edges: pd.DataFrame, sources: Sequence[str], targets: Sequence[str], n: int) -> pd.DataFrame:
    """The n strongest paths; a path's strength is the product of its edges' shares (of |A| into each node on the way)."""
    if n < 1:
        raise ValueError(f"n={n}: expected how many paths, 1 or more")
    sizes = np.abs(strength(edges))
    sums = edges.assign(size=sizes).groupby("target")["size"].sum()
    shares = sizes / edges["target"].map(sums).to_numpy()
    incoming: dict[str, list[tuple[str, float, float]]] = {}
    for source, target, share, weight in zip(edges["source"], edges["target"], shares, edges["weight"], strict=True):
        incoming.setdefault(target, []).append((source, share, weight))
    begins, known = set(sources), {}

    def best(node: str) -> list[tuple[float, tuple[str, ...], float]]:
        """The n strongest paths from a source to the node: (strength, nodes, weight of the last edge)."""
        if node not in known:
            known[node] = []  # a graph without cycles never asks again before it is filled
            found = [(1.0, (node,), float("nan"))] if node in begins else []
            for source, share, weight in incoming.get(node, ()):
                found += [(strength * share, (*path, node), weight) for strength, path, _ in best(source)]
            known[node] = nlargest(n, found, key=lambda each: each[0])
        return known[node]

    found = nlargest(n, (path for target in targets for path in best(target) if len(path[1]) > 1), key=lambda each: each[0])
    return pd.DataFrame({"path": [path for _, path, _ in found], "strength": [s for s, _, _ in found], "weight": [w for _, _, w in found]})


def _check(node_share: float, edge_share: float, n_features: int | None) -> None:
    for name, share in (("nodes", node_share), ("edges", edge_share)):
        if not isinstance(share, Real) or not 0 < share <= 1:
            raise ValueError(f"{name}={share!r}: expected the share of the influence to keep, above 0 and up to 1, such as 0.8")
    if n_features is not None and (whole(n_features) or 0) < 1:
        raise ValueError(f"features={n_features!r}: expected how many feature nodes to keep at most, 1 or more")
