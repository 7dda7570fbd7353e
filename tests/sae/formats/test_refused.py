"""SAEs that no weights here can hold, or whose files leave open what they are, are refused, saying which fact is missing or in the way."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from foreign_libraries import LLAMA_CFG, dictionary, llama_scope, sparsify
from foreign_public import batchtopk_repository, llama_scope_r1, openai_relu, qwen_scope, saelens_whitened
from foreign_saes import D_IN, HOOK, Parts, saelens_6, saelens_6_topk_by_norm, saelens_gated
from safetensors.torch import load_file, save_file

from workbench.sae.config import SAEError
from workbench.sae.sae import SAE


def _edit(path: Path, **changed) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def test_a_transcoder_is_not_taken_for_an_sae(tmp_path: Path):
    llama, sparse = llama_scope(tmp_path / "llama").source, sparsify(tmp_path / "sparse").source
    _edit(llama / "hyperparams.json", hook_point_out="blocks.3.hook_mlp_out")
    _edit(sparse / "cfg.json", skip_connection=True)
    with pytest.raises(SAEError, match="reads blocks.3.hook_resid_post and writes blocks.3.hook_mlp_out"):
        SAE.load(llama)
    with pytest.raises(SAEError, match="skip_connection is True in the JSON, but W_skip is not there"):
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


def test_a_switch_or_count_of_another_type_is_refused_and_not_guessed_at(tmp_path: Path):
    """bool("false") is true, int(2.7) is 2."""
    source = saelens_6_topk_by_norm(tmp_path / "sae").source
    for changed, match in (
        ({"k": 2.7}, r"says k 2.7; expected a whole number"),
        ({"k": "3"}, r"says k '3'; expected a whole number"),
        ({"k": True}, r"says k True; expected a whole number"),
        ({"rescale_acts_by_decoder_norm": "false"}, "says rescale_acts_by_decoder_norm 'false'; expected true or false"),
        ({"apply_b_dec_to_input": "no"}, "says apply_b_dec_to_input 'no'; expected true or false"),
    ):
        cfg = json.loads((source / "cfg.json").read_text())
        _edit(source / "cfg.json", **changed)
        with pytest.raises(SAEError, match=match):
            SAE.load(source)
        (source / "cfg.json").write_text(json.dumps(cfg))


def test_what_could_not_be_read_again_is_never_given(tmp_path: Path):
    source = saelens_6(tmp_path / "sae").source
    for scale in (-2.0, float("inf"), float("nan")):
        with pytest.raises(SAEError, match="cannot be scaled by|does not say its scale"):
            SAE.load(source, scale=scale)
    with pytest.raises(SAEError, match=r"has \d+ NaN or infinite values after folding"):
        SAE.load(source, scale=1e-42)
    file = source / "sae_weights.safetensors"
    weights = load_file(file)
    for name, weight, match in (
        ("W_enc", weights["W_enc"].to(torch.complex64), "W_enc is of complex64"),
        ("W_dec", weights["W_dec"].int(), "W_dec is of int32"),
    ):
        save_file(weights | {name: weight}, file)
        with pytest.raises(SAEError, match=match):
            SAE.load(source)


def test_kinds_that_are_no_sae_of_one_token_are_named(tmp_path: Path):
    source = saelens_6(tmp_path / "sae").source
    for architecture, match in (
        ("temporal", "predicts each token from those before it"),
        ("matching_pursuit", "picks features one after another"),
        ("abstopk", "the k largest of either sign"),
    ):
        _edit(source / "cfg.json", architecture=architecture, n_attn_layers=1)
        with pytest.raises(SAEError, match=match):
            SAE.load(source)
    _edit(source / "cfg.json", architecture="standard", normalize_activations="constant_norm_rescale")
    with pytest.raises(SAEError, match="divides each token by its own norm"):
        SAE.load(source)
    p = Parts()
    weights = {"W_enc": torch.randn(2, D_IN, 24), "W_dec": torch.randn(24, 2, D_IN), "b_enc": p.b_enc, "b_dec": torch.zeros(2, D_IN)}
    save_file(weights, source / "sae_weights.safetensors")
    with pytest.raises(SAEError, match="several places at once .* a crosscoder, not an SAE"):
        SAE.load(source)


def test_what_divides_each_token_by_its_own_deviation_is_said_of_the_fact(tmp_path: Path):
    source = batchtopk_repository(tmp_path / "unit").source
    _edit(source / "config.json", input_unit_norm=True)
    with pytest.raises(SAEError, match="input_unit_norm divides each token by its own deviation"):
        SAE.load(source)
    file = openai_relu(tmp_path / "openai").source
    torch.save(torch.load(file, weights_only=True) | {"activation": "TopK"}, file)
    with pytest.raises(SAEError, match="OpenAI's TopK SAEs divide each token by its own deviation"):
        SAE.load(file, hook_name=HOOK)


def test_a_fact_that_is_not_beside_the_weights_is_asked_for(tmp_path: Path):
    whitened = saelens_whitened(tmp_path / "whitened").source
    (whitened / "activation_whitening.safetensors").unlink()
    with pytest.raises(SAEError, match="activation_whitening.safetensors, which says how, is not there"):
        SAE.load(whitened)
    scope = llama_scope(tmp_path / "llama").source
    (scope / "hyperparams.json").unlink()
    with pytest.raises(SAEError, match="looks like Llama Scope's weights, whose scale and threshold stand in hyperparams.json"):
        SAE.load(scope, hook_name=HOOK)
    qwen = qwen_scope(tmp_path / "qwen").source.rename(tmp_path / "layer3.sae.pt")
    with pytest.raises(SAEError, match="looks like Qwen Scope's TopK SAE .* whose k stands in its repository's name"):
        SAE.load(qwen, hook_name=HOOK)
    topk = dictionary(tmp_path / "topk", None, Parts().linear(b_dec=torch.zeros(D_IN), k=torch.tensor(3)))
    with pytest.raises(SAEError, match="TopK or BatchTopK: its config.json"):
        SAE.load(topk, hook_name=HOOK)
    jump = llama_scope_r1(tmp_path / "r1").source
    weights = {name: weight for name, weight in load_file(jump / "sae_weights.safetensors").items() if "threshold" not in name}
    save_file(weights, jump / "sae_weights.safetensors")
    with pytest.raises(SAEError, match="jumprelu SAE and has no threshold"):
        SAE.load(jump)


def test_signed_topk_and_old_batchtopk_of_openmoss_are_refused(tmp_path: Path):
    source = sparsify(tmp_path / "layers.3").source
    _edit(source / "cfg.json", signed=True)
    with pytest.raises(SAEError, match="signed, its features are the k largest of either sign"):
        SAE.load(source, hook_name=HOOK)
    old = llama_scope(tmp_path / "old").source
    _edit(old / "hyperparams.json", **LLAMA_CFG | {"act_fn": "batchtopk"})
    with pytest.raises(SAEError, match="keeps k entries of a whole batch"):
        SAE.load(old)


def test_the_facts_that_only_a_repositorys_name_tells_are_taken_and_said(tmp_path: Path):
    source = saelens_6(tmp_path / "made").source
    for repository, is_centered in (("jbloom/GPT2-Small-SAEs-Reformatted", True), ("jbloom/Others", False)):
        folder = tmp_path / repository / "blocks.8.hook_resid_pre"
        folder.parent.mkdir(parents=True)
        source = source.rename(folder)
        sae = SAE.load(folder)
        assert (sae.cfg.centers_input, "assumed: trained on centered weights" in repr(sae)) == (is_centered, is_centered)
    (tmp_path / "JoshEngels").mkdir()
    source = source.parent.rename(tmp_path / "JoshEngels" / "Mistral-7B-Residual-Stream-SAEs")
    with pytest.raises(SAEError, match="divided by each token's own norm"):
        SAE.load(source / "blocks.8.hook_resid_pre")


def test_gemma_scopes_embedding_saes_read_what_gemma_multiplies_by_the_root_of_d_model(tmp_path: Path):
    p = Parts()
    folder = tmp_path / "google" / "gemma-scope-2b-pt-res" / "embedding" / "width_4k" / "average_l0_6"
    folder.mkdir(parents=True)
    np.savez(folder / "params.npz", **{name: weight.numpy() for name, weight in p.plain(threshold=p.threshold).items()})
    sae, x = SAE.load(folder), torch.randn(5, D_IN)
    pre = x @ p.W_enc + p.b_enc
    x_hat = (pre * (pre > p.threshold)) @ p.W_dec + p.b_dec
    torch.testing.assert_close(sae(x * D_IN**0.5), x_hat * D_IN**0.5, atol=1e-4, rtol=1e-4)
    assert sae.cfg.hook_name == "hook_embed"


def test_gated_weights_in_half_precision_are_folded_in_float32(tmp_path: Path):
    source = saelens_gated(tmp_path / "gated").source
    file = source / "sae_weights.safetensors"
    half = {name: weight.bfloat16() for name, weight in load_file(file).items()}
    save_file(half, file)
    sae, x = SAE.load(source), torch.randn(200, D_IN, generator=torch.Generator().manual_seed(2))
    exact = {name: weight.double() for name, weight in half.items()}
    z = (x.double() - exact["b_dec"]) @ exact["W_enc"]
    own = (z + exact["b_gate"] > 0) * (z * exact["r_mag"].exp() + exact["b_mag"]).relu()
    x_hat = own @ exact["W_dec"] + exact["b_dec"]
    assert (sae(x).double() - x_hat).abs().max() < 1e-4
