"""A circuit shows itself without scripts; what labels and prompts hold is text."""

import itertools
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from widgets.figures.circuit import circuit_svg, shown
from widgets.html.circuit import circuit_data, circuit_html, circuit_page
from workbench.circuits.graph.circuit import Circuit
from workbench.circuits.graph.nodes import EDGE_COLUMNS, NODE_COLUMNS

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "</title><script>1</script>",
    "\u202egnp",
]


def made(labels: list[str]) -> Circuit:
    features = [
        (f"1_{i}_1", "feature", "blocks.1.hook_resid_pre", 1, 1, labels[0], i, 2.0, (-1.0) ** i * (i + 1), label)
        for i, label in enumerate(labels)
    ]
    rows = [
        ("E_5_1", "token", "blocks.0.hook_resid_pre", -1, 1, labels[0], 5, 1.0, 2.0, labels[0]),
        *features,
        ("error_1_1", "error", "blocks.1.hook_resid_pre", 1, 1, labels[0], -1, 1.0, 0.1, "what the SAE does not explain"),
        ("logit_7", "logit", "", 2, 1, labels[0], 7, 3.0, 3.0, labels[0]),
    ]
    names = ("node", "kind", "hook_name", "layer", "pos", "token", "feature", "activation", "effect", "label")
    nodes = pd.DataFrame(rows, columns=names).reindex(columns=NODE_COLUMNS)
    links = [("E_5_1", row[0]) for row in features] + [(row[0], "logit_7") for row in features] + [("error_1_1", "logit_7")]
    edges = pd.DataFrame(links, columns=["source", "target"]).reindex(columns=EDGE_COLUMNS)
    edges["change"] = edges["weight"] = np.linspace(-1, 2, len(links))
    groups = {labels[0]: tuple(row[0] for row in features[:2])}
    texts = dict(answer=labels[0], baseline=labels[-1], model_name=labels[0], notes=(labels[0],))
    return Circuit(
        nodes=nodes, edges=edges, prompt=labels[0], str_tokens=["<s>", labels[0]], wanted={"logit_7": 1.0}, groups=groups, **texts
    )


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.attrs = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attrs += [name for name, _ in attrs]


@pytest.mark.parametrize("label", HOSTILE)
def test_hostile_labels_are_text_in_the_block_and_the_picture(label):
    circuit = made([label] * 4)
    for text in (circuit_html(circuit), circuit_svg(circuit)):
        seen = Tags()
        seen.feed(text)
        assert not {"script", "iframe"} & set(seen.tags) and not [name for name in seen.attrs if name.startswith("on")]
        assert "\u202e" not in text


def test_the_page_stands_alone_and_the_list_says_what_the_picture_shows():
    circuit = made(["Lakers", "Texas", "California"])
    page = circuit_page(circuit)
    assert page.startswith("<!doctype html>") and "http://" not in page.replace("http://www.w3.org", "")
    assert "feature 2 (California)" in page and "comes from" in page and "Groups" in page
    assert repr(circuit).startswith("Circuit")


def test_of_a_large_graph_the_strongest_are_drawn_and_it_says_so():
    circuit = made([f"label {i}" for i in range(80)])
    nodes, edges = shown(circuit)
    assert len(nodes) == 62 and set(edges["source"]) <= set(nodes["node"])
    assert nodes.query("kind == 'feature'")["effect"].abs().min() > 20
    assert "the strongest 62 of 83 nodes" in circuit_svg(circuit)


def test_it_says_what_nodes_are_sized_by_where_only_logits_have_an_effect():
    measured = made(["a", "b"])
    direct = measured.nodes.assign(attribution=measured.nodes["effect"])
    direct.loc[direct["kind"] != "logit", "effect"] = np.nan
    unknown = direct.assign(attribution=0.0)
    graphs = [replace(measured, nodes=nodes) for nodes in (measured.nodes, direct, unknown)]
    assert [circuit_data(each)["about"]["sized_by"] for each in graphs] == ["effect", "attribution", "influence"]


def test_an_empty_graph_is_a_picture_too():
    circuit = made(["a"]).only(["logit_7"])
    assert circuit_html(circuit) and circuit_svg(circuit)


def test_tokens_below_a_picture_do_not_touch_one_another():
    circuit = made(["basketball"])
    words = ["<s>", " basketball", " international", " is", " conversation"]
    nodes = [circuit.nodes.query("kind == 'token'").assign(node=f"E_5_{pos}", pos=pos, token=word) for pos, word in enumerate(words)]
    circuit = replace(circuit, nodes=pd.concat([*nodes, circuit.nodes.query("kind == 'logit'")], ignore_index=True), str_tokens=words)
    circuit = replace(circuit, edges=circuit.edges.iloc[:0], groups={})
    drawn = re.findall(r'<text x="([\d.]+)" y="[\d.]+" text-anchor="middle"[^>]*>([^<]+)<', circuit_svg(circuit))
    assert [word.strip() for _, word in drawn] == ["&lt;s&gt;", "basketball", "international", "is", "conversation"]
    ends = [(float(x) - 3.2 * len(unescape(word).strip()), float(x) + 3.2 * len(unescape(word).strip())) for x, word in drawn]
    assert all(right < left for (_, right), (left, _) in itertools.pairwise(ends)), ends


def test_the_picture_alone_is_a_whole_svg_file_in_which_labels_are_text(tmp_path):
    root = ElementTree.parse(made(HOSTILE).to_svg(tmp_path / "circuit.svg")).getroot()
    kinds = {each.tag.rpartition("}")[2] for each in root.iter()}
    assert root.tag.endswith("svg") and "circle" in kinds and not kinds & {"script", "img", "iframe", "foreignObject"}
