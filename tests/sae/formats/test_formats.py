"""SAEs of every library are read from their files as raw x → raw x_hat; what is not one is refused, saying what it looks like."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from foreign_saes import D_IN, EVERY, HOOK, LLAMA_CFG, Case, Parts, dictionary, llama_scope, saelens_6, sparsify
from safetensors.torch import load_file, save_file

from workbench.sae.config import SAEError
from workbench.sae.formats.layouts import Foreign
from workbench.sae.formats.read import assemble
from workbench.sae.sae import SAE


@pytest.fixture
def x() -> torch.Tensor:
    return 3 * torch.randn(40, D_IN, generator=torch.Generator().manual_seed(5))


@pytest.fixture(params=EVERY, ids=lambda write: write.__name__)
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


# What is refused -----------------------------------------------------------------------------------------------------------------


class Malice:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def malicious_pickle(folder: Path) -> None:
    (folder / "ae.pt").write_bytes(pickle.dumps({"encoder.weight": Malice()}))


def malicious_torch_file(folder: Path) -> None:
    torch.save({"encoder.weight": Malice()}, folder / "ae.pt")


def object_array(folder: Path) -> None:
    np.savez(folder / "params.npz", W_enc=np.array([Malice()], dtype=object))


def whole_module(folder: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), folder / "ae.pt")


def bytes_in(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


def half_of(name: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        weights = Parts().plain()
        if name.endswith(".npz"):
            np.savez(folder / name, **{key: weight.numpy() for key, weight in weights.items()})
        else:
            (save_file if name.endswith(".safetensors") else torch.save)(weights, folder / name)
        (folder / name).write_bytes((folder / name).read_bytes()[:-900])

    return write


def a_language_model(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    save_file({"wte.weight": torch.zeros(2, 2)}, folder / "model.safetensors")


def two_files(folder: Path) -> None:
    for name in ("a.safetensors", "b.safetensors"):
        save_file({"W_enc": torch.zeros(2, 2)}, folder / name)


def a_list(folder: Path) -> None:
    torch.save([torch.zeros(2)], folder / "ae.pt")


def folders_only(folder: Path) -> None:
    (folder / "layer_3").mkdir()


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 5\n"
REFUSED = {
    malicious_pickle: "is a pickle that would execute code.*: refused",
    malicious_torch_file: "is a pickle that would execute code .*mkdir.*: refused",
    whole_module: "is a pickle that would execute code .*Linear.*: refused",
    object_array: "holds Python objects, not only numbers: refused",
    bytes_in("sae_weights.safetensors", POINTER): "git-lfs pointer: fetch the file itself",
    bytes_in("ae.pt", b"<!DOCTYPE html><html>"): "looks like a web page",
    bytes_in("params.npz", b'{"error": "not found"}'): "looks like JSON",
    bytes_in("sae.safetensors", b""): "the file is empty",
    bytes_in("ae.pt", b"\x00\x01\x02" * 50): "ae.pt is not a torch file .unknown content",
    half_of("params.safetensors"): "params.safetensors is truncated or not a safetensors file",
    half_of("params.npz"): "params.npz is truncated or damaged .it begins as a zip archive does",
    half_of("ae.pt"): "ae.pt is truncated or not a torch file .it begins as a zip archive does",
    a_language_model: "its tensors are wte.weight; 'gpt2' is a language model's",
    a_list: "holds a list, expected tensors by name",
    two_files: r"several files of weights: name one of them \(found: a.safetensors, b.safetensors\)",
    folders_only: r"none of sae_weights.safetensors, .* is there \(found: layer_3/\)",
}


@pytest.mark.parametrize("write", REFUSED, ids=lambda write: REFUSED[write][:30])
def test_what_is_no_sae_is_one_error_that_says_what_it_looks_like(write: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "sae"
    folder.mkdir()
    write(folder)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SAEError, match=REFUSED[write]) as caught:
        SAE.load(folder, hook_name=HOOK)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "executed").exists()


def test_the_malice_of_these_tests_would_execute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Malice()))
    assert (tmp_path / "executed").exists()


def _edit(path: Path, **changed) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def test_a_transcoder_is_not_taken_for_an_sae(tmp_path: Path):
    llama, sparse = llama_scope(tmp_path / "llama").source, sparsify(tmp_path / "sparse").source
    _edit(llama / "hyperparams.json", hook_point_out="blocks.3.hook_mlp_out")
    _edit(sparse / "cfg.json", skip_connection=True)
    with pytest.raises(SAEError, match="reads blocks.3.hook_resid_post and writes blocks.3.hook_mlp_out"):
        SAE.load(llama)
    with pytest.raises(SAEError, match="skip_connection adds what"):
        SAE.load(sparse, hook_name=HOOK)


def test_scaling_token_by_token_cannot_be_folded(tmp_path: Path):
    source = llama_scope(tmp_path / "llama").source
    _edit(source / "hyperparams.json", norm_activation="token-wise")
    with pytest.raises(SAEError, match="'token-wise' divides each token by its own norm"):
        SAE.load(source)
    _edit(source / "hyperparams.json", **LLAMA_CFG | {"dataset_average_activation_norm": None})
    with pytest.raises(SAEError, match="lacks dataset_average_activation_norm"):
        SAE.load(source)


def test_topk_and_batchtopk_of_dictionary_learning_are_not_guessed(tmp_path: Path):
    weights = Parts().linear(b_dec=torch.zeros(D_IN), k=torch.tensor(3), threshold=torch.tensor(0.5))
    with pytest.raises(SAEError, match="TopK or BatchTopK: its config.json"):
        SAE.load(dictionary(tmp_path / "sae", None, weights), hook_name=HOOK)


def test_widths_that_contradict_each_other_are_named(tmp_path: Path):
    source = sparsify(tmp_path / "sae").source
    _edit(source / "cfg.json", num_latents=99)
    with pytest.raises(SAEError, match=r"W_enc \(8, 24\), but the JSON beside it says d_sae 99"):
        SAE.load(source, hook_name=HOOK)
    weights = load_file(source / "sae.safetensors")
    save_file(weights | {"encoder.bias": torch.zeros(7)}, source / "sae.safetensors")
    with pytest.raises(SAEError, match=r"'b_enc': \(7,\).*expected .*'b_enc': \(24,\)"):
        SAE.load(source, hook_name=HOOK)


# Hub ids -------------------------------------------------------------------------------------------------------------------------


def test_a_hub_id_fetches_the_files_of_one_sae_only(tmp_path: Path, x: torch.Tensor, monkeypatch: pytest.MonkeyPatch):
    case, asked = saelens_6(tmp_path / "layer_3"), []
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda repo, allow_patterns: asked.append((repo, allow_patterns)) or tmp_path)
    torch.testing.assert_close(SAE.load("owner/some-saes:layer_3")(x), case.forward(x), atol=2e-5, rtol=1e-5)
    ((repo, patterns),) = asked
    assert repo == "owner/some-saes" and "layer_3/sae_weights.safetensors" in patterns and "layer_3/cfg.json" in patterns
    assert all(pattern.startswith("layer_3/") and "*" not in pattern for pattern in patterns)
    with pytest.raises(SAEError, match="owner/some-saes on the hub has no folder 'layer_9' with an SAE in it"):
        SAE.load("owner/some-saes:layer_9")


def test_a_path_that_exists_never_asks_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    saelens_6(tmp_path / "owner")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner").rename(tmp_path / "name")
    (tmp_path / "owner").mkdir()
    (tmp_path / "name").rename(tmp_path / "owner" / "name")
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *args, **kwargs: pytest.fail("asked the hub"))
    assert SAE.load("owner/name").cfg.d_in == D_IN
    for nowhere in ("a/b/c", "./owner/other", "nowhere"):
        with pytest.raises(SAEError, match="no such folder, and no hub id either"):
            SAE.load(nowhere)


def test_an_unknown_hub_id_fails_in_one_sentence_without_a_network(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        SAEError, match="'owner/unheard-of' is not a path here, and as a hub id it cannot be fetched: the hub cannot be"
    ) as caught:
        SAE.load("owner/unheard-of")
    assert "\n" not in str(caught.value)
