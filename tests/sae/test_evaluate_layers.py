"""Transcoders in the place of MLPs, by brute force: each alone, and all at once."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from made_models import D_MODEL, D_SAE, N_LAYERS
from made_transcoders import made_cross_layer, made_set
from torch.nn.functional import cross_entropy

from workbench.model.tokens import to_tokens
from workbench.sae.evaluate import evaluate
from workbench.sae.evaluate_layers import evaluate_layers
from workbench.sae.transcoder import Transcoder

PLACES = "mlp.hook_in", "hook_mlp_out"
TEXTS = ["the cat sat", "the dog ran to the mat and the cat sat on the dog", "and the cat", "the mat"] * 3


@pytest.fixture
def model(model_of):
    return model_of("gpt2")


def loss_with(model, edits) -> float:
    """One text at a time, with hooks that know what has come up before."""
    total, n = 0.0, 0
    for text in TEXTS:
        tokens, acts = to_tokens(model, text), {}
        with torch.no_grad():
            logits = model.run_with_hooks(tokens, fwd_hooks=[(name, lambda x, hook, f=f, acts=acts: f(x, acts)) for name, f in edits])[0]
        total += cross_entropy(logits[1:-1].double(), tokens[0, 2:], reduction="sum").item()
        n += tokens.shape[1] - 2
    return total / n


def test_a_set_is_measured_layer_by_layer_as_each_alone_is(model):
    transcoders = made_set(*PLACES, has_skip=False)
    table = evaluate_layers(model, transcoders, TEXTS, progress=False)
    for layer, row in enumerate(table.iloc[:-1].itertuples()):
        one = evaluate(model, transcoders[layer], TEXTS, progress=False)
        assert (row.l0, row.explained_variance, row.dead) == pytest.approx((one.l0, one.explained_variance, one.dead), rel=1e-4)
        losses = one.losses
        assert (row.loss, row.loss_spliced, row.loss_zero) == pytest.approx((losses.clean, losses.spliced, losses.zero), rel=1e-4)
    assert list(table["layer"]) == [*range(N_LAYERS), "all"]


def test_all_at_once_is_the_replacement_model(model):
    clt = made_cross_layer(*PLACES, has_skip=True)
    table = evaluate_layers(model, clt, TEXTS, progress=False).set_index("layer")
    edits = []
    for layer in range(N_LAYERS):

        def read(x, acts, layer=layer):
            acts[layer] = x, clt.encode_layer(x, layer)

        def put(y, acts, layer=layer):
            new = clt.b_dec[layer] + acts[layer][0] @ clt.W_skip[layer]
            new = new + sum(acts[below][1] @ clt.W_dec[below][:, layer - below] for below in range(layer + 1))
            return torch.cat([y[:, :1], new[:, 1:]], dim=1)

        edits += [(f"blocks.{layer}.{PLACES[0]}", read), (f"blocks.{layer}.{PLACES[1]}", put)]
    assert table.loc["all", "loss_spliced"] == pytest.approx(loss_with(model, edits), rel=1e-4)
    assert table.loc["all", "loss"] == pytest.approx(loss_with(model, []), rel=1e-4)
    assert table.loc["all", "l0"] == pytest.approx(table["l0"].iloc[:-1].sum())


def test_a_perfect_transcoder_explains_all_and_loses_nothing(model):
    clt = made_cross_layer("mlp.hook_out", "hook_mlp_out", has_skip=True)  # where it reads, its output stands already
    for weight in clt.parameters():
        weight.zero_()
    clt.W_skip.copy_(torch.eye(D_MODEL).expand_as(clt.W_skip))
    table = evaluate_layers(model, clt, TEXTS, progress=False)
    np.testing.assert_allclose(table["explained_variance"], 1.0, atol=1e-6)
    np.testing.assert_allclose(table["loss_spliced"], table["loss"], rtol=1e-6)
    assert (table["dead"] == 1).all() and not table["l0"].any() and D_SAE


def test_the_dead_share_of_all_is_of_all_features_whatever_each_layer_has(model):
    transcoders = made_set(*PLACES, has_skip=False)
    silent = Transcoder(replace(transcoders[0].cfg, d_sae=3 * D_SAE)).requires_grad_(False)  # of zeros: nothing is ever active
    table = evaluate_layers(model, transcoders | {0: silent}, TEXTS, progress=False).set_index("layer")["dead"]
    n_dead = 3 * D_SAE + D_SAE * table.loc[1:3].sum()
    assert table[0] == 1 and table["all"] == pytest.approx(n_dead / (6 * D_SAE))


def test_what_lacks_a_layer_or_text_is_refused(model):
    transcoders = made_set(*PLACES, has_skip=False)
    with pytest.raises(ValueError, match="there is no transcoder for layer 1"):
        evaluate_layers(model, {0: transcoders[0]}, TEXTS)
    with pytest.raises(ValueError, match="there is no text"):
        evaluate_layers(model, transcoders, [], progress=False)
