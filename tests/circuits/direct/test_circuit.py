"""The circuit of a prompt's transcoder features: sums, totals, limits, and what switching off really does."""

from threading import Event

import numpy as np
import pytest
import torch
from made_models import N_LAYERS
from made_transcoders import made_set

from workbench.bench import Workbench
from workbench.circuits.direct import tables
from workbench.circuits.direct.circuit import Cancelled, direct_circuit
from workbench.circuits.direct.effects import direct_effects
from workbench.circuits.graph.circuit import Circuit
from workbench.circuits.metrics import logit_diff
from workbench.model.hooks import last_logits
from workbench.model.tokens import to_tokens

PROMPT = "the capital of the state"
METRIC = logit_diff(5, 7)


@pytest.fixture(scope="module")
def model(model_of):
    return model_of("gpt2")


@pytest.fixture(scope="module")
def transcoders():
    return made_set("mlp.hook_in", "mlp.hook_out", has_skip=False)


@pytest.fixture(scope="module")
def circuit(model, transcoders) -> Circuit:
    return direct_circuit(model, transcoders, PROMPT, METRIC)


def test_with_constants_for_what_no_token_says_every_row_adds_up(circuit):
    closure = circuit.closure
    assert len(closure) == circuit.nodes["kind"].isin(("feature", "logit")).sum()
    np.testing.assert_allclose(closure["missing"], 0, atol=1e-4)
    constants = circuit.edges[circuit.edges["source"].str.startswith("constant")]
    assert constants["weight"].abs().max() > 0.01  # on GPT-2 they are not small


def test_total_effects_of_what_comes_first_add_up_to_the_metric(circuit):
    """Tokens, errors and constants make everything: what the answer owes to them is all of it."""
    first = circuit.nodes[circuit.nodes["kind"].isin(("token", "error", "constant"))]
    assert first["attribution"].sum() == pytest.approx(circuit.clean_metric, abs=1e-4)
    assert first["attribution_mean"].sum() == pytest.approx(circuit.clean_mean, abs=1e-4)


def test_a_node_s_total_is_its_sum_over_paths(circuit):
    nodes = circuit.nodes[~circuit.nodes["kind"].isin(("constant",))].reset_index(drop=True)
    row = {node: i for i, node in enumerate(nodes["node"])}
    edges = circuit.edges[circuit.edges["source"].isin(row)]
    matrix = np.zeros((len(nodes),) * 2)
    matrix[edges["target"].map(row), edges["source"].map(row)] = edges["weight"]
    is_feature = (nodes["kind"] == "feature").to_numpy()
    shares = np.where(is_feature[:, None], matrix / nodes["activation"].where(is_feature, 1).to_numpy()[:, None], 0)
    direct = matrix[row["logit_5"]] - matrix[row["logit_7"]]
    total = direct @ np.linalg.inv(np.eye(len(nodes)) - shares)
    is_logit = (nodes["kind"] == "logit").to_numpy()
    np.testing.assert_allclose(nodes["attribution"][~is_logit], total[~is_logit], atol=1e-4)


def test_influence_by_layers_is_that_of_the_table(model, transcoders):
    effects = direct_effects(model, transcoders, to_tokens(model, PROMPT))
    circuit = direct_circuit(model, transcoders, PROMPT)
    found = tables.influence(effects, effects.probabilities)
    np.testing.assert_allclose(circuit.influence.to_numpy()[: len(found)], found, atol=1e-6)


def test_a_limit_keeps_the_most_influential_and_says_what_it_leaves_out(model, transcoders, circuit):
    kept = direct_circuit(model, transcoders, PROMPT, METRIC, limit=20)
    features = kept.nodes[kept.nodes["kind"] == "feature"]
    influence = circuit.influence.reindex(circuit.nodes.loc[circuit.nodes["kind"] == "feature", "node"])
    assert set(features["node"]) == set(influence.nlargest(20).index)
    assert "left out" in kept.notes[0] and "limit=20" in kept.notes[0]
    assert set(kept.nodes.loc[kept.nodes["kind"] == "error", "node"]) == set(circuit.nodes.loc[circuit.nodes["kind"] == "error", "node"])


def test_a_table_that_would_be_too_long_is_limited_by_itself(model, transcoders, monkeypatch):
    monkeypatch.setattr("workbench.circuits.direct.circuit.MOST_EDGES", 500)
    kept = direct_circuit(model, transcoders, PROMPT, METRIC)
    assert "left out" in kept.notes[0]


