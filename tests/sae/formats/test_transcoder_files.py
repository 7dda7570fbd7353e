"""Transcoders of other libraries, by what their files or their repository's name say; written and read both ways."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from foreign_libraries import LLAMA_CFG
from foreign_saes import D_IN, D_SAE, HOOK, K, Parts, jump, topk
from made_transcoders import layer_tensors, random_transcoder
from safetensors.torch import save_file

from workbench.sae.config import SAEError, TranscoderConfig
from workbench.sae.convert import convert
from workbench.sae.cross_layer import CrossLayerTranscoder
from workbench.sae.sae import SAE
from workbench.sae.transcoder import Transcoder, load_transcoders

X = torch.randn(40, D_IN, generator=torch.Generator().manual_seed(5))


def sparsify_transcoder(folder: Path, *, is_early: bool = False, has_skip: bool = False) -> Path:
    """is_early: November 2024 to February 2025, when only the run's config.json, one folder up, said transcode."""
    p = Parts()
    folder.mkdir(parents=True)
    cfg = {"k": K, "num_latents": D_SAE, "d_in": D_IN, "normalize_decoder": not is_early, "skip_connection": has_skip}
    (folder / "cfg.json").write_text(json.dumps(cfg if is_early else cfg | {"transcode": True, "activation": "topk"}))
    if is_early:
        (folder.parent / "config.json").write_text(json.dumps({"transcode": True, "sae": cfg}))
    weights = {"encoder.weight": p.W_enc.T.contiguous(), "encoder.bias": p.b_enc, "W_dec": p.W_dec, "b_dec": p.b_dec}
    save_file(weights | ({"W_skip": skip()} if has_skip else {}), folder / "sae.safetensors")
    return folder


def skip() -> torch.Tensor:
    return torch.randn(D_IN, D_IN, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("is_early", [False, True])
@pytest.mark.parametrize("has_skip", [False, True])
def test_sparsifys_transcoders_encode_x_and_the_early_ones_x_less_b_dec(is_early: bool, has_skip: bool, tmp_path: Path):
    p, source = Parts(), sparsify_transcoder(tmp_path / "run" / "layers.3.mlp", is_early=is_early, has_skip=has_skip)
    transcoder = Transcoder.load(source)
    acts = topk((X - p.b_dec if is_early else X) @ p.W_enc + p.b_enc)
    y_hat = acts @ p.W_dec + p.b_dec + (X @ skip().T if has_skip else 0)
    torch.testing.assert_close(transcoder(X), y_hat, atol=2e-5, rtol=1e-5)
    assert (transcoder.cfg.hook_name_in, transcoder.cfg.hook_name_out) == ("blocks.3.mlp.hook_in", "blocks.3.mlp.hook_out")
    assert "assumed: its place by the folder's name, layers.3.mlp" in repr(transcoder)
    with pytest.raises(SAEError, match="sparsify. is a transcoder, not an SAE"):
        SAE.load(source)
    convert(source, tmp_path / "ours")
    assert torch.equal(Transcoder.load(tmp_path / "ours")(X), transcoder(X))
    convert(tmp_path / "ours", tmp_path / "back" / "layers.3.mlp", "sparsify")
    assert torch.equal(Transcoder.load(tmp_path / "back" / "layers.3.mlp")(X), transcoder(X))
    with pytest.raises(
        SAEError, match="a folder called layers.2.mlp would say that it stands there; this transcoder's is called layers.3.mlp"
    ):
        convert(tmp_path / "ours", tmp_path / "back" / "layers.2.mlp", "sparsify")


@pytest.mark.parametrize(
    ("reads", "writes", "called"),
    [
        ("mlp.hook_in", "mlp.hook_out", "layers.{}.mlp"),
        ("mlp.hook_in", "hook_mlp_out", "layers.{}.mlp"),
        ("hook_resid_pre", "hook_resid_post", "layers.{}"),
        ("hook_resid_mid", "hook_mlp_out", None),
        ("ln2.hook_normalized", "mlp.hook_out", None),
    ],
)
def test_a_set_written_as_sparsifys_reads_where_it_read_or_is_refused(reads: str, writes: str, called: str | None, tmp_path: Path):
    for layer in range(2):
        places = f"blocks.{layer}.{reads}", f"blocks.{layer}.{writes}"
        made = Transcoder(TranscoderConfig(D_IN, D_IN, 12, *places, "tiny", architecture="topk", k=3))
        torch.nn.init.normal_(made.W_enc)
        made.save(tmp_path / "ours" / f"layer_{layer}")
    if called is None:
        with pytest.raises(SAEError, match=f"this one is blocks.0.{reads} → blocks.0.{writes}"):
            convert(tmp_path / "ours", tmp_path / "theirs", "sparsify")
        assert not (tmp_path / "theirs").exists()
        return
    convert(tmp_path / "ours", tmp_path / "theirs", "sparsify")
    assert sorted(path.name for path in (tmp_path / "theirs").iterdir()) == [called.format(0), called.format(1)]
    assert load_transcoders(tmp_path / "theirs")[1].cfg.hook_name_in == f"blocks.1.{reads}"


def gemma_folder(tmp_path: Path, name: str, file: str, weights: dict[str, torch.Tensor]) -> Path:
    folder = tmp_path / "google" / name
    folder.mkdir(parents=True)
    if file.endswith(".npz"):
        np.savez(folder / file, **{key: weight.numpy() for key, weight in weights.items()})
    else:
        save_file({key: weight.contiguous() for key, weight in weights.items()}, folder / file)
    return folder


def test_gemma_scope_1s_transcoders_are_known_by_their_repository_only(tmp_path: Path):
    p = Parts()
    weights = p.plain(threshold=p.threshold)
    folder = gemma_folder(tmp_path, "gemma-scope-2b-pt-transcoders/layer_5/width_16k/average_l0_30", "params.npz", weights)
    transcoder = Transcoder.load(folder)
    torch.testing.assert_close(transcoder(X), jump(X @ p.W_enc + p.b_enc, p.threshold) @ p.W_dec + p.b_dec, atol=2e-5, rtol=1e-5)
    assert (transcoder.cfg.hook_name_in, transcoder.cfg.hook_name_out) == ("blocks.5.ln2.hook_normalized", "blocks.5.hook_mlp_out")
    with pytest.raises(SAEError, match="is a transcoder, not an SAE"):
        SAE.load(folder, hook_name=HOOK)
    elsewhere = gemma_folder(tmp_path, "some/layer_5", "params.npz", weights)
    with pytest.raises(SAEError, match="may be an SAE or a transcoder, its files do not say"):
        Transcoder.load(elsewhere)
    assert Transcoder.load(elsewhere, hook_name_in="blocks.5.mlp.hook_in", hook_name_out="blocks.5.hook_mlp_out").cfg.d_out == D_IN


def test_a_set_whose_layers_are_another_repositorys_reads_and_writes_where_its_config_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    p, name = Parts(), "gemma-scope-2b-pt-transcoders"
    inner = [f"layer_{layer}/width_16k/average_l0_{l0}" for layer, l0 in ((0, 76), (1, 65))]
    for each in inner:
        gemma_folder(tmp_path, f"{name}/{each}", "params.npz", p.plain(threshold=p.threshold))
    files = "".join(f"- hf://google/{name}/{each}/params.npz\n" for each in inner)
    hooks = "feature_input_hook: ln2.hook_normalized\nfeature_output_hook: hook_mlp_out\n"
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "config.yaml").write_text(
        f"model_name: google/gemma-2-2b\nmodel_kind: transcoder_set\n{hooks}transcoders:\n{files}"
    )
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda repo, allow_patterns: tmp_path / repo)
    transcoders = load_transcoders(tmp_path / "set")
    assert [each.cfg.hook_name_out for each in transcoders.values()] == ["blocks.0.hook_mlp_out", "blocks.1.hook_mlp_out"]
    assert transcoders[1].cfg.model_name == "google/gemma-2-2b" and transcoders[1].cfg.architecture == "jumprelu"


