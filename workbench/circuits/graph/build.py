"""From a prompt to its circuit: every place is read, its sources are measured, the edges to the next place are measured or attributed.

    circuit = build_circuit(bench, bench.layers, prompt, metric)          bench.circuit(prompt, metric) is the same

A circuit needs an SAE at several places: features of one place alone make nothing. Where two neighboring places are more than a block
apart, an edge runs over what lies between, and the notes say so.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Any

import torch
from torch import Tensor

from workbench.circuits.depth.layers import SAEs, by_layer
from workbench.circuits.graph.attributed import attribute_edges
from workbench.circuits.graph.circuit import Circuit
from workbench.circuits.graph.edges import Edges, measure_edges
from workbench.circuits.graph.groups import offered_groups
from workbench.circuits.graph.lens import Lens
from workbench.circuits.graph.nodes import Names, Read, edge_table, empty_effects, node_table
from workbench.circuits.graph.places import Bar, Place, bar_of, effects_at, read_places, read_tokens, three, three_columns
from workbench.circuits.metrics import Metric, ResolvedMetric, resolve
from workbench.given import whole
from workbench.model.chat import Chat, written
from workbench.model.memory import Need, in_words, kept_bytes, largest, pass_bytes
from workbench.model.points import place as block_of
from workbench.model.tokens import to_str_tokens, to_tokens
from workbench.replay.between import STREAM, Between
from workbench.replay.precision import precision_note
from workbench.replay.replay import Replay, batch_tokens, replay_bytes
from workbench.sae.parts import N_ACTS, encoding_bytes, pairs_of

EDGES = ("measured", "attributed", "both")
MOST_SOURCES = 20_000  # without a limit: about a quarter of an hour on one core of GPT-2's size
LESS = "limit=2000 takes only so many features, and a shorter prompt has fewer"
PLACE_BYTES, PAIR_BYTES = 4, 4  # of a number in a place; of any source and target of neighboring places
EDGE_BYTES = 212  # of those of which the source does not come later: a row of the table, while it is put together and groups are looked for


@dataclass(frozen=True)
class Plan:
    """What a circuit would hold, before any of it is measured."""

    n_sources: int
    n_edges: int
    need: Need

    def __repr__(self) -> str:
        return f"{self.n_sources:,} sources (active features, errors, tokens), up to {self.n_edges:,} edges, {self.need}"


@in_words("this circuit", LESS)
def build_circuit(  # noqa: PLR0913 a notebook's call
    bench: Any,
    saes: SAEs,
    prompt: str | Chat,
    metric: Metric,
    edges: str = "measured",
    *,
    limit: int | None = None,
    labels: Mapping[str, Mapping[int, str]] | None = None,
    cancel: Event | None = None,
    progress: bool = True,
    on_rows: Callable[[int, int], None] | None = None,
    insist: bool = False,
) -> Circuit:
    """The whole graph of a prompt. edges: "measured", "attributed" (first order, nothing is measured: effects are NaN) or "both".

    limit: only so many features, those of largest |attribution| (to either metric); the notes say what that leaves out. labels: hook name
    → feature → label. cancel: once set, what is left is not measured (NaN, and no edges). on_rows: hears (rows
    done, rows in all) between batches. Raises ValueError for what cannot be one, and for more than memory holds, unless insist.
    """
    model, layers = bench.model, _checked(bench, saes, edges, limit)
    limit = None if limit is None else int(limit)
    prompt = written(model, prompt)
    resolved, tokens = resolve(model, metric), to_tokens(model, prompt)
    n_pos = tokens.shape[1]
    reading_need(model.cfg, layers, n_pos).check(tokens.device, insist)
    names = [STREAM, *layers] if STREAM not in layers else list(layers)
    between = Between(model, names, tokens)
    places = [read_tokens(model, tokens, resolved, next(iter(layers.values())).beside(between.clean_at[STREAM]))]
    places += read_places(model, layers, tokens, resolved, between.clean_at)
    if not any(place.is_feature.any() for place in places[1:]):
        raise ValueError(f"no feature of these SAEs is active on {prompt!r} after the start token: are they this model's?")
    places, notes = _limited(places, limit, resolved)
    _check_plan(plan_of(model.cfg, places, edges), limit, tokens.device, insist, progress)
    read = _measured(between, places, resolved, edges, cancel, bar_of(_total(places, edges), "building the circuit", progress, on_rows))
    notes += _gaps(list(layers)) + _cancelled(read, edges) + ([note] if (note := precision_note(model)) else [])
    str_tokens, (answer, baseline) = to_str_tokens(model, tokens[0]), resolved.names(model)
    known = Names(str_tokens, labels or {}, answer, baseline)
    clean = three(three_columns(resolved).of(between.clean_logits))[0].double().tolist()
    nodes = node_table(read, resolved, clean, known)
    logits = [f"logit_{token}" for token in (resolved.answer, resolved.baseline) if token is not None]
    circuit = Circuit(
        nodes=nodes,
        edges=edge_table(read, nodes, resolved),
        prompt=str(prompt),
        str_tokens=str_tokens,
        wanted=dict.fromkeys(logits, 1 / len(logits)),
        way=edges,
        answer=answer,
        baseline="" if metric.baseline is None else baseline,
        clean_metric=clean[0] - clean[2 if metric.baseline is None else 1],
        clean_mean=clean[0] - clean[2],
        model_name=bench.name or str(model.cfg.model_name),
        notes=tuple(notes),
        lens=Lens(model, layers, tokens, resolved),
    )
    return offered_groups(circuit)


def plan_of(cfg: Any, places: Sequence[Place], edges: str) -> Plan:
    """How many features, edges and bytes a circuit of these places will hold."""
    neighbors = list(zip(places, places[1:], strict=False))
    n_pairs = sum(len(first.pos) * len(then.pos) for first, then in neighbors)
    n_edges = sum(int((len(then.pos) - torch.searchsorted(then.pos, first.pos)).sum()) for first, then in neighbors)
    n_sources, n_pos, d_model = sum(len(place.pos) for place in places), len(places[0].clean), cfg.d_model
    rests = 12 * n_pos * sum(len(place.pos) for place in places[:-1])  # edges.py: by position and logit
    pairs = PAIR_BYTES * n_pairs * (2 if edges == "both" else 1)
    widest = max(place.sae.cfg.d_sae for place in places if place.sae is not None)
    encoded = 2 * 4 * min(batch_tokens(cfg, n_pos) * widest, N_ACTS)
    phases = [
        {"edges": pairs + EDGE_BYTES * n_edges, "places": PLACE_BYTES * d_model * n_sources, "what goes through nothing active": rests},
        {
            "passes of the model": replay_bytes(cfg, n_pos, n_sources),
            "edges": 2 * pairs + rests,
            "places": 2 * PLACE_BYTES * d_model * n_sources,
            "feature activations": encoded,
        },
    ]
    return Plan(n_sources, n_edges, largest("this circuit", phases, LESS))


def reading_need(cfg: Any, layers: Mapping[str, Any], n_pos: int) -> Need:
    """What reading the places takes, before it is known how many features are active."""
    n_sources = sum(pairs_of(sae, n_pos) or 0 for sae in layers.values())
    x = 4 * 5 * n_pos * cfg.d_model * (len(layers) + 1)  # clean activations, three gradients, errors
    phases = [
        {"passes of the model": max(replay_bytes(cfg, n_pos, 1), pass_bytes(cfg, n_pos, is_graded=True)) + x},
        {
            "passes of the model": kept_bytes(cfg, n_pos) + x,
            "feature activations": max(encoding_bytes(sae, n_pos) for sae in layers.values()),
            "places": 2 * PLACE_BYTES * cfg.d_model * n_sources,
        },
    ]
    return largest("reading the places of this circuit", phases, "a shorter prompt takes less")


def _check_plan(plan: Plan, limit: int | None, device: torch.device, insist: bool, say: bool) -> None:
    if plan.n_sources > MOST_SOURCES and limit is None and not insist:
        raise ValueError(f"this circuit would hold {plan!r}: give limit=, how many features to take, such as limit=2000")
    plan.need.check(device, insist, say)


def _checked(bench: Any, saes: SAEs, edges: str, limit: int | None) -> dict[str, Any]:
    if edges not in EDGES:
        raise ValueError(f"edges={edges!r}: expected {', '.join(map(repr, EDGES[:2]))} or {EDGES[2]!r}")
    if limit is not None and (whole(limit) or 0) < 1:
        raise ValueError(f"limit={limit!r}: expected how many features to take, 1 or more, or None for all of them")
    if not saes:
        raise ValueError(NEEDS)
    in_order = list(saes.values()) if isinstance(saes, Mapping) else list(saes)
    layers = by_layer(bench.model, in_order)
    if len(layers) < 2:
        raise ValueError(f"there is one SAE only, at {next(iter(layers))}. {NEEDS}")
    outside = [name for name in layers if block_of(bench.model.hook_dict[name].name or name)[0] < 0]
    if outside:
        raise ValueError(f"{outside[0]} is outside the blocks: a circuit's SAEs stand at hook points of blocks")
    return layers


NEEDS = (
    "A circuit needs an SAE at two hook points or more: Workbench(…, layers={hook name: SAE}), or saes=[…]; the atlas brings seven. "
    'With transcoders: bench.circuit(prompt, metric, over="transcoders")'
)


def _limited(places: list[Place], limit: int | None, metric: ResolvedMetric) -> tuple[list[Place], list[str]]:
    """Of all features only the `limit` of largest |attribution|, errors and tokens all."""
    n_features = sum(int(place.is_feature.sum()) for place in places[1:])
    if limit is None or n_features <= limit:
        return places, []
    sizes = [_size(place, metric) for place in places[1:]]
    flat = torch.cat([size[place.is_feature] for size, place in zip(sizes, places[1:], strict=True)])
    least = flat.topk(limit).values[-1]
    kept = [places[0]]
    for size, place in zip(sizes, places[1:], strict=True):
        kept.append(place.keep((~place.is_feature | (size >= least)).nonzero()[:, 0]))
    share = float(flat[flat < least].sum() / flat.sum())
    left = n_features - sum(int(place.is_feature.sum()) for place in kept[1:])
    return kept, [f"left out: {left:,} of {n_features:,} active features, with {share:.0%} of the summed |attribution| (limit={limit:,})"]


def _size(place: Place, metric: ResolvedMetric) -> Tensor:
    attribution = place.attribution()
    against_baseline = attribution[:, 0] - attribution[:, 2 if metric.baseline is None else 1]
    return torch.maximum(against_baseline.abs(), (attribution[:, 0] - attribution[:, 2]).abs())


def _total(places: Sequence[Place], edges: str) -> int:
    """Rows to measure: every source's effect, and its edges where a place follows."""
    n_sources = [len(place.pos) for place in places]
    return sum(n_sources) + (sum(n_sources[:-1]) if edges != "attributed" else 0)


