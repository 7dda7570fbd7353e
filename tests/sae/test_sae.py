"""An SAE computes the paper's equations, and folding a scale or its decoder norms changes nothing but units."""

import copy

import pytest
import torch
from made_sae import ARCHITECTURES, HOOK, every_architecture, random_sae

from workbench.sae.config import SAEConfig, SAEError
from workbench.sae.sae import SAE


def test_encode_and_decode_are_the_papers_equations():
    made = SAE(SAEConfig(d_in=2, d_sae=3, hook_name=HOOK)).requires_grad_(False)
    made.W_enc.copy_(torch.tensor([[1.0, 0.0, -1.0], [0.0, 2.0, 0.0]]))
    made.b_enc.copy_(torch.tensor([0.5, -1.0, 0.0]))
    made.W_dec.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [5.0, 5.0]]))
    made.b_dec.copy_(torch.tensor([10.0, 20.0]))
    x = torch.tensor([[3.0, 1.0]])  # pre-activations 3.5, 1, −3: b_dec is not subtracted first
    assert torch.equal(made.encode(x), torch.tensor([[3.5, 1.0, 0.0]]))
    assert torch.equal(made(x), torch.tensor([[13.5, 21.0]]))


def by_hand(sae: SAE, x: torch.Tensor) -> torch.Tensor:
    """Feature activations of each architecture, entry by entry."""
    pre_acts = x @ sae.W_enc + sae.b_enc
    if sae.threshold is not None:
        return torch.where(pre_acts > sae.threshold, pre_acts, 0)
    per_row = sae.cfg.k if sae.cfg.architecture == "topk" else 32
    smallest = pre_acts.sort(descending=True).values[:, per_row - 1 : per_row]
    if sae.cfg.architecture == "batchtopk":
        smallest = pre_acts.flatten().sort(descending=True).values[sae.cfg.k * len(x) - 1]
    return torch.where((pre_acts >= smallest) & (pre_acts > 0), pre_acts, 0)


@every_architecture
def test_each_architecture_selects_what_it_is_called_for(architecture: str, k: int | None, x: torch.Tensor):
    sae = random_sae(architecture, k)
    torch.testing.assert_close(sae.encode(x), by_hand(sae, x))
    torch.testing.assert_close(sae(x), by_hand(sae, x) @ sae.W_dec + sae.b_dec)
    n_active = (sae.encode(x) > 0).sum(1)
    if architecture == "topk":
        assert (n_active == 3).all()
    if architecture == "batchtopk":
        assert n_active.sum() == 15 and len(n_active.unique()) > 1


def test_only_a_jumprelu_sae_has_thresholds():
    for architecture, k in ARCHITECTURES:
        assert ("threshold" in dict(random_sae(architecture, k).named_parameters())) == (architecture == "jumprelu")


BAD_CONFIGS = {
    "architecture 'relu' is unknown; there is standard, topk, batchtopk, jumprelu": dict(architecture="relu"),
    "a topk SAE of 32 features needs k from 1 to 32, not None": dict(architecture="topk"),
    "a batchtopk SAE of 32 features needs k from 1 to 32, not 33": dict(architecture="batchtopk", k=33),
    "k=3 belongs to topk and batchtopk SAEs, this one is standard": dict(k=3),
}


@pytest.mark.parametrize("message", BAD_CONFIGS)
def test_a_config_that_cannot_be_says_why(message: str):
    with pytest.raises(SAEError, match=message):
        SAEConfig(8, 32, HOOK, **BAD_CONFIGS[message])


def test_the_fingerprint_changes_with_any_weight():
    sae = random_sae()
    before = sae.fingerprint()
    sae.b_dec[3] += 1e-3
    after = sae.fingerprint()
    sae.W_enc.data[1, 2] += 1.0  # which PyTorch does not count as a change
    assert len({before, after, sae.fingerprint(), copy.deepcopy(sae).fingerprint()}) == 3


def test_a_fingerprint_is_worked_out_once(monkeypatch: pytest.MonkeyPatch):
    """Labels and lists ask at every turn; of a dictionary as wide as real ones it takes a second."""
    sae = random_sae()
    known = sae.fingerprint()
    monkeypatch.setattr("workbench.sae.dictionary.hashlib.sha256", None)
    assert sae.fingerprint() == known


@every_architecture
def test_folding_the_scale_takes_an_sae_of_scaled_x_to_raw_x(architecture: str, k: int | None, x: torch.Tensor):
    sae, scale = random_sae(architecture, k), 3.7
    trained, features = sae(scale * x) / scale, sae.encode(scale * x)
    sae.fold_scale(scale)
    torch.testing.assert_close(sae(x), trained, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(sae.encode(x), features, atol=1e-5, rtol=1e-5)


@every_architecture
def test_folding_decoder_norms_leaves_x_hat_and_gives_the_papers_feature_activation(architecture: str, k: int | None, x: torch.Tensor):
    sae = random_sae(architecture, k)
    if k is not None:  # rows of one norm, whatever it is
        sae.W_dec *= 2.5 / sae.W_dec.norm(dim=1, keepdim=True)
    x_hat, features = sae(x), sae.encode(x) * sae.W_dec.norm(dim=1)
    sae.fold_decoder_norms()
    torch.testing.assert_close(sae(x), x_hat, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(sae.encode(x), features, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(32))


@pytest.mark.parametrize("architecture", ["topk", "batchtopk"])
def test_norms_that_would_change_what_topk_selects_are_not_folded(architecture: str, x: torch.Tensor):
    sae = random_sae(architecture, k=3)
    before, folded = sae.fingerprint(), random_sae(architecture, k=3)
    norms = folded.W_dec.norm(dim=1)
    folded.W_enc *= norms
    folded.b_enc *= norms
    assert not torch.equal(folded.encode(x) > 0, sae.encode(x) > 0), "these norms would not have changed the selection"
    with pytest.raises(SAEError, match="decoder norms range from .* to .*would change which features"):
        sae.fold_decoder_norms()
    assert sae.fingerprint() == before


def test_a_feature_without_a_direction_survives_folding(x: torch.Tensor):
    sae = random_sae()
    sae.W_dec[7] = 0
    x_hat = sae(x)
    assert torch.allclose(sae.fold_decoder_norms()(x), x_hat, atol=1e-5)
    assert all(torch.isfinite(weight).all() for weight in sae.parameters())
