"""Anybody's graph file opens; what is no graph is said in words, what is ambiguous refused, and a pickle left unread."""

import json
from copy import deepcopy
from pathlib import Path

import pytest

from workbench.circuits.graph.circuit import Circuit
from workbench.circuits.graph.exchange import cantor


def foreign(collides: bool = True) -> dict:
    """As circuit-tracer writes it: the error of layer 3 at position 1 has the id of feature 3 of layer 0 there."""

    def node(node_id, layer, pos, kind, feature, **more):
        return {
            "node_id": node_id,
            "layer": layer,
            "ctx_idx": pos,
            "feature_type": kind,
            "feature": feature,
            "jsNodeId": "",
            "clerp": "",
        } | more

    feature, error = "cross layer transcoder", "mlp reconstruction error"
    nodes = [
        node("0_3_1", "0", 1, feature, cantor(0, 3), influence=0.4, activation=1.5),
        node("2_9_1", "2", 1, feature, cantor(2, 9), influence=0.2, activation=2.0),
        node("4_7_1", "4", 1, feature, 7, influence=0.3),  # others write the plain number
        *([node("0_3_1", "3", 1, error, -1)] if collides else []),
        node("E_11_0", "E", 0, "embedding", 0),
        node("5_20_1", "5", 1, "logit", 20, token_prob=0.6, clerp='Output "w20" (p=0.600)'),
        node("5_21_1", "5", 1, "logit", 21, token_prob=0.2, clerp='Output "w21" (p=0.200)'),
    ]
    links = [("E_11_0", "0_3_1", 1.0), ("0_3_1", "2_9_1", 0.5), ("0_3_1", "4_7_1", 0.25), ("2_9_1", "4_7_1", 1.0), ("4_7_1", "5_20_1", 2.0)]
    links += [("0_3_1", "5_20_1", -0.1), ("0_3_1", "5_20_1", 2.99), ("E_11_0", "5_20_1", 1.0)] if collides else []
    links += [("4_7_1", "5_21_1", 1.0), *([("0_3_1", "5_21_1", 7.0)] if collides else [])]
    links = [dict(zip(("source", "target", "weight"), link, strict=True)) for link in links]
    metadata = {"slug": "s", "scan": "gpt2", "prompt_tokens": ["<bos>", "w"], "prompt": "w"}
    return {
        "metadata": metadata,
        "qParams": {"supernodes": [["pair", "2_9_1", "4_7_1", "gone"]], "pinnedIds": ["4_7_1"]},
        "nodes": nodes,
        "links": links,
    }


def written(folder: Path, content) -> Path:
    path = folder / "graph.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_anybodys_file_opens_and_nodes_that_share_an_id_are_told_apart(tmp_path):
    circuit = Circuit.load(written(tmp_path, foreign()))
    assert circuit.nodes["node"].tolist() == ["0_3_1", "2_9_1", "4_7_1", "error_3_1", "E_11_0", "5_20_1", "5_21_1"]
    assert circuit.nodes["feature"].tolist()[:4] == [3, 9, 7, -1]
    edges = {(row.source, row.target): row.weight for row in circuit.edges.itertuples()}
    assert edges["0_3_1", "5_20_1"] == -0.1 and edges["error_3_1", "5_20_1"] == 2.99  # of two links the feature's stands first
    assert ("0_3_1", "2_9_1") in edges and ("E_11_0", "0_3_1") in edges  # an error of layer 3 makes nothing of layer 2
    assert edges["error_3_1", "5_21_1"] == 7.0  # it stands after a feature that the feature of layer 0 stands before
    assert circuit.wanted == pytest.approx({"5_20_1": 0.75, "5_21_1": 0.25})
    assert circuit.groups == {"pair": ("2_9_1", "4_7_1")} and circuit.pinned == ("4_7_1",) and circuit.answer == "w20"
    assert len(circuit.prune(1.0, 1.0).edges) and 0 < circuit.scores.replacement < 1
    again = Circuit.load(circuit.to_json(tmp_path / "again.json"))
    assert again.edges.equals(circuit.edges)


def test_half_a_character_is_read_as_unknown_and_the_circuit_can_be_written(tmp_path):
    half = (
        json.dumps(foreign(collides=False))
        .replace("2_9_1", "2_9_\\ud83d")
        .replace('"w"', '"\\ude00"')
        .replace('"pair"', '"\\ud83d\\ude00"')
    )
    circuit = Circuit.load(written(tmp_path, half))
    assert circuit.nodes["node"].tolist()[1] == "2_9_�" and circuit.str_tokens == ["<bos>", "�"] and circuit.prompt == "�"
    assert circuit.groups == {"😀": ("2_9_�", "4_7_1")}
    assert len(circuit.edges) == len(foreign(collides=False)["links"])
    circuit.to_html(tmp_path / "graph.html")
    assert Circuit.load(circuit.to_json(tmp_path / "again.json")).edges.equals(circuit.edges)


def changed(**parts) -> dict:
    content = deepcopy(foreign(collides=False))
    for name, part in parts.items():
        content[name] = part(content[name]) if callable(part) else part
    return content


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[1, 2]", "holds a list"),
        ("{", "is not JSON"),
        ({"nodes": []}, "lacks metadata, links"),
        (changed(nodes=[]), "holds no node"),
        (changed(nodes=5), "as lists"),
        (changed(nodes=lambda nodes: nodes[1:]), "is none of the file's"),
        (changed(nodes=lambda nodes: [*nodes, nodes[0]]), "two nodes of kind feature have the id"),
        (changed(nodes=lambda nodes: [{**nodes[0], "ctx_idx": -4}, *nodes[1:]]), "ctx_idx -4"),
        (changed(nodes=lambda nodes: [{}, *nodes]), "node 0 has no node_id"),
        (changed(links=lambda links: [*links, {"source": "5_20_1", "target": "0_3_1", "weight": 1}]), "has a cycle"),
        (changed(links=lambda links: [*links, links[0]]), "two links from"),
        (changed(links=lambda links: [{**links[0], "weight": float("nan")}, *links[1:]]), "weighs nan"),
        (changed(links=lambda links: [{**links[0], "weight": "1"}, *links[1:]]), "expected a finite number"),
        (changed(links=lambda links: [5, *links]), "link 0 is no object"),
    ],
)
def test_what_is_no_graph_is_said_in_words(tmp_path, content, says):
    with pytest.raises(ValueError, match=says):
        Circuit.load(written(tmp_path, content))


def test_an_ambiguous_link_is_refused_rather_than_guessed(tmp_path):
    content = foreign()
    content["links"] = [link for link in content["links"] if link["target"] != "5_21_1"] + [
        {"source": "0_3_1", "target": "5_21_1", "weight": 7.0}
    ]
    with pytest.raises(ValueError, match="could be of either"):
        Circuit.load(written(tmp_path, content))


def test_a_pickle_is_refused_unread_and_named(tmp_path):
    with pytest.raises(ValueError, match="as JSON"):
        Circuit.load(tmp_path / "graph.pt")
    with pytest.raises(ValueError, match="is no file"):
        Circuit.load(tmp_path / "graph.json")
