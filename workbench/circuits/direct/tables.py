"""Direct effects as the tables of a circuit, and what goes through them along all paths, without a matrix of all nodes.

    total effect   T[s] = e(s → metric) + Σ_t e(s → t) / act_t · T[t]           signed: what the answer owes to s in the frozen model
    influence      I[s] = w · |n(s → logit)| + Σ_t |n(s → t)| · I[t]             n: e's size, as a share of all that goes into t

Edges lead from lower layers to higher ones only, so one pass from the top to the bottom layer gives either. e(s → t) / act_t: a feature
that is on passes a change of its pre-activation on as it is. The constants are sources of T (so that T adds up to the metric) and none of I
(circuit-tracer has no such nodes, and the shares are to be comparable).
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from workbench.circuits.direct.effects import DirectEffects
from workbench.circuits.direct.nodes import CONSTANTS
from workbench.circuits.graph.nodes import EDGE_COLUMNS, NODE_COLUMNS
from workbench.circuits.graph.pruning import SMALLEST_SUM

CONSTANT_LABELS = dict(
    zip(
        CONSTANTS,
        ("encoder biases", "decoder biases", "the model's biases", "position embeddings", "the start position's MLPs"),
        strict=True,
    )
)
ERROR_LABEL = "what the transcoder does not explain"


def total_effects(effects: DirectEffects, to_metric: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """Of each node on a difference of logits whose direct effects are given: over all paths, signed, in logits."""
    nodes, total = effects.nodes, to_metric.astype(np.float64)
    with np.errstate(divide="ignore"):
        passes_on = np.where(nodes.is_feature, 1 / nodes.activation, 0.0)
    for pos, layer in _from_the_top(effects):
        rows = nodes.at(pos, layer)
        links = effects.edges[pos][rows.start - nodes.starts[pos, 0] : rows.stop - nodes.starts[pos, 0]]
        total[: links.shape[1]] += (total[rows] * passes_on[rows]) @ links
    return total


def constant_effects(effects: DirectEffects, total: Float[np.ndarray, "n"], direct: Float[np.ndarray, "5"]) -> Float[np.ndarray, "5"]:
    """The same of each constant, from the nodes' own. direct: of the constants on the metric."""
    features = effects.nodes.is_feature
    shares = total[features] / effects.nodes.activation[features]
    return direct + shares @ effects.constants[features]


def influence(effects: DirectEffects, wanted: Float[np.ndarray, "n_logits"]) -> Float[np.ndarray, "n"]:
    """Of each node on the logits, weighted: over all paths, by shares of sizes (pruning.py has the same from a table)."""
    nodes = effects.nodes
    shares = np.abs(effects.to_logits).astype(np.float64)
    found = wanted @ (shares / np.maximum(shares.sum(1, keepdims=True), SMALLEST_SUM))
    for pos, layer in _from_the_top(effects):
        rows = nodes.at(pos, layer)
        sizes = np.abs(effects.edges[pos][rows.start - nodes.starts[pos, 0] : rows.stop - nodes.starts[pos, 0]]).astype(np.float64)
        found[: sizes.shape[1]] += (found[rows] / np.maximum(sizes.sum(1), SMALLEST_SUM)) @ sizes
    return found


