"""Circuits as tables only, with no model: a graph of a given size from random numbers, in places of a prompt as a real one stands in."""

import numpy as np
import pandas as pd

from workbench.circuits.graph.circuit import Circuit
from workbench.circuits.graph.nodes import EDGE_COLUMNS, NODE_COLUMNS

HOOK = "blocks.{}.hook_resid_pre"


def made_graph(n_features: int = 40, n_edges: int = 300, n_pos: int = 6, n_layers: int = 4, seed: int = 0, **parts) -> Circuit:
    """Edges lead from one layer to the next, at the same position or later; an error at every second place; two logits."""
    rng = np.random.default_rng(seed)
    words = np.array([" the", " cat", " sat", " on", " a", " mat", " and"], dtype=object)
    str_tokens = ["<s>", *words[rng.integers(0, len(words), n_pos)]]
    rows = [(f"E_{i}_{i}", "token", HOOK.format(0), -1, i, i) for i in range(1, n_pos + 1)]
    for i in range(n_features):
        layer, pos = 1 + i % n_layers, int(rng.integers(1, n_pos + 1))
        rows.append((f"{layer}_{i}_{pos}", "feature", HOOK.format(layer), layer, pos, i))
    rows += [(f"error_{1 + i % n_layers}_{1 + i % n_pos}", "error", HOOK.format(1 + i % n_layers), 1 + i % n_layers, 1 + i % n_pos, -1)
             for i in range(min(n_layers, n_pos))]  # fmt: skip
    rows += [(f"logit_{i}", "logit", "", n_layers + 1, n_pos, i) for i in (7, 8)]
    nodes = pd.DataFrame(rows, columns=["node", "kind", "hook_name", "layer", "pos", "feature"])
    nodes["token"] = [str_tokens[pos] for pos in nodes["pos"]]
    nodes["activation"], nodes["effect"] = rng.exponential(2, len(nodes)), rng.standard_t(3, len(nodes))
    nodes["label"] = [f"thing {i % 9}" if kind == "feature" and i % 3 else "" for i, kind in enumerate(nodes["kind"])]
    depth, pos = nodes["layer"].to_numpy().clip(0), nodes["pos"].to_numpy()
    source, target = rng.integers(0, len(nodes), (2, 60 * n_edges))
    fits = (depth[source] + 1 == depth[target]) & (pos[source] <= pos[target]) & ~nodes["kind"].isin(["token"]).to_numpy()[target]
    pairs = pd.DataFrame({"u": source[fits], "v": target[fits]}).drop_duplicates().head(n_edges)
    edges = pd.DataFrame({"source": nodes["node"].to_numpy()[pairs["u"]], "target": nodes["node"].to_numpy()[pairs["v"]]})
    edges = edges.reindex(columns=list(EDGE_COLUMNS))
    edges["change"], edges["weight"] = rng.standard_t(3, len(edges)), rng.standard_t(3, len(edges))
    is_error = edges["target"].str.startswith("error")
    edges.loc[is_error, "change"] = np.nan
    texts = dict(prompt="".join(str_tokens[1:]), answer=" mat", baseline=" dog", clean_metric=3.0, model_name="made")
    tables = dict(nodes=nodes.reindex(columns=list(NODE_COLUMNS)), edges=edges, str_tokens=str_tokens)
    return Circuit(**{**tables, **texts, "wanted": {"logit_7": 0.5, "logit_8": 0.5}, **parts})
