"""The tables of a circuit: what was read and measured at every place → nodes and edges.

    nodes   node, kind, hook_name, layer, pos, token, feature, activation, effect, effect_mean, attribution, attribution_mean, slope,
            slope_mean, label
    edges   source, target, change, weight, weight_mean, attributed

kind: "feature", "error" (what an SAE does not explain at one position), "token", "logit" (the answer; the baseline). feature: the
feature's number, −1 of an error, the token's id of a token and a logit. activation: of an error the length of its vector, of a logit its
logit less the vocabulary's mean. effect: of a logit what it adds to the metric. …_mean: the same for the answer against the mean logit.
change: how much of the target's activation is lost without the source; into an error node NaN, its weight is the rest (edges.py).
attributed: the first-order estimate of change. weight = change · slope of the target.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from workbench.circuits.graph.edges import Edges
from workbench.circuits.graph.places import Logits, Place
from workbench.circuits.metrics import ResolvedMetric
from workbench.model.points import place as block_of

NODE_COLUMNS = (
    *("node", "kind", "hook_name", "layer", "pos", "token", "feature", "activation"),
    *("effect", "effect_mean", "attribution", "attribution_mean", "slope", "slope_mean", "label"),
)
EDGE_COLUMNS = ("source", "target", "change", "weight", "weight_mean", "attributed")
ERROR_LABEL = "what the SAE does not explain"


@dataclass(frozen=True)
class Read:
    """A place with what was measured of its sources. edges, attributed: to the next place; None at the last one, or not asked for."""

    place: Place
    effects: Logits  # NaN where not measured
    edges: Edges | None = None
    attributed: Tensor | None = None


@dataclass(frozen=True)
class Names:
    """What the tables call things."""

    str_tokens: Sequence[str]
    labels: Mapping[str, Mapping[int, str]]  # hook name → feature → label
    answer: str
    baseline: str


def node_table(read: Sequence[Read], metric: ResolvedMetric, clean: Sequence[float], names: Names) -> pd.DataFrame:
    """clean: the logits of answer and baseline and the mean over the vocabulary on the clean prompt."""
    layers = layer_names([each.place.hook_name for each in read if each.place.sae is not None])
    parts = [_rows(each, layers, metric, names) for each in read]
    last, depth = len(names.str_tokens) - 1, max(part["layer"].max() for part in parts) + 1
    for token, name, logit, sign in ((metric.answer, names.answer, clean[0], 1.0), (metric.baseline, names.baseline, clean[1], -1.0)):
        if token is None:
            continue
        value, own = logit - clean[2], float(sign > 0)
        row = {"node": f"logit_{token}", "kind": "logit", "hook_name": "", "layer": depth, "pos": last, "token": name, "feature": token}
        row |= {"activation": value, "effect": sign * value, "effect_mean": own * value, "attribution": sign * value}
        row |= {"attribution_mean": own * value, "slope": sign, "slope_mean": own, "label": name}
        parts.append(pd.DataFrame([row]))
    return pd.concat(parts, ignore_index=True)[list(NODE_COLUMNS)]


def layer_names(hook_names: Sequence[str]) -> dict[str, str]:
    """hook name → what its nodes' names begin with: the layer, and the hook point where two share one."""
    layers = {name: block_of(name)[0] for name in hook_names}
    shared = {layer for layer in layers.values() if list(layers.values()).count(layer) > 1}
    return {name: f"{layer}.{name.split('.', 2)[-1]}" if layer in shared else str(layer) for name, layer in layers.items()}


def _rows(read: Read, layers: Mapping[str, str], metric: ResolvedMetric, names: Names) -> pd.DataFrame:
    at, place = _plain, read.place
    pos, feature, is_token = at(place.pos), at(place.feature), place.sae is None
    attribution, effects = at(place.attribution()), at(read.effects)
    slopes = np.full_like(attribution, np.nan) if is_token else at(place.slopes())
    slopes[feature < 0] = np.nan  # an error has no activation that could change along it
    if is_token:
        nodes, kinds = [f"E_{f}_{p}" for p, f in zip(pos, feature, strict=True)], "token"
        labels = [names.str_tokens[p] for p in pos]
    else:
        known, layer = names.labels.get(place.hook_name, {}), layers[place.hook_name]
        nodes = [f"{layer}_{f}_{p}" if f >= 0 else f"error_{layer}_{p}" for p, f in zip(pos, feature, strict=True)]
        kinds = np.where(feature >= 0, "feature", "error").astype(object)
        labels = [known.get(int(f), "") if f >= 0 else ERROR_LABEL for f in feature]
    columns: dict[str, Any] = {"node": nodes, "kind": kinds, "hook_name": place.hook_name, "layer": -1 if is_token else layer_of(place)}
    columns |= {"pos": pos, "token": [names.str_tokens[p] for p in pos], "feature": feature, "activation": at(place.activation)}
    for name, values in (("effect", effects), ("attribution", attribution), ("slope", slopes)):
        columns |= {name: _difference(values, metric), f"{name}_mean": values[:, 0] - values[:, 2]}
    return pd.DataFrame(columns | {"label": labels})


