"""The circuit's pane without a browser: its traits are the state, Python measures, groups and pins of the page are those of `circuit`."""

import json
import threading
from pathlib import Path

import pytest
import torch
from made_circuit import PROMPT, made_circuit_bench
from made_graph import made_graph
from made_models import random_sae
from made_transcoders import made_set

from widgets import CircuitView
from workbench.bench import Workbench
from workbench.circuits.graph.circuit import Circuit
from workbench.circuits.metrics import logit_diff
from workbench.model.hooks import last_logits
from workbench.model.tokens import answer_token, to_str_tokens, to_tokens

QUESTION = {"prompt": PROMPT, "answer": " mat", "baseline": " dog"}


@pytest.fixture(scope="module")
def small(model_of) -> Workbench:
    return made_circuit_bench(model_of("gpt2"))


@pytest.fixture(scope="module")
def circuit(small: Workbench) -> Circuit:
    return small.circuit(PROMPT, logit_diff(" mat", " dog"), progress=False)


def test_what_is_shown_is_the_circuit_pruned_with_the_groups_and_pins_of_the_page(circuit):
    pane = CircuitView(circuit)
    assert pane.groups == {name: list(nodes) for name, nodes in circuit.groups.items()}
    features = circuit.nodes.query("kind == 'feature'")["node"].tolist()
    pane.set_state({"groups": {"mine": features[:2]}, "pinned": features[-1:], "node_share": 0.3, "edge_share": 0.9})
    wanted = circuit.pin(features[-1]).prune(0.3, 0.9)
    assert pane.shown.nodes["node"].tolist() == wanted.nodes["node"].tolist() and features[-1] in set(wanted.nodes["node"])
    assert dict(pane.circuit.groups) == {"mine": tuple(features[:2])} and "group" in pane.circuit.to_json.__doc__


def test_a_clamp_shows_what_circuit_clamp_says(circuit):
    pane = CircuitView(circuit)
    group = circuit.nodes.query("kind == 'feature'")["node"].tolist()[4:7]
    pane._hear(None, {"do": "clamp", "nodes": group, "value": 0, "name": "three"}, [])
    assert pane._job.wait(60).stage == "done", pane.progress
    wanted = circuit.clamp(group)
    assert pane.moved["name"] == "three" and pane.moved["members"] == group
    assert pane.moved["measured"] == pytest.approx(wanted.metric, rel=1e-5) and pane.moved["predicted"] == pytest.approx(
        wanted.predicted_metric, rel=1e-5
    )
    node, *values = pane.moved["rows"][0]
    assert values == pytest.approx(wanted.table.set_index("node").loc[node, ["clean", "predicted", "measured"]].tolist(), rel=1e-4)
    for wrong in ({"nodes": "x", "value": 0}, {"nodes": [1], "value": 0}, {"nodes": group, "value": "x"}, {"nodes": group}):
        job = pane._job
        pane._hear(None, {"do": "clamp", **wrong}, [])
        assert pane._job is job
    logit = circuit.nodes.query("kind == 'logit'")["node"].tolist()
    assert pane.clamp(logit).wait(60).stage == "failed" and "answer itself" in pane.progress["message"]


def test_what_a_group_did_together_is_known_until_it_is_another_set(circuit):
    nodes = circuit.nodes.query("kind == 'feature'")["node"].tolist()
    pane = CircuitView(circuit.group("three", nodes[4:7]), collapsed=["three", "gone"])
    assert pane.collapsed == ["three"]
    assert pane.clamp(nodes[4:7], 1.5).wait(60).stage == "done" and not pane.together
    assert pane.clamp(nodes[4:7]).wait(60).stage == "done"
    assert pane.together == {"three": pytest.approx(circuit.effect_of(nodes[4:7]), abs=1e-5)}
    pane.set_state({"groups": {**pane.groups, "three": nodes[4:6]}})
    assert not pane.together


def test_a_circuit_of_a_file_is_predicted_only(tmp_path: Path):
    pane = CircuitView(Circuit.load(made_graph().to_json(tmp_path / "graph.json")))
    assert not pane.about["can_measure"]
    assert pane.clamp([pane.circuit.nodes.query("kind == 'feature'")["node"].iloc[0]]).wait(60).stage == "done", pane.progress
    assert pane.moved["measured"] is None and pane.moved["predicted"] is not None
    assert pane.run().wait(60).stage == "failed" and "no bench" in pane.progress["message"]


def test_it_builds_and_a_cancelled_build_leaves_what_there_was(small, monkeypatch):
    pane = CircuitView(bench=small, question=QUESTION)
    assert "no circuit yet" in repr(pane) and pane.static_html()
    begun = threading.Event()

    def cancelling(done: int, total: int) -> None:
        begun.set()

    monkeypatch.setattr(
        pane,
        "_show",
        lambda progress: (
            cancelling(progress.done, progress.total),
            pane.set_trait("progress", progress._asdict()),
            progress.done and pane.cancel(),
        ),
    )
    assert pane.run().wait(120).stage == "cancelled" and pane.circuit is None and begun.is_set()
    monkeypatch.undo()
    assert pane.run().wait(120).stage == "done" and pane.circuit is not None and pane.circuit.lens is not None
    assert pane.run is not None and "wb.logit_diff(' mat', ' dog')" in pane.to_python()


def test_the_models_own_first_is_asked_for_even_where_its_text_is_no_text_of_its_own(small):
    def first(prompt: str) -> int:
        return int(last_logits(small.model, to_tokens(small.model, prompt))[0].argmax())

    def is_lost(token: int) -> bool:
        try:
            return answer_token(small.model, to_str_tokens(small.model, torch.tensor([token]))[0]) != token
        except ValueError:
            return True

    prompt = next(text for text in (f"the {a} {b}" for a in "cat sat on mat".split() for b in "abcdefghij") if is_lost(first(text)))
    pane = CircuitView(bench=small, question={"prompt": prompt, "answer": "", "baseline": ""})
    assert pane.run().wait(120).stage == "done"
    assert f"logit_{first(prompt)}" in pane.circuit.wanted


def test_a_bench_of_transcoders_says_how_its_circuit_is_drawn(model):
    bench = Workbench(model=model, transcoders=made_set("mlp.hook_in", "hook_mlp_out", has_skip=False)).with_transcoder(1)
    assert 'bench.circuit(prompt, metric, over="transcoders")' in CircuitView(bench=bench).waiting
    assert "transcoders" not in CircuitView(bench=Workbench(model=model, sae=random_sae())).waiting


def test_the_state_is_json_and_goes_to_another_pane(circuit):
    pane = CircuitView(circuit, node_share=0.5)
    nodes = circuit.nodes.query("kind == 'feature'")["node"].tolist()
    pane.node, pane.marked, pane.pinned = nodes[3], nodes[:2], nodes[2:3]
    state = json.loads(json.dumps(pane.state()))
    other = CircuitView(circuit)
    other.restore(state)
    assert other.state() == pane.state() and other.feature == int(circuit.nodes.set_index("node").loc[nodes[3], "feature"])
    gone = circuit.only(circuit.nodes["node"].tolist()[:3] + nodes[2:3])
    other.show(gone)
    assert other.node == "" and other.marked == nodes[2:2] and other.pinned == nodes[2:3]


def test_a_graph_with_too_many_edges_for_a_page_says_which_are_there(monkeypatch):
    monkeypatch.setattr("widgets.html.circuit.MOST_EDGES", 50)
    pane = CircuitView(made_graph(60, 300))
    assert len(pane.edges) == 50 * 20 and "50 edges of largest |weight| of 300" in pane.about["notes"][-1]
