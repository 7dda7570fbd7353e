"""How specific is a feature, at every level of its activation; and, where an answer key says what is in play, how sensitive.

    specificity    share of a level's activations whose token the label says cleanly: rated 3 of 0 to 3
    sensitivity    share of the texts with the concept in which the feature is active at the level or above

    exact(activity, 574, "team:Lakers")          every activation, rated by the answer key: 3 the concept is in play at the token,
                                                 2 it is within NEAR tokens, 1 elsewhere in the text, 0 it is not
    specificity(examples, rater.rate(examples))  a sample, rated by whatever `meanings` or a person can ask

Levels are tenths of the feature's largest activation. Scaling Monosemanticity, "Assessing Feature Interpretability".
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from workbench.features.index.parts import Example
from workbench.features.labels.meanings import NEAR
from workbench.features.survey.activity import Activity, TaggedTexts

N_LEVELS = 10
RATINGS = ("irrelevant", "vague", "near", "clean")  # 0, 1, 2, 3


@dataclass(frozen=True, repr=False, eq=False)
class Specificity:
    """Of one feature. `.table`: one row a level, the highest first: low, high, n_active, n_rated, the share of each rating, and with an
    answer key sensitivity."""

    label: str
    table: pd.DataFrame
    feature: int | None = None

    @property
    def at_top(self) -> float:
        """Share rated 3 at the highest level that has ratings."""
        return float(self.table["clean"].iloc[0])

    @property
    def overall(self) -> float:
        """Share rated 3, every level counted as often as it is active."""
        return float((self.table["clean"] * self.table["n_active"]).sum() / self.table["n_active"].sum())

    def plot(self) -> Any:
        """Share of each rating against activation level, with the activations' histogram."""
        from widgets.figures.features import plot_specificity

        return plot_specificity(self.table, self._title)

    @property
    def _title(self) -> str:
        return " ".join(filter(None, ["" if self.feature is None else f"feature {self.feature}:", self.label]))

    def __repr__(self) -> str:
        shown = self.table.to_string(index=False, float_format="{:.2f}".format)
        return f"Specificity of {self._title}\n{shown}"

    def _repr_html_(self) -> str:
        return self.plot()._still


def exact(activity: Activity, feature: int, concept: str) -> Specificity:
    """By the answer key, over every activation. Raises ValueError for a concept that is never in play, a feature that is never active."""
    tokens, acts = activity.of(feature)
    if not len(tokens):
        raise ValueError(f"feature {feature} is active nowhere in these {activity.corpus.n_texts:,} texts")
    found = _levels(acts, key_ratings(activity.corpus, concept, tokens), acts, float(acts.max()))
    at = activity.corpus.column[concept]
    with_it = activity.corpus.texts_with[:, [at]].indices
    peaks = activity.peaks[:, [feature]].toarray().ravel()[with_it]
    found["sensitivity"] = [float((peaks >= low).mean()) if low else float((peaks > 0).mean()) for low in found["low"]]
    return Specificity(concept, found, feature)


def key_ratings(corpus: TaggedTexts, concept: str, tokens: np.ndarray) -> np.ndarray:
    """0 to 3 for each of the tokens: by how far the nearest token at which the concept is in play stands, in the same text."""
    present = corpus.tokens_with(concept)
    distance = np.full(len(tokens), np.inf)
    for side in (np.searchsorted(present, tokens) - 1, np.searchsorted(present, tokens)):
        is_there = (side >= 0) & (side < len(present))
        nearest = present[side.clip(0, len(present) - 1)]
        is_there &= corpus.text[nearest] == corpus.text[tokens]
        distance = np.where(is_there, np.minimum(distance, np.abs(nearest - tokens)), distance)
    return np.select([distance == 0, distance <= NEAR, np.isfinite(distance)], [3, 2, 1], 0)


def specificity(
    examples: Sequence[Example], ratings: Sequence[int], label: str, *, acts: np.ndarray | None = None, feature: int | None = None
) -> Specificity:
    """From rated examples. acts: all activations of the feature, for n_active; by default those of the examples."""
    if len(examples) != len(ratings) or not set(ratings) <= {0, 1, 2, 3}:
        raise ValueError(f"{len(ratings)} ratings for {len(examples)} examples: expected one of 0, 1, 2, 3 for each")
    peaks = np.array([example.activation for example in examples])
    acts = peaks if acts is None else acts
    return Specificity(label, _levels(peaks, np.array(ratings), acts, float(acts.max())), feature)


def drawn(activity: Activity, feature: int, n: int = 1000, seed: int = 0) -> list[Example]:
    """About n of a feature's activations, as many from each level as there are, up to n / N_LEVELS."""
    tokens, acts = activity.of(feature)
    level, rng, chosen = _level(acts, float(acts.max(initial=0.0))), random.Random(seed), []
    for each in range(N_LEVELS):
        at = np.flatnonzero(level == each).tolist()
        chosen += rng.sample(at, min(len(at), n // N_LEVELS))
    return [activity.example(feature, int(tokens[i])) for i in chosen]


def of_labels(activity: Activity, concepts: Mapping[int, str]) -> pd.DataFrame:
    """One row a feature: feature, concept, n_active, n_top (activations at its highest level), clean_at_top, in_text_at_top (rated 1 or
    more), clean (at all levels), sensitivity. Features that are not active here and concepts that are not in play are left out."""
    rows = []
    for feature, concept in concepts.items():
        if concept in activity.corpus.column and activity.n_active[feature]:
            found = exact(activity, feature, concept)
            top, lowest = found.table.iloc[0], found.table.iloc[-1]
            rows.append((feature, concept, int(found.table["n_active"].sum()), int(top["n_active"]), found.at_top, 1 - top["irrelevant"]))
            rows[-1] += (found.overall, lowest["sensitivity"])
    columns = ["feature", "concept", "n_active", "n_top", "clean_at_top", "in_text_at_top", "clean", "sensitivity"]
    return pd.DataFrame(rows, columns=columns)


def _level(acts: np.ndarray, max_act: float) -> np.ndarray:
    return np.minimum((acts / max_act * N_LEVELS).astype(int), N_LEVELS - 1)


def _levels(peaks: np.ndarray, ratings: np.ndarray, acts: np.ndarray, max_act: float) -> pd.DataFrame:
    """Levels without a rating are left out."""
    counts = np.bincount(_level(peaks, max_act) * 4 + ratings, minlength=4 * N_LEVELS).reshape(N_LEVELS, 4)
    n_rated, low = counts.sum(1), np.arange(N_LEVELS) / N_LEVELS * max_act
    n_active = np.bincount(_level(acts, max_act), minlength=N_LEVELS)
    columns = {"low": low, "high": low + max_act / N_LEVELS, "n_active": n_active, "n_rated": n_rated}
    shares = counts / np.maximum(n_rated, 1)[:, None]
    table = pd.DataFrame(columns | dict(zip(RATINGS, shares.T, strict=True)))
    return table[n_rated > 0].iloc[::-1].reset_index(drop=True)
