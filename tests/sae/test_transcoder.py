"""Transcoders: what they compute, by hand; what is kept on disk; what is no transcoder."""

import json
from pathlib import Path

import pytest
import torch
from made_transcoders import D_IN, random_cross_layer, random_transcoder
from safetensors.torch import load_file, save_file

from workbench.model.hooks import check_sae, check_transcoder
from workbench.sae.config import SAEConfig, SAEError, TranscoderConfig
from workbench.sae.cross_layer import CrossLayerTranscoder
from workbench.sae.formats import read as formats
from workbench.sae.sae import SAE
from workbench.sae.transcoder import Transcoder, load_dictionary

X = torch.randn(5, D_IN, generator=torch.Generator().manual_seed(0))
KINDS = [(architecture, skip) for architecture in ("standard", "topk", "batchtopk", "jumprelu") for skip in (False, True)]


def test_output_is_the_features_directions_and_the_skip_by_hand():
    transcoder = random_transcoder("jumprelu", has_skip=True)
    x, i = X[2], 7
    pre = sum(x[d] * transcoder.W_enc[d, i] for d in range(D_IN)) + transcoder.b_enc[i]
    assert torch.isclose(transcoder.pre_acts(x)[i], pre, atol=1e-6)
    acts = torch.where(transcoder.pre_acts(x) > transcoder.threshold, transcoder.pre_acts(x), 0)
    by_hand = transcoder.b_dec.clone()
    for feature, act in enumerate(acts):
        by_hand += act * transcoder.W_dec[feature]
    for d in range(D_IN):
        by_hand += x[d] * transcoder.W_skip[d]
    torch.testing.assert_close(transcoder(x), by_hand, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="has a skip: decode"):
        transcoder.decode(transcoder.encode(x))


@pytest.mark.parametrize("architecture, has_skip", KINDS)
def test_a_saved_transcoder_reads_back_to_the_bit(architecture: str, has_skip: bool, tmp_path: Path):
    transcoder = random_transcoder(architecture, has_skip=has_skip)
    transcoder.save(tmp_path)
    again = Transcoder.load(tmp_path)
    assert again.cfg == transcoder.cfg
    assert torch.equal(again(X), transcoder(X))
    assert str(json.loads((tmp_path / "cfg.json").read_text())["architecture"]).endswith("transcoder")


def test_skip_weights_of_the_wrong_orientation_are_noticed(tmp_path: Path):
    transcoder = random_transcoder(has_skip=True)
    transcoder.save(tmp_path)
    weights = load_file(tmp_path / "sae_weights.safetensors")
    assert torch.equal(weights["W_skip"], transcoder.W_skip.T)
    save_file(weights | {"W_skip": weights["W_skip"].T.contiguous()}, tmp_path / "sae_weights.safetensors")
    with pytest.raises(SAEError, match=r"'W_skip': \(6, 8\).*expected .*'W_skip': \(8, 6\)"):
        Transcoder.load(tmp_path)
    square = random_transcoder(has_skip=True, d_out=D_IN)  # here no shape tells: only the numbers of a round trip do
    square.save(tmp_path / "square")
    turned = Transcoder.load(tmp_path / "square")
    turned.W_skip.data = turned.W_skip.T.contiguous()
    assert torch.equal(Transcoder.load(tmp_path / "square")(X), square(X))
    assert (turned(X) - square(X)).abs().max() > 0.1


def test_an_sae_and_a_transcoder_are_never_taken_for_each_other(tmp_path: Path):
    random_transcoder().save(tmp_path / "transcoder")
    SAE(SAEConfig(4, 8, "blocks.1.hook_resid_pre")).save(tmp_path / "sae")
    with pytest.raises(
        SAEError, match="is a transcoder, not an SAE .it reads blocks.1.mlp.hook_in and writes .*: wb.Transcoder.load reads it"
    ):
        SAE.load(tmp_path / "transcoder")
    with pytest.raises(SAEError, match="is an SAE, not a transcoder: wb.SAE.load reads it"):
        Transcoder.load(tmp_path / "sae")


