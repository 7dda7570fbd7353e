"""Which concepts have a feature, and how often must one occur to get one?

    has a feature     some feature's best F1 with the concept, over thresholds, is ≥ 0.5: a text counts as predicted where the feature's
                      largest activation exceeds the threshold, as true where the concept is in play
    the curve         P(has a feature) = sigmoid(intercept + slope · log10 frequency), one a dictionary
    its 50 % point    the frequency at which half of the concepts have one; near 1 / (alive features) in the paper

frequency is the share of tokens at which the concept is in play, which is how often a feature of its own would be of use. A 50 % point that
lies outside the frequencies seen, or of a curve that does not rise, is NaN. Scaling Monosemanticity, "Feature Completeness".
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from workbench.features.survey.activity import Activity

ROUNDING = 1e-5  # of an activation: 1e-6 was seen between one processor and another
FOUND = 0.5  # F1 from which a concept has a feature
N_RESAMPLED = 400  # bootstrap samples of the concepts
RIDGE = 1e-3  # keeps the slope finite where the concepts separate perfectly
N_BINS = 8  # of the points in the picture


@dataclass(frozen=True)
class Curve:
    """One dictionary's. half: the 50 % point, with its 90 % bootstrap interval; an end is 0 or inf where resamples that rise with frequency
    do not bound it."""

    intercept: float
    slope: float  # a decade of frequency
    half: float
    low: float
    high: float
    alive: int


@dataclass(frozen=True, repr=False, eq=False)
class Completeness:
    """`.concepts`: one row a concept: concept, kind, frequency, n_texts and each dictionary's best f1. `.table`: one row a dictionary."""

    concepts: pd.DataFrame
    curves: Mapping[str, Curve]

    @property
    def table(self) -> pd.DataFrame:
        """dictionary, alive, found (share of the concepts), half, low, high, and half × alive, which the paper has near 1."""
        rows = []
        for name, curve in self.curves.items():
            found = float((self.concepts[name] >= FOUND).mean())
            rows.append((name, curve.alive, found, curve.half, curve.low, curve.high, curve.half * curve.alive))
        return pd.DataFrame(rows, columns=["dictionary", "alive", "found", "half", "low", "high", "half_times_alive"])

    def plot(self) -> Any:
        """The curves with shares of concepts about as frequent; left against frequency, right against frequency × alive."""
        from widgets.figures.features import plot_completeness

        points = pd.concat([_points(self.concepts, name) for name in self.curves])
        return plot_completeness(points, {name: (each.intercept, each.slope, each.alive) for name, each in self.curves.items()})

    def plot_concepts(self, concepts: Sequence[str] | None = None, n: int = 24) -> Any:
        """Which dictionary has which concept: the best F1 of each with any feature, from 0.5 on a feature of its own. concepts: by default
        n of them, from the most to the least frequent in even steps."""
        from widgets.figures.survey import plot_grid

        table = self.concepts.sort_values("frequency", ascending=False, kind="stable").set_index("concept")[list(self.curves)]
        if concepts is None:
            table = table.iloc[np.unique(np.linspace(0, len(table) - 1, min(n, len(table))).round().astype(int))]
        elif missing := [concept for concept in concepts if concept not in table.index]:
            raise ValueError(
                f"{missing[0]!r} is not among the {len(table):,} concepts that were asked for; they begin {', '.join(table.index[:5])}"
            )
        else:
            table = table.loc[list(concepts)]
        return plot_grid(table, "Best F1 of each concept with a feature, by dictionary")

    def __repr__(self) -> str:
        return f"Completeness over {len(self.concepts):,} concepts\n{self.table.to_string(index=False, float_format='{:.3g}'.format)}"

    def _repr_html_(self) -> str:
        return f"<div>{self.plot()._still}{self.table.to_html(index=False, border=0, float_format='{:.3g}'.format)}</div>"


def completeness(
    activities: Mapping[str, Activity], concepts: Sequence[str] | None = None, *, least: int = 8, seed: int = 0
) -> Completeness:
    """For each dictionary's activity on the same texts. concepts: those asked for, by default all; in play in `least` texts at least,
    below which an F1 says little. Raises ValueError where too few are left to fit a curve."""
    first = next(iter(activities.values()))
    corpus = first.corpus
    n_texts = np.diff(corpus.texts_with.indptr)
    wanted = corpus.concepts if concepts is None else concepts
    asked = [concept for concept in wanted if concept in corpus.column and n_texts[corpus.column[concept]] >= least]
    if len(asked) < 10:
        raise ValueError(
            f"{len(asked)} of {len(wanted)} concepts are in play in {least} texts or more: too few for a curve; read more texts"
        )
    columns = [corpus.column[concept] for concept in asked]
    table = pd.DataFrame({"concept": asked, "kind": [concept.split(":")[0] for concept in asked], "n_texts": n_texts[columns]})
    table["frequency"] = np.diff(corpus.present.indptr)[columns] / len(corpus.ids)
    for name, activity in activities.items():
        table[name] = best_f1(activity.peaks, corpus.texts_with)[1][columns]
    return Completeness(table, {name: _fitted(table, name, activity, seed) for name, activity in activities.items()})


def best_f1(peaks: sparse.csc_matrix, texts_with: sparse.csc_matrix) -> tuple[np.ndarray, np.ndarray]:
    """For every concept: the feature with the best F1 (−1 where none is active with it), and that F1. peaks (n_texts, n_units): each
    feature's largest activation in each text; texts_with (n_texts, n_concepts): what is in play."""
    by_text, n_present = texts_with.tocsr(), np.diff(texts_with.indptr)
    best, best_score = np.full(len(n_present), -1), np.zeros(len(n_present))
    for feature in np.flatnonzero(np.diff(peaks.indptr)).tolist():
        concepts, scores, _ = f1_by_threshold(*texts_by_peak(peaks, feature), by_text, n_present)
        is_better = scores > best_score[concepts]
        np.maximum.at(best_score, concepts[is_better], scores[is_better])
        best[concepts[is_better]] = feature
    return best, best_score


