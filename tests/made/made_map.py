"""A map of features made of plain numbers: four clusters of two dictionaries, each cluster with a name of its own."""

import numpy as np
import pandas as pd

NAMES = ("California", "Lakers", "asked for a capital", "Zinc")
CORNERS = np.array([[-5.0, -5.0], [5.0, -5.0], [-5.0, 5.0], [5.0, 5.0]])


def made_map(n: int = 200, seed: int = 0) -> pd.DataFrame:
    """Feature i is in cluster i % 4; even features are of 1k, odd pairs of 4k."""
    rng, features = np.random.default_rng(seed), np.arange(n)
    xy = CORNERS[features % 4] + rng.normal(0, 0.4, (n, 2))
    columns = dict(sae=np.where(features % 8 < 4, "1k", "4k"), feature=features, x=xy[:, 0], y=xy[:, 1], cluster=features % 4)
    labels = [NAMES[i % 4] if i % 3 else "" for i in features]
    return pd.DataFrame({**columns, "density": 10 ** rng.uniform(-5, -1, n), "label": labels})
