"""Influence, pruning, scores and paths on a graph of five nodes, by hand."""

import numpy as np
import pandas as pd
import pytest

from workbench.circuits.graph.pruning import cut, influence_of, paths_between, scores_of

NODES = pd.DataFrame({"node": ["T", "E", "A", "B", "Y"], "kind": ["token", "error", "feature", "feature", "logit"]})
LINKS = [("T", "A", 3.0), ("E", "A", -1.0), ("T", "B", 1.0), ("A", "B", 1.0), ("A", "Y", -4.0), ("B", "Y", 1.0)]
WANTED = {"Y": 1.0}


def edges_of(links) -> pd.DataFrame:
    table = pd.DataFrame(links, columns=["source", "target", "weight"])
    return table.assign(change=np.nan, attributed=np.nan)


EDGES = edges_of(LINKS)
# N: A = 3/4 T + 1/4 E;  B = 1/2 T + 1/2 A;  Y = 4/5 A + 1/5 B.   influence: B 0.2;  A 0.8 + 0.2/2 = 0.9;  T 0.9·3/4 + 0.1;  E 0.9/4
INFLUENCE = {"T": 0.775, "E": 0.225, "A": 0.9, "B": 0.2, "Y": 0.0}


def test_influence_is_the_sum_over_paths_of_products_of_shares():
    np.testing.assert_allclose(influence_of(NODES, EDGES, WANTED), list(INFLUENCE.values()))


def test_what_leads_into_an_error_or_a_token_carries_no_influence():
    more = edges_of([*LINKS, ("B", "E", 100.0), ("E", "T", 100.0)])
    np.testing.assert_allclose(influence_of(NODES, more, WANTED), list(INFLUENCE.values()))


def test_measured_changes_come_before_weights():
    measured = EDGES.assign(change=EDGES["weight"], weight=[9.0, 8.0, 7.0, 6.0, 5.0, 4.0])
    np.testing.assert_allclose(influence_of(NODES, measured, WANTED), list(INFLUENCE.values()))


def test_scores_are_the_tokens_share_and_what_is_no_error():
    scores = scores_of(NODES, EDGES, WANTED)
    assert scores.replacement == pytest.approx(0.775 / (0.775 + 0.225))
    total = sum(INFLUENCE.values()) + 1  # every row but A's is free of errors
    assert scores.completeness == pytest.approx(1 - 0.25 * 0.9 / total)


def test_nodes_are_kept_until_their_share_is_reached_and_edges_among_them():
    kept, is_edge = cut(NODES, EDGES, WANTED, 0.79, 1.0)  # A 0.43, T 0.80: both reach 0.79 of 2.1
    assert kept == ["T", "A", "Y"] and is_edge.tolist() == [True, False, False, False, True, False]
    kept, is_edge = cut(NODES, EDGES, WANTED, 1.0, 1.0)
    assert kept == list(NODES["node"]) and is_edge.all()
    kept, is_edge = cut(NODES, EDGES, WANTED, 1.0, 0.8)  # scores: A→Y 0.8, T→A 0.675, E→A 0.225, B→Y 0.2, two of 0.1; 0.8 of 2.1 is 1.68
    assert is_edge.tolist() == [True, True, False, False, True, False]
    assert "B" not in kept  # it leads nowhere then


def test_loose_ends_go_until_none_is_left():
    chain = pd.DataFrame({"node": ["T", "A", "B", "Y"], "kind": ["token", "feature", "feature", "logit"]})
    edges = edges_of([("T", "Y", 100.0), ("T", "A", 1.0), ("A", "B", 1.0), ("B", "Y", 0.1)])
    kept, is_edge = cut(chain, edges, WANTED, 1.0, 0.9)
    assert kept == ["T", "Y"] and is_edge.tolist() == [True, False, False, False]


def test_at_most_so_many_features_and_the_pinned_anyway():
    assert cut(NODES, EDGES, WANTED, 1.0, 1.0, 1)[0] == ["T", "E", "A", "Y"]
    assert "B" in cut(NODES, EDGES, WANTED, 0.1, 1.0, 1, ("B",))[0]


@pytest.mark.parametrize("wrong", [dict(node_share=0.0), dict(edge_share=1.5), dict(n_features=0)])
def test_shares_that_are_none_are_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        cut(NODES, EDGES, WANTED, **(dict(node_share=0.8, edge_share=0.98) | wrong))


def test_a_cycle_is_refused():
    with pytest.raises(ValueError, match="cycle"):
        influence_of(NODES, edges_of([*LINKS, ("B", "A", 1.0)]), WANTED)


def test_paths_are_ordered_by_the_product_of_their_shares():
    paths = paths_between(NODES, EDGES, ["T"], ["Y"], 9)
    assert paths["path"].tolist() == [("T", "A", "Y"), ("T", "B", "Y"), ("T", "A", "B", "Y")]
    np.testing.assert_allclose(paths["strength"], [0.75 * 0.8, 0.5 * 0.2, 0.75 * 0.5 * 0.2])
    assert paths["weight"].tolist() == [-4.0, 1.0, 1.0]
    assert len(paths_between(NODES, EDGES, ["T"], ["Y"], 1)) == 1 and not len(paths_between(NODES, EDGES, ["B"], ["T"], 3))


def test_rounding_decides_nothing():
    n = 7  # seven paths that are equal but for the last bit
    names = [f"F{i}" for i in range(n)]
    nodes = pd.DataFrame({"node": ["T", *names, "Y"], "kind": ["token", *["feature"] * n, "logit"]})
    noise = 1 + np.arange(n) * 1e-16
    links = [("T", name, 1.0) for name in names] + [(name, "Y", 0.1 * each) for name, each in zip(names, noise, strict=True)]
    for share in (0.2, 0.6, 0.8, 1.0):
        kept, is_edge = cut(nodes, edges_of(links), WANTED, share, 1.0)
        assert sum(name in kept for name in names) in (0, n) and is_edge.all() == (len(kept) == n + 2)
