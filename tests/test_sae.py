"""SAE on disk and in units: what is saved reads back the same, scale and norms fold, a broken folder says what is broken."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from workbench.sae import sae as sae_module
from workbench.sae.sae import SAE, SAEConfig, SAEError

HOOK = "blocks.1.hook_resid_pre"


@pytest.fixture
def sae() -> SAE:
    torch.manual_seed(0)
    made = SAE(SAEConfig(d_in=8, d_sae=32, hook_name=HOOK, model_name="tiny", metadata={"l0": 4.5}))
    for weight in made.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    return made.requires_grad_(False)


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(5, 8, generator=torch.Generator().manual_seed(1))


def test_encode_and_decode_are_the_papers_equations():
    made = SAE(SAEConfig(d_in=2, d_sae=3, hook_name=HOOK)).requires_grad_(False)
    made.W_enc.copy_(torch.tensor([[1.0, 0.0, -1.0], [0.0, 2.0, 0.0]]))
    made.b_enc.copy_(torch.tensor([0.5, -1.0, 0.0]))
    made.W_dec.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [5.0, 5.0]]))
    made.b_dec.copy_(torch.tensor([10.0, 20.0]))
    x = torch.tensor([[3.0, 1.0]])  # pre-activations 3.5, 1, −3: b_dec is not subtracted first
    assert torch.equal(made.encode(x), torch.tensor([[3.5, 1.0, 0.0]]))
    assert torch.equal(made(x), torch.tensor([[13.5, 21.0]]))


def test_a_saved_sae_reads_back_the_same_from_raw_x_to_raw_x_hat(sae: SAE, x: torch.Tensor, tmp_path: Path):
    sae.save(tmp_path / "a" / "b")
    read = SAE.load(tmp_path / "a" / "b")
    assert (read(x) - sae(x)).abs().max() < 1e-6
    assert read.cfg == sae.cfg
    assert read.fingerprint() == sae.fingerprint()
    assert not any(weight.requires_grad for weight in read.parameters())


def test_the_fingerprint_changes_with_any_weight(sae: SAE):
    before = sae.fingerprint()
    sae.b_dec[3] += 1e-3
    assert sae.fingerprint() != before


def test_folding_the_scale_takes_an_sae_of_scaled_x_to_raw_x(sae: SAE, x: torch.Tensor):
    scale = 3.7
    trained, features = sae(scale * x) / scale, sae.encode(scale * x)
    sae.fold_scale(scale)
    assert torch.allclose(sae(x), trained, atol=1e-5)
    assert torch.allclose(sae.encode(x), features, atol=1e-5)


def test_folding_decoder_norms_leaves_x_hat_and_gives_the_papers_feature_activation(sae: SAE, x: torch.Tensor):
    x_hat, features = sae(x), sae.encode(x) * sae.W_dec.norm(dim=1)
    sae.fold_decoder_norms()
    assert torch.allclose(sae(x), x_hat, atol=1e-5)
    assert torch.allclose(sae.encode(x), features, atol=1e-5)
    assert torch.allclose(sae.W_dec.norm(dim=1), torch.ones(32), atol=1e-6)


def test_a_feature_without_a_direction_survives_folding(sae: SAE, x: torch.Tensor):
    sae.W_dec[7] = 0
    x_hat = sae(x)
    assert torch.allclose(sae.fold_decoder_norms()(x), x_hat, atol=1e-5)
    assert all(torch.isfinite(weight).all() for weight in sae.parameters())


def test_what_is_written_is_saelens_folder(sae: SAE, tmp_path: Path):
    sae.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cfg.json", "sae_weights.safetensors"]
    cfg = json.loads((tmp_path / "cfg.json").read_text())
    assert (cfg["architecture"], cfg["d_in"], cfg["d_sae"], cfg["dtype"]) == ("standard", 8, 32, "float32")
    assert (cfg["apply_b_dec_to_input"], cfg["normalize_activations"], cfg["reshape_activations"]) == (False, "none", "none")
    assert cfg["metadata"] == {"l0": 4.5, "model_name": "tiny", "hook_name": HOOK}
    shapes = {name: tuple(weight.shape) for name, weight in load_file(tmp_path / "sae_weights.safetensors").items()}
    assert shapes == {"W_enc": (8, 32), "b_enc": (32,), "W_dec": (32, 8), "b_dec": (8,)}


def test_the_older_flat_cfg_is_read_too(sae: SAE, x: torch.Tensor, tmp_path: Path):
    sae.save(tmp_path)
    flat = {"d_in": 8, "d_sae": 32, "hook_name": HOOK, "model_name": "tiny", "apply_b_dec_to_input": False}
    (tmp_path / "cfg.json").write_text(json.dumps(flat))
    assert torch.equal(SAE.load(tmp_path)(x), sae(x))


def test_half_precision_weights_are_read_as_float32(sae: SAE, tmp_path: Path):
    sae.save(tmp_path)
    save_file({name: weight.half() for name, weight in sae.state_dict().items()}, tmp_path / "sae_weights.safetensors")
    assert {weight.dtype for weight in SAE.load(tmp_path).parameters()} == {torch.float32}


def _rewrite_cfg(folder: Path, **changed) -> None:
    cfg = json.loads((folder / "cfg.json").read_text()) | changed
    (folder / "cfg.json").write_text(json.dumps({name: value for name, value in cfg.items() if value is not None}))


def _rewrite_weights(folder: Path, **changed) -> None:
    weights = load_file(folder / "sae_weights.safetensors") | changed
    save_file({name: weight for name, weight in weights.items() if weight is not None}, folder / "sae_weights.safetensors")


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


BROKEN = {
    "no cfg": (lambda folder: (folder / "cfg.json").unlink(), "cfg.json is missing .found: sae_weights.safetensors"),
    "no weights": (lambda folder: (folder / "sae_weights.safetensors").unlink(), "sae_weights.safetensors is missing"),
    "truncated weights": (lambda folder: _truncate(folder / "sae_weights.safetensors"), "sae_weights.safetensors is truncated"),
    "truncated cfg": (lambda folder: _truncate(folder / "cfg.json"), "cfg.json is not JSON"),
    "cfg not an object": (lambda folder: (folder / "cfg.json").write_text("[1, 2]"), "holds a JSON list, expected an object"),
    "cfg without a hook name": (lambda folder: _rewrite_cfg(folder, metadata={}), "cfg.json lacks hook_name"),
    "cfg without a width": (lambda folder: _rewrite_cfg(folder, d_sae=None), "cfg.json lacks d_sae"),
    "cfg of another width": (lambda folder: _rewrite_cfg(folder, d_sae=64), r"'W_enc': \(8, 64\)"),
    "a weight missing": (lambda folder: _rewrite_weights(folder, b_dec=None), "describes .*b_dec"),
    "NaN weights": (lambda folder: _rewrite_weights(folder, b_enc=torch.full((32,), float("nan"))), "b_enc has 32 NaN or infinite values"),
    "another architecture": (lambda folder: _rewrite_cfg(folder, architecture="topk"), "architecture is 'topk'"),
    "scale left outside": (
        lambda folder: _rewrite_cfg(folder, normalize_activations="layer_norm"),
        "normalize_activations is 'layer_norm'",
    ),
    "bias subtracted first": (lambda folder: _rewrite_cfg(folder, apply_b_dec_to_input=True), "apply_b_dec_to_input is True"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_folder_is_one_error_that_names_the_fault(sae: SAE, tmp_path: Path, how: str):
    breaks, message = BROKEN[how]
    sae.save(tmp_path)
    breaks(tmp_path)
    with pytest.raises(SAEError, match=message) as caught:
        SAE.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_that_does_not_exist_says_so(tmp_path: Path):
    with pytest.raises(SAEError, match="no such folder"):
        SAE.load(tmp_path / "nowhere")


def test_a_write_that_fails_leaves_what_was_there(sae: SAE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sae.save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail_halfway(weights, path):
        Path(path).write_bytes(b"half a file")
        raise OSError("No space left on device")

    monkeypatch.setattr(sae_module, "save_file", fail_halfway)
    sae.b_dec += 1
    with pytest.raises(OSError, match="No space left"):
        sae.save(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
