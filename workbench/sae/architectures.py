"""How pre-activations become feature activations: the one step in which the kinds of SAE differ.

    standard    ReLU(pre_acts)                               Scaling Monosemanticity, "Sparse autoencoders"
    topk        the k largest of each row                    "Scaling and evaluating sparse autoencoders" (Gao et al., 2024)
    batchtopk   the k · n_rows largest of the whole batch    "BatchTopK sparse autoencoders" (Bussmann et al., 2024)
    jumprelu    pre_acts where they exceed a threshold       "Jumping ahead" (Rajamanoharan et al., 2024), Gemma Scope

with pre_acts = x @ W_enc + b_enc. Pure functions, each with the gradients that training needs.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.sae.config import ARCHITECTURES
from workbench.shapes import FeatureActs

Threshold = Float[Tensor, "d_sae"]

# Width of the window around a threshold in which its gradient is estimated, in units of E‖x‖² = d_in (the January 2025 update's choice).
BANDWIDTH = 2.0


def select(architecture: str, pre_acts: FeatureActs, *, k: int | None = None, threshold: Threshold | None = None) -> FeatureActs:
    """Feature activations by the SAE's architecture. k: topk and batchtopk; threshold: jumprelu."""
    match architecture:
        case "standard":
            return relu(pre_acts)
        case "topk":
            assert k is not None
            return topk(pre_acts, k)
        case "batchtopk":
            assert k is not None
            return batch_topk(pre_acts, k)
        case "jumprelu":
            assert threshold is not None
            return jumprelu(pre_acts, threshold)
    raise ValueError(f"architecture {architecture!r} is unknown; there is {', '.join(ARCHITECTURES)}")


def relu(pre_acts: FeatureActs) -> FeatureActs:
    """pre_acts where they are positive, else 0."""
    return torch.relu(pre_acts)


def topk(pre_acts: FeatureActs, k: int) -> FeatureActs:
    """The k largest of each row (all, where there are fewer), where they are positive; the gradient reaches only these."""
    values, features = pre_acts.topk(min(k, pre_acts.shape[-1]), dim=-1, sorted=False)
    return torch.zeros_like(pre_acts).scatter_(-1, features, torch.relu(values))


def batch_topk(pre_acts: FeatureActs, k: int) -> FeatureActs:
    """The k · n_rows largest of all rows together, where they are positive: k per row on average."""
    flat = pre_acts.flatten()
    values, entries = flat.topk(k * (len(flat) // pre_acts.shape[-1]), sorted=False)
    return torch.zeros_like(flat).scatter_(0, entries, torch.relu(values)).view_as(pre_acts)


def jumprelu(pre_acts: FeatureActs, threshold: Threshold, bandwidth: float = BANDWIDTH) -> FeatureActs:
    """pre_acts where pre_acts > threshold, else 0. The jump has no gradient to the threshold, so a window of `bandwidth` around it stands
    in: ∂/∂threshold = −threshold / bandwidth inside the window ("Jumping ahead", equation 11)."""
    acts: FeatureActs = _JumpReLU.apply(pre_acts, threshold, bandwidth)  # type: ignore[reportAssignmentType]
    return acts


def is_over(pre_acts: FeatureActs, threshold: Threshold, bandwidth: float = BANDWIDTH) -> FeatureActs:
    """1 where pre_acts > threshold, else 0: summed, a JumpReLU SAE's l0. Only the threshold gets a gradient,
    −1 / bandwidth inside the window ("Jumping ahead", equation 12)."""
    ones: FeatureActs = _IsOver.apply(pre_acts, threshold, bandwidth)  # type: ignore[reportAssignmentType]
    return ones


def _in_window(pre_acts: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
    return (pre_acts - threshold).abs() < bandwidth / 2


class _JumpReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pre_acts: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(pre_acts, threshold)
        ctx.bandwidth = bandwidth
        return pre_acts * (pre_acts > threshold)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        (grad,), (pre_acts, threshold) = grads, ctx.saved_tensors
        near = grad * _in_window(pre_acts, threshold, ctx.bandwidth)
        return grad * (pre_acts > threshold), -threshold / ctx.bandwidth * near.flatten(0, -2).sum(0), None


class _IsOver(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pre_acts: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(pre_acts, threshold)
        ctx.bandwidth = bandwidth
        return (pre_acts > threshold).to(pre_acts.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, None]:
        (grad,), (pre_acts, threshold) = grads, ctx.saved_tensors
        near = grad * _in_window(pre_acts, threshold, ctx.bandwidth)
        return None, -near.flatten(0, -2).sum(0) / ctx.bandwidth, None
