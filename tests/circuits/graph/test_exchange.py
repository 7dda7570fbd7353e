"""A circuit travels through the viewers' JSON and comes back the same."""

import json

import jsonschema
import numpy as np
import pytest
from made_circuit import PLACES, PROMPT, made_circuit_bench

from workbench.circuits.graph.circuit import Circuit
from workbench.circuits.metrics import logit_diff

TEXT, NUMBER = {"type": "string"}, {"type": "number"}
NODE = {
    "node_id": TEXT,
    "feature": {"type": ["integer", "null"]},
    "layer": {"type": ["string", "integer"]},
    "ctx_idx": {"type": "integer"},
    "feature_type": TEXT,
    "jsNodeId": TEXT,
    "clerp": TEXT,
    "influence": {"type": ["number", "null"]},
    "activation": {"type": ["number", "null"]},
}
SCHEMA = {  # what the public viewers ask of a file
    "type": "object",
    "required": ["metadata", "qParams", "nodes", "links"],
    "properties": {
        "metadata": {
            "type": "object",
            "required": ["slug", "scan", "prompt_tokens", "prompt"],
            "properties": {
                "slug": TEXT,
                "scan": TEXT,
                "prompt": TEXT,
                "prompt_tokens": {"type": "array", "items": TEXT},
                "node_threshold": NUMBER,
            },
        },
        "qParams": {
            "type": "object",
            "properties": {
                "pinnedIds": {"type": "array", "items": TEXT},
                "supernodes": {"type": "array", "items": {"type": "array", "items": TEXT, "minItems": 2}},
                "linkType": TEXT,
                "clickedId": TEXT,
                "sg_pos": TEXT,
            },
        },
        "nodes": {"type": "array", "items": {"type": "object", "properties": NODE, "required": [*list(NODE)[:7]]}},
        "links": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"source": TEXT, "target": TEXT, "weight": NUMBER},
                "required": ["source", "target", "weight"],
            },
        },
    },
}
HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "javascript:alert(1)",
    "</script><script>alert(1)</script>",
    "{{7*7}}${7*7}",
    "' onmouseover='alert(1)",
    "&lt;b&gt;",
    "\u202egnp.exe",
    "<!--<script>",
]


@pytest.fixture(scope="module")
def circuit(model_of) -> Circuit:
    bench = made_circuit_bench(model_of("gpt2"), PLACES[:2])
    labels = {PLACES[0]: dict(enumerate(HOSTILE * 7))}
    found = bench.circuit(PROMPT, logit_diff(5, 7), labels=labels).prune(0.9)
    features = found.nodes.query("kind == 'feature'")["node"].tolist()
    return found.group("mine", features[:2]).pin(features[0])


def test_what_is_written_is_what_viewers_ask_for_and_comes_back_the_same(circuit, tmp_path):
    path = circuit.to_json(tmp_path / "graph.json")
    content = json.loads(path.read_text())
    jsonschema.validate(content, SCHEMA)
    ids = [node["node_id"] for node in content["nodes"]]
    assert len(set(ids)) == len(ids) and {link[end] for link in content["links"] for end in ("source", "target")} <= set(ids)
    assert content["qParams"]["supernodes"][-1][0] == "mine" and content["qParams"]["pinnedIds"] == list(circuit.pinned)
    back = Circuit.load(path)
    assert back.nodes["node"].tolist() == circuit.nodes["node"].tolist()
    for column in ("kind", "hook_name", "layer", "pos", "token", "feature", "label"):
        assert back.nodes[column].tolist() == circuit.nodes[column].tolist(), column
    for column in ("activation", "effect", "effect_mean", "attribution", "slope"):
        np.testing.assert_allclose(back.nodes[column].astype(float), circuit.nodes[column])
    np.testing.assert_allclose(back.edges["change"], circuit.edges["change"])
    assert back.groups == circuit.groups and back.pinned == circuit.pinned and back.wanted == pytest.approx(circuit.wanted)
    assert (back.answer, back.baseline, back.way) == (circuit.answer, circuit.baseline, circuit.way)
    np.testing.assert_allclose(back.influence, circuit.influence)
    with pytest.raises(ValueError, match="comes from a file"):
        back.faithfulness()


def test_influence_in_the_file_is_the_cumulative_share_down_to_a_rank(circuit, tmp_path):
    content = json.loads(circuit.to_json(tmp_path / "graph.json").read_text())
    share = [node["influence"] for node in content["nodes"] if node["influence"] is not None]
    order = np.argsort(-circuit.influence.to_numpy()[: len(share)], kind="stable")
    assert np.all(np.diff(np.array(share)[order]) >= 0) and max(share) == pytest.approx(1)


def test_tokens_that_are_parts_of_a_character_come_back_as_they_were(model_of, tmp_path):
    """Byte-level pieces of an emoji: none is UTF-8 alone."""
    found = made_circuit_bench(model_of("gpt2"), PLACES[:2]).circuit("the 😀 cat", logit_diff(5, 7), progress=False)
    assert len(found.str_tokens) > 6 and "😀" not in "".join(found.str_tokens)
    back = Circuit.load(found.to_json(tmp_path / "graph.json"))
    assert back.str_tokens == found.str_tokens and back.nodes["token"].tolist() == found.nodes["token"].tolist()
    assert back.prompt == "the 😀 cat"
