"""SAEs of every library are read from their files as raw x → raw x_hat; what is not one is refused, saying what it looks like."""

from pathlib import Path

import pytest
import torch
from foreign_libraries import LIBRARIES, llama_scope, sparsify
from foreign_public import PUBLIC
from foreign_saes import D_IN, HOOK, SAELENS, Case, saelens_6
from safetensors.torch import load_file, save_file

from workbench.sae.formats.folding import assemble
from workbench.sae.formats.foreign import Foreign
from workbench.sae.sae import SAE


@pytest.fixture
def x() -> torch.Tensor:
    return 3 * torch.randn(40, D_IN, generator=torch.Generator().manual_seed(5))


@pytest.fixture(params=(*SAELENS, *LIBRARIES, *PUBLIC), ids=lambda write: write.__name__)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    return request.param(tmp_path / "sae")


def test_feature_activations_and_x_hat_are_the_librarys_own(case: Case, x: torch.Tensor):
    sae = SAE.load(case.source, **case.given)
    expected = case.encode(x)
    assert torch.equal(sae.encode(x) > 0, expected > 0)
    assert 0.02 < (expected > 0).float().mean() < 0.7
    torch.testing.assert_close(sae.encode(x), expected, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(sae(x), case.forward(x), atol=2e-5, rtol=1e-5)
    assert sae.cfg.hook_name == HOOK
    assert case.has_unit_rows == bool(((sae.W_dec.norm(dim=1) - 1).abs() < 1e-5).all())


def test_what_is_written_reads_back_from_raw_x_to_raw_x_hat(case: Case, x: torch.Tensor, tmp_path: Path):
    sae = SAE.load(case.source, **case.given)
    sae.save(tmp_path / "ours")
    again = SAE.load(tmp_path / "ours")
    assert (again(x) - sae(x)).abs().max() < 1e-6
    assert (again.cfg, again.fingerprint()) == (sae.cfg, sae.fingerprint())


def test_neither_folder_nor_file_names_decide(x: torch.Tensor, tmp_path: Path):
    for write, file in (
        (saelens_6, "sae_weights.safetensors"),
        (llama_scope, "checkpoints/final.safetensors"),
        (sparsify, "sae.safetensors"),
    ):
        case = write(tmp_path / f"gemma_scope_{write.__name__}")
        renamed = (case.source / file).rename((case.source / file).with_name("ae.safetensors"))
        torch.testing.assert_close(SAE.load(renamed, **case.given)(x), case.forward(x), atol=2e-5, rtol=1e-5)


def test_subtracting_b_dec_costs_no_more_than_one_rounding_of_b_enc():
    """A residual stream with massive directions: thresholds are compared with a difference of large numbers."""
    rng = torch.Generator().manual_seed(6)
    W_enc, b_dec = torch.randn(4096, 16, generator=rng), 50 + torch.randn(4096, generator=rng)
    weights = {"W_enc": W_enc, "b_enc": torch.zeros(16), "W_dec": torch.eye(16, 4096), "b_dec": b_dec}
    sae = assemble(SAE, Foreign("made", weights, hook_name=HOOK, subtracts_b_dec=True), Path("made"))
    exact = -(b_dec.double() @ W_enc.double())
    assert ((sae.b_enc - exact) / exact).abs().max() < 6e-8
    assert ((b_dec @ W_enc + exact) / exact).abs().max() > 1e-7, "float32 would have done"


def test_half_precision_is_read_as_float32(x: torch.Tensor, tmp_path: Path):
    case = llama_scope(tmp_path / "sae")
    file = case.source / "checkpoints" / "final.safetensors"
    save_file({name: weight.bfloat16() for name, weight in load_file(file).items()}, file)
    sae = SAE.load(case.source)
    assert sae.W_enc.dtype == torch.float32
    torch.testing.assert_close(sae(x), case.forward(x), atol=0.5, rtol=0.2)


def test_what_the_caller_gives_wins_over_the_file(tmp_path: Path):
    source = saelens_6(tmp_path / "sae").source
    cfg = SAE.load(source, hook_name="blocks.1.hook_mlp_out", model_name="other", centers_input=True).cfg
    assert (cfg.hook_name, cfg.model_name, cfg.centers_input) == ("blocks.1.hook_mlp_out", "other", True)
