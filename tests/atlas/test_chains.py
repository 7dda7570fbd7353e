"""A circuit's truth by hand: steps, links and strangers of a graph that is made up."""

import numpy as np
import pandas as pd
import pytest

from workbench.atlas.chains import Chains, leads, random_graph
from workbench.atlas.questions import questions
from workbench.atlas.truth import AnswerKey
from workbench.circuits.graph.circuit import Circuit
from workbench.circuits.graph.nodes import EDGE_COLUMNS, NODE_COLUMNS

HOOK = "blocks.3.hook_resid_pre"


class Key(AnswerKey):
    """A feature i has F1 0.9 with the question's step i, and with nothing else."""

    def __init__(self, steps):
        for name, value in dict(concepts=sorted({*steps, "tree-of"}), steps=steps).items():
            object.__setattr__(self, name, value)

    def f1(self, feature: int, of_texts: float = 0.0) -> np.ndarray:
        return np.array([0.9 * (feature < len(self.steps) and concept == self.steps[feature]) for concept in self.concepts])


def made(question, features: list[int], links: list[tuple]) -> Circuit:
    labels = [*question.steps, "tree-of"]
    rows = [(f"3_{f}_5", "feature", HOOK, 3, f, f"{labels[min(f, 5)]} 0.80" if f < 6 else "") for f in features] + [
        ("logit_1", "logit", "", 4, 1, "")
    ]
    nodes = pd.DataFrame(rows, columns=["node", "kind", "hook_name", "layer", "feature", "label"]).reindex(columns=NODE_COLUMNS)
    names = [(f"3_{a}_5", "logit_1" if b == "answer" else f"3_{b}_5") for a, b in links]
    edges = pd.DataFrame(names, columns=["source", "target"]).reindex(columns=EDGE_COLUMNS).assign(weight=1.0)
    return Circuit(nodes=nodes, edges=edges, prompt="", str_tokens=[], wanted={"logit_1": 1.0})


def test_steps_links_and_strangers_are_counted_as_they_say():
    question = questions()[0]
    chains = Chains({HOOK: Key(question.steps)})
    whole = chains.truth(made(question, [0, 1, 2, 3, 4], [(0, 1), (1, 2), (2, 3), (3, "answer"), (4, "answer")]), question)
    assert all(whole.steps) and all(whole.links) and whole.strangers == 0 and whole.n_features == 5
    part = chains.truth(made(question, [1, 3, 5, 7], [(1, 7), (7, 3), (3, "answer")]), question)
    assert part.steps == (False, True, False, True, False)
    assert part.links == (False, False, False, True, False)  # team → city: no feature of the city is kept
    assert part.strangers == pytest.approx(1 / 3)  # 7 has no label; 5 is another relation's


def test_a_path_has_one_edge_at_least_and_goes_one_way():
    assert leads({"a": ["b"], "b": ["c"]}, {"a"}, {"c"})
    assert not leads({"a": ["b"], "b": ["c"]}, {"c"}, {"a"}) and not leads({}, {"a"}, {"a"})


def test_a_random_graph_has_as_many_features_and_edges():
    question = questions()[0]
    circuit = made(question, list(range(20)), [(a, b) for a in range(10) for b in range(10, 20)] + [(a, "answer") for a in range(20)])
    like = circuit.only([*circuit.nodes["node"].head(6), "logit_1"])
    drawn = random_graph(circuit, like, seed=1)
    assert (drawn.nodes["kind"] == "feature").sum() == 6 and len(drawn.edges) <= len(like.edges)
    assert drawn.nodes["node"].tolist() != like.nodes["node"].tolist()
