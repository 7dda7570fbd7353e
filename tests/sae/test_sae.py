"""SAE on disk and in units: what is saved reads back the same, scale and norms fold, a broken folder says what is broken."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from workbench.sae import sae as sae_module
from workbench.sae.config import SAEConfig, SAEError
from workbench.sae.sae import SAE

HOOK = "blocks.1.hook_resid_pre"


def random_sae(architecture: str = "standard", k: int | None = None, centers_input: bool = False) -> SAE:
    torch.manual_seed(0)
    cfg = SAEConfig(8, 32, HOOK, "tiny", architecture=architecture, k=k, centers_input=centers_input, metadata={"l0": 4.5})
    made = SAE(cfg)
    for name, weight in made.named_parameters():
        torch.nn.init.uniform_(weight, 0, 0.6) if name == "threshold" else torch.nn.init.normal_(weight, std=0.5)
    return made.requires_grad_(False)


@pytest.fixture
def sae() -> SAE:
    return random_sae()


ARCHITECTURES = [("standard", None), ("topk", 3), ("batchtopk", 3), ("jumprelu", None)]
every_architecture = pytest.mark.parametrize(("architecture", "k"), ARCHITECTURES, ids=[name for name, _ in ARCHITECTURES])


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


def test_rows_that_were_saved_with_their_norms_are_read_as_unit_rows(sae: SAE, x: torch.Tensor, tmp_path: Path):
    sae.save(tmp_path)
    read = SAE.load(tmp_path)
    torch.testing.assert_close(read(x), sae(x), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(read.encode(x), sae.encode(x) * sae.W_dec.norm(dim=1))


def test_only_a_jumprelu_sae_has_thresholds():
    for architecture, k in ARCHITECTURES:
        assert ("threshold" in dict(random_sae(architecture, k).named_parameters())) == (architecture == "jumprelu")


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


def test_the_fingerprint_changes_with_any_weight(sae: SAE):
    before = sae.fingerprint()
    sae.b_dec[3] += 1e-3
    assert sae.fingerprint() != before


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
    assert cfg["metadata"] == {"l0": 4.5, "model_name": "tiny", "hook_name": HOOK, "sae_lens_version": "6.0.0"}
    shapes = {name: tuple(weight.shape) for name, weight in load_file(tmp_path / "sae_weights.safetensors").items()}
    assert shapes == {"W_enc": (8, 32), "b_enc": (32,), "W_dec": (32, 8), "b_dec": (8,)}


def test_half_precision_weights_are_read_as_float32_and_not_normalized_anew(sae: SAE, tmp_path: Path):
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
        "architecture 'transcoder' with relu is unknown",
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
