"""Graphs of a cross-layer transcoder: a feature writes into its own layer and all above, in edges as in what is measured."""

import numpy as np
import pytest
import torch
from made_models import N_LAYERS
from made_transcoders import made_cross_layer, made_set, random_cross_layer

import workbench as wb
from workbench.bench import Workbench
from workbench.circuits.direct.circuit import direct_circuit
from workbench.circuits.direct.effects import direct_effects
from workbench.circuits.metrics import logit_diff
from workbench.model.hooks import last_logits
from workbench.model.tokens import to_tokens
from workbench.sae.cross_layer import CrossLayerTranscoder

PROMPT = "the capital of"
METRIC = logit_diff(5, 7)


@pytest.fixture(scope="module")
def clt() -> CrossLayerTranscoder:
    return made_cross_layer("mlp.hook_in", "hook_mlp_out", has_skip=True)


@pytest.fixture(scope="module")
def bench(model_of, clt) -> Workbench:
    return Workbench(model_of("gpt2"), transcoders=clt)


@pytest.fixture(scope="module")
def circuit(bench):
    return bench.circuit(PROMPT, METRIC, over="transcoders")


def as_cross_layer(transcoders) -> CrossLayerTranscoder:
    """The same as a set: what it writes into later layers is 0."""
    clt = made_cross_layer("mlp.hook_in", "mlp.hook_out", has_skip=False)
    for layer, each in transcoders.items():
        clt.W_enc[layer].copy_(each.W_enc), clt.b_enc[layer].copy_(each.b_enc), clt.b_dec[layer].copy_(each.b_dec)
        clt.W_dec[layer].zero_()
        clt.W_dec[layer][:, 0] = each.W_dec
    return clt


def test_one_that_writes_into_its_own_layer_only_is_a_set(model_of):
    model, transcoders = model_of("gpt2"), made_set("mlp.hook_in", "mlp.hook_out", has_skip=False)
    tokens = to_tokens(model, PROMPT)
    ours, theirs = (direct_effects(model, each, tokens) for each in (as_cross_layer(transcoders), transcoders))
    np.testing.assert_allclose(ours.dense(), theirs.dense(), atol=1e-5 * np.abs(theirs.dense()).max())


def test_an_edge_is_the_change_of_a_pre_activation_where_nothing_else_moves(model_of, clt):
    """One feature's writes taken away from every layer of the frozen model, its weights put together by hand."""
    model = model_of("gpt2")
    tokens = to_tokens(model, PROMPT)
    found, known = direct_effects(model, clt, tokens), {}
    names = [f"blocks.{n}.{end}" for n in range(N_LAYERS) for end in ("hook_in", "attn.hook_pattern", "hook_resid_mid", "ln1.hook_scale")]
    with torch.no_grad():
        model.run_with_hooks(tokens, fwd_hooks=[(name, lambda x, hook, name=name: known.update({name: x[0]}) or x) for name in names])
    nodes, last = found.nodes, N_LAYERS - 1
    source = np.flatnonzero(nodes.is_feature & (nodes.layer == 0) & (nodes.pos == 1))[0]
    change = torch.zeros(tokens.shape[1], model.cfg.d_model)
    for layer in range(N_LAYERS):
        if layer > 0:  # attention with its pattern as it was, of what LayerNorm leaves of the change
            block = model.blocks[layer]
            x = change - change.mean(-1, keepdim=True)
            scale = known[f"blocks.{layer}.hook_in"].var(-1, unbiased=False, keepdim=True).add(model.cfg.eps).sqrt()
            values = torch.einsum("pd,hde->hpe", x / scale * block.ln1.weight, block.attn.W_V)
            change = change + torch.einsum("hqp,hpe,hed->qd", known[f"blocks.{layer}.attn.hook_pattern"], values, block.attn.W_O)
        middle = known[f"blocks.{layer}.hook_resid_mid"]
        x = change - change.mean(-1, keepdim=True)
        read = x / middle.var(-1, unbiased=False, keepdim=True).add(model.cfg.eps).sqrt() * model.blocks[layer].ln2.weight
        if layer == last:
            break
        change = change + read @ clt.W_skip[layer]
        change[1] += float(nodes.activation[source]) * clt.W_dec[0][int(nodes.feature[source]), layer]
    targets = np.flatnonzero(nodes.is_feature & (nodes.layer == last) & (nodes.pos == tokens.shape[1] - 1))
    expected = read[-1] @ clt.W_enc[last][:, nodes.feature[targets]]
    np.testing.assert_allclose(found.dense()[targets, source], expected, atol=1e-4)
    assert expected.abs().max() > 1e-3


