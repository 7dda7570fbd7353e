"""Direct effects: with everything that is not linear frozen, every row adds up to what the model has there, wherever the halves meet."""

import numpy as np
import pytest
from made_models import N_LAYERS
from made_transcoders import made_cross_layer, made_set

from workbench.circuits.direct import effects, spread
from workbench.circuits.direct.effects import direct_effects


@pytest.mark.parametrize("made", [made_set, made_cross_layer])
@pytest.mark.parametrize("middle", [None, 0, N_LAYERS])
@pytest.mark.parametrize(
    ("family", "places"),
    [
        ("gpt2", ("mlp.hook_in", "mlp.hook_out", False)),
        ("neox", ("mlp.hook_in", "mlp.hook_out", True)),
        ("llama", ("hook_resid_mid", "hook_mlp_out", True)),
        ("gemma2", ("ln2.hook_normalized", "mlp.hook_out", False)),
    ],
)
def test_every_row_adds_up_to_the_pre_activation(model_of, tokens, family, places, middle, made, monkeypatch):
    if middle is not None:
        monkeypatch.setattr(effects, "_best_middle", lambda *_: middle)
    found = direct_effects(model_of(family), made(*places), tokens)
    matrix, n = found.dense(), len(found.nodes.layer)
    rows = found.nodes.is_feature
    assert rows.sum() > 50
    sums = matrix[:n].sum(1) + found.constants.sum(1)
    np.testing.assert_allclose(sums[rows], found.nodes.pre_act[rows], atol=1e-4)
    assert not matrix[:n][~rows].any() and not np.triu(found.nodes.pos[None] > found.nodes.pos[:, None] * 1)[matrix[:n, :n] != 0].any()


@pytest.mark.parametrize("made", [made_set, made_cross_layer])
def test_positions_that_go_through_together_find_what_each_finds_alone(model_of, tokens, made, monkeypatch):
    model, transcoders = model_of("gpt2"), made("mlp.hook_in", "mlp.hook_out", True)
    together = direct_effects(model, transcoders, tokens)
    monkeypatch.setattr(spread, "AT_ONCE", 0)
    alone = direct_effects(model, transcoders, tokens)
    np.testing.assert_allclose(alone.dense(), together.dense(), atol=1e-6 * abs(together.dense()).max())
    assert [spread.groups({3: 5, 2: 4, 1: 1}), spread.groups({})] == [[[3], [2], [1]], []]
    monkeypatch.setattr(spread, "AT_ONCE", 6)
    assert spread.groups({3: 5, 2: 4, 1: 1}) == [[3], [1, 2]]


def test_a_start_token_alone_writes_into_the_logits_all_that_no_constant_does(model_of, tokens):
    found = direct_effects(model_of("gpt2"), made_set("mlp.hook_in", "mlp.hook_out", False), tokens[:, :1])
    logits = model_of("gpt2")(tokens[:, :1])[0, -1].detach().numpy()
    assert len(found.nodes.layer) == 1
    sums = found.to_logits.sum(1) + found.logit_constants.sum(1)
    np.testing.assert_allclose(sums, logits[found.logit_tokens] - logits.mean(), atol=1e-4)


def test_a_place_that_the_graph_does_not_know_is_refused(model_of, tokens):
    with pytest.raises(ValueError, match="has no place in the graph of direct effects"):
        direct_effects(model_of("gpt2"), made_set("hook_resid_pre", "mlp.hook_out", False), tokens)