def test_a_dictionary_of_either_kind_is_read_by_what_its_files_say_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    random_transcoder().save(tmp_path / "transcoder")
    SAE(SAEConfig(4, 8, "blocks.1.hook_resid_pre")).save(tmp_path / "sae")
    read, n_read = formats.read_tensors, []
    monkeypatch.setattr(formats, "read_tensors", lambda path: n_read.append(path) or read(path))
    found = {name: load_dictionary(tmp_path / name) for name in ("transcoder", "sae")}
    assert [type(each) for each in found.values()] == [Transcoder, SAE] and len(n_read) == 2
    assert all(each.source == str(tmp_path / name) for name, each in found.items()) and not found["sae"].training
    alone = Transcoder.load(tmp_path / "transcoder")
    assert alone.source == str(tmp_path / "transcoder")
    for name, weight in alone.named_parameters():
        assert torch.equal(weight, found["transcoder"].get_parameter(name))


def test_a_configuration_that_cannot_be_is_refused():
    with pytest.raises(SAEError, match="a topk transcoder of 24 features needs k from 1 to 24, not None"):
        TranscoderConfig(8, 8, 24, "a", "b", architecture="topk")
    with pytest.raises(SAEError, match="k=3 belongs to topk and batchtopk transcoders"):
        TranscoderConfig(8, 8, 24, "a", "b", k=3)
    with pytest.raises(SAEError, match="'relu' is unknown; there is standard"):
        TranscoderConfig(8, 8, 24, "a", "b", architecture="relu")


def test_what_reads_one_place_refuses_a_transcoder_and_says_what_it_is(model):
    transcoder = Transcoder(TranscoderConfig(32, 32, 8, "blocks.1.mlp.hook_in", "blocks.1.mlp.hook_out"))
    with pytest.raises(ValueError, match="reads blocks.1.mlp.hook_in and predicts blocks.1.mlp.hook_out: a transcoder, not an SAE"):
        check_sae(model, transcoder)
    check_transcoder(model, transcoder)
    for place, width, match in (
        ("blocks.1.mlp.hook_inn", 32, "no hook point 'blocks.1.mlp.hook_inn'"),
        ("blocks.1.hook_mlp_out", 31, "writes 31 numbers, but blocks.1.hook_mlp_out of this model has 32"),
    ):
        with pytest.raises(ValueError, match=match):
            check_transcoder(model, Transcoder(TranscoderConfig(32, width, 8, "blocks.1.mlp.hook_in", place)))
    with pytest.raises(ValueError, match="is an SAE, not a transcoder"):
        check_transcoder(model, SAE(SAEConfig(32, 8, "blocks.1.hook_resid_pre")))
    broken = Transcoder(TranscoderConfig(32, 32, 8, "blocks.1.mlp.hook_in", "blocks.1.mlp.hook_out"))
    broken.W_dec.data[0, 0] = torch.nan
    with pytest.raises(ValueError, match="W_dec has 1 NaN"):
        check_transcoder(model, broken)


@pytest.mark.parametrize("architecture, has_skip", [("standard", False), ("jumprelu", False), ("jumprelu", True)])
def test_a_cross_layer_feature_writes_into_its_own_and_every_later_layer(architecture: str, has_skip: bool, tmp_path: Path):
    clt = random_cross_layer(architecture, has_skip=has_skip)
    x = torch.randn(3, 5, D_IN, generator=torch.Generator().manual_seed(1))
    acts, y_hat = clt.encode(x), clt(x)
    more = acts.clone()
    more[1, 0, 4] += 1.0
    change = clt.decode(more, x) - y_hat
    assert change[0].abs().max() == 0
    for target in (1, 2):
        torch.testing.assert_close(change[target, 0], clt.W_dec[1][4, target - 1], atol=1e-5, rtol=1e-5)
        assert change[target, 1:].abs().max() == 0
    clt.save(tmp_path)
    again = CrossLayerTranscoder.load(tmp_path)
    assert torch.equal(again(x), y_hat)
    assert (again.cfg.hook_names_out[2], again.cfg.has_skip) == ("blocks.2.hook_mlp_out", has_skip)
