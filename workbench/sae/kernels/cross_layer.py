"""A cross-layer transcoder's training step, by dense autograd: every layer's features are blamed for the errors of all layers above.

    loss = E[ Σ_m ‖y[m] − y_hat[m]‖² + λ · sparsity ]         x and y scaled layer by layer, so that each layer weighs the same

    standard     sparsity = Σ_l Σ_i feature_acts[l, i] · ‖W_dec[l, i]‖      the norm of all that a feature writes
    jumprelu     sparsity = Σ_l Σ_i 1(feature_acts[l, i] > 0)
    batchtopk    none: k a token and layer on average, the features of all layers competing

"Circuit Tracing" (Ameisen et al., 2025), "Building an interpretable replacement model"; they price activations by a tanh of activation ·
norm, which is between the first two. The auxiliary loss of dead features is that of objective.py.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.sae.architectures import batch_topk, is_over, jumprelu, relu, topk
from workbench.sae.cross_layer import CrossLayerTranscoder
from workbench.sae.kernels.objective import AUXK_SHARE, Scalar, Step

Inputs = Float[Tensor, "batch n_layers d_in"]
Targets = Float[Tensor, "batch n_layers d_out"]


def cross_layer_step(clt: CrossLayerTranscoder, x: Inputs, l1: float, y: Targets) -> Step:
    """Loss and gradients. x, y: scaled activations of all layers; l1: λ at this step. Old gradients are overwritten."""
    clt.zero_grad(set_to_none=True)
    reads = x.transpose(0, 1)
    pre_acts = torch.stack([clt.pre_acts(read, layer) for layer, read in enumerate(reads)])
    feature_acts = _selected(clt, pre_acts)
    error = y - clt.decode(feature_acts, reads).transpose(0, 1)
    squared_error = error.square().sum((1, 2)).mean()
    sparsity = _sparsity(clt, pre_acts, feature_acts) / len(x)
    loss = squared_error + l1 * sparsity
    loss.backward()
    active = feature_acts.detach() > 0
    return Step(loss.detach(), squared_error.detach(), sparsity.detach(), active.sum(), active.any(1), error.detach())


def cross_layer_auxk(clt: CrossLayerTranscoder, x: Inputs, error: Targets, dead: Bool[Tensor, "n_layers d_sae"]) -> Scalar:
    """As `auxk_step`: of each row and layer the d_in / 2 most active dead features explain what the living leave over, at that layer and
    above. Gradients are added."""
    parts = []
    for layer, read in enumerate(x.unbind(1)):
        features = dead[layer].nonzero()[:, 0]
        acts = topk(read @ clt.W_enc[layer][:, features] + clt.b_enc[layer][features], x.shape[2] // 2)
        written = (acts @ clt.W_dec[layer][features].flatten(1)).unflatten(1, (-1, error.shape[2]))
        parts.append(torch.nn.functional.pad(written, (0, 0, layer, 0)))
    loss = AUXK_SHARE * (error - torch.stack(parts).sum(0)).square().sum((1, 2)).mean()
    loss.backward()
    return loss.detach()


def _selected(clt: CrossLayerTranscoder, pre_acts: Tensor) -> Tensor:
    if clt.cfg.k is not None:
        return batch_topk(pre_acts, clt.cfg.k)
    if clt.threshold is None:
        return relu(pre_acts)
    return torch.stack([jumprelu(here, threshold) for here, threshold in zip(pre_acts, clt.threshold, strict=True)])


def _sparsity(clt: CrossLayerTranscoder, pre_acts: Tensor, feature_acts: Tensor) -> Scalar:
    """Summed over the batch."""
    if clt.cfg.k is not None:
        return pre_acts.new_zeros(())
    if clt.threshold is None:
        return (feature_acts.sum(1) * clt.norms()).sum()
    return torch.stack([is_over(here, threshold).sum() for here, threshold in zip(pre_acts, clt.threshold, strict=True)]).sum()
