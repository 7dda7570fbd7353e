"""What moves when a group is clamped: the measured column equals a hooked pass, the predicted one arithmetic on the edges by hand."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from made_circuit import PLACES, PROMPT, made_circuit_bench

from workbench.bench import Workbench
from workbench.circuits.graph.circuit import Circuit
from workbench.circuits.graph.nodes import EDGE_COLUMNS, NODE_COLUMNS
from workbench.circuits.metrics import logit_diff
from workbench.model.hooks import hooked
from workbench.model.tokens import to_tokens


@pytest.fixture(scope="module")
def small(model_of) -> Workbench:
    return made_circuit_bench(model_of("gpt2"))


@pytest.fixture(scope="module")
def circuit(small: Workbench) -> Circuit:
    return small.circuit(PROMPT, logit_diff(5, 7))


def features_at(circuit: Circuit, place: str, rows: slice) -> list[str]:
    nodes = circuit.nodes
    return nodes[(nodes["hook_name"] == place) & (nodes["kind"] == "feature")]["node"].iloc[rows].tolist()


@pytest.mark.parametrize("value", [0.0, 1.5])
def test_measured_equals_a_hooked_pass_that_puts_the_group_to_its_value(small, circuit, value):
    model, tokens = small.model, to_tokens(small.model, PROMPT)
    group = features_at(circuit, PLACES[0], slice(3, 6)) + features_at(circuit, PLACES[1], slice(10, 12))
    rows = circuit.nodes[circuit.nodes["node"].isin(group)]
    found: dict[str, torch.Tensor] = {}

    def put(name: str):
        def edit(x: torch.Tensor) -> torch.Tensor:
            acts = found[name] = small.layers[name].encode(x[0])
            x = x.clone()
            for row in rows[rows["hook_name"] == name].itertuples():
                x[0, row.pos] += (value - acts[row.pos, row.feature]) * small.layers[name].W_dec[row.feature]
            return x

        return edit

    first, second, third = (hooked(model, name, put(name)) for name in PLACES)
    with torch.no_grad(), first, second, third:
        logits = model(tokens)[0, -1]
    clamped = circuit.clamp(group, value)
    assert clamped.metric == pytest.approx(float(logits[5] - logits[7]), abs=1e-5)
    assert len(clamped.table) == (circuit.nodes["kind"] == "feature").sum() - len(group) and not set(group) & set(clamped.table["node"])
    for row in clamped.table.iloc[:: max(1, len(clamped.table) // 40)].itertuples():
        assert row.measured == pytest.approx(float(found[row.hook_name][row.pos, row.feature]), abs=1e-5)
    if not value:
        assert clamped.clean_metric - clamped.metric == pytest.approx(circuit.effect_of(group), abs=1e-5)
        assert clamped.own == pytest.approx(rows["effect"].sum())


def test_of_one_source_the_next_place_and_of_the_last_place_the_metric_are_predicted_as_measured(circuit):
    source = features_at(circuit, PLACES[0], slice(5, 6))
    found = circuit.clamp(source).table
    near = found[found["hook_name"] == PLACES[1]]
    np.testing.assert_allclose(near["predicted"], near["measured"], atol=2e-5)
    assert found["measured"].sub(found["clean"]).abs().max() > 1e-3
    last = features_at(circuit, PLACES[2], slice(-1, None))
    clamped = circuit.clamp(last)
    assert clamped.predicted_metric == pytest.approx(clamped.metric, abs=2e-5)
    assert circuit.clamp(last, 0.5).predicted_metric != pytest.approx(clamped.predicted_metric)


def by_hand(activation: float = 2.0) -> Circuit:
    rows = [("A", "a"), ("B", "b"), ("C", "b")]
    nodes = pd.DataFrame({"node": [n for n, _ in rows], "kind": "feature", "hook_name": [h for _, h in rows], "layer": [1, 2, 2], "pos": 1})
    nodes["activation"], nodes["effect"] = [activation, 4.0, 1.0], [1.0, 2.0, 3.0]
    nodes = pd.concat([nodes, pd.DataFrame({"node": ["Y"], "kind": ["logit"], "layer": [3], "pos": [1]})], ignore_index=True)
    links = [("A", "B", 1.0, 0.0), ("A", "C", 3.0, 0.0), ("B", "Y", 8.0, 8.0), ("C", "Y", 1.0, -1.0)]
    edges = pd.DataFrame(links, columns=["source", "target", "change", "weight"])
    texts = dict(prompt="a b", str_tokens=["a", "b"], wanted={"Y": 1.0}, clean_metric=10.0)
    return Circuit(nodes.reindex(columns=list(NODE_COLUMNS)), edges.reindex(columns=list(EDGE_COLUMNS)), **texts)


def test_predictions_by_hand():
    table = by_hand().clamp("A").table.set_index("node")
    assert table.loc["B", "predicted"] == 3.0 and table.loc["C", "predicted"] == 0.0  # −2 is no activation
    assert table["measured"].isna().all()
    assert by_hand().clamp("A").predicted_metric == 10.0 - (8.0 * 1 / 4 - 1.0 * 3)
    half = by_hand().clamp("A", 1.0)
    assert half.table.set_index("node").loc["B", "predicted"] == 3.5 and math.isnan(half.own)
    both = by_hand().clamp(["A", "B"])  # B is gone already: it is not taken away a second time
    assert both.predicted_metric == 10.0 - (8.0 - 3.0) and both.own == 3.0
    assert math.isnan(both.metric) and math.isnan(both.agreement) and "predicted" in repr(both)


def test_what_cannot_be_clamped_is_said(circuit):
    token = circuit.nodes.query("kind == 'token'")["node"].iloc[0]
    for members, value, says in (("Y", 0.0, "answer itself"), ("A", -1.0, "0 or more"), ("A", math.nan, "finite"), ([], 0.0, "empty")):
        with pytest.raises(ValueError, match=says):
            by_hand().clamp(members, value)
    with pytest.raises(ValueError, match="switched off only"):
        circuit.clamp(token, 1.0)
    assert circuit.clamp(token).metric == pytest.approx(circuit.clean_metric - circuit.effect_of(token), abs=1e-5)
    with pytest.raises(ValueError, match="no activation"):
        by_hand(math.nan).clamp("B")


def test_numpys_numbers_are_numbers(circuit):
    group = features_at(circuit, PLACES[0], slice(3, 5))
    for value in (np.float32(1.5), np.int64(0)):
        assert circuit.clamp(group, value).metric == pytest.approx(circuit.clamp(group, float(value)).metric, abs=1e-6)