@pytest.mark.parametrize(
    ("family", "places"),
    [
        ("gpt2", ("mlp.hook_in", "mlp.hook_out", True)),
        ("llama", ("hook_resid_mid", "hook_mlp_out", True)),
        ("gemma2", ("ln2.hook_normalized", "mlp.hook_out", False)),
    ],
)
def test_effects_are_measured_where_the_features_are_written(model_of, family, places):
    model, transcoders = model_of(family), made_set(*places)
    circuit = direct_circuit(model, transcoders, PROMPT, METRIC)
    features = circuit.nodes[circuit.nodes["kind"] == "feature"]
    top = features[features["layer"] == 1].nlargest(3, "activation")
    tokens, each = to_tokens(model, PROMPT), transcoders[1]
    acts = torch.zeros(tokens.shape[1], each.cfg.d_sae)
    acts[top["pos"].tolist(), top["feature"].tolist()] = torch.tensor(top["activation"].tolist())
    change = acts @ each.W_dec
    with torch.no_grad(), model.hooks(fwd_hooks=[(model.hook_dict[each.cfg.hook_name_out].name, lambda x, hook: x - change)]):
        without = last_logits(model, tokens)[0]
    clean = last_logits(model, tokens)[0]
    expected = (clean[5] - clean[7]) - (without[5] - without[7])
    assert circuit.effect_of(top["node"].tolist()) == pytest.approx(float(expected), abs=1e-4)


def test_a_clamp_is_predicted_by_the_edges_and_measured(circuit):
    features = circuit.nodes[circuit.nodes["kind"] == "feature"]
    top = features[features["layer"] == 0].nlargest(2, "activation")["node"].tolist()
    clamped = circuit.clamp(top, 0.0)
    assert clamped.metric == pytest.approx(circuit.clean_metric - circuit.effect_of(top), abs=1e-4)
    lost = circuit.nodes.set_index("node").loc[top, "attribution"].sum()
    assert clamped.predicted_metric == pytest.approx(circuit.clean_metric - lost, abs=1e-4)  # features of one layer: no path between
    np.testing.assert_allclose(clamped.table["clean"], clamped.table["node"].map(features.set_index("node")["activation"]), atol=1e-4)


def test_the_whole_graph_alone_is_the_model(circuit):
    found = circuit.faithfulness()
    assert len(found) == N_LAYERS + 1
    np.testing.assert_allclose(found["kept"], 1.0, atol=1e-4)
    assert found["kept_floor"].iloc[0] != pytest.approx(1.0, abs=1e-3)


def test_logits_and_constants_cannot_be_switched_off(circuit):
    with pytest.raises(ValueError, match="only features, errors and tokens can be switched off"):
        circuit.effect_of(["constant_biases", "logit_5"])


def test_a_cancelled_graph_is_none(model, transcoders):
    cancel = Event()
    cancel.set()
    with pytest.raises(Cancelled, match="no graph was made"):
        direct_circuit(model, transcoders, PROMPT, METRIC, cancel=cancel)


def test_a_bench_of_transcoders_needs_no_sae(model, transcoders):
    bench = Workbench(model, transcoders=transcoders)
    assert bench.circuit(PROMPT, METRIC, over="transcoders").way == "direct"
    assert f"{N_LAYERS} layers" in repr(bench) and "mlp.hook_in → mlp.hook_out" in repr(bench)
    with pytest.raises(ValueError, match="transcoders and no SAE.* one of them, where they are not cross-layer"):
        bench.rank(PROMPT, METRIC)
    with pytest.raises(ValueError, match="over="):
        bench.circuit(PROMPT, METRIC, over="neurons")
    with pytest.raises(ValueError, match="leave edges= and saes= out"):
        bench.circuit(PROMPT, METRIC, "attributed", over="transcoders")


def test_a_conversation_is_its_written_text(model, transcoders, monkeypatch):
    chat = [{"role": "user", "content": PROMPT}]
    monkeypatch.setattr(model.tokenizer, "chat_template", "{% for m in messages %}{{ m.content }}{% endfor %}")
    assert direct_circuit(model, transcoders, chat, METRIC).edges.equals(direct_circuit(model, transcoders, PROMPT, METRIC).edges)


def test_a_set_that_lacks_a_layer_is_refused(model, transcoders):
    with pytest.raises(ValueError, match="there is none for layer 1"):
        direct_circuit(model, {layer: each for layer, each in transcoders.items() if layer != 1}, PROMPT, METRIC)
    with pytest.raises(ValueError, match="there are no transcoders"):
        direct_circuit(model, {}, PROMPT, METRIC)


def test_the_file_leaves_constants_out_and_reads_back(model, transcoders, tmp_path):
    circuit = direct_circuit(model, transcoders, PROMPT, METRIC, limit=40)  # of a million edges
    read = Circuit.load(circuit.to_json(tmp_path / "graph.json"))
    assert not read.nodes["kind"].eq("constant").any()
    assert len(read.edges) == (~circuit.edges["source"].str.startswith("constant")).sum()
    assert any("constants" in note for note in read.notes)
