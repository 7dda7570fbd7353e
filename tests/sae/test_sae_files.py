"""An SAE on disk: what is saved reads back the same and is SAELens' folder; a broken folder says what is broken."""

import json
from pathlib import Path

import pytest
import torch
from made_sae import HOOK, every_architecture, random_sae
from safetensors.torch import load_file, save_file

from workbench.sae.config import SAEError
from workbench.sae.sae import SAE


@every_architecture
def test_a_saved_sae_reads_back_the_same_from_raw_x_to_raw_x_hat(architecture: str, k: int | None, x: torch.Tensor, tmp_path: Path):
    sae = random_sae(architecture, k)
    sae.W_dec /= sae.W_dec.norm(dim=1, keepdim=True)
    sae.save(tmp_path / "a" / "b")
    read = SAE.load(tmp_path / "a" / "b")
    assert torch.equal(read(x), sae(x)) and torch.equal(read.encode(x), sae.encode(x))
    assert read.cfg == sae.cfg
    assert read.fingerprint() == sae.fingerprint()
    assert not any(weight.requires_grad for weight in read.parameters())


def test_rows_that_were_saved_with_their_norms_are_read_as_unit_rows(x: torch.Tensor, tmp_path: Path):
    sae = random_sae()
    sae.save(tmp_path)
    read = SAE.load(tmp_path)
    torch.testing.assert_close(read(x), sae(x), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(read.encode(x), sae.encode(x) * sae.W_dec.norm(dim=1))


def test_centering_reads_x_without_its_mean_and_is_said_as_saelens_says_it(x: torch.Tensor, tmp_path: Path):
    centers, plain = random_sae(centers_input=True), random_sae()
    torch.testing.assert_close(centers.encode(x), plain.encode(x - x.mean(1, keepdim=True)))
    torch.testing.assert_close(centers.encode(x + 7), centers.encode(x), atol=1e-5, rtol=1e-5)
    centers.fold_decoder_norms().save(tmp_path)
    cfg = json.loads((tmp_path / "cfg.json").read_text())
    assert cfg["metadata"]["model_from_pretrained_kwargs"] == {"center_writing_weights": True}
    read = SAE.load(tmp_path)
    assert read.cfg == centers.cfg and torch.equal(read(x), centers(x))


@every_architecture
def test_each_features_encoder_weights_lie_side_by_side_and_stay_so(architecture: str, k: int | None, tmp_path: Path):
    sae = random_sae(architecture, k)
    sae.W_dec /= sae.W_dec.norm(dim=1, keepdim=True)
    sae.save(tmp_path)
    for one in (sae, sae.fold_scale(2.0), sae.fold_decoder_norms(), sae.to(torch.float64), SAE.load(tmp_path)):
        assert one.W_enc.shape == (8, 32) and one.W_enc.T.is_contiguous()


def test_what_is_written_is_saelens_folder(tmp_path: Path):
    sae = random_sae()
    sae.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cfg.json", "sae_weights.safetensors"]
    cfg = json.loads((tmp_path / "cfg.json").read_text())
    assert (cfg["architecture"], cfg["d_in"], cfg["d_sae"], cfg["dtype"]) == ("standard", 8, 32, "float32")
    assert (cfg["apply_b_dec_to_input"], cfg["normalize_activations"], cfg["reshape_activations"]) == (False, "none", "none")
    assert cfg["metadata"] == {"l0": 4.5, "model_name": "tiny", "hook_name": HOOK, "sae_lens_version": "6.0.0"}
    shapes = {name: tuple(weight.shape) for name, weight in load_file(tmp_path / "sae_weights.safetensors").items()}
    assert shapes == {"W_enc": (8, 32), "b_enc": (32,), "W_dec": (32, 8), "b_dec": (8,)}


def test_half_precision_weights_are_read_as_float32_and_not_normalized_anew(tmp_path: Path):
    sae = random_sae()
    sae.fold_decoder_norms().save(tmp_path)
    halved = {name: weight.half().contiguous() for name, weight in sae.state_dict().items()}
    save_file(halved, tmp_path / "sae_weights.safetensors")
    read = SAE.load(tmp_path).state_dict()
    assert {weight.dtype for weight in read.values()} == {torch.float32}
    assert all(torch.equal(read[name], weight.float()) for name, weight in halved.items())


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
    "no weights": (lambda folder: (folder / "sae_weights.safetensors").unlink(), r"none of sae_weights.safetensors, .*\(found: cfg.json\)"),
    "truncated weights": (lambda folder: _truncate(folder / "sae_weights.safetensors"), "sae_weights.safetensors is truncated"),
    "truncated cfg": (lambda folder: _truncate(folder / "cfg.json"), "cfg.json is not JSON"),
    "cfg not an object": (lambda folder: (folder / "cfg.json").write_text("[1, 2]"), "holds a JSON list, expected an object"),
    "cfg without a hook name": (lambda folder: _rewrite_cfg(folder, metadata={}), "does not say its hook_name: give hook_name="),
    "cfg of another width": (lambda folder: _rewrite_cfg(folder, d_sae=64), r"W_enc \(8, 32\), but the JSON beside it says d_sae 64"),
    "a weight missing": (lambda folder: _rewrite_weights(folder, b_dec=None), "expected .*b_dec"),
    "a weight too many": (lambda folder: _rewrite_weights(folder, W_skip=torch.zeros(8, 8)), "holds .*W_skip"),
    "NaN weights": (lambda folder: _rewrite_weights(folder, b_enc=torch.full((32,), float("nan"))), "b_enc has 32 NaN or infinite values"),
    "another architecture": (
        lambda folder: _rewrite_cfg(folder, architecture="transcoder"),
        "is a transcoder, not an SAE: wb.Transcoder.load reads it",
    ),
    "thresholds missing": (lambda folder: _rewrite_cfg(folder, architecture="jumprelu"), "expected .*threshold"),
    "k missing": (lambda folder: _rewrite_cfg(folder, architecture="topk"), "needs k from 1 to 32, not None"),
    "each token scaled": (lambda folder: _rewrite_cfg(folder, normalize_activations="layer_norm"), "each token by its own norm"),
    "scale left outside": (
        lambda folder: _rewrite_cfg(folder, normalize_activations="expected_average_only_in"),
        "does not say its scale: give scale=",
    ),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_folder_is_one_error_that_names_the_fault(tmp_path: Path, how: str):
    sae = random_sae()
    breaks, message = BROKEN[how]
    sae.save(tmp_path)
    breaks(tmp_path)
    with pytest.raises(SAEError, match=message) as caught:
        SAE.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_that_does_not_exist_says_so(tmp_path: Path):
    with pytest.raises(SAEError, match="no such folder"):
        SAE.load(tmp_path / "nowhere")


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sae = random_sae()
    sae.save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail_halfway(weights, path, metadata):
        Path(path).write_bytes(b"half a file")
        raise OSError("No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", fail_halfway)
    sae.b_dec += 1
    with pytest.raises(OSError, match="No space left"):
        sae.save(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
