"""A circuit in the JSON of the public attribution-graph viewers: what is written, and how its names are made.

    metadata   slug, scan (the model), prompt_tokens, prompt; under "workbench" what the format has no place for
    qParams    pinnedIds, supernodes: [name, node, node, …]
    nodes      node_id "layer_feature_pos", feature, layer, ctx_idx, feature_type, jsNodeId, clerp (the label), influence, activation
    links      source, target, weight

"influence" there is the cumulative share of influence down to a node's rank: small is important. A feature's "feature" is the Cantor pair
of layer and feature, from which viewers read both. Ids are unique in what is written here: an error node's is "error_layer_pos" (elsewhere
it is "0_layer_pos", which a feature of layer 0 can have too; reading.py tells them apart).
"""

import json
import math
import re
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd

TYPES = {"feature": "cross layer transcoder", "error": "mlp reconstruction error", "token": "embedding", "logit": "logit"}
OWN = ("hook_name", "effect", "effect_mean", "attribution", "attribution_mean", "slope", "slope_mean")  # nodes' columns without a place


def graph_json(circuit: Any) -> str:
    """The text of the file. Numbers that are not known are left out: JSON has no NaN; so are constants, which viewers do not know."""
    circuit = without_constants(circuit)
    nodes, ids = circuit.nodes, dict(zip(circuit.nodes["node"], file_ids(circuit), strict=True))
    share = cumulative_influence(circuit.influence.to_numpy())
    last = int(nodes["layer"].max())
    content = {
        "metadata": _metadata(circuit),
        "qParams": {
            "pinnedIds": [ids[node] for node in circuit.pinned],
            "supernodes": [[name, *(ids[node] for node in members)] for name, members in circuit.groups.items()],
            "linkType": "both",
            "clickedId": "",
            "sg_pos": "",
        },
        "nodes": [
            _node(row, ids[row["node"]], float(value), circuit, last) for row, value in zip(nodes.to_dict("records"), share, strict=True)
        ],
        "links": [
            {"source": ids[row.source], "target": ids[row.target], "weight": row.weight}  # pyright: ignore
            | {name: value for name in ("change", "attributed", "weight_mean") if math.isfinite(value := getattr(row, name))}
            for row in circuit.edges.itertuples()
            if math.isfinite(row.weight)  # pyright: ignore
        ],
    }
    return json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n"


def without_constants(circuit: Any) -> Any:
    """The circuit without the nodes of biases and the like (direct effects have them), and a note of it."""
    is_constant = circuit.nodes["kind"] == "constant"
    if not is_constant.any():
        return circuit
    note = f"{is_constant.sum()} constants (biases and the like) are not in this file: rows do not add up without them"
    return replace(circuit.only(circuit.nodes.loc[~is_constant, "node"]), notes=(*circuit.notes, note))


def file_ids(circuit: Any) -> list[str]:
    """One id a node, none twice: its own name; a logit's says its layer, token and position, as all others' do."""
    rows = circuit.nodes[["node", "layer", "feature", "pos"]].itertuples(index=False)
    found = [f"{layer}_{feature}_{pos}" if str(node).startswith("logit_") else str(node) for node, layer, feature, pos in rows]
    assert len(set(found)) == len(found), "two nodes of a circuit have one id"
    return found


def cantor(layer: int, feature: int) -> int:
    """One number for two."""
    return (layer + feature) * (layer + feature + 1) // 2 + feature


def cumulative_influence(influence: np.ndarray) -> np.ndarray:
    """The share of all influence that the nodes down to each one's rank have."""
    order = np.argsort(-influence, kind="stable")
    total = influence.sum()
    share = np.ones(len(influence))
    share[order] = np.cumsum(influence[order]) / total if total > 0 else 1.0
    return share


def _metadata(circuit: Any) -> dict[str, Any]:
    own = {"way": circuit.way, "answer": circuit.answer, "baseline": circuit.baseline, "notes": list(circuit.notes)}
    own |= {name: value for name in ("clean_metric", "clean_mean") if math.isfinite(value := getattr(circuit, name))}
    slug = re.sub(r"[^a-z0-9]+", "-", circuit.prompt.lower()).strip("-")[:60] or "circuit"
    return {
        "slug": slug,
        "scan": circuit.model_name,
        "prompt_tokens": list(circuit.str_tokens),
        "prompt": circuit.prompt,
        "node_threshold": 1.0,
        "info": {"generator": {"name": "circuit-workbench", "version": version("circuit-workbench")}},
        "workbench": own,
    }


def _node(row: dict[str, Any], node_id: str, share: float, circuit: Any, last: int) -> dict[str, Any]:
    kind, layer, feature = row["kind"], int(row["layer"]), int(row["feature"])
    known = {
        "node_id": node_id,
        "feature": cantor(layer, feature) if kind == "feature" else int(row["pos"]) if kind == "token" else feature,
        "layer": {"token": "E", "logit": str(last)}.get(kind, str(layer)),
        "ctx_idx": int(row["pos"]),
        "feature_type": TYPES[kind],
        "jsNodeId": f"{layer}_{feature}-0" if kind == "feature" else f"{node_id}-0",
        "clerp": _label(row),
        "influence": None if kind == "logit" else share,
        "activation": row["activation"] if math.isfinite(row["activation"]) else None,
    }
    if kind == "logit":
        known |= {"is_target_logit": row["node"] == next(iter(circuit.wanted)), "token_prob": circuit.wanted.get(row["node"], 0.0)}
    own = {name: row[name] for name in OWN if not (isinstance(row[name], float) and not math.isfinite(row[name]))}
    return known | {"workbench": own | {"node": row["node"], "label": row["label"], "token": row["token"], "layer": layer}}


def _label(row: dict[str, Any]) -> str:
    if row["kind"] == "logit":
        return f'Output "{row["token"]}"'
    return str(row["label"]) if row["kind"] != "token" else f'Emb: "{row["token"]}"'


def clean_text(text: Any) -> str:
    """What a file says in words is data: shown escaped, and never longer than a label should be."""
    return str(text)[:500] if pd.notna(text) else ""
