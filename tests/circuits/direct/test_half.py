"""Graphs of models with weights of half precision are those of the same weights in float32, and say so."""

import numpy as np
import pytest
from made_models import random_hf_model
from made_transcoders import made_cross_layer, made_set

from workbench.circuits.direct.circuit import direct_circuit
from workbench.circuits.direct.effects import direct_effects
from workbench.circuits.metrics import logit_diff
from workbench.model.model import load_model
from workbench.model.tokens import to_tokens

PROMPT, METRIC = "the capital of", logit_diff(5, 7)


@pytest.mark.parametrize(
    ("family", "made", "places"),
    [
        ("neox", made_set, ("mlp.hook_in", "mlp.hook_out", True)),
        ("llama", made_cross_layer, ("hook_resid_mid", "hook_mlp_out", True)),
        ("gpt2", made_cross_layer, ("mlp.hook_in", "hook_mlp_out", False)),
    ],
)
def test_a_graph_of_bfloat16_weights_is_that_of_the_same_weights_in_float32(tokenizer, family, made, places):
    half = load_model(random_hf_model(family).bfloat16(), tokenizer=tokenizer)
    wide = load_model(random_hf_model(family).bfloat16().float(), tokenizer=tokenizer)
    transcoders, tokens = made(*places), to_tokens(half, PROMPT)
    ours, theirs = (direct_effects(model, transcoders, tokens) for model in (half, wide))
    np.testing.assert_allclose(ours.dense(), theirs.dense(), atol=1e-5 * np.abs(theirs.dense()).max())
    graphs = [direct_circuit(model, transcoders, PROMPT, METRIC, limit=20, progress=False) for model in (half, wide)]
    top = graphs[1].nodes.query("kind == 'feature'")["node"].head(3).tolist()
    assert graphs[0].effect_of(top) == pytest.approx(graphs[1].effect_of(top), abs=1e-5)
    assert graphs[0].clean_metric == pytest.approx(graphs[1].clean_metric, abs=1e-5)
    assert any("bfloat16" in note for note in graphs[0].notes) and not any("bfloat16" in note for note in graphs[1].notes)
