"""Classifiers of texts, and how well they do on texts that they did not see.

    AUROC = P(score of a positive text > score of a negative one), ties counting half

Nested cross-validation: in each of the outer parts, everything that is chosen (the way of pooling, the strength of regularization, which
features) is chosen on the other parts alone. Intervals: the texts of each part drawn anew, with replacement, 1,000 times; the same draws
for every classifier, so that differences are paired.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from warnings import catch_warnings, simplefilter

import numpy as np
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

Matrix = np.ndarray | sparse.csr_array
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)  # C of the logistic regression, on inputs of standard deviation 1
MIDDLE = 1e-2
MOST_STEPS = 1_000  # of the solver; what it has not found by then it is near to
N_DRAWS = 1_000
N_CANDIDATES = 50  # for the best single feature: those of largest difference of means, in standard deviations


@dataclass(frozen=True)
class Fitted:
    """A linear classifier of some columns."""

    columns: np.ndarray
    weights: np.ndarray  # of the columns as they are, not standardized
    strength: float
    is_converged: bool = True

    def scores(self, x: Matrix) -> np.ndarray:
        """Up to a constant: AUROC asks for the order only."""
        return np.asarray(x[:, self.columns] @ self.weights).ravel()


@dataclass(frozen=True)
class Choice:
    """What a classifier may read of a matrix: all columns, or the n_columns best."""

    n_columns: int | None = None

    def fit(self, x: Matrix, y: np.ndarray, strength: float) -> Fitted:
        """On these texts alone."""
        columns = np.arange(x.shape[1]) if self.n_columns is None else best_columns(x, y, self.n_columns)
        some = x[:, columns]
        spread = spreads(some)
        if self.n_columns == 1:  # its own activation is the score: nothing to fit but the sign
            return Fitted(columns, np.sign(differences(some, y)), strength)
        # Centered where that is cheap: the weights are the same, the intercept is not penalized, but far from 0 the solver hardly moves.
        mean = 0 if sparse.issparse(some) else some.mean(axis=0, dtype=np.float64)
        scaled = (some @ sparse.diags_array(1 / spread) if sparse.issparse(some) else (some - mean) / spread).astype(x.dtype)
        with catch_warnings():
            simplefilter("ignore", ConvergenceWarning)  # `is_converged` says it
            model = LogisticRegression(C=strength, class_weight="balanced", max_iter=MOST_STEPS).fit(scaled, y)
        return Fitted(columns, model.coef_[0] / spread, strength, bool(model.n_iter_.max() < MOST_STEPS))


def best_columns(x: Matrix, y: np.ndarray, n: int) -> np.ndarray:
    """The n columns whose means differ most between the classes, in standard deviations; of one, the best AUROC among fifty such."""
    order = np.argsort(-np.abs(differences(x, y)) / spreads(x), kind="stable")
    if n > 1:
        return np.sort(order[:n])
    some = order[:N_CANDIDATES]
    columns: Any = x[:, some]
    columns = columns.toarray() if sparse.issparse(columns) else columns
    worth = [abs(auroc(y, column) - 0.5) for column in columns.T]
    return some[[int(np.argmax(worth))]]


def differences(x: Matrix, y: np.ndarray) -> np.ndarray:
    """Mean of the positive less mean of the negative texts."""
    positive, negative = (np.asarray(x[which].mean(axis=0, dtype=np.float64)).ravel() for which in (y, ~y))
    return positive - negative


def spreads(x: Matrix) -> np.ndarray:
    """Standard deviations; 1 where a column is constant, so that it is left as it is. In float64: some models have a column whose mean is
    a thousand times its deviation, which is lost among squares of 24 bits."""
    wide = x.astype(np.float64)
    mean, squares = np.asarray(wide.mean(axis=0)).ravel(), np.asarray((wide * wide).mean(axis=0)).ravel()
    spread = np.sqrt(np.maximum(squares - mean**2, 0))
    return np.where(spread > 1e-6 * np.abs(mean).max(initial=1e-12), spread, 1.0)


def auroc(y: np.ndarray, scores: np.ndarray) -> float:
    """Of one set of texts."""
    return float(wins(y, scores).mean())


def wins(y: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """(n_positive, n_negative): 1 where the positive text scores higher, ½ where both score the same."""
    positive, negative = scores[y][:, None], scores[~y][None]
    return (positive > negative) + 0.5 * (positive == negative)


def parts(y: np.ndarray, n: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(texts to learn from, texts to judge) of each part, with both classes in all."""
    return list(StratifiedKFold(n, shuffle=True, random_state=seed).split(np.zeros(len(y)), y))


def chosen(pools: dict[str, Any], y: np.ndarray, choice: Choice, seed: int) -> tuple[str, Fitted]:
    """The way of pooling that does best in three parts of these texts at a middle strength, then the strength, fitted on all of them. The
    first of equals; strongest regularization first."""
    inner = parts(y, 3, seed)

    def worth(pool: str, strength: float) -> float:
        x = pools[pool]
        return float(np.mean([auroc(y[test], choice.fit(x[train], y[train], strength).scores(x[test])) for train, test in inner]))

    pool = max(pools, key=lambda each: round(worth(each, MIDDLE), 9))
    strength = MIDDLE if choice.n_columns == 1 else max(STRENGTHS, key=lambda each: round(worth(pool, each), 9))
    return pool, choice.fit(pools[pool], y, strength)


def drawn(y_of: Sequence[np.ndarray], scores_of: Sequence[np.ndarray], seed: int) -> np.ndarray:
    """(1 + N_DRAWS): the mean AUROC over parts as it is, then with the texts of each part and class drawn anew."""
    rng, total = np.random.default_rng(seed), np.zeros(1 + N_DRAWS)
    for y, scores in zip(y_of, scores_of, strict=True):
        n_positive, n_negative = int(y.sum()), int((~y).sum())
        weights = [np.concatenate([np.ones((1, n)), rng.multinomial(n, np.full(n, 1 / n), N_DRAWS)]) for n in (n_positive, n_negative)]
        total += ((weights[0] @ wins(y, scores)) * weights[1]).sum(1) / (n_positive * n_negative)
    return total / len(y_of)