@pytest.mark.parametrize("inside", ["in/", ""])
def test_a_layer_is_the_very_file_that_the_list_names(inside: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for layer in range(2):
        (tmp_path / f"a/b/{inside}").mkdir(parents=True, exist_ok=True)
        save_file(layer_tensors(layer), tmp_path / f"a/b/{inside}layer_{layer}.safetensors")
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda repo, allow_patterns: tmp_path / repo)
    hooks = "feature_input_hook: mlp.hook_in\nfeature_output_hook: mlp.hook_out\nmodel_name: tiny\nmodel_kind: transcoder_set\n"
    (tmp_path / "set").mkdir()
    config, names = tmp_path / "set" / "config.yaml", [f"hf://a/b/{inside}layer_{layer}.safetensors" for layer in (1, 0)]
    config.write_text(f"{hooks}transcoders:\n" + "".join(f"- {name}\n" for name in names))
    found = load_transcoders(tmp_path / "set")
    for place, file in ((0, 1), (1, 0)):
        torch.testing.assert_close(found[place].W_enc, layer_tensors(file)["W_enc"].T)
    (tmp_path / f"a/b/{inside}layer_0.safetensors").unlink()  # the other one is no stand-in
    with pytest.raises(SAEError, match="layer_0.safetensors"):
        load_transcoders(tmp_path / "set")
    config.write_text(f"{hooks}transcoders:\n- {names[0]}?revision=abc\n")
    with pytest.raises(SAEError, match="asks for revision=abc"):
        load_transcoders(tmp_path / "set")


