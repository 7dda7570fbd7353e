"""An SAE and a batch on which a training step can be compared with another, and the comparison.

Weights and activations lie on a grid so coarse that float32 holds every pre-activation exactly, and biases tell features apart: no
selection depends on the order in which a machine adds.
"""

from dataclasses import fields

import torch

from workbench.sae.config import SAEConfig, TranscoderConfig
from workbench.sae.kernels.objective import plain_step
from workbench.sae.kernels.step import sparse_step
from workbench.sae.sae import SAE
from workbench.sae.transcoder import Transcoder

D_IN, D_OUT, D_SAE, N_ROWS, K, L1 = 48, 20, 320, 33, 6, 5.0
ALIVE = {"ordinary": 0.0, "all dead": -1000.0, "all alive": 1000.0}  # added to every bias


def on_grid(*shape: int, spread: float) -> torch.Tensor:
    return (8 * spread * torch.randn(*shape)).round() / 8


def made(architecture: str, case: str = "ordinary") -> tuple[SAE, torch.Tensor]:
    torch.manual_seed(1)
    k = None if "topk" not in architecture else D_SAE if case == "all alive" else K
    sae = SAE(SAEConfig(D_IN, D_SAE, "blocks.0.hook_resid_pre", architecture=architecture, k=k))
    with torch.no_grad():
        sae.W_enc.T.copy_(on_grid(D_SAE, D_IN, spread=0.4))
        sae.W_dec.copy_(on_grid(D_SAE, D_IN, spread=0.4))
        sae.b_dec.copy_(on_grid(D_IN, spread=1))
        sae.b_enc.copy_((2 * torch.randperm(D_SAE) + 1) / 2**13 - (4 if architecture == "standard" else 0) + ALIVE[case])
        sae.W_dec[7] = 0  # ‖W_dec_i‖ has no gradient here
        if sae.threshold is not None:
            sae.threshold.copy_(5 + on_grid(D_SAE, spread=0.5))
    return sae, on_grid(N_ROWS, D_IN, spread=1)


def made_transcoder(architecture: str, has_skip: bool, d_out: int = D_OUT) -> tuple[Transcoder, torch.Tensor, torch.Tensor]:
    """A transcoder of the same kind, x, and y of another width."""
    torch.manual_seed(1)
    k = K if "topk" in architecture else None
    how = dict(architecture=architecture, k=k, has_skip=has_skip)
    transcoder = Transcoder(TranscoderConfig(D_IN, d_out, D_SAE, "blocks.0.mlp.hook_in", "blocks.0.hook_mlp_out", **how))
    with torch.no_grad():
        transcoder.W_enc.T.copy_(on_grid(D_SAE, D_IN, spread=0.4))
        transcoder.W_dec.copy_(on_grid(D_SAE, d_out, spread=0.4))
        transcoder.b_dec.copy_(on_grid(d_out, spread=1))
        transcoder.b_enc.copy_((2 * torch.randperm(D_SAE) + 1) / 2**13 - (4 if architecture == "standard" else 0))
        if transcoder.threshold is not None:
            transcoder.threshold.copy_(5 + on_grid(D_SAE, spread=0.5))
        if transcoder.W_skip is not None:
            transcoder.W_skip.copy_(on_grid(D_IN, d_out, spread=0.4))
    return transcoder, on_grid(N_ROWS, D_IN, spread=1), on_grid(N_ROWS, d_out, spread=1)


def close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return (found.double() - expected.double()).norm().item() <= 1e-5 * expected.double().norm().item()


def assert_same_step(sae: SAE, x: torch.Tensor, fast_step=sparse_step) -> None:
    expected = plain_step(sae, x, L1)
    gradients = {name: weight.grad.clone() for name, weight in sae.named_parameters()}
    found = fast_step(sae, x, L1)
    for field in fields(expected):
        assert close(getattr(found, field.name), getattr(expected, field.name)), field.name
    for name, weight in sae.named_parameters():
        assert weight.grad.shape == weight.shape and weight.grad.stride() == weight.stride(), name
        assert close(weight.grad, gradients[name]), name
