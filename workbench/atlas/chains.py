"""Is a circuit true? The answer key knows the chain of every question: player → team → city → state → answer, and relation → answer.

    steps      share of the question's steps for which a kept feature has F1 ≥ 0.5 with the step's concept
    links      share of the chain's links for which a path of kept edges leads from a feature of the one to a feature of the next (or to
               the answer)
    strangers  share of the kept features with a label whose label's concept is none of the question's

A feature counts once for each (place, position) at which it is kept. The same is asked of random graphs of equal size.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd

from workbench.atlas.questions import Question
from workbench.atlas.truth import FOUND, AnswerKey
from workbench.circuits.graph.circuit import Circuit
from workbench.circuits.graph.groups import concept

LINKS = ("player → team", "team → city", "city → state", "state → answer", "relation → answer")


@dataclass(frozen=True)
class Truth:
    """How much of a question's chain a circuit shows, by the answer key."""

    steps: tuple[bool, ...]  # as the question has them
    links: tuple[bool, ...]  # as LINKS has them; of a question about a team or city fewer
    strangers: float  # NaN where no kept feature has a label
    n_features: int


class Chains:
    """keys: hook name → the answer key as that place's SAE reads it."""

    def __init__(self, keys: Mapping[str, AnswerKey]):
        self.keys = keys
        self._column = {each: i for i, each in enumerate(next(iter(keys.values())).concepts)}
        self._f1 = cache(lambda hook_name, feature: keys[hook_name].f1(feature))

    def truth(self, circuit: Circuit, question: Question) -> Truth:
        """Which of the question's steps have a feature in the circuit, which links a path, and what share is of other concepts."""
        features = circuit.nodes[circuit.nodes["kind"] == "feature"]
        stands_for = [self._nodes_of(features, step) for step in question.steps]
        answer = set(circuit.nodes.loc[circuit.nodes["kind"] == "logit", "node"].head(1))
        *chain, relation = stands_for
        pairs = [*zip(chain, chain[1:], strict=False), (chain[-1], answer), (relation, answer)]
        onward = circuit.edges.groupby("source")["target"].agg(list).to_dict()
        labels = features["label"].map(concept)
        is_strange = ~labels[labels != ""].isin(set(question.steps))
        strangers = float(is_strange.mean()) if len(is_strange) else float("nan")
        return Truth(tuple(map(bool, stands_for)), tuple(leads(onward, *pair) for pair in pairs), strangers, len(features))

    def _nodes_of(self, features: pd.DataFrame, step: str) -> set[str]:
        column = self._column.get(step)
        if column is None:
            return set()
        rows = zip(features["node"], features["hook_name"], features["feature"], strict=True)
        return {node for node, hook_name, feature in rows if self._f1(hook_name, int(feature))[column] >= FOUND}


def leads(onward: Mapping[str, list[str]], sources: set[str], targets: set[str]) -> bool:
    """Is there a path of one edge or more from one of the sources to one of the targets?"""
    waiting, seen = list(sources), set(sources)
    while waiting:
        for node in onward.get(waiting.pop(), ()):
            if node in targets:
                return True
            if node not in seen:
                seen.add(node)
                waiting.append(node)
    return False


def random_graph(circuit: Circuit, like: Circuit, seed: int) -> Circuit:
    """As many features as `like` has, drawn from all active ones, and as many edges drawn from those between what is kept."""
    rng = np.random.default_rng(seed)
    features = circuit.nodes.index[circuit.nodes["kind"] == "feature"].to_numpy()
    n_features = int((like.nodes["kind"] == "feature").sum())
    others = circuit.nodes.index[circuit.nodes["kind"].isin(("token", "logit"))]
    kept = circuit.nodes.loc[[*rng.choice(features, n_features, replace=False), *others], "node"]
    inside = circuit.only(kept)
    drawn = np.zeros(len(inside.edges), dtype=bool)
    drawn[rng.choice(len(drawn), min(len(drawn), len(like.edges)), replace=False)] = True
    return inside.only(kept, drawn)
