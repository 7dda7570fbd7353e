"""How a measure is spread over a sample of features or neurons: the share that reaches each value, with its interval.

share(x) = #{value ≥ x} / n,   95 % of bootstrap samples of the same size between low and high, point by point
"""

import numpy as np
import pandas as pd

N_RESAMPLES = 1_000
N_POINTS = 41  # between 0 and 1


def reaching(values: np.ndarray, n: int = N_POINTS, *, seed: int = 0) -> pd.DataFrame:
    """x (n points from 0 to 1), share of the values that are at least x, low and high (95 %). Raises ValueError for values that are not
    between 0 and 1, and for fewer than two."""
    values = np.asarray(values, dtype=float).ravel()
    if len(values) < 2 or not np.all((values >= 0) & (values <= 1)):
        raise ValueError(
            f"{len(values)} values from {values.min(initial=1):.3g} to {values.max(initial=0):.3g}; expected two or more, from 0 to 1"
        )
    x = np.linspace(0, 1, n)
    is_reached = values[:, None] >= x - 1e-12
    drawn = np.random.default_rng(seed).integers(len(values), size=(N_RESAMPLES, len(values)))
    shares = is_reached[drawn].mean(1)
    low, high = np.quantile(shares, (0.025, 0.975), axis=0)
    return pd.DataFrame({"x": x, "share": is_reached.mean(0), "low": low, "high": high})
