"""What the cheap product proposes holds every entry that is selected, where rounding is at its worst too, and few more."""

import pytest
import torch
from made_step import D_IN, D_SAE, made

from workbench.sae.architectures import BANDWIDTH
from workbench.sae.config import ARCHITECTURES, SAEConfig
from workbench.sae.kernels import proposal
from workbench.sae.kernels.proposal import propose
from workbench.sae.sae import SAE


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_proposals_hold_every_entry_that_is_selected(architecture, dtype, monkeypatch):
    """Also where rounding is at its worst: one token is 100 times as long as the others, and biases put a third of its entries just over
    the boundary."""
    monkeypatch.setattr(proposal, "product_dtype", lambda kind: dtype)
    sae, x = made(architecture)
    x = torch.randn_like(x)
    x[3] *= 100
    with torch.no_grad():
        sae.W_enc.copy_(torch.randn_like(sae.W_enc))
        near = -(x[3].double() @ sae.W_enc.double())[::3].float()
        sae.b_enc[::3] = near + 1e-4 * near.abs() + (0 if sae.threshold is None else sae.threshold[::3] - BANDWIDTH / 2)
    selected = sae.encode(x) > 0 if sae.threshold is None else sae.pre_acts(x) > sae.threshold - BANDWIDTH / 2
    proposed = propose(sae, x)
    is_proposed = torch.zeros_like(selected).index_put_((proposed.rows, proposed.features), torch.tensor(True))
    assert len(proposed.rows) == is_proposed.sum()
    assert (is_proposed | ~selected).all()


def test_proposals_hold_what_rounding_to_bf16_moves_the_furthest(monkeypatch):
    """1 + 2⁻⁸ becomes 1, so a product of two such vectors is wrong by the whole bound; six of them have a norm that is rounded down."""
    monkeypatch.setattr(proposal, "product_dtype", lambda kind: torch.bfloat16)
    sae, x = SAE(SAEConfig(6, 1, "h")), torch.full((1, 6), 1 + 2**-8)
    with torch.no_grad():
        sae.W_enc += 1 + 2**-8
        sae.b_enc += 2**-20 - 6 * (1 + 2**-8) ** 2
    assert sae.encode(x) > 0
    assert len(propose(sae, x).rows) == 1


def test_proposals_hold_the_largest_where_bf16_takes_another_for_larger(monkeypatch):
    monkeypatch.setattr(proposal, "product_dtype", lambda kind: torch.bfloat16)
    sae, x = SAE(SAEConfig(2, 2, "h", architecture="topk", k=1)), torch.tensor([[1.0, 0.0]])
    with torch.no_grad():
        sae.W_enc[1, 1] = 38  # of no use to x, but its bound is wide: 1001.8 may be 1002.1, which bf16 rounds to 1004
        sae.b_enc += torch.tensor([1001.9, 1001.8])
    assert sae.encode(x)[0, 0] > 0
    assert 0 in propose(sae, x).features


@pytest.mark.parametrize("architecture", ["topk", "batchtopk"])
def test_proposals_hold_the_largest_of_features_that_bf16_cannot_tell_apart(architecture, monkeypatch):
    monkeypatch.setattr(proposal, "product_dtype", lambda kind: torch.bfloat16)
    sae, x = made(architecture)
    with torch.no_grad():
        direction = torch.randn(D_IN, 1)
        x += (1 - x @ direction) @ (direction / direction.square().sum()).T  # pre-activations are about 1, each sum of large numbers
        sae.W_enc.copy_(direction + 1e-3 * torch.randn(D_IN, D_SAE))
    selected, proposed = sae.encode(x) > 0, propose(sae, x)
    is_proposed = torch.zeros_like(selected).index_put_((proposed.rows, proposed.features), torch.tensor(True))
    assert (is_proposed | ~selected).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])  # float32's may be exactly what is selected
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_proposals_are_few_more_than_what_is_selected(architecture, dtype, monkeypatch):
    monkeypatch.setattr(proposal, "product_dtype", lambda kind: dtype)
    torch.manual_seed(0)
    sae = SAE(SAEConfig(64, 4096, "h", architecture=architecture, k=16 if "topk" in architecture else None))
    with torch.no_grad():
        sae.W_enc.copy_(torch.randn(64, 4096) / 8)
        sae.b_enc -= 2.7 if sae.cfg.k is None else 0
        if sae.threshold is not None:
            sae.threshold += BANDWIDTH / 2
    x = torch.randn(64, 64)
    n_selected = (sae.encode(x) > 0).sum() if sae.threshold is None else (sae.pre_acts(x) > 0).sum()
    assert n_selected <= len(propose(sae, x).rows) < 2 * n_selected
