"""circuit-tracer's folder: one transcoder a layer, or a cross-layer one; what is missing, mixed or of another kind is said."""

from pathlib import Path

import pytest
import torch
from made_transcoders import D_IN, circuit_tracer_folder, layer_tensors, random_cross_layer, random_transcoder
from safetensors.torch import load_file, save_file

from workbench.sae.config import SAEError
from workbench.sae.cross_layer import CrossLayerTranscoder
from workbench.sae.formats.circuit_tracer_write import write_set
from workbench.sae.sae import SAE
from workbench.sae.transcoder import Transcoder, load_transcoders

X = torch.randn(5, D_IN, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("has_threshold", [False, True])
@pytest.mark.parametrize("has_skip", [False, True])
def test_a_set_computes_what_circuit_tracer_says(has_threshold: bool, has_skip: bool, tmp_path: Path):
    transcoders = load_transcoders(circuit_tracer_folder(tmp_path / "set", has_threshold=has_threshold, has_skip=has_skip))
    assert list(transcoders) == [0, 1, 2]
    for layer, transcoder in transcoders.items():
        t = layer_tensors(layer, has_threshold=has_threshold, has_skip=has_skip)
        pre = X @ t["W_enc"].T + t["b_enc"]
        acts = pre * (pre > t["activation_function.threshold"]) if has_threshold else pre.relu()
        y_hat = acts @ t["W_dec"] + t["b_dec"] + (X @ t["W_skip"].T if has_skip else 0)
        torch.testing.assert_close(transcoder.encode(X), acts, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(transcoder(X), y_hat, atol=1e-5, rtol=1e-5)
        cfg = transcoder.cfg
        assert (cfg.hook_name_in, cfg.hook_name_out) == (f"blocks.{layer}.ln2.hook_normalized", f"blocks.{layer}.hook_mlp_out")
        assert (cfg.model_name, cfg.has_skip) == ("tiny", has_skip)


def test_one_layers_file_is_a_transcoder_of_its_own(tmp_path: Path):
    folder = circuit_tracer_folder(tmp_path / "set", has_skip=True)
    one = Transcoder.load(folder / "layer_1.safetensors")
    assert torch.equal(one(X), load_transcoders(folder)[1](X)) and one.cfg.hook_name_in == "blocks.1.ln2.hook_normalized"
    (folder / "config.yaml").unlink()
    with pytest.raises(SAEError, match="does not say where it reads and writes: give hook_name_in="):
        Transcoder.load(folder / "layer_1.safetensors")


@pytest.mark.parametrize("architecture, has_skip", [("standard", True), ("jumprelu", False)])
def test_a_set_that_is_written_reads_back(architecture: str, has_skip: bool, tmp_path: Path):
    made = {layer: random_transcoder(architecture, has_skip=has_skip, layer=layer) for layer in range(3)}
    write_set(made, tmp_path / "set")
    for layer, transcoder in load_transcoders(tmp_path / "set").items():
        assert torch.equal(transcoder(X), made[layer](X)) and transcoder.cfg.hook_name_out == made[layer].cfg.hook_name_out
    for layer, transcoder in made.items():
        transcoder.save(tmp_path / "folders" / f"{layer}")
    again = load_transcoders(tmp_path / "folders")
    assert all(torch.equal(again[layer](X), made[layer](X)) for layer in made)


def test_a_folder_of_circuit_tracers_is_no_sae_and_says_who_reads_it(tmp_path: Path):
    folder = circuit_tracer_folder(tmp_path / "set")
    for load in (SAE.load, Transcoder.load):
        with pytest.raises(SAEError, match="circuit-tracer's transcoders of every layer.*: wb.load_transcoders reads them"):
            load(folder)
    with pytest.raises(SAEError, match="is a transcoder, not an SAE"):
        SAE.load(folder / "layer_0.safetensors")
    with pytest.raises(SAEError, match="holds a transcoder_set: wb.load_transcoders reads it"):
        CrossLayerTranscoder.load(folder)
    random_cross_layer().save(tmp_path / "clt")
    with pytest.raises(SAEError, match="wb.CrossLayerTranscoder.load reads"):
        load_transcoders(tmp_path / "clt")
    with pytest.raises(SAEError, match="one layer of a cross-layer transcoder"):
        Transcoder.load(tmp_path / "clt" / "W_enc_0.safetensors")


def test_what_is_missing_from_a_set_is_named(tmp_path: Path):
    folder = circuit_tracer_folder(tmp_path / "set")
    (folder / "layer_1.safetensors").unlink()
    with pytest.raises(SAEError, match=r"lacks layer_1\.safetensors"):
        load_transcoders(folder)
    (folder / "config.yaml").write_text("model_kind: transcoder_set\n")
    with pytest.raises(SAEError, match="does not say where the transcoders read and write"):
        load_transcoders(folder)
    (folder / "config.yaml").write_text("model_kind: lorsa\n")
    with pytest.raises(SAEError, match="says model_kind 'lorsa'"):
        load_transcoders(folder)
    (folder / "config.yaml").write_text("model_kind: [transcoder_set\n")
    with pytest.raises(SAEError, match="cannot be read as YAML"):
        load_transcoders(folder)
    clt = tmp_path / "clt"
    random_cross_layer().save(clt)
    (clt / "W_dec_2.safetensors").unlink()
    with pytest.raises(SAEError, match="encoders of 3 layers and decoders of 2"):
        CrossLayerTranscoder.load(clt)


def test_thresholds_below_zero_are_refused(tmp_path: Path):
    folder = circuit_tracer_folder(tmp_path / "set", has_threshold=True)
    tensors = load_file(folder / "layer_2.safetensors")
    tensors["activation_function.threshold"][3] = -0.1
    save_file(tensors, folder / "layer_2.safetensors")
    with pytest.raises(SAEError, match="1 thresholds are below 0"):
        load_transcoders(folder)


def test_a_cross_layer_transcoder_with_a_skip_is_not_opened_by_circuit_tracer_which_would_lose_it(tmp_path: Path):
    random_cross_layer(has_skip=True).save(tmp_path / "skip")
    random_cross_layer().save(tmp_path / "plain")
    assert "model_kind: cross_layer_transcoder_with_skip" in (tmp_path / "skip" / "config.yaml").read_text()
    assert "model_kind: cross_layer_transcoder\n" in (tmp_path / "plain" / "config.yaml").read_text()


def test_what_circuit_tracers_folder_cannot_hold_is_refused_before_a_file_is_written(tmp_path: Path):
    one = random_transcoder(layer=0)
    for made, match in (
        ({0: one, 2: random_transcoder(layer=2)}, r"these are layers \[0, 2\]"),
        ({0: random_transcoder("topk", layer=0)}, "ReLU and JumpReLU transcoders, not topk"),
        ({0: one, 1: one}, r"layer 1 reads and writes in blocks\.1\."),
    ):
        with pytest.raises(SAEError, match=match):
            write_set(made, tmp_path / "out")
    assert not (tmp_path / "out").exists()
