"""From a prompt to the circuit of its transcoders' features: direct effects, nothing measured.

    circuit = direct_circuit(bench.model, bench.transcoders, prompt)          bench.circuit(prompt, over="transcoders") is the same

Weights are exact for the frozen model (frozen.py), which is not the model: what switching a group off really does is measured
(`Circuit.effect_of`, `Circuit.faithfulness`; lens.py), and stands apart from what the graph says.
"""

from collections.abc import Mapping, Sequence
from threading import Event
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from tqdm.auto import tqdm

from workbench.circuits.direct import tables
from workbench.circuits.direct.effects import DirectEffects, direct_effects
from workbench.circuits.direct.lens import TranscoderLens
from workbench.circuits.direct.needs import LESS, MOST_EDGES, direct_need, effects_need
from workbench.circuits.graph.circuit import Circuit
from workbench.circuits.graph.groups import offered_groups
from workbench.circuits.graph.nodes import NODE_COLUMNS
from workbench.circuits.graph.pruning import SMALLEST_SUM
from workbench.circuits.metrics import Metric, ResolvedMetric, resolve
from workbench.given import whole
from workbench.model.chat import Chat, written
from workbench.model.hooks import check_cross_layer, last_logits
from workbench.model.memory import in_words
from workbench.model.model import BAR_DELAY
from workbench.model.tokens import to_str_tokens, to_tokens
from workbench.replay.precision import InFloat32, precision_note
from workbench.sae.cross_layer import CrossLayerTranscoder
from workbench.sae.stack import Transcoders, stack_of
from workbench.sae.transcoder import Transcoder

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


class Cancelled(RuntimeError):
    """Half of a graph of direct effects is none: the rows of the upper layers would lack what comes from below."""


@in_words("this circuit", LESS)
def direct_circuit(  # noqa: PLR0913 a notebook's call
    model: "TransformerBridge",
    transcoders: Transcoders,
    prompt: str | Chat,
    metric: Metric | None = None,
    *,
    limit: int | None = None,
    labels: Mapping[str, Mapping[int, str]] | None = None,
    name: str = "",
    cancel: Event | None = None,
    progress: bool = True,
    insist: bool = False,
) -> Circuit:
    """The graph of every active feature, error and token, on the logits of the metric's answer and baseline.

    Without a metric the logits are the likeliest ten, until they hold 95 % (as circuit-tracer takes them), each counted by its
    probability. limit: only so many features, those of largest influence; by default all, unless the table would pass three million
    edges; the notes say what that leaves out. labels: hook name → feature → label. Raises ValueError for a set that lacks a layer or does
    not fit or more than memory holds (unless insist), FrozenError for a model that cannot be frozen, Cancelled once cancel is set.
    """
    _check(model, transcoders, limit)
    limit = None if limit is None else int(limit)
    prompt = written(model, prompt)
    resolved, tokens = None if metric is None else resolve(model, metric), to_tokens(model, prompt)
    wanted_ids = None if resolved is None else [each for each in (resolved.answer, resolved.baseline) if each is not None]
    with tqdm(total=1.0, desc="direct effects", disable=not progress, delay=BAR_DELAY, bar_format="{l_bar}{bar}| {elapsed}") as bar:
        stack = stack_of(transcoders)
        direct_need(model.cfg, stack, tokens.shape[1]).check(tokens.device, insist)

        def check(counts: Int[np.ndarray, "pos n_layers_and_1"], middle: int) -> None:
            effects_need(model.cfg, stack, counts, middle).check(tokens.device, insist, progress)

        effects = direct_effects(model, transcoders, tokens, wanted_ids, lambda share: _go_on(bar, share, cancel), check)
    asked = resolved or ResolvedMetric(int(effects.logit_tokens[0]), None)
    weights = effects.probabilities if resolved is None else np.full(len(effects.logit_tokens), 1 / len(effects.logit_tokens))
    str_tokens, logit_tokens = to_str_tokens(model, tokens[0]), to_str_tokens(model, torch.as_tensor(effects.logit_tokens))
    nodes = _nodes(effects, asked, [layer.hook_name_in for layer in stack_of(transcoders)], str_tokens, tokens[0].tolist(), labels or {})
    is_kept, notes = _limited(effects, weights, limit)
    notes += [note] if (note := precision_note(model)) else []
    logit_names = [f"logit_{token}" for token in effects.logit_tokens.tolist()]
    names = nodes["node"].to_numpy(dtype=object)
    edges = tables.edge_table(effects, names, logit_names, is_kept)
    with torch.no_grad(), InFloat32(model):
        clean = last_logits(model, tokens)[0].double()
    answer, mean = float(clean[asked.answer]), float(clean.mean())
    logits = _logit_rows(effects, asked, clean.cpu().numpy(), logit_tokens, logit_names, len(str_tokens) - 1)
    kept = np.concatenate([is_kept, np.ones(len(tables.CONSTANTS), dtype=bool)])
    circuit = Circuit(
        nodes=pd.concat([nodes[kept], logits], ignore_index=True),
        edges=edges,
        prompt=prompt,
        str_tokens=str_tokens,
        wanted=dict(zip(logit_names, weights.tolist(), strict=True)),
        way="direct",
        answer=logit_tokens[0],
        baseline="" if asked.baseline is None else logit_tokens[1],
        clean_metric=answer - (mean if asked.baseline is None else float(clean[asked.baseline])),
        clean_mean=answer - mean,
        model_name=name or str(model.cfg.model_name),
        notes=tuple(notes),
        lens=TranscoderLens(model, transcoders, tokens, asked),
    )
    return offered_groups(circuit)