def _measured(between: Between, places: list[Place], metric: ResolvedMetric, edges: str, cancel: Event | None, bar: Bar) -> list[Read]:
    """Every place with its effects and its edges to the next."""
    read = []
    with bar:
        for first, then in zip(places, [*places[1:], None], strict=True):
            effects, measured, attributed = empty_effects(first), None, None
            if edges != "attributed":
                effects = effects_at(Replay(between.model, first.hook_name, between.tokens), first, metric, bar, cancel)
                measured = None if then is None else measure_edges(between, first, then, bar, cancel)
            if edges != "measured":
                attributed = torch.zeros(0) if then is None else _attributed(between, first, then, cancel)
                bar.update(len(first.pos) if edges == "attributed" else 0)
            read.append(Read(first, effects, measured, attributed))
    return read


def _attributed(between: Between, first: Place, then: Place, cancel: Event | None) -> Tensor:
    if cancel is not None and cancel.is_set():
        return torch.full((len(first.pos), int(then.is_feature.sum())), torch.nan, dtype=first.clean.dtype)
    return attribute_edges(between, first, then)


def _gaps(hook_names: Sequence[str]) -> list[str]:
    depths = [block_of(name)[0] for name in hook_names]
    skipped = [f"{a} → {b}" for a, b, i, j in zip(hook_names, hook_names[1:], depths, depths[1:], strict=False) if j - i > 1]
    return [f"edges run over more than one block: {', '.join(skipped)}"] if skipped else []


def _cancelled(read: Sequence[Read], edges: str) -> list[str]:
    if edges == "attributed":
        return []
    missing = sum(int(torch.isnan(each.effects[:, 0]).sum()) for each in read)
    missing += sum(int(torch.isnan(each.edges.change).all(1).sum()) for each in read if each.edges is not None and _has_targets(each.edges))
    return [f"cancelled: {missing:,} rows were not measured"] if missing else []


def _has_targets(edges: Edges | None) -> bool:
    return edges is not None and edges.change.shape[1] > 0
