"""Did a feature change, or does it only look so? The same texts read by two models, each text beside itself.

    d = tuned − base, of each text            mean of d ± t · standard error, Student's t over texts
    p = P(a mean so far from 0, were it 0)    all features' together: false discoveries under control (Benjamini & Hochberg 1995)
    moved = Σ d² / (Σ (base − mean)² + Σ (tuned − mean)²)          0: as it was; 1: the two models agree no more than two texts do

A t-test of few texts that differ is careful: k of them, all the same way, give t ≈ √k, whatever the size. It asks for the mean, and
what goes up in some texts and down in others has none; `moved` counts both, with an interval of its own (a ratio of means, delta
method).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse, stats
from scipy.special import stdtr, stdtrit

LEVEL = 0.95


@dataclass(frozen=True)
class Paired:
    """One row a feature (n): means over texts, the difference with its interval, its p, and how much of what varies over texts moved."""

    base: np.ndarray
    tuned: np.ndarray
    change: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    moved: np.ndarray
    moved_low: np.ndarray
    moved_high: np.ndarray


def paired(base: sparse.csr_array, tuned: sparse.csr_array) -> Paired:
    """base, tuned: (n_texts, n), row by row of the same text."""
    n, times = base.shape[0], stdtrit(base.shape[0] - 1, (1 + LEVEL) / 2)
    base, tuned = (each.astype(np.float64) for each in (base, tuned))
    d = sparse.csr_array(tuned - base)
    means = [_mean(each) for each in (base, tuned)]
    change = _mean(d)
    error = np.sqrt(np.maximum(_mean(d * d) - change**2, 0) / (n - 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(change == 0, 0.0, np.abs(change) / error)
    moved, off = _moved(d, (base, tuned), means)
    return Paired(
        base=means[0],
        tuned=means[1],
        change=change,
        low=change - times * error,
        high=change + times * error,
        p=2 * stdtr(n - 1, -t),
        moved=moved,
        moved_low=moved - times * off,
        moved_high=moved + times * off,
    )


def _moved(d: sparse.csr_array, sides: Sequence[sparse.csr_array], means: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(which share moved, its standard error)."""
    n = d.shape[0]
    squares = d * d
    # (a − m)² = m² + (a² − 2 a m): the second part is 0 where the feature is off
    spread = sparse.csr_array(sum(x * x - 2 * (x @ sparse.diags_array(m)) for x, m in zip(sides, means, strict=True)))
    off = means[0] ** 2 + means[1] ** 2
    mean, moved = off + _mean(spread), np.zeros(d.shape[1])
    np.divide(_mean(squares), mean, out=moved, where=mean > 1e-12 * (off + 1e-30))
    rest = sparse.csr_array(squares - spread @ sparse.diags_array(moved))  # of each text, less what every text has
    variance = _mean(rest * rest) - 2 * moved * off * _mean(rest) + (moved * off) ** 2  # of d² − moved · spread, whose mean is 0
    error = np.zeros_like(moved)
    np.divide(np.sqrt(np.maximum(variance, 0) / (n - 1)), mean, out=error, where=moved > 0)
    return moved, error


def false_discovery(p: np.ndarray) -> np.ndarray:
    """q of each: call those at or below 0.05 changed, and of these one in twenty is not, in the mean."""
    return stats.false_discovery_control(p) if len(p) else p


def _mean(x: sparse.csr_array) -> np.ndarray:
    return np.asarray(x.sum(axis=0)).ravel() / x.shape[0]