def _check(model: "TransformerBridge", transcoders: Transcoders, limit: int | None) -> None:
    if limit is not None and (whole(limit) or 0) < 1:
        raise ValueError(f"limit={limit!r}: expected how many features to take, 1 or more, or None for all of them")
    if isinstance(transcoders, CrossLayerTranscoder):
        check_cross_layer(model, transcoders)
        return
    if not transcoders:
        raise ValueError("there are no transcoders: load(model, transcoders=folder), or transcoders=load_transcoders(folder)")
    for layer, each in transcoders.items():
        if not isinstance(each, Transcoder):
            raise ValueError(f"layer {layer} has a {type(each).__name__}, expected a Transcoder: an SAE reads and writes one place only")
    missing = sorted(set(range(model.cfg.n_layers)) - set(transcoders))
    if missing or len(transcoders) != model.cfg.n_layers:
        beyond = sorted(set(transcoders) - set(range(model.cfg.n_layers)))
        what = f"none for layer {missing[0]}" if missing else f"one for layer {beyond[0]}"
        raise ValueError(
            f"a graph of direct effects needs a transcoder for each of the model's {model.cfg.n_layers} layers: there is {what}"
        )


def _go_on(bar: tqdm, share: float, cancel: Event | None) -> None:
    if cancel is not None and cancel.is_set():
        raise Cancelled("cancelled: no graph was made")
    bar.update(share)


def _nodes(
    effects: DirectEffects,
    metric: ResolvedMetric,
    hook_names: Sequence[str],
    str_tokens: list[str],
    token_ids: list[int],
    labels: Mapping[str, Mapping[int, str]],
) -> pd.DataFrame:
    totals = []
    for signs in (_signs(effects, metric), np.eye(len(effects.logit_tokens))[0]):  # on the metric; on the answer against the mean
        found = tables.total_effects(effects, signs @ effects.to_logits)
        totals.append(np.concatenate([found, tables.constant_effects(effects, found, signs @ effects.logit_constants)]))
    nodes = tables.node_table(effects, np.stack(totals, 1), hook_names, str_tokens, token_ids)
    for hook_name, known in labels.items():
        mine = nodes["hook_name"].eq(hook_name) & nodes["kind"].eq("feature")
        nodes.loc[mine, "label"] = nodes.loc[mine, "feature"].map(known).fillna("")
    return nodes


def _signs(effects: DirectEffects, metric: ResolvedMetric) -> np.ndarray:
    signs = np.zeros(len(effects.logit_tokens))
    signs[0] = 1.0
    if metric.baseline is not None:
        signs[1] = -1.0
    return signs


def _logit_rows(
    effects: DirectEffects, metric: ResolvedMetric, clean: np.ndarray, texts: list[str], names: list[str], pos: int
) -> pd.DataFrame:
    rows = pd.DataFrame({"node": names, "kind": "logit", "hook_name": "", "layer": effects.nodes.starts.shape[1] - 2, "pos": pos})
    rows = rows.assign(token=texts, feature=effects.logit_tokens, label=texts, activation=clean[effects.logit_tokens] - clean.mean())
    signs, own = _signs(effects, metric), np.eye(len(names))[0]
    for suffix, sign in (("", signs), ("_mean", own)):
        rows[f"attribution{suffix}"] = rows[f"effect{suffix}"] = sign * rows["activation"]
        rows[f"slope{suffix}"] = sign
    return rows[list(NODE_COLUMNS)]


def _limited(effects: DirectEffects, weights: np.ndarray, limit: int | None) -> tuple[np.ndarray, list[str]]:
    """(which nodes are kept, what to say of it). Errors and tokens all are."""
    is_feature = effects.nodes.is_feature
    n_features, n_edges = int(is_feature.sum()), sum(int(np.count_nonzero(links)) for links in effects.edges)
    if limit is None and n_edges > MOST_EDGES:
        limit = int(n_features * (MOST_EDGES / n_edges) ** 0.5)
    if limit is None or n_features <= limit:
        return np.ones(len(is_feature), dtype=bool), []
    found = tables.influence(effects, weights)
    candidates = np.where(is_feature, found, -1.0)
    is_kept = ~is_feature
    is_kept[np.argsort(-candidates, kind="stable")[:limit]] = True
    share = found[is_feature & ~is_kept].sum() / max(found[is_feature].sum(), SMALLEST_SUM)
    left = f"{n_features - limit:,} of {n_features:,} active features, with {share:.0%} of the features' influence (limit={limit:,})"
    return is_kept, [f"left out: {left}; rows do not add up without them"]
