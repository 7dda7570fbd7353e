"""Runs of a sweep that was never made: their optima follow power laws that are known."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

PLANTED = {"loss": -0.12, "n_features": 0.65, "n_steps": 0.35, "lr": -0.2}
COMMON = dict(seed=0, model_name="made", hook_name="blocks.0.hook_resid_pre", d_in=16, batch=64, l1=5.0, fvu=0.1, l0=4.0, dead=0.0)
PRODUCTS = [2**n for n in range(12, 21)]
WIDTHS = [2**n for n in range(3, 16)]
LRS = [1e-4 * 2**n for n in range(10)]


def planted_runs(noise: float = 0.0, seed: int = 0, widths: Sequence[int] = WIDTHS, lrs: Sequence[float] = LRS) -> pd.DataFrame:
    """Runs whose optima follow PLANTED exactly, in valleys that are parabolas in logarithms; noise on each run's loss."""
    rng, rows = np.random.default_rng(seed), []
    for product in PRODUCTS:
        grown = product / 2**12
        best_n, best_lr, lowest = 64 * grown**0.65, 1e-2 * grown**-0.2, 40 * grown**-0.12
        for width in (width for width in widths if width <= product):
            for lr in lrs:
                above = 0.02 * np.log(width / best_n) ** 2 + 0.03 * np.log(lr / best_lr) ** 2
                loss = lowest * np.exp(above + noise * rng.standard_normal())
                rows.append(dict(n_features=width, n_steps=product // width, lr=lr, loss=loss, **COMMON))
    return pd.DataFrame(rows)
