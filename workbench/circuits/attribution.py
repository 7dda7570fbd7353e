"""First-order estimates: how much each feature at each position supports a metric, from one forward and one backward pass.

    attribution[pos, i] = feature_acts[pos, i] · (∂metric/∂x[pos] · W_dec[i])

Scaling Monosemanticity, "Features as computational intermediates": attribution patching with a zero baseline. Positive: the feature
supports the answer. x is the model's activation at the SAE's hook point; the SAE's error is part of x and stays untouched.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.circuits.metrics import Metric
from workbench.gemm import machine_rate
from workbench.model import check_sae, hooked, last_logits
from workbench.sae.sae import SAE
from workbench.shapes import Rows, Tokens

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

DENSE_SHARE = 0.02  # of all (pos, feature) pairs active: above it one matrix product beats gathering decoder rows


@dataclass(frozen=True)
class Attribution:
    """One prompt's features at an SAE's hook point, and what they contribute to the metric to first order."""

    feature_acts: Float[Tensor, "pos d_sae"]
    attribution: Float[Tensor, "pos d_sae"]  # 0 where the feature is off
    gradient: Float[Tensor, "pos d_in"]  # ∂metric/∂x
    metric: float  # on the clean prompt

    @property
    def pairs(self) -> Int[Tensor, "n_rows 2"]:
        """Every active (pos, feature), by position."""
        return active_pairs(self.feature_acts)

    def of(self, pairs: Int[Tensor, "n_rows 2"]) -> Rows:
        """The attribution of each pair."""
        return self.attribution[pairs[:, 0], pairs[:, 1]]


def active_pairs(feature_acts: Float[Tensor, "pos d_sae"]) -> Int[Tensor, "n_rows 2"]:
    """Every (pos, feature) whose feature is active, by position."""
    return feature_acts.nonzero()


def attribute(model: "TransformerBridge", sae: SAE, tokens: Tokens, metric: Metric) -> Attribution:
    """Every active feature's attribution at every position of one prompt, tokens (1, pos)."""
    check_sae(model, sae)
    resolved = metric.resolve(model)
    with machine_rate():
        x, value = _run_to_metric(model, sae.cfg.hook_name, tokens, resolved)
        (gradient,) = torch.autograd.grad(value, x)
    with torch.no_grad(), machine_rate():
        x, gradient = x[0].flatten(1).to(sae.W_dec.dtype), gradient[0].flatten(1).to(sae.W_dec.dtype)
        feature_acts = sae.encode(x)
        return Attribution(feature_acts, _products(feature_acts, gradient, sae.W_dec), gradient, value.item())


def _run_to_metric(model: "TransformerBridge", hook_name: str, tokens: Tokens, resolved) -> tuple[Tensor, Tensor]:
    """(the activation at the hook point, the metric computed from it): a leaf and a scalar. Below the hook autograd keeps nothing."""
    leaves: list[Tensor] = []

    def leaf(value: Tensor) -> Tensor:
        leaves.append(value.detach().clone().requires_grad_())
        return leaves[-1]

    with torch.enable_grad(), hooked(model, hook_name, leaf):
        value = resolved(last_logits(model, tokens)).squeeze(0)
    assert len(leaves) == 1, f"{hook_name} fired {len(leaves)} times in one forward pass, expected once"
    return leaves[0], value


def _products(feature_acts: Tensor, gradient: Tensor, W_dec: Tensor) -> Float[Tensor, "pos d_sae"]:
    """feature_acts · (gradient · W_dec), computed at the active pairs only where that is cheaper."""
    pos, feature = active_pairs(feature_acts).T
    if len(pos) > DENSE_SHARE * feature_acts.numel():
        return feature_acts * (gradient @ W_dec.T)
    attribution = torch.zeros_like(feature_acts)
    attribution[pos, feature] = feature_acts[pos, feature] * (gradient[pos] * W_dec[feature]).sum(-1)
    return attribution
