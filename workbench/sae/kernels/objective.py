"""One training step up to its gradients, plainly: what any faster step must equal.

    standard          loss = E[ ‖x − x_hat‖² + λ Σ_i feature_acts_i ‖W_dec_i‖ ]
    jumprelu          loss = E[ ‖x − x_hat‖² + λ Σ_i 1(feature_acts_i > 0) ]
    topk, batchtopk   loss = E[ ‖x − x_hat‖² ]

with x scaled so that E‖x‖² = d_in. Of a transcoder the error is y − y_hat at another place, scaled likewise. Scaling Monosemanticity,
"Sparse autoencoders"; Gemma Scope (its λ counts features: one whose ‖feature_acts_i W_dec_i‖ is below √λ costs more than it explains);
"Scaling and evaluating sparse autoencoders", section 2.

Nested widths (Matryoshka BatchTopK, Bussmann et al., 2025): the squared error is the mean over the widths n of what the first n features
leave, so that these do by themselves what they can.

TopK loses features that never come among the k largest; `auxk_step` lets dead ones explain what the living leave over (its appendix A.2).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.sae.architectures import is_over, select, topk
from workbench.sae.dictionary import Dictionary
from workbench.sae.transcoder import Transcoder

Rows = Float[Tensor, "batch d_in"]
Outputs = Float[Tensor, "batch d_out"]
Scalar = Float[Tensor, ""]
AUXK_SHARE = 1 / 32  # of the auxiliary loss in the whole: the paper's α


@dataclass(frozen=True)
class Step:
    """What one step measured. The gradients of `loss` are in the SAE's `parameter.grad`."""

    loss: Scalar  # squared_error (nested: its mean over the widths) + λ · sparsity
    squared_error: Scalar  # E‖error‖²
    sparsity: Scalar  # what λ multiplies; 0 for topk and batchtopk
    n_active: Int[Tensor, ""]  # entries of feature_acts that are not 0, over the batch
    fired: Bool[Tensor, "*n_layers d_sae"]  # features active anywhere in the batch
    error: Float[Tensor, "batch *n_layers d_out"]  # x − x_hat, or y − y_hat


def itself(part: Tensor) -> Tensor:
    """Where there is one shard, its part is the whole."""
    return part


def skip_of(sae: Dictionary) -> Tensor | None:
    """W_skip (d_in, d_out), of a transcoder that has one."""
    return sae.W_skip if isinstance(sae, Transcoder) else None


def plain_step(
    sae: Dictionary,
    x: Rows,
    l1: float,
    y: Outputs | None = None,
    *,
    selected: Callable[..., Tensor] = select,
    total: Callable[[Tensor], Tensor] = itself,
) -> Step:
    """Loss and gradients by dense autograd. x: scaled activations; l1: λ at this step; y: what a transcoder predicts. Old gradients are
    overwritten.

    Where `sae` is a shard of the features (sharded.py): selected compares with those of the other shards, total sums over all shards.
    """
    sae.zero_grad(set_to_none=True)
    pre_acts = sae.pre_acts(x)
    feature_acts = selected(sae.cfg.architecture, pre_acts, k=sae.cfg.k, threshold=sae.threshold)
    target = x if y is None else y
    errors = [target - (x_hat + sae.b_dec) for x_hat in accumulate(map(total, _parts(sae, feature_acts)))]
    if (skip := skip_of(sae)) is not None:
        errors = [error - x @ skip for error in errors]
    error, squared_errors = errors[-1], torch.stack([error.square().sum(1).mean() for error in errors])
    squared_error = squared_errors[-1]
    sparsity = total(_sparsity(sae, pre_acts, feature_acts))
    loss = squared_errors.mean() + l1 * sparsity
    loss.backward()
    active = feature_acts.detach() > 0
    return Step(loss.detach(), squared_error.detach(), sparsity.detach(), total(active.sum()), active.any(0), error.detach())


def _parts(sae: Dictionary, feature_acts: Tensor) -> Iterator[Tensor]:
    """What the features between one width and the next add to x_hat."""
    if len(sae.widths) == 1:
        yield feature_acts @ sae.W_dec  # whole: a slice's gradient would be copied
        return
    for first, last in pairwise((0, *sae.widths)):
        yield feature_acts[:, first:last] @ sae.W_dec[first:last]


def _sparsity(sae: Dictionary, pre_acts: Tensor, feature_acts: Tensor) -> Scalar:
    if sae.cfg.architecture == "standard":
        return (feature_acts.sum(0) * sae.W_dec.norm(dim=1)).sum() / len(pre_acts)
    if sae.threshold is not None:
        return is_over(pre_acts, sae.threshold).sum() / len(pre_acts)
    return pre_acts.new_zeros(())


def auxk_step(
    sae: Dictionary,
    x: Rows,
    error: Outputs,
    dead: Bool[Tensor, "d_sae"],
    *,
    largest: Callable[[Tensor, int], Tensor] = topk,
    total: Callable[[Tensor], Tensor] = itself,
) -> Scalar:
    """E‖error − error_hat‖² / 32, where error_hat is made of each row's k_aux most active dead features. Its gradients are added to those
    of the step that left `error`; b_dec gets none. k_aux = d_in / 2, or all that are dead. largest and total: as for plain_step."""
    features = dead.nonzero()[:, 0]
    pre_acts = x @ sae.W_enc[:, features] + sae.b_enc[features]
    error_hat = total(largest(pre_acts, x.shape[1] // 2) @ sae.W_dec[features])
    loss = AUXK_SHARE * (error - error_hat).square().sum(1).mean()
    loss.backward()
    return loss.detach()
