"""A power law y = scale · compute^exponent through a few optima, with intervals.

A straight line in logarithms by least squares. Its intervals come from a studentized bootstrap (Efron and Tibshirani, "An introduction to
the bootstrap", 12.5): residuals are drawn anew, and each line's error is measured in its own standard error. With the six to ten points
that a sweep gives, plain percentiles would be too narrow; these cover the truth as often as they say (a test counts).
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

LEVEL = 0.9  # of every interval
N_DRAWS = 2000
FEWEST = 4  # points; the residuals of three say next to nothing of the error


@dataclass(frozen=True)
class Interval:
    """A fitted value with its interval of LEVEL."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3g} ({self.low:.3g} to {self.high:.3g})"


@dataclass(frozen=True)
class _Line:
    """y = height + slope · (x − mean), with the residuals' standard deviation: one line, or an array of many."""

    slope: np.ndarray | np.float64
    height: np.ndarray | np.float64
    deviation: np.ndarray | np.float64


@dataclass(frozen=True, eq=False)
class PowerLaw:
    """name = scale · compute^exponent, fitted to (compute, y). Raises ValueError for fewer than four points."""

    name: str
    compute: np.ndarray
    y: np.ndarray

    def __post_init__(self):
        if len(self.y) < FEWEST or len(set(self.compute)) < FEWEST:
            raise ValueError(f"a power law of {self.name} needs {FEWEST} optima at different compute, not {len(self.y)}: widen the grid")

    @property
    def exponent(self) -> Interval:
        """How fast `name` grows or falls."""
        low, high = np.quantile(self._slope_errors, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        error = self._line.deviation / math.sqrt(self._spread)
        return Interval(float(self._line.slope), float(self._line.slope - high * error), float(self._line.slope - low * error))

    @property
    def scale(self) -> float:
        """What the line gives at a compute of 1, in the units of y."""
        return math.exp(float(self._line.height - self._line.slope * self._x.mean()))

    def at(self, compute: float) -> Interval:
        """The value to expect from one new optimum at `compute`, its own scatter included: inside the fit or, wider and wider, beyond."""
        x = math.log(compute) - self._x.mean()
        lines, draws = self._drawn
        reach = math.sqrt(1 + 1 / len(self.y) + x * x / self._spread)
        errors = (lines.height + lines.slope * x - (self._line.height + self._line.slope * x) - draws[:, -1]) / (lines.deviation * reach)
        low, high = np.quantile(errors, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        middle, error = float(self._line.height + self._line.slope * x), float(self._line.deviation) * reach
        return Interval(math.exp(middle), math.exp(middle - high * error), math.exp(middle - low * error))

    @cached_property
    def _x(self) -> np.ndarray:
        return np.log(np.asarray(self.compute, dtype=float))

    @cached_property
    def _spread(self) -> float:
        return float(np.square(self._x - self._x.mean()).sum())

    @cached_property
    def _line(self) -> _Line:
        return self._through(np.log(np.asarray(self.y, dtype=float)))

    @cached_property
    def _drawn(self) -> tuple[_Line, np.ndarray]:
        """Lines through points whose residuals are drawn anew, and the residuals (N_DRAWS, n_points + 1): the last is for a new point."""
        x = self._x - self._x.mean()
        fitted = self._line.height + self._line.slope * x
        leverage = 1 / len(x) + x * x / self._spread
        residuals = (np.log(np.asarray(self.y, dtype=float)) - fitted) / np.sqrt(1 - leverage)
        residuals -= residuals.mean()
        draws = np.random.default_rng(0).choice(residuals, size=(N_DRAWS, len(x) + 1))
        return self._through(fitted + draws[:, :-1]), draws

    @property
    def _slope_errors(self) -> np.ndarray | np.float64:
        lines, _ = self._drawn
        return (lines.slope - self._line.slope) * math.sqrt(self._spread) / lines.deviation

    def _through(self, y: np.ndarray) -> _Line:
        """Least squares along the last axis."""
        x = self._x - self._x.mean()
        slope, height = y @ x / self._spread, y.mean(-1)
        residuals = y - height[..., None] - slope[..., None] * x
        deviation = np.sqrt(np.square(residuals).sum(-1) / max(1, len(x) - 2))
        return _Line(slope, height, np.maximum(deviation, 1e-12))
