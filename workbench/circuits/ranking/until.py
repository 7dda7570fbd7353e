"""Which pairs to measure next, and when the n largest effects are certain: most of a prompt's active pairs are noise, and need no pass.

    effect_i = attribution_i + r_i               r_i: what lies beyond first order
    s_i      = ‖∂metric/∂x‖ · ‖v_i‖² / ‖x‖       v_i = feature_acts · W_dec[i]: of second order in the share of x that is removed
    T        = the n-th largest effect measured so far
    miss_i   = P(attribution_i + r_i > T) = 1 − Φ((ln((T − attribution_i) / s_i) − μ) / σ)

|r| / s is taken for log-normal, with μ (median) and σ (spread above it) of the pairs measured so far, some of which are drawn at random.
Measuring goes on, largest miss_i first, until Σ miss_i over the pairs that were not measured is at most 1 − confidence: by Markov's
inequality a bound on the probability that one of them belongs to the n largest, as far as the log-normal holds. That it does was measured
(benchmarks/top_pairs.py): of 887 prompts on the atlas and six random models 99.9 % had all of their ten at a claimed 99 %, 99.0 % at 90 %.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Real

import numpy as np
from jaxtyping import Float, Int
from scipy.special import ndtr

CONFIDENCE = 0.99
FIRST, N_DRAWN = 24, 16  # pairs measured before anything is said: of the largest estimates; at random
LARGEST = 0.3  # of s, added to an attribution: the order of the first ones (0.1 to 1 differ little)
FEWEST = 8  # pairs a round; else half as many as are measured
LEAST_SPREAD = 0.5  # of ln(|r| / s): some equal residuals say nothing of the others
FLAT = 0.1  # of the median gradient: where there is none, something beyond first order may still come through


@dataclass(frozen=True)
class Estimates:
    """What is known of each pair before anything is ablated, all (n_pairs); positive supports the answer."""

    attribution: Float[np.ndarray, "n_pairs"]
    scale: Float[np.ndarray, "n_pairs"]  # s

    @classmethod
    def of(
        cls,
        attribution: Float[np.ndarray, "n_pairs"],
        gradient: Float[np.ndarray, "n_pairs"],
        removed: Float[np.ndarray, "n_pairs"],
        x: Float[np.ndarray, "n_pairs"],
    ) -> "Estimates":
        """gradient, removed, x: the norms of ∂metric/∂x, of v and of x at each pair's position."""
        steep = np.maximum(gradient, FLAT * np.median(gradient))
        return cls(attribution, steep * removed**2 / np.maximum(x, np.finfo(float).tiny) + np.finfo(float).tiny)


def misses(estimates: Estimates, effects: Float[np.ndarray, "n_pairs"], n: int) -> Float[np.ndarray, "n_pairs"]:
    """The probability that each pair whose effect is NaN belongs to the n largest; 0 for those measured. 1 where fewer than n are."""
    is_measured = ~np.isnan(effects)
    found = np.where(is_measured, 0.0, 1.0)
    if is_measured.sum() < n or is_measured.all():
        return found
    bar = np.sort(effects[is_measured])[-n]
    beyond = np.abs(effects - estimates.attribution)[is_measured] / estimates.scale[is_measured]
    logs = np.log(beyond[beyond > 0])
    room = (bar - estimates.attribution[~is_measured]) / estimates.scale[~is_measured]
    if not len(logs):
        found[~is_measured] = room < 0
        return found
    middle = np.median(logs)
    spread = max(LEAST_SPREAD, math.sqrt(np.mean((logs[logs >= middle] - middle) ** 2)))
    with np.errstate(divide="ignore"):
        found[~is_measured] = 1 - ndtr((np.log(np.maximum(room, 0.0)) - middle) / spread)
    return found


def rounds(estimates: Estimates, effects: Float[np.ndarray, "n_pairs"], n: int, confidence: float) -> Iterator[Int[np.ndarray, "n_next"]]:
    """Pairs to measure, a round at a time; whoever measures writes their effects into `effects` before the next is drawn.
    Raises ValueError for attributions or effects that are no numbers: of such none is certain, and measuring would not end."""
    if not (np.isfinite(estimates.attribution).all() and np.isfinite(estimates.scale).all()):
        raise ValueError("attributions hold NaN or infinite values: no effect is certain before all are measured")
    best = np.argsort(-(estimates.attribution + LARGEST * estimates.scale), kind="stable")
    first, others = np.split(best, [max(FIRST, 2 * n)])
    rows = np.concatenate([first, np.random.default_rng(0).permutation(others)[:N_DRAWN]])
    yield rows
    while (chance := misses(estimates, effects, n)).sum() > 1 - confidence:
        if not np.isfinite(effects[rows]).all():
            raise ValueError("effects hold NaN or infinite values: which are the largest cannot be told")
        n_next = max(FEWEST, int((~np.isnan(effects)).sum()) // 2)
        likeliest = np.argsort(-chance, kind="stable")[:n_next]
        rows = likeliest[chance[likeliest] > 0]
        yield rows


def n_wanted(until: str) -> int:
    """10 of "top 10". Raises ValueError for what is not of that form."""
    match = re.fullmatch(r"\s*top\s+(\d{1,9})\s*", until) if isinstance(until, str) else None
    if match is None or int(match[1]) < 1:
        raise ValueError(f'until={until!r} is no goal: expected how many of the largest effects are to be certain, such as until="top 10"')
    return int(match[1])


def checked_confidence(confidence: float) -> float:
    """Raises ValueError for what is no probability below 1."""
    if not isinstance(confidence, Real) or not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence!r}: expected a probability between 0 and 1, such as 0.99")
    return float(confidence)
