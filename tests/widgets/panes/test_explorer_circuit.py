"""The circuit in the explorer: built of its question, following and setting its selection."""

import json
from pathlib import Path

from made_circuit import made_circuit_bench

from widgets import Explorer, explore

PROMPT = "the cat sat on the"


def test_a_circuit_is_built_of_the_question_and_follows_and_sets_the_selection(model_of, own_labels: Path):
    bench = made_circuit_bench(model_of("gpt2"))
    explorer = explore(bench, PROMPT, " mat", " dog")
    pane = explorer.pane["circuit"]
    assert pane.circuit is None and pane.question == {"prompt": PROMPT, "answer": " mat", "baseline": " dog"} and not pane.waiting
    explorer.pane["prompt"]._job.wait(60)
    assert pane.run().wait(120).stage == "done", pane.progress
    assert pane.circuit.answer == " mat" and pane.progress["done"] == pane.progress["total"] > 100
    nodes = pane.circuit.nodes
    home = nodes[(nodes["hook_name"] == bench.sae.cfg.hook_name) & (nodes["kind"] == "feature")]
    away = nodes[(nodes["hook_name"] != bench.sae.cfg.hook_name) & (nodes["kind"] == "feature")]
    explorer.feature = int(home["feature"].iloc[7])
    assert home.set_index("node").loc[pane.node, "feature"] == explorer.feature
    pane.set_state({"node": home["node"].iloc[3]})
    assert explorer.feature == explorer.pane["card"].feature == home["feature"].iloc[3]
    pane.set_state({"node": away["node"].iloc[0]})  # a feature of another place is no feature of these panes
    assert explorer.feature == home["feature"].iloc[3] and pane.node == away["node"].iloc[0]
    assert "circuit = bench.circuit('the cat sat on the', wb.logit_diff(' mat', ' dog'))" in explorer.code
    json.loads(explorer.facts)
    explorer.close()


def test_a_bench_of_one_place_says_that_a_circuit_needs_more(explorer: Explorer):
    pane = explorer.pane["circuit"]
    assert "two hook points" in pane.waiting
    assert pane.run().wait(60).stage == "failed" and "two hook points" in pane.progress["message"]
