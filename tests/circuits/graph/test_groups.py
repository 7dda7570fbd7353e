"""Groups grown along a graph's edges, by hand."""

import numpy as np
import pandas as pd
import pytest

from workbench.circuits.graph.circuit import Circuit
from workbench.circuits.graph.groups import concept
from workbench.circuits.graph.nodes import NODE_COLUMNS

#   T ─► A ─► B ─► D           B is 0.6 of A;   D is 0.5 of B, 0.5 of C;   C is 0.1 of A, 0.9 of T
NODES = {"T": ("token", 0), "A": ("feature", 1), "B": ("feature", 2), "C": ("feature", 2), "D": ("feature", 3), "Y": ("logit", 4)}
LINKS = [("T", "A", 2), ("A", "B", 3), ("T", "B", -2), ("A", "C", 1), ("T", "C", 9), ("B", "D", -1), ("C", "D", 1), ("D", "Y", 5)]


@pytest.fixture
def graph() -> Circuit:
    rows = [
        {"node": node, "kind": kind, "layer": layer, "hook_name": f"blocks.{layer}.hook_resid_pre", "pos": 1 + (node == "D"), "feature": i}
        for i, (node, (kind, layer)) in enumerate(NODES.items())
    ]
    nodes = pd.DataFrame(rows, columns=list(NODE_COLUMNS)).assign(label="", token="")
    edges = pd.DataFrame(LINKS, columns=["source", "target", "weight"]).assign(change=np.nan, attributed=np.nan)
    return Circuit(nodes, edges.astype({"weight": float}), "a b", ["<s>", "a", "b"], {"Y": 1.0}, way="direct")


@pytest.mark.parametrize(("share", "members"), [(0.7, "A"), (0.6, "AB"), (0.5, "ABD"), (0.1, "ABCD")])
def test_a_group_grows_by_what_is_made_of_it(graph, share, members):
    assert graph.grow("mine", "A", share).groups["mine"] == tuple(members)


def test_a_group_that_is_there_grows_under_its_name(graph):
    assert graph.group("mine", ["B", "C"]).grow("mine", share=1.0).groups["mine"] == ("B", "C", "D")


def test_the_features_of_a_group_by_place(graph):
    grown = graph.grow("mine", "A", 0.1)
    assert grown.features("mine") == {
        "blocks.1.hook_resid_pre": [1],
        "blocks.2.hook_resid_pre": [2, 3],
        "blocks.3.hook_resid_pre": [4],
    }
    assert grown.features("mine", pos=-1) == grown.features("mine", pos=2) == {"blocks.3.hook_resid_pre": [4]}
    assert not grown.features("mine", pos=0)


def test_a_share_that_is_none_is_refused(graph):
    with pytest.raises(ValueError, match="above 0 and up to 1"):
        graph.grow("mine", "A", 0.0)
    with pytest.raises(ValueError, match="no group, label or node"):
        graph.grow("mine")


@pytest.mark.parametrize(
    ("label", "is_of"),
    [
        ("state:California 0.54", "state:California"),
        ("code -0.10", "code"),
        ("Boeing 747", "Boeing 747"),
        ("3.14", "3.14"),
        ("pi 3.142", "pi 3.142"),
        ("", ""),
    ],
)
def test_a_label_loses_its_score_and_no_number_of_its_own(label: str, is_of: str):
    assert concept(label) == is_of