def best_concepts(activity: Activity, units: Sequence[int]) -> pd.DataFrame:
    """The other way round: for each unit that is ever active the concept with the best F1, and that F1. Only over thresholds that keep a
    tenth of the texts in which it is active, as labels are chosen: a rare concept that shares its very top does not make its meaning."""
    by_text, rows = activity.corpus.texts_with.tocsr(), []
    n_present = np.diff(activity.corpus.texts_with.indptr)
    for unit in units:
        texts, ends = texts_by_peak(activity.peaks, unit)
        concepts, scores, k = f1_by_threshold(texts, ends, by_text, n_present)
        scores = np.where(k >= len(texts) / 10, scores, 0)
        if scores.any():
            rows.append((unit, activity.corpus.concepts[concepts[scores.argmax()]], float(scores.max())))
    return pd.DataFrame(rows, columns=["unit", "concept", "f1"])


def texts_by_peak(peaks: sparse.csc_matrix, unit: int) -> tuple[np.ndarray, np.ndarray]:
    """(the texts in which a unit is active, in order of falling activation; of each, how many are as active as it or more).

    Texts that begin alike have the same activation but for rounding, which no threshold can tell apart: such count as equal.
    """
    first, last = peaks.indptr[unit : unit + 2]
    order = np.argsort(-peaks.data[first:last], kind="stable")
    falling = peaks.data[first:last][order].astype(float)
    is_last = np.append(falling[1:] < falling[:-1] * (1 - ROUNDING), len(falling) > 0)[: len(falling)]
    return peaks.indices[first:last][order], 1 + _next(is_last)


def f1_by_threshold(
    texts: np.ndarray, ends: np.ndarray, by_text: sparse.csr_matrix, n_present: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(concepts, F1s, ks): one of each for every time that a concept is met in `texts`, which are in order of falling activation (ends:
    texts_by_peak).

    With a threshold that takes k texts, j of the concept's among them, F1 = 2 j / (k + its texts in all). A concept's hits stand
    together, the first one first.
    """
    hits = by_text[texts]
    k = np.repeat(ends, np.diff(hits.indptr))
    order = np.argsort(hits.indices, kind="stable")
    concept, k = hits.indices[order], k[order]
    is_last = np.append((np.diff(concept) != 0) | (np.diff(k) != 0), len(k) > 0)[: len(k)]
    j = 1 + _next(is_last) - np.searchsorted(concept, concept)
    return concept, 2 * j / (k + n_present[concept]), k


def _next(is_last: np.ndarray) -> np.ndarray:
    """Of each place, the first from it on that is a last one."""
    return np.flatnonzero(is_last)[np.searchsorted(np.flatnonzero(is_last), np.arange(len(is_last)))]


def _fitted(table: pd.DataFrame, name: str, activity: Activity, seed: int) -> Curve:
    x, y = np.log10(table["frequency"].to_numpy()), (table[name] >= FOUND).to_numpy()
    intercept, slope = fit_sigmoid(x, y)
    half, rng = _half(intercept, slope), np.random.default_rng(seed)
    if not table["frequency"].min() <= half <= table["frequency"].max():
        return Curve(intercept, slope, math.nan, math.nan, math.nan, activity.n_alive)
    samples = [rng.integers(0, len(x), len(x)) for _ in range(N_RESAMPLED)]
    halves = [_half(*fit_sigmoid(x[drawn], y[drawn]), y[drawn].mean()) for drawn in samples]
    low, high = np.quantile(halves, [0.05, 0.95], method="nearest")  # between inf and a number there is nothing
    return Curve(intercept, slope, half, float(low), float(high), activity.n_alive)


def _half(intercept: float, slope: float, share: float = math.nan) -> float:
    """Of a curve that does not rise: below all frequencies where more than half is found, else above them; NaN where that is not said."""
    if slope > 0:
        return 10 ** float(np.clip(-intercept / slope, -12, 3))
    return math.nan if math.isnan(share) else 0.0 if share > 0.5 else math.inf


def fit_sigmoid(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """(intercept, slope) of the logistic regression of y on x, by Newton's method on centred x, with a little ridge on the slope."""
    center = x.mean()
    design = np.stack([np.ones_like(x), x - center], axis=1)
    weights, ridge = np.zeros(2), np.diag([RIDGE, RIDGE * len(x)])
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(design @ weights, -30, 30)))
        gradient = design.T @ (y - p) - ridge @ weights
        step = np.linalg.solve(design.T @ (design * (p * (1 - p))[:, None]) + ridge, gradient)
        weights = weights + np.clip(step, -5, 5)
        if np.abs(step).max() < 1e-9:
            break
    return float(weights[0] - weights[1] * center), float(weights[1])


def _points(concepts: pd.DataFrame, name: str) -> pd.DataFrame:
    """Concepts in groups of like frequency: their mean log frequency and the share that has a feature."""
    group = pd.qcut(np.log10(concepts["frequency"]), N_BINS, labels=False, duplicates="drop")
    grouped = concepts.assign(has=concepts[name] >= FOUND, log=np.log10(concepts["frequency"])).groupby(group)
    points = grouped.agg(log=("log", "mean"), share=("has", "mean"), n=("has", "size"))
    return points.assign(dictionary=name, frequency=10 ** points["log"])
