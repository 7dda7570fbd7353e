"""Measured edges: what becomes of every feature at the next place when one source here is switched off.

    change[u, v] = act_v(clean) − act_v(x_a[pos_u] − part_u)          part_u = act_u · W_dec[u], or the error, or what the token adds
    weight[u, v] = change[u, v] · ∂metric/∂act_v
    rest[u, p]   = Δx_b[p] · ∂metric/∂x_b[p] − Σ_{v at p} weight[u, v]

One row a source, all targets from that row: x_a is changed at one position, the blocks between a and b run, and the targets' activations
are read off. Only features that are active on the clean prompt are targets; what goes through anything else at b (the error, features that
wake up) is the rest, so that a source's weights and rests add up to the first-order part of what it does to the metric.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from threading import Event

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from workbench.circuits.graph.places import Place, by_position
from workbench.replay.between import Between, rows_at
from workbench.sae.architectures import select
from workbench.sae.parts import acts_at
from workbench.sae.sae import SAE
from workbench.shapes import RowIndex

ROW_BY_ROW = ("topk", "batchtopk")  # a feature's activation depends on the others


@dataclass(frozen=True)
class Edges:
    """Between two neighboring places: sources u of the first, targets v (features of the second, in its order). NaN: not measured.

    rest: by source, position and logit (answer, baseline, mean): what of the first-order change goes through no active feature there.
    """

    change: Float[Tensor, "n_sources n_targets"]
    rest: Float[Tensor, "n_sources pos 3"]


@torch.no_grad()
def measure_edges(
    between: Between, first: Place, then: Place, bar: tqdm | None = None, cancel: Event | None = None, rows: RowIndex | None = None
) -> Edges:
    """Every edge from `first` to `then`. rows: of these sources only. cancel, once set: what is left stays NaN."""
    targets = then.keep(then.is_feature.nonzero()[:, 0])
    change = torch.full((len(first.pos), len(targets.pos)), torch.nan, dtype=first.clean.dtype, device=first.clean.device)
    rest = torch.full((len(first.pos), len(then.clean), 3), torch.nan, dtype=first.clean.dtype, device=first.clean.device)
    slopes = targets.slopes()
    chosen = torch.arange(len(first.pos), device=first.pos.device) if rows is None else rows
    for some in _batches(between, first.pos[chosen]):
        if cancel is not None and cancel.is_set():
            break
        mine = chosen[some]
        change[mine], rest[mine] = _batch(between, first, then, targets, slopes, mine)
        if bar is not None:
            bar.update(len(mine))
    return Edges(change, rest)


def _batch(between: Between, first: Place, then: Place, targets: Place, slopes: Tensor, mine: RowIndex) -> tuple[Tensor, Tensor]:
    """(change, rest) of some sources. Row 0 is the clean prompt, rounded as the others are."""
    pos = torch.cat([first.pos[mine[:1]], first.pos[mine]])
    x = first.clean[pos]
    x[1:] -= first.contribution[mine]
    y, start = between.reach(first.hook_name, then.hook_name, rows_at(pos, x))
    y = y.to(then.clean.dtype)
    assert then.sae is not None
    later = (targets.pos >= start).nonzero()[:, 0]
    change = y.new_zeros(len(mine), len(targets.pos))
    dtype = then.sae.W_dec.dtype
    acts = active_acts(then.sae, y.to(dtype), start, targets.pos[later], targets.feature[later], then.clean.to(dtype))
    change[:, later] = (acts[:1] - acts[1:]).to(change)
    is_apart = then.sae.cfg.architecture != "batchtopk"  # there features of all positions compete, those before the source too
    if is_apart:
        change *= first.pos[mine, None] <= targets.pos  # what comes before a source is the clean prompt, to rounding
    rest = y.new_zeros(len(mine), len(then.clean), 3)
    rest[:, start:] = torch.einsum("npd,kpd->npk", y[:1] - y[1:], then.gradients[:, start:])
    shares = change[:, later, None] * slopes[later]
    rest.index_add_(1, targets.pos[later], shares, alpha=-1)
    if is_apart:
        rest *= (first.pos[mine, None] <= torch.arange(len(then.clean), device=rest.device))[..., None]
    return change, rest


def active_acts(
    sae: SAE, y: Float[Tensor, "batch pos d_in"], start: int, pos: RowIndex, feature: RowIndex, clean: Float[Tensor, "n_pos d_in"]
) -> Float[Tensor, "batch n_rows"]:
    """Activations of some (pos, feature), sorted by position, from y, which begins at position `start`. Only their part of the encoder
    runs, unless features compete: then whole rows are encoded, led by the clean positions before."""
    if sae.cfg.architecture in ROW_BY_ROW:
        if sae.cfg.architecture == "topk":
            flat, rows = y.flatten(0, 1), torch.arange(len(y), device=pos.device)[:, None] * y.shape[1] + (pos - start)
            pairs = torch.stack([rows.flatten(), feature.repeat(len(y))], dim=1)
            return acts_at(sae, flat, pairs).view(len(y), -1)
        whole = torch.cat([clean[:start].expand(len(y), -1, -1), y], dim=1)
        return torch.stack([acts_at(sae, row, torch.stack([pos, feature], dim=1)) for row in whole])
    if sae.cfg.centers_input:
        y = y - y.mean(-1, keepdim=True)
    found = []
    for p, here in by_position(pos):
        mine = feature[here]
        pre_acts = torch.addmm(sae.b_enc[mine], y[:, p - start], sae.W_enc[:, mine])
        threshold = None if sae.threshold is None else sae.threshold[mine]
        found.append(select(sae.cfg.architecture, pre_acts, threshold=threshold))
    return torch.cat(found, dim=1) if found else y.new_zeros(len(y), 0)


def _batches(between: Between, pos: RowIndex) -> Iterator[RowIndex]:
    """Rows in the order of their positions, neighbors together while what the earlier start costs is less than a call."""
    order = pos.argsort(stable=True)
    begin = 0
    while begin < len(order):
        size = between.n_rows(int(pos[order[begin]]))
        yield order[begin : begin + size]
        begin += size
