"""A transcoder's training step, plain and sparse, is its loss and autograd written out in float64; x and y have widths of their own."""

from collections.abc import Callable

import pytest
import torch
from made_step import D_IN, D_SAE, L1, close, made_transcoder

from workbench.sae.architectures import is_over, select
from workbench.sae.config import ARCHITECTURES
from workbench.sae.kernels import entries
from workbench.sae.kernels import step as kernels
from workbench.sae.kernels.objective import AUXK_SHARE, auxk_step, plain_step
from workbench.sae.kernels.step import sparse_step
from workbench.sae.transcoder import Transcoder


def written_out(transcoder: Transcoder, x: torch.Tensor, y: torch.Tensor) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """(what is measured, gradients by name) in float64, from the definition."""
    weights = {name: weight.detach().double().requires_grad_() for name, weight in transcoder.named_parameters()}
    x, y, cfg = x.double(), y.double(), transcoder.cfg
    pre_acts = x @ weights["W_enc"] + weights["b_enc"]
    acts = select(cfg.architecture, pre_acts, k=cfg.k, threshold=weights.get("threshold"))
    y_hat = acts @ weights["W_dec"] + weights["b_dec"] + (x @ weights["W_skip"] if cfg.has_skip else 0)
    squared_error, sparsity = (y - y_hat).square().sum(1).mean(), torch.zeros((), dtype=torch.float64)
    if cfg.architecture == "standard":
        sparsity = (acts * weights["W_dec"].norm(dim=1)).sum(1).mean()
    if cfg.architecture == "jumprelu":
        sparsity = is_over(pre_acts, weights["threshold"]).sum(1).mean()
    loss = squared_error + L1 * sparsity
    loss.backward()
    found = dict(loss=loss, squared_error=squared_error, sparsity=sparsity, error=y - y_hat, n_active=(acts > 0).sum())
    return {name: value.detach() for name, value in found.items()}, {name: weight.grad for name, weight in weights.items()}


@pytest.fixture(params=["compiled loops", "plain torch"])
def products(request, monkeypatch):
    if request.param == "plain torch":
        monkeypatch.setattr(kernels, "fast", lambda kind: entries)


@pytest.mark.parametrize("has_skip", [False, True], ids=["no skip", "skip"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("step", [plain_step, sparse_step], ids=lambda step: step.__name__)
def test_loss_and_gradients_are_those_written_out_in_float64(step: Callable, architecture: str, has_skip: bool, products):
    transcoder, x, y = made_transcoder(architecture, has_skip)
    expected, gradients = written_out(transcoder, x, y)
    found = step(transcoder, x, L1, y)
    for name, value in expected.items():
        assert close(getattr(found, name), value), name
    assert set(gradients) == {name for name, _ in transcoder.named_parameters()}
    for name, weight in transcoder.named_parameters():
        assert weight.grad.shape == weight.shape and weight.grad.stride() == weight.stride(), name
        assert gradients[name].any() and close(weight.grad, gradients[name]), name


def test_without_a_target_it_predicts_what_it_reads_as_an_sae_does():
    transcoder, x, _ = made_transcoder("standard", has_skip=False, d_out=D_IN)
    error = sparse_step(transcoder, x, L1).error
    assert torch.equal(error, sparse_step(transcoder, x, L1, x.clone()).error)


def test_dead_features_of_a_transcoder_are_taught_its_error():
    transcoder, x, y = made_transcoder("topk", has_skip=True)
    dead = torch.arange(D_SAE) >= 300
    step = plain_step(transcoder, x, L1, y)
    before = transcoder.W_dec.grad.clone()
    loss = auxk_step(transcoder, x, step.error, dead)
    acts = transcoder.pre_acts(x)[:, 300:].detach()  # 20 of them, fewer than k_aux = d_in / 2 = 24: all that are positive
    expected = AUXK_SHARE * (step.error - acts.relu() @ transcoder.W_dec[300:].detach()).square().sum(1).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    changed = transcoder.W_dec.grad - before
    assert not changed[:300].any() and changed[300:].any()


def test_folding_scales_and_norms_keeps_what_it_predicts():
    for architecture in ("standard", "jumprelu"):
        transcoder, x, _ = made_transcoder(architecture, has_skip=True)
        scaled = transcoder(3.0 * x).detach() / 0.5
        acts = transcoder.encode(3.0 * x).detach()
        transcoder.requires_grad_(False).fold_scales(3.0, 0.5)
        torch.testing.assert_close(transcoder.encode(x), acts)
        torch.testing.assert_close(transcoder(x), scaled, rtol=1e-4, atol=1e-3)
        transcoder.fold_decoder_norms()
        torch.testing.assert_close(transcoder(x), scaled, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(transcoder.W_dec.norm(dim=1), torch.ones(D_SAE))
    unequal, _, _ = made_transcoder("topk", has_skip=False)
    with pytest.raises(ValueError, match="which features this topk Transcoder selects"):
        unequal.requires_grad_(False).fold_decoder_norms()