def test_switching_a_feature_off_takes_away_all_that_it_writes(bench, clt, circuit):
    features = circuit.nodes[(circuit.nodes["kind"] == "feature") & (circuit.nodes["layer"] == 0)]
    top = features.nlargest(3, "activation")
    model, tokens = bench.model, to_tokens(bench.model, PROMPT)
    acts = torch.zeros(tokens.shape[1], clt.cfg.d_sae)
    acts[top["pos"].tolist(), top["feature"].tolist()] = torch.tensor(top["activation"].tolist())
    hooks = [
        (model.hook_dict[clt.cfg.hook_names_out[m]].name, lambda x, hook, m=m: x - (acts @ clt.W_dec[0][:, m]).to(x))
        for m in range(N_LAYERS)
    ]
    with torch.no_grad(), model.hooks(fwd_hooks=hooks):
        without = last_logits(model, tokens)[0]
    clean = last_logits(model, tokens)[0]
    expected = (clean[5] - clean[7]) - (without[5] - without[7])
    assert circuit.effect_of(top["node"].tolist()) == pytest.approx(float(expected), abs=1e-4)


def test_the_whole_graph_alone_is_the_model(circuit):
    found = circuit.faithfulness()
    assert len(found) == N_LAYERS + 1
    np.testing.assert_allclose(found["kept"], 1.0, atol=1e-4)
    assert found["kept_floor"].iloc[0] != pytest.approx(1.0, abs=1e-3)


def test_groups_and_pages_of_such_a_graph_work(circuit, tmp_path):
    pruned = circuit.prune(features=20)
    assert 0 < circuit.scores.replacement < 1 and len(pruned.edges)
    pruned.to_html(tmp_path / "graph.html")
    assert wb.Circuit.load(circuit.strongest(20).to_json(tmp_path / "graph.json")).nodes["kind"].eq("feature").sum() == 20


def test_what_is_read_from_a_folder_is_known_for_what_it_is(bench, clt, model_of, tmp_path):
    clt.save(tmp_path / "clt")
    loaded = wb.load(model_of("gpt2"), transcoders=tmp_path / "clt")
    assert "cross-layer" in repr(loaded) and isinstance(loaded.transcoders, CrossLayerTranscoder)
    tokens = to_tokens(bench.model, "the capital")
    ours, theirs = (direct_effects(bench.model, each, tokens).dense() for each in (loaded.transcoders, clt))
    np.testing.assert_array_equal(ours, theirs)


def test_what_does_not_fit_is_said(bench, model_of):
    with pytest.raises(ValueError, match="writes into several layers, which is no one place to rank or steer at"):
        bench.with_transcoder(0)
    with pytest.raises(ValueError, match="has 5 layers, the model"):
        Workbench(model_of("gpt2"), transcoders=random_cross_layer(n_layers=5))
    with pytest.raises(ValueError, match="this transcoder reads 8 numbers, but"):
        Workbench(model_of("gpt2"), transcoders=random_cross_layer(n_layers=N_LAYERS))
    with pytest.raises(ValueError, match="has 5 layers, the model"):
        direct_circuit(model_of("gpt2"), random_cross_layer(n_layers=5), PROMPT, METRIC)
