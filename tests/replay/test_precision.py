"""On half-precision weights effects and attributions are those of float64 on the same weights."""

import copy

import pytest
import torch
from made_models import FAMILIES, random_hf_model, random_sae

from workbench.bench import Workbench
from workbench.circuits.metrics import logit_diff
from workbench.circuits.ranking.ablation import ablate
from workbench.circuits.ranking.attribution import attribute
from workbench.model.model import load_model
from workbench.replay import precision
from workbench.replay.precision import InFloat32

METRIC = logit_diff(5, 7)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kept_bytes", [0, 2**30])
def test_effects_on_half_precision_weights_are_within_1e_3_of_the_truth(tokenizer, tokens, monkeypatch, family, kept_bytes):
    monkeypatch.setattr(precision, "KEPT_BYTES", kept_bytes)
    dtype = torch.float16 if kept_bytes else torch.bfloat16
    half = random_hf_model(family).to(dtype)
    truth, model = load_model(copy.deepcopy(half).double(), tokenizer=tokenizer), load_model(half, tokenizer=tokenizer)
    sae, sae64 = random_sae(), random_sae(dtype=torch.float64)
    expected = attribute(truth, sae64, tokens, METRIC)
    found = attribute(model, sae, tokens, METRIC)
    pairs = expected.pairs[::7]
    torch.testing.assert_close(found.of(pairs).double(), expected.of(pairs), rtol=0, atol=1e-3 * expected.of(pairs).abs().max().item())
    effects = ablate(truth, sae64, tokens, METRIC, pairs, progress=False)
    measured = ablate(model, sae, tokens, METRIC, pairs, progress=False)
    assert measured.dtype == torch.float32
    torch.testing.assert_close(measured.double(), effects, rtol=0, atol=1e-3 * effects.abs().max().item())
    assert {weight.dtype for weight in model.original_model.parameters()} == {dtype}, "the weights are narrow again"


def test_a_ranking_says_in_what_precision_its_effects_are_exact(tokenizer, model):
    half = load_model(random_hf_model("gpt2").bfloat16(), tokenizer=tokenizer)
    said = [repr(Workbench(model=some, sae=random_sae()).rank("the cat sat", METRIC, ablate=3, progress=False)) for some in (half, model)]
    assert "weights are bfloat16; what is measured here is computed from them in float32" in said[0] and "float" not in said[1]


def test_weights_are_narrow_again_after_a_pass_that_failed(tokenizer, tokens, monkeypatch):
    model = load_model(random_hf_model("llama").bfloat16(), tokenizer=tokenizer)

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(type(model.blocks[2].mlp), "forward", interrupt)
    with pytest.raises(KeyboardInterrupt), InFloat32(model):
        model(tokens)
    assert {weight.dtype for weight in model.original_model.parameters()} == {torch.bfloat16}


def test_a_model_of_full_precision_stays_as_it_is(model, tokens):
    expected = model(tokens)
    with InFloat32(model):
        assert torch.equal(model(tokens), expected)
