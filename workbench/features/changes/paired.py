"""Did a feature change, or does it only look so? The same texts read by two models, each text beside itself.

    d = tuned − base, of each text            mean of d ± t · standard error, Student's t over texts
    p = P(a mean so far from 0, were it 0)    all features' together: false discoveries under control (Benjamini & Hochberg 1995)
    moved = Σ d² / (Σ (base − mean)² + Σ (tuned − mean)²)          0: as it was; 1: the two models agree no more than two texts do

A t-test of few texts that differ is careful: k of them, all the same way, give t ≈ √k, whatever the size.
"""

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


def paired(base: sparse.csr_array, tuned: sparse.csr_array) -> Paired:
    """base, tuned: (n_texts, n), row by row of the same text."""
    n = base.shape[0]
    d = tuned - base
    (mean_base, _), (mean_tuned, _), (change, squares) = (_sums(each) for each in (base, tuned, d))
    error = np.sqrt(np.maximum(squares - n * change**2, 0) / (n - 1) / n)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(change == 0, 0.0, np.abs(change) / error)
    half = stdtrit(n - 1, (1 + LEVEL) / 2) * error
    spread = sum(np.maximum(total - n * mean**2, 0) for mean, total in (_sums(base), _sums(tuned)))
    moved = np.divide(squares, spread, out=np.zeros_like(squares), where=spread > 0)
    return Paired(mean_base, mean_tuned, change, change - half, change + half, 2 * stdtr(n - 1, -t), moved)


def false_discovery(p: np.ndarray) -> np.ndarray:
    """q of each: call those at or below 0.05 changed, and of these one in twenty is not, in the mean."""
    return stats.false_discovery_control(p) if len(p) else p


def _sums(x: sparse.csr_array) -> tuple[np.ndarray, np.ndarray]:
    """(mean, sum of squares) of each column, in float64."""
    x = x.astype(np.float64)
    return np.asarray(x.sum(axis=0)).ravel() / x.shape[0], np.asarray((x * x).sum(axis=0)).ravel()
