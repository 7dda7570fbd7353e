"""Direct effects: with everything that is not linear frozen, every row adds up to what the model has there, wherever the halves meet."""

import numpy as np
import pytest
import torch
from made_models import D_MODEL, D_SAE, N_LAYERS

from workbench.circuits.direct import effects
from workbench.circuits.direct.effects import direct_effects
from workbench.sae.config import TranscoderConfig
from workbench.sae.transcoder import Transcoder


def made_transcoders(reads: str, writes: str, has_skip: bool) -> dict[int, Transcoder]:
    torch.manual_seed(3)
    made = {}
    for layer in range(N_LAYERS):
        names = f"blocks.{layer}.{reads}", f"blocks.{layer}.{writes}"
        made[layer] = Transcoder(TranscoderConfig(D_MODEL, D_MODEL, D_SAE, *names, has_skip=has_skip))
        for weight in made[layer].parameters():
            weight.data = 0.1 * torch.randn_like(weight)
        made[layer].requires_grad_(False)
    return made


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
def test_every_row_adds_up_to_the_pre_activation(model_of, tokens, family, places, middle, monkeypatch):
    if middle is not None:
        monkeypatch.setattr(effects, "_best_middle", lambda *_: middle)
    found = direct_effects(model_of(family), made_transcoders(*places), tokens)
    matrix, n = found.dense(), len(found.nodes.layer)
    rows = found.nodes.is_feature
    assert rows.sum() > 50
    sums = matrix[:n].sum(1) + found.constants.sum(1)
    np.testing.assert_allclose(sums[rows], found.nodes.pre_act[rows], atol=1e-4)
    assert not matrix[:n][~rows].any() and not np.triu(found.nodes.pos[None] > found.nodes.pos[:, None] * 1)[matrix[:n, :n] != 0].any()


def test_a_place_that_the_graph_does_not_know_is_refused(model_of, tokens):
    with pytest.raises(ValueError, match="has no place in the graph of direct effects"):
        direct_effects(model_of("gpt2"), made_transcoders("hook_resid_pre", "mlp.hook_out", False), tokens)
