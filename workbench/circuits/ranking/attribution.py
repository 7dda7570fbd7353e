"""First-order estimates: how much each feature at each position supports a metric, from one forward and one backward pass.

    attribution[pos, i] = feature_acts[pos, i] · (∂metric/∂x[pos] · W_dec[i])
    integrated[pos, i]  = the same with the gradient's mean on the way from x without any feature to x

Scaling Monosemanticity, "Features as computational intermediates": attribution patching with a zero baseline. Positive: the feature
supports the answer. x is the model's activation at the SAE's hook point; the SAE's error is part of x and stays untouched. A transcoder's
features are read where it reads and differentiated where it writes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.circuits.acts import of_all, reading
from workbench.circuits.metrics import EachMetric, Metric, resolve
from workbench.circuits.ranking.few_rows import unembedding_few
from workbench.finite import check_whole, n_not_finite
from workbench.given import counted
from workbench.model.gemm import machine_rate
from workbench.model.hooks import check_dictionary, check_finite, hooked, last_logits
from workbench.model.points import check_point
from workbench.model.tokens import is_start_token
from workbench.replay.precision import InFloat32
from workbench.sae.dictionary import Dictionary
from workbench.sae.parts import active, n_parts
from workbench.shapes import LastLogits, Rows, Tokens

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

DENSE_SHARE = 0.02  # of all (pos, feature) pairs active: above it one matrix product beats gathering decoder rows
N_GATHERED = {"cpu": 2**18, "cuda": 2**23}  # numbers of decoder rows at once: 1 MB stays in a core's cache


@dataclass(frozen=True)
class Attribution:
    """One prompt's active features at an SAE's hook point, and what they contribute to the metric to first order. Kept of each active
    pair; `feature_acts` and `attribution` spread that out over all (pos, d_sae)."""

    pairs: Int[Tensor, "n_rows 2"]  # every active (pos, feature), by position
    acts: Rows
    attributions: Rows
    gradient: Float[Tensor, "pos d_out"]  # ∂metric/∂x, of a transcoder ∂metric/∂y
    norm: Float[Tensor, "pos"]  # ‖x‖, of a transcoder ‖y‖
    metric: float  # on the clean prompt
    logits: Float[Tensor, "d_vocab"]  # at the last position
    d_sae: int

    @cached_property
    def feature_acts(self) -> Float[Tensor, "pos d_sae"]:
        """Activations of all features everywhere."""
        return self._dense(self.acts)

    @cached_property
    def attribution(self) -> Float[Tensor, "pos d_sae"]:
        """The same of attributions; 0 where the feature is off."""
        return self._dense(self.attributions)

    def of(self, pairs: Int[Tensor, "n_asked 2"]) -> Float[Tensor, "n_asked"]:
        """The attribution of each pair; 0 for one that is not active."""
        return self._at(pairs, self.attributions)

    def acts_of(self, pairs: Int[Tensor, "n_asked 2"]) -> Float[Tensor, "n_asked"]:
        """The activation of each pair."""
        return self._at(pairs, self.acts)

    def summed(self, first: int = 0) -> Float[Tensor, "d_sae"]:
        """Each feature's attribution over all positions from `first` on, in float64."""
        here = self.pairs[:, 0] >= first
        total = torch.zeros(self.d_sae, dtype=torch.float64, device=self.pairs.device)
        return total.index_add_(0, self.pairs[here, 1], self.attributions[here].double())

    def _dense(self, values: Rows) -> Float[Tensor, "pos d_sae"]:
        dense = values.new_zeros(len(self.gradient), self.d_sae)
        dense[self.pairs[:, 0], self.pairs[:, 1]] = values
        return dense

    def _at(self, pairs: Int[Tensor, "n_asked 2"], values: Rows) -> Float[Tensor, "n_asked"]:
        if not len(self.pairs):
            return values.new_zeros(len(pairs))
        known, wanted = (each[:, 0] * self.d_sae + each[:, 1] for each in (self.pairs, pairs))
        at = torch.searchsorted(known, wanted).clamp_(max=len(known) - 1)
        return torch.where(known[at] == wanted, values[at], 0.0)


def active_pairs(feature_acts: Float[Tensor, "pos d_sae"]) -> Int[Tensor, "n_rows 2"]:
    """Every (pos, feature) whose feature is active, by position."""
    return feature_acts.nonzero()


def attribute(
    model: "TransformerBridge",
    sae: Dictionary,
    tokens: Tokens,
    metric: Metric,
    each: Callable[[int, int], None] = lambda n_active, n_pos: None,
) -> Attribution:
    """Every active feature's attribution at every position of one prompt, tokens (1, pos). each: told how many pairs the positions so far
    have, while they are read."""
    return attribute_each(model, sae, tokens, [metric], each)[0]


def attribute_each(
    model: "TransformerBridge",
    sae: Dictionary,
    tokens: Tokens,
    metrics: Sequence[Metric],
    each: Callable[[int, int], None] = lambda n_active, n_pos: None,
) -> list[Attribution]:
    """The same of several prompts of one length, each with a metric of its own, in one forward and one backward pass."""
    check_dictionary(model, sae)
    found, x = _at_both(model, sae, tokens, metrics)
    with torch.no_grad(), machine_rate():
        return [_of_prompt(i, found, x[i], sae, each) for i in range(len(tokens))]


