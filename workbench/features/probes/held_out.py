"""Does a feature that was found by prompts tell others apart, and does it take a feature to do so?

    feature          of those found, the one of best F1 on the prompts of the search, active above a threshold that is chosen there too
    one word         the token whose presence does best on the prompts of the search
    list of words    is any token there that only positive prompts of the search have?
    everything       called positive, whatever it says

A feature that is ahead of neither of the last three has shown nothing that the words do not. Nothing is chosen on the prompts that judge.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy import stats

from workbench.features.search.codes import Codes, encode
from workbench.features.search.found import Found
from workbench.features.search.search import checked_sets
from workbench.features.survey.completeness import ROUNDING


def held_out(bench: Any, found: Found, positive: Iterable[str], negative: Iterable[str]) -> pd.DataFrame:
    """One row for each of the four above: reads, feature (−1 for words), f1_seen (on the prompts of the search), f1, right (share of the
    new prompts told rightly) with low and high (Wilson's 95 %, as if each prompt were drawn by itself), and words, what it looks for.

    found: what `bench.find` gave with negative prompts; only features of its table are considered, so ask it for enough of them.
    Raises ValueError for a search without negative prompts or features, and for prompts that it has seen.
    """
    seen, n_seen = found.codes, found.n_positive
    if seen is None or not 0 < n_seen < len(seen.prompts) or not len(found.table):
        raise ValueError("found has no feature, or no negative prompts to choose a threshold by: expected bench.find(positive, negative)")
    sets = checked_sets(positive, negative, fewest_negative=1)
    if known := set(seen.prompts) & {*sets[0], *sets[1]}:
        raise ValueError(f"{min(known)[:60]!r} was searched with: what was chosen on it cannot be judged by it")
    fresh = encode(bench.model, bench.sae, [*sets[0], *sets[1]])
    is_seen, is_new = np.arange(len(seen.prompts)) < n_seen, np.arange(len(fresh.prompts)) < len(sets[0])
    feature, threshold = _best_feature(found, is_seen)
    rows = [_row("feature", [_peaks(codes, feature) > threshold for codes in (seen, fresh)], is_seen, is_new, feature=feature)]
    tokens, new_tokens = ([set(some[codes.first :]) for some in codes.str_tokens] for codes in (seen, fresh))
    for name, words in _lists(tokens, is_seen).items():
        told = [np.array([not words.isdisjoint(some) for some in texts]) for texts in (tokens, new_tokens)]
        rows.append(_row(name, told, is_seen, is_new, words=" ".join(sorted(word.strip() for word in words))))
    rows.append(_row("everything", [np.ones(len(is_seen), bool), np.ones(len(is_new), bool)], is_seen, is_new))
    return pd.DataFrame(rows)


def f1(told: Bool[ndarray, "n"], is_positive: Bool[ndarray, "n"]) -> float:
    """2 · hits / (told + positive)."""
    return float(2 * (told & is_positive).sum() / max(1, told.sum() + is_positive.sum()))


def best_threshold(acts: Float[ndarray, "n"], is_positive: Bool[ndarray, "n"]) -> tuple[float, float]:
    """(F1, threshold) of the best one, the lowest of equals: 0, or halfway between two activations that differ by more than rounding."""
    levels = np.unique(np.maximum(acts, 0.0))
    is_apart = np.diff(levels) > ROUNDING * max(float(levels[-1]), 1e-12)
    cuts = [0.0, *((levels[:-1] + levels[1:]) / 2)[is_apart].tolist()]
    scores = [f1(acts > cut, is_positive) for cut in cuts]
    best = int(np.argmax(scores))
    return scores[best], cuts[best]


def _best_feature(found: Found, is_positive: Bool[ndarray, "n"]) -> tuple[int, float]:
    assert found.codes is not None
    features = np.sort(found.table["feature"].to_numpy())
    acts = found.codes.peaks.of(features, len(is_positive))
    best = {int(feature): best_threshold(column, is_positive) for feature, column in zip(features, acts.T, strict=True)}
    feature = max(map(int, found.table["feature"]), key=lambda each: best[each][0])  # of equals the first that was found
    return feature, best[feature][1]


def _peaks(codes: Codes, feature: int) -> Float[ndarray, "n"]:
    return codes.peaks.of(np.array([feature]), len(codes.prompts))[:, 0]


def _lists(tokens: Sequence[set[str]], is_positive: Bool[ndarray, "n"]) -> dict[str, set[str]]:
    words = sorted(set().union(*(some for some, here in zip(tokens, is_positive, strict=True) if here)))
    there = {word: np.array([word in some for some in tokens]) for word in words}
    one = max(words, key=lambda word: f1(there[word], is_positive))
    return {"one word": {one}, "list of words": {word for word in words if not there[word][~is_positive].any()}}


def _row(
    name: str, told: Sequence[ndarray], is_seen: ndarray, is_new: ndarray, feature: int = -1, words: str = ""
) -> dict[str, str | int | float]:
    n_right = int((told[1] == is_new).sum())
    low, high = share_interval(n_right, len(is_new))
    scores = {"f1_seen": f1(told[0], is_seen), "f1": f1(told[1], is_new), "right": n_right / len(is_new), "low": low, "high": high}
    return {"reads": name, "feature": feature, **scores, "words": words}


def share_interval(n_true: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    found = stats.binomtest(n_true, n).proportion_ci(method="wilson")
    return float(found.low), float(found.high)