def layer_of(place: Place) -> int:
    """The block that the place stands before."""
    return block_of(place.hook_name)[0]


def edge_table(read: Sequence[Read], nodes: pd.DataFrame, metric: ResolvedMetric) -> pd.DataFrame:
    """Every edge that is not 0: from each place to the next, and from the last one to the logits."""
    ids = nodes["node"].to_numpy()
    begin = np.cumsum([0, *(len(each.place.pos) for each in read)]).tolist()
    parts = []
    for i, (first, then) in enumerate(zip(read, read[1:], strict=False)):
        parts += _between(first, then.place, begin[i], begin[i + 1], metric)
    last, effects = read[-1], _plain(read[-1].effects)
    for column, (token, sign) in enumerate(((metric.answer, 1.0), (metric.baseline, -1.0))):
        if token is not None:
            change, estimate = effects[:, column] - effects[:, 2], _plain(last.place.attribution())
            attributed = np.full(len(change), np.nan) if last.attributed is None else estimate[:, column] - estimate[:, 2]
            leading = attributed if last.edges is None and np.isnan(change).all() else change
            target = int((nodes["node"] == f"logit_{token}").to_numpy().argmax())
            values = {"change": change, "weight": sign * leading, "weight_mean": leading * (sign > 0), "attributed": attributed}
            u = (np.nan_to_num(leading) != 0).nonzero()[0]
            parts.append(pd.DataFrame({"u": begin[-2] + np.arange(len(change)), "v": target, **values}).iloc[u])
    table = pd.concat(parts, ignore_index=True)
    table.insert(0, "source", pd.Series(ids[table.pop("u").to_numpy()], dtype=object))
    table.insert(1, "target", pd.Series(ids[table.pop("v").to_numpy()], dtype=object))
    return table[list(EDGE_COLUMNS)]


def _between(first: Read, then: Place, begin_u: int, begin_v: int, metric: ResolvedMetric) -> list[pd.DataFrame]:
    targets = then.is_feature.nonzero()[:, 0]
    slopes = _plain(then.slopes())[_plain(targets)]
    to_metric = _difference(slopes, metric), slopes[:, 0] - slopes[:, 2]
    estimate = None if first.attributed is None else _plain(first.attributed)
    measured = None if first.edges is None else _plain(first.edges.change)
    leading = measured if measured is not None else estimate
    assert leading is not None
    is_edge = (np.nan_to_num(leading) != 0) | (False if estimate is None else estimate != 0)
    u, v = is_edge.nonzero()
    parts = [
        pd.DataFrame(
            {
                "u": begin_u + u,
                "v": begin_v + _plain(targets)[v],
                "change": np.nan if measured is None else measured[u, v],
                "weight": leading[u, v] * to_metric[0][v],
                "weight_mean": leading[u, v] * to_metric[1][v],
                "attributed": np.nan if estimate is None else estimate[u, v],
            }
        )
    ]
    if first.edges is not None:
        rest = _plain(first.edges.rest)
        errors = (~then.is_feature).nonzero()[:, 0]
        to_error = rest[:, _plain(then.pos)[_plain(errors)]]  # of every source and error node: three logits
        u, v = (np.nan_to_num(to_error) != 0).any(-1).nonzero()
        flat = to_error[u, v]
        weights = {"weight": _difference(flat, metric), "weight_mean": flat[:, 0] - flat[:, 2]}
        rows = {"u": begin_u + u, "v": begin_v + _plain(errors)[v], "change": np.nan, **weights, "attributed": np.nan}
        parts.append(pd.DataFrame(rows))
    return parts


def _difference(logits: np.ndarray, metric: ResolvedMetric) -> np.ndarray:
    return logits[:, 0] - logits[:, 2 if metric.baseline is None else 1]


def _plain(values: Tensor) -> np.ndarray:
    values = values.detach().cpu()
    return (values.double() if values.is_floating_point() else values).numpy()


def empty_effects(place: Place) -> Logits:
    """(n_sources, 3) of NaN: not measured yet."""
    return torch.full((len(place.pos), 3), torch.nan, dtype=torch.float64)