def _of_prompt(i: int, found: "Gradient", x: Tensor, sae: Dictionary, each: Callable[[int, int], None]) -> Attribution:
    gradient = found.gradient[i].to(sae.W_dec.dtype)
    pairs, acts = active(sae, x.to(sae.W_dec.dtype), each)
    attributions, norm = _products(pairs, acts, gradient, sae.W_dec), found.x[i].double().norm(dim=-1)
    if n := n_not_finite(attributions):
        check_whole(sae, "dictionary", again=True)  # it may have been written to unseen
        raise ValueError(f"{n:,} attributions are NaN or infinite, though no weight of the dictionary is: the gradient at {sae.writes}")
    return Attribution(pairs, acts, attributions, gradient, norm, found.metric[i].item(), found.logits[i], sae.cfg.d_sae)


def integrate(model: "TransformerBridge", sae: Dictionary, tokens: Tokens, metric: Metric, n_steps: int = 16) -> Float[Tensor, "pos d_sae"]:
    """Integrated gradients: sums over all features to metric(x) − metric(x without them), up to the n_steps of the sum. The start token's
    features stay as they are and get 0."""
    check_dictionary(model, sae)
    n_steps = counted(n_steps, "n_steps", "step")
    found, x = _at_both(model, sae, tokens, [metric])
    y = found.x[0]
    feature_acts = sae.encode(x[0].to(sae.W_dec.dtype)).masked_fill(is_start_token(model, tokens)[0][:, None], 0.0)
    along = (torch.arange(n_steps, device=y.device) + 0.5) / n_steps
    path = y - (1 - along)[:, None, None].to(y.dtype) * (feature_acts @ sae.W_dec).to(y.dtype)
    found = gradient_at(model, sae.writes, tokens.expand(n_steps, -1), metric, at=path)
    pairs, integrated = active_pairs(feature_acts), torch.zeros_like(feature_acts)
    at = pairs[:, 0], pairs[:, 1]
    integrated[at] = _products(pairs, feature_acts[at], found.gradient.mean(0).to(sae.W_dec.dtype), sae.W_dec)
    return integrated


def _at_both(
    model: "TransformerBridge", sae: Dictionary, tokens: Tokens, metrics: Sequence[Metric]
) -> tuple["Gradient", Float[Tensor, "batch pos d_in"]]:
    """(the gradient where the dictionary writes, what it reads), in one pass. Raises ValueError where what is read or the metric is NaN."""
    caught: list[Tensor] = []
    with reading(model, sae, caught, is_needed=sae.reads != sae.writes):
        found = gradient_at(model, sae.writes, tokens, metrics)
    x = of_all(caught, sae) if caught else found.x
    check_finite(x, sae.reads)
    if not torch.isfinite(found.metric).all():
        raise ValueError("the metric is NaN or infinite on this prompt: so are logits of the model, and no effect can be measured by it")
    return found, x


@dataclass(frozen=True)
class Gradient:
    """What one backward pass to a hook point found."""

    x: Float[Tensor, "batch pos d_in"]  # the activation at the hook point
    gradient: Float[Tensor, "batch pos d_in"]  # ∂metric/∂x
    metric: Rows  # of each prompt
    logits: LastLogits  # the same


def gradient_at(
    model: "TransformerBridge",
    hook_name: str,
    tokens: Tokens,
    metric: Metric | Sequence[Metric],
    at: Float[Tensor, "batch pos d_in"] | None = None,
) -> Gradient:
    """The metric's gradient at a hook point, of each prompt its own where several are given; at: put there first. Below the hook autograd
    keeps nothing. In float32 at least."""
    check_point(model, hook_name)
    metrics = metric if isinstance(metric, list | tuple) else [metric] * len(tokens)
    resolved, leaves = EachMetric([resolve(model, each) for each in metrics]), []

    def leaf(value: Tensor) -> Tensor:
        leaves.append((value if at is None else at.view_as(value)).detach().clone().requires_grad_())
        return leaves[-1]

    recording = (torch.inference_mode(False), torch.enable_grad())  # whatever the caller's cell has switched off
    with recording[0], recording[1], machine_rate(), InFloat32(model), hooked(model, hook_name, leaf), unembedding_few(model):
        logits = last_logits(model, tokens)
        value = resolved(logits)
        assert len(leaves) == 1, f"{hook_name} fired {len(leaves)} times in one forward pass, expected once"
        (gradient,) = torch.autograd.grad(value.sum(), leaves[0])
    return Gradient(leaves[0].detach().flatten(2), gradient.flatten(2), value.detach(), logits.detach())


def _products(pairs: Int[Tensor, "n_rows 2"], acts: Rows, gradient: Tensor, W_dec: Tensor) -> Rows:
    """acts · (gradient · W_dec) of every pair, at these only where that is cheaper; pairs by position."""
    found, (n_pos, d_out), d_sae = torch.empty_like(acts), gradient.shape, len(W_dec)
    if len(pairs) <= DENSE_SHARE * n_pos * d_sae:
        n_gathered = N_GATHERED.get(pairs.device.type, 2**23)
        for some in torch.arange(len(pairs), device=pairs.device).split(max(1, n_gathered // d_out)):
            pos, feature = pairs[some].T
            found[some] = acts[some] * (gradient[pos] * W_dec[feature]).sum(-1)
        return found
    first = 0
    for rows in gradient.tensor_split(n_parts(d_sae, n_pos)):
        here = ((pairs[:, 0] >= first) & (pairs[:, 0] < first + len(rows))).nonzero()[:, 0]
        found[here] = acts[here] * (rows @ W_dec.T)[pairs[here, 0] - first, pairs[here, 1]]
        first += len(rows)
    return found