@pytest.mark.parametrize("has_cfg", [False, True])
@pytest.mark.parametrize("has_skip", [False, True])
def test_gemma_scope_2s_transcoders_with_and_without_config(has_cfg: bool, has_skip: bool, tmp_path: Path):
    p = Parts()
    weights = {"w_enc": p.W_enc, "w_dec": p.W_dec, "b_enc": p.b_enc, "b_dec": p.b_dec, "threshold": p.threshold}
    weights |= {"affine_skip_connection": skip()} if has_skip else {}  # (d_in, d_out), unlike everybody's W_skip
    name = f"gemma-scope-2-1b-pt/transcoder_all/layer_3_width_16k_l0_small{'_affine' * has_skip}"
    folder = gemma_folder(tmp_path, name, "params.safetensors", weights)
    if has_cfg:
        hooks = {
            f"hf_hook_point_{end}": f"model.layers.3.{norm}_feedforward_layernorm.output" for end, norm in (("in", "pre"), ("out", "post"))
        }
        (folder / "config.json").write_text(json.dumps({"type": "transcoder", "model_name": "gemma-v3-1b-pt", **hooks}))
    transcoder = Transcoder.load(folder)
    y_hat = jump(X @ p.W_enc + p.b_enc, p.threshold) @ p.W_dec + p.b_dec + (X @ skip() if has_skip else 0)
    torch.testing.assert_close(transcoder(X), y_hat, atol=2e-5, rtol=1e-5)
    assert (transcoder.cfg.hook_name_in, transcoder.cfg.hook_name_out) == ("blocks.3.mlp.hook_in", "blocks.3.hook_mlp_out")


def test_gemma_scope_2s_cross_layer_transcoders_write_into_their_own_and_later_layers(tmp_path: Path):
    rng, n = torch.Generator().manual_seed(1), 3
    folder = tmp_path / "google" / "gemma-scope-2-1b-pt" / "clt" / "width_262k_l0_big_affine"
    folder.mkdir(parents=True)
    layers = []
    for layer in range(n):
        shapes = {"w_enc": (D_IN, 5), "w_dec": (5, n, D_IN), "b_enc": (5,), "b_dec": (D_IN,), "threshold": (5,)}
        layers.append({name: torch.randn(shape, generator=rng) for name, shape in shapes.items()})
        layers[-1] |= {"threshold": layers[-1]["threshold"].abs(), "affine_skip_connection": torch.randn(D_IN, D_IN, generator=rng)}
        save_file(layers[-1], folder / f"params_layer_{layer}.safetensors")
    clt, x = CrossLayerTranscoder.load(folder), torch.randn(n, 4, D_IN, generator=rng)
    acts = [jump(x[layer] @ t["w_enc"] + t["b_enc"], t["threshold"]) for layer, t in enumerate(layers)]
    for target, t in enumerate(layers):
        y_hat = sum(acts[layer] @ layers[layer]["w_dec"][:, target] for layer in range(target + 1))
        torch.testing.assert_close(clt(x)[target], y_hat + t["b_dec"] + x[target] @ t["affine_skip_connection"], atol=2e-5, rtol=1e-5)
    assert (clt.cfg.hook_names_in[1], clt.cfg.model_name) == ("blocks.1.mlp.hook_in", "google/gemma-3-1b-pt")
    convert(folder, tmp_path / "ours")
    assert torch.equal(CrossLayerTranscoder.load(tmp_path / "ours")(x), clt(x))
    (folder / "params_layer_1.safetensors").unlink()
    with pytest.raises(SAEError, match=r"lacks params_layer_1\.safetensors"):
        CrossLayerTranscoder.load(folder)


def test_openmoss_transcoders_scale_input_and_output_each_by_its_own_norm(tmp_path: Path):
    p, s_in, s_out = Parts(), D_IN**0.5 / 5.0, D_IN**0.5 / 2.0
    out = "blocks.3.hook_mlp_out"
    cfg = LLAMA_CFG | {"hook_point_out": out, "act_fn": "relu", "dataset_average_activation_norm": {"in": 5.0, "out": 2.0}}
    (tmp_path / "hyperparams.json").write_text(json.dumps(cfg))
    save_file(p.linear(**{"decoder.bias": p.b_dec}), tmp_path / "final.safetensors")
    transcoder = Transcoder.load(tmp_path)
    y_hat = ((s_in * X @ p.W_enc + p.b_enc).relu() @ p.W_dec + p.b_dec) / s_out
    torch.testing.assert_close(transcoder(X), y_hat, atol=2e-5, rtol=1e-5)
    assert (transcoder.cfg.hook_name_in, transcoder.cfg.hook_name_out) == (HOOK, out)


def test_what_a_layout_cannot_hold_is_refused_before_anything_is_written(tmp_path: Path):
    random_transcoder("jumprelu").save(tmp_path / "one")
    for layout, match in (
        ("sparsify", "sparsify's transcoders are topk"),
        ("circuit-tracer", "circuit-tracer does not hold one transcoder; saelens or sparsify does"),
        ("onnx", "layout 'onnx' is unknown"),
    ):
        with pytest.raises(SAEError, match=match):
            convert(tmp_path / "one", tmp_path / "out", layout)
    with pytest.raises(SAEError, match="scale cannot be given for transcoders"):
        convert(tmp_path / "one", tmp_path / "out", scale=2.0)
    assert not (tmp_path / "out").exists()
