"""One training step whose cost goes with the active entries of feature_acts, not with batch × d_sae: plain_step's loss and gradients
(objective.py), fast.

    dense: five products of 2 · batch · d_in · d_sae        here
    pre_acts = x @ W_enc + b_enc                            one product in bf16 proposes entries (proposal.py), float32 decides at these
    x_hat = feature_acts @ W_dec + b_dec                    a sparse product (entries.py)
    ∂/∂feature_acts = −2/batch · error @ W_decᵀ             at the active entries only: elsewhere the gradient ends there
    ∂/∂W_dec = −2/batch · feature_actsᵀ @ error             a sparse product
    ∂/∂W_encᵀ = ∂/∂pre_actsᵀ @ x                            a sparse product

A transcoder's error is y − y_hat; nothing else changes but W_skip, whose gradient −2/batch · xᵀ @ error is dense.

Selection and gradients are exact: what differs from plain_step is the order in which float32 sums are rounded.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.sae.architectures import BANDWIDTH
from workbench.sae.dictionary import Dictionary
from workbench.sae.kernels.entries import Entries, Rows, Values, Weights
from workbench.sae.kernels.fast import fast
from workbench.sae.kernels.objective import Outputs, Step, itself, plain_step, skip_of
from workbench.sae.kernels.proposal import propose

DEVICES = ("cpu", "cuda")
DENSEST = 0.15  # share of entries from which on the dense step is the faster one (docs/log.md)


def step(sae: Dictionary, x: Rows, l1: float, density: float, y: Outputs | None = None) -> Step:
    """Loss and gradients, dense or sparse, whichever is the faster. x, l1 and y as for plain_step; density: the share of entries that were
    active in the batch before, n_active / (batch · d_sae); 1 at the start, when half of the features fire."""
    if density > DENSEST or x.dtype != torch.float32 or x.device.type not in DEVICES:
        return plain_step(sae, x, l1, y)
    proposed = propose(sae, sae.centered(x))
    if len(proposed.rows) > DENSEST * len(x) * sae.cfg.d_sae:  # this batch is denser, or JumpReLU's window wide
        return plain_step(sae, x, l1, y)
    return step_at(proposed, sae, x, l1, y)


def sparse_step(sae: Dictionary, x: Rows, l1: float, y: Outputs | None = None) -> Step:
    """plain_step's loss and gradients from the active entries. Old gradients are overwritten in place; to free them between steps would
    cost more than the sparse products."""
    return step_at(propose(sae, sae.centered(x)), sae, x, l1, y)


@torch.no_grad()
def step_at(
    proposed: Entries,
    sae: Dictionary,
    x: Rows,
    l1: float,
    y: Outputs | None = None,
    *,
    kept: Callable[[Dictionary, Entries, Values], Tensor] | None = None,
    total: Callable[[Tensor], Tensor] = itself,
) -> Step:
    """The step, given entries among which are all that the architecture selects. kept and total: where `sae` is a shard (sharded.py)."""
    ways, n_rows, x = fast(x.device.type), len(x), x.contiguous()
    read, W_enc, W_dec, skip = sae.centered(x), sae.W_enc.T.contiguous(), sae.W_dec.contiguous(), skip_of(sae)
    pre_acts = ways.dots(proposed, read, W_enc) + sae.b_enc[proposed.features]
    entries, pre_acts = proposed.at(taken := (kept or is_kept)(sae, proposed, pre_acts)), pre_acts[taken]
    is_on = pre_acts > (0 if sae.threshold is None else sae.threshold[entries.features])
    active, feature_acts = entries.at(is_on), pre_acts[is_on]

    target = x if y is None else y.contiguous()
    if skip is not None:
        target = target - x @ skip
    part, errors, groups = torch.zeros_like(target), [], list(pairwise((0, *sae.widths)))
    fews = [active.between(*group) for group in groups]
    for (first, last), (few, where) in zip(groups, fews, strict=True):
        ways.add_times(few, feature_acts[where], W_dec[first:last], part)
        errors.append(target - sae.b_dec - total(part))
    error, squared_errors = errors[-1], torch.stack([torch.linalg.vector_norm(each).square() / n_rows for each in errors])
    # What a group of features answers for: the errors of all widths that it is part of, in their mean.
    blamed = [torch.stack(errors[n:]).sum(0) / len(errors) for n in range(len(groups))] if len(groups) > 1 else errors
    squared_error = squared_errors[-1]
    slopes = torch.cat([ways.dots(entries.between(*it)[0], blame, W_dec[slice(*it)]) for it, blame in zip(groups, blamed, strict=True)])
    slopes = slopes * (-2 / n_rows)  # ∂loss/∂feature_acts
    sparsity, shrink = torch.zeros_like(squared_error), torch.zeros_like(sae.b_enc)
    if sae.cfg.architecture == "standard":
        norms, sums = W_dec.norm(dim=1), active.per_feature(feature_acts)
        sparsity = sums @ norms / n_rows
        slopes += l1 / n_rows * norms[active.features]
        shrink = torch.where(norms > 0, l1 / n_rows * sums / norms, 0)
    if sae.threshold is not None:
        sparsity = is_on.sum() / n_rows
        sae.threshold.grad = _threshold_gradient(sae.threshold, entries, pre_acts, slopes, l1 / n_rows)
    slopes, sparsity = slopes[is_on], total(sparsity)

    sae.b_enc.grad, sae.b_dec.grad = active.per_feature(slopes), -2 / n_rows * blamed[0].sum(0)
    if skip is not None:
        skip.grad = -2 / n_rows * x.T @ blamed[0]
    ways.transposed_times(active, slopes, read, torch.zeros_like(shrink), W_enc, _gradient_rows(sae.W_enc, is_transposed=True))
    W_dec_grad = _gradient_rows(sae.W_dec, is_transposed=False)
    for (first, last), (few, where), blame in zip(groups, fews, blamed, strict=True):
        rows = slice(first, last)
        ways.transposed_times(few, -2 / n_rows * feature_acts[where], blame, shrink[rows], W_dec[rows], W_dec_grad[rows])
    is_positive = feature_acts > 0
    fired = active.per_feature(is_positive.float()) > 0
    return Step(squared_errors.mean() + l1 * sparsity, squared_error, sparsity, total(is_positive.sum()), fired, error)


def is_kept(sae: Dictionary, proposed: Entries, pre_acts: Values) -> Tensor:
    """Which of the proposed entries carry a gradient."""
    k, is_positive = sae.cfg.k or 0, pre_acts > 0
    match sae.cfg.architecture:
        case "topk":
            return is_positive & is_among_k_largest(proposed.rows, pre_acts, k)
        case "batchtopk":
            n = min(k * proposed.n_rows, len(pre_acts))
            return is_positive & torch.zeros_like(is_positive).index_fill_(0, pre_acts.topk(n, sorted=False).indices, True)
        case "jumprelu":
            assert sae.threshold is not None
            return pre_acts > sae.threshold[proposed.features] - BANDWIDTH / 2
    return is_positive


def is_among_k_largest(rows: Tensor, values: Values, k: int) -> Tensor:
    """Which values are among the k largest of their row; those below 0 do not count."""
    # One sort of integers for all rows: the row in the high half, the value falling in the low one (positive floats are ordered as their
    # bits are). A top-k of each row would need a dense (batch, d_sae) matrix, which is what this step does without.
    key = rows * 2**32 - values.clamp(min=0).view(torch.int32)
    order, counts = key.argsort(), torch.bincount(rows)
    rank = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows[order]]
    return torch.zeros_like(rows, dtype=torch.bool).index_put_((order,), rank < k)


def _threshold_gradient(threshold: Tensor, entries: Entries, pre_acts: Values, slopes: Values, l1: float) -> Float[Tensor, "d_sae"]:
    """∂loss/∂threshold, from the entries in the window around it (architectures.py: jumprelu and is_over)."""
    is_near = (pre_acts - threshold[entries.features]).abs() < BANDWIDTH / 2
    near = entries.at(is_near)
    return -(threshold * near.per_feature(slopes[is_near]) + l1 * near.counts) / BANDWIDTH


def _gradient_rows(parameter: Tensor, is_transposed: bool) -> Weights:
    """A parameter's gradient as contiguous rows (d_sae, d_in), not yet filled; in the memory of the step before, where there is one."""
    rows = None if parameter.grad is None else parameter.grad.T if is_transposed else parameter.grad
    if rows is None or not rows.is_contiguous():
        rows = torch.empty_like(parameter.T if is_transposed else parameter, memory_format=torch.contiguous_format)
        parameter.grad = rows.T if is_transposed else rows
    return rows
