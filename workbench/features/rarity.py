"""How rare an activation is in the texts of an index: how many tokens have one as large.

    bits = −log2((tokens at least as active + 1) / (tokens of the corpus + 1))

From the features' histograms: within a bin activations are taken to lie evenly.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from workbench.features.bit_sets import Bits, bits_of
from workbench.features.windows import N_BINS, bin_width

if TYPE_CHECKING:
    from workbench.features.index import FeatureIndex


@dataclass(frozen=True, eq=False)
class Rarity:
    """All features of one SAE in the texts of an index. Histograms are read for the features that are asked about."""

    n_tokens: int
    density: Float[ndarray, "d_sae"]  # share of the tokens that each feature is active on
    max_act: Float[ndarray, "d_sae"]
    histograms: Callable[[Int[ndarray, "n"]], Int[ndarray, "n n_bins"]]

    @classmethod
    def of(cls, index: "FeatureIndex") -> "Rarity":
        known = index.sql("SELECT density, max_act FROM features WHERE sae = ? ORDER BY feature", index.sae_name)

        def histograms(features: np.ndarray) -> np.ndarray:
            query = "SELECT feature, histogram FROM features WHERE sae = ? AND feature IN (SELECT unnest(?::INTEGER[]))"
            rows = index.sql(query, index.sae_name, features.tolist()).set_index("feature")["histogram"]
            return np.stack(rows.loc[features].tolist()) if len(features) else np.zeros((0, N_BINS), dtype=np.int64)

        return cls(index.manifest["n_tokens"], known["density"].to_numpy(), known["max_act"].to_numpy(), histograms)

    def dense(self, max_density: float) -> Bits:
        """The features that are active on more than this share of the tokens."""
        return bits_of(np.flatnonzero(self.density > max_density), len(self.density))

    def bits(self, features: Int[ndarray, "n"], level: Float[ndarray, "n"]) -> Float[ndarray, "n"]:
        """How rare it is that each of these features is at least as active as its level; 0 for a level of 0."""
        counts = self.histograms(features)
        above = np.concatenate([counts[:, ::-1].cumsum(1)[:, ::-1], np.zeros((len(counts), 1), dtype=counts.dtype)], axis=1)
        place = np.clip(level / bin_width(np.maximum(self.max_act[features], 1e-30)), 0, N_BINS)
        inside, row = np.minimum(place.astype(np.int64), N_BINS - 1), np.arange(len(counts))
        n_above = above[row, inside + 1] + (1 - np.minimum(place - inside, 1)) * counts[row, inside]
        return np.where(level > 0, -np.log2((n_above + 1) / (self.n_tokens + 1)), 0.0)
