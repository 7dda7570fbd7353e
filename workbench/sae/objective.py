"""One training step up to its gradients, plainly: what any faster step must equal.

    standard          loss = E[ ‖x − x_hat‖² + λ Σ_i feature_acts_i ‖W_dec_i‖ ]
    jumprelu          loss = E[ ‖x − x_hat‖² + λ Σ_i 1(feature_acts_i > 0) ]
    topk, batchtopk   loss = E[ ‖x − x_hat‖² ]

with x scaled so that E‖x‖² = d_in. Scaling Monosemanticity, "Sparse autoencoders"; Gemma Scope (its λ counts features: one whose
‖feature_acts_i W_dec_i‖ is below √λ costs more than it explains); "Scaling and evaluating sparse autoencoders", section 2.

TopK loses features that never come among the k largest; `auxk_step` lets dead ones explain what the living leave over (its appendix A.2).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.sae.architectures import is_over, select, topk
from workbench.sae.sae import SAE
from workbench.shapes import Activations

Scalar = Float[Tensor, ""]
AUXK_SHARE = 1 / 32  # of the auxiliary loss in the whole: the paper's α


@dataclass(frozen=True)
class Step:
    """What one step measured. The gradients of `loss` are in the SAE's `parameter.grad`."""

    loss: Scalar  # squared_error + λ · sparsity
    squared_error: Scalar  # E‖x − x_hat‖²
    sparsity: Scalar  # what λ multiplies; 0 for topk and batchtopk
    n_active: Int[Tensor, ""]  # entries of feature_acts that are not 0, over the batch
    fired: Bool[Tensor, "d_sae"]  # features active anywhere in the batch
    error: Float[Tensor, "batch d_in"]  # x − x_hat


def plain_step(sae: SAE, x: Float[Tensor, "batch d_in"], l1: float) -> Step:
    """Loss and gradients by dense autograd. x: scaled activations; l1: λ at this step. Old gradients are overwritten."""
    sae.zero_grad(set_to_none=True)
    cfg, threshold = sae.cfg, sae.threshold
    pre_acts = sae.pre_acts(x)
    feature_acts = select(cfg.architecture, pre_acts, k=cfg.k, threshold=threshold)
    error = x - sae.decode(feature_acts)
    squared_error = error.square().sum(1).mean()
    if cfg.architecture == "standard":
        sparsity = (feature_acts.sum(0) * sae.W_dec.norm(dim=1)).sum() / len(x)
    elif threshold is not None:
        sparsity = is_over(pre_acts, threshold).sum() / len(x)
    else:
        sparsity = torch.zeros_like(squared_error)
    loss = squared_error + l1 * sparsity
    loss.backward()
    active = feature_acts.detach() > 0
    return Step(loss.detach(), squared_error.detach(), sparsity.detach(), active.sum(), active.any(0), error.detach())


def auxk_step(sae: SAE, x: Activations, error: Activations, dead: Bool[Tensor, "d_sae"]) -> Scalar:
    """E‖error − error_hat‖² / 32, where error_hat is made of each row's k_aux most active dead features. Its gradients are added to those
    of the step that left `error`; b_dec gets none. k_aux = d_in / 2, or all that are dead."""
    features = dead.nonzero()[:, 0]
    pre_acts = x @ sae.W_enc[:, features] + sae.b_enc[features]
    error_hat = topk(pre_acts, min(len(features), x.shape[-1] // 2)) @ sae.W_dec[features]
    loss = AUXK_SHARE * (error - error_hat).square().sum(-1).mean()
    loss.backward()
    return loss.detach()