def node_table(
    effects: DirectEffects,
    totals: Float[np.ndarray, "n_and_constants 2"],
    hook_names: Sequence[str],
    str_tokens: Sequence[str],
    token_ids: Sequence[int],
) -> pd.DataFrame:
    """Features, errors and tokens, then the constants; the logits are another's. totals: on the metric, on the answer against the mean.

    hook_names: where each layer's transcoder reads. attribution: the total effect; effect: NaN, for nothing has been measured.
    """
    nodes = effects.nodes
    kind = np.where(nodes.is_feature, "feature", np.where(nodes.layer < 0, "token", "error")).astype(object)
    ids = np.asarray(token_ids)[nodes.pos]
    feature = np.where(nodes.layer < 0, ids, nodes.feature)
    named = [
        f"E_{f}_{p}" if layer < 0 else f"{layer}_{f}_{p}" if f >= 0 else f"error_{layer}_{p}"
        for layer, f, p in zip(nodes.layer.tolist(), feature.tolist(), nodes.pos.tolist(), strict=True)
    ]
    tokens = np.array(str_tokens, dtype=object)[nodes.pos]
    label = np.where(kind == "token", tokens, np.where(kind == "error", ERROR_LABEL, "")).astype(object)
    table = pd.DataFrame({"node": named, "kind": kind, "layer": nodes.layer, "pos": nodes.pos, "token": tokens, "feature": feature})
    table["hook_name"] = np.array([*hook_names, ""], dtype=object)[nodes.layer]
    table["activation"] = np.where(nodes.is_feature, nodes.activation, np.nan).astype(float)
    table["label"] = label
    constants = pd.DataFrame({"node": [f"constant_{name}" for name in CONSTANTS], "kind": "constant", "layer": -1, "pos": 0, "token": ""})
    constants = constants.assign(feature=-1, hook_name="", activation=np.nan, label=list(CONSTANT_LABELS.values()))
    whole = pd.concat([table, constants], ignore_index=True)
    whole["attribution"], whole["attribution_mean"] = totals.T
    for name in ("", "_mean"):
        whole[f"effect{name}"] = np.nan
        whole[f"slope{name}"] = whole[f"attribution{name}"] / whole["activation"]
    return whole[list(NODE_COLUMNS)]


def edge_table(
    effects: DirectEffects,
    names: np.ndarray,
    logit_names: Sequence[str],
    is_kept: Bool[np.ndarray, "n"],
) -> pd.DataFrame:
    """Every edge that is not 0 among the kept nodes, the constants and the logits. weight, weight_mean: the direct effect on the target's
    pre-activation, on a logit less the vocabulary's mean. names: of the nodes, then of the constants."""
    nodes, n = effects.nodes, len(effects.nodes.layer)
    columns, kept_constants = np.flatnonzero(is_kept), names[n:]
    sources, targets, weights = [], [], []
    for pos, links in enumerate(effects.edges):
        first = nodes.starts[pos, 0]
        rows = np.flatnonzero(is_kept[first : first + len(links)] & nodes.is_feature[first : first + len(links)])
        before = columns[: np.searchsorted(columns, links.shape[1])]
        u, v = links[np.ix_(rows, before)].T.nonzero()
        sources.append(names[before[u]])
        targets.append(names[first + rows[v]])
        weights.append(links[rows[v], before[u]])
    features = np.flatnonzero(is_kept & nodes.is_feature)
    for values, into in ((effects.constants[features], names[features]), (effects.logit_constants, np.array(logit_names, dtype=object))):
        v, u = values.nonzero()
        sources.append(kept_constants[u])
        targets.append(into[v])
        weights.append(values[v, u])
    v, u = effects.to_logits[:, columns].nonzero()
    sources.append(names[columns[u]])
    targets.append(np.array(logit_names, dtype=object)[v])
    weights.append(effects.to_logits[v, columns[u]])
    weight = np.concatenate(weights).astype(float)
    table = pd.DataFrame({"source": np.concatenate(sources), "target": np.concatenate(targets), "weight": weight})
    table = table.assign(change=np.nan, attributed=np.nan, weight_mean=weight)
    return table[list(EDGE_COLUMNS)]


def _from_the_top(effects: DirectEffects) -> list[tuple[int, int]]:
    """(pos, layer), from the highest layer down: whatever a node leads to has come before it."""
    n_pos, n_layers = len(effects.nodes.starts), effects.nodes.starts.shape[1] - 2
    return [(pos, layer) for layer in reversed(range(n_layers)) for pos in range(n_pos)]
