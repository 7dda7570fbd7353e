"""How rare an activation is in the texts of an index: how many of them have one as large.

    bits = −log2((texts in which the feature is at least as active + 1) / (texts + 1))

Of the texts whose peaks the index holds, to a sixteenth of the feature's range; activations in the lowest sixteenth count as none.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy import sparse

from workbench.features.index.index import FeatureIndex
from workbench.features.index.layout import N_INTERVALS, interval_of
from workbench.features.index.manifest import reading
from workbench.features.search.bit_sets import Bits, bits_of
from workbench.features.search.codes import Peaks


@dataclass(frozen=True, eq=False)
class Rarity:
    """All features of one SAE in the texts of an index."""

    density: Float[ndarray, "d_sae"]  # share of the tokens that each feature is active on
    max_act: Float[ndarray, "d_sae"]
    by_text: sparse.csc_array  # (n_texts, d_sae): 1 to 15, the interval of each feature's peak in each text

    @classmethod
    def of(cls, index: FeatureIndex) -> "Rarity":
        """Read from an index, of the SAE that it is seen through."""
        features = index.sql("SELECT density, max_act FROM features WHERE sae = ? ORDER BY feature", index.sae_name)
        peaks = index.sql("SELECT texts, intervals FROM peaks WHERE sae = ? ORDER BY feature", index.sae_name)
        with reading(index.folder / "peaks*"):
            ends = np.append(0, np.cumsum(peaks["texts"].map(len)))
            texts, intervals = (np.concatenate(peaks[name].tolist()) for name in ("texts", "intervals"))
            by_text = sparse.csc_array((intervals, texts, ends), shape=(index.manifest["n_rows_with_peaks"], len(features)))
        return cls(features["density"].to_numpy(), features["max_act"].to_numpy(), by_text)

    @property
    def n_texts(self) -> int:
        """Those whose peaks the index holds."""
        return self.by_text.shape[0]

    def dense(self, max_density: float) -> Bits:
        """The features that are active on more than this share of the tokens."""
        return bits_of(np.flatnonzero(self.density > max_density), len(self.density))

    def intervals(self, features: Int[ndarray, "..."], level: Float[ndarray, "..."]) -> Int[ndarray, "..."]:
        """Of activations as large as level, of features of that shape or one that broadcasts to it."""
        return interval_of(level, self.max_act[features])

    def summed(self, features: Int[ndarray, "n"], weights: Float[ndarray, "n_texts"] | None = None) -> Float[ndarray, "n n_intervals"]:
        """How many texts have a peak in each interval or a higher one, of each of these features; or the sum of their weights."""
        some = self.by_text[:, features]
        place = np.repeat(np.arange(len(features)), np.diff(some.indptr)) * N_INTERVALS + some.data
        of_texts = None if weights is None else weights[some.indices]
        counts = np.bincount(place, of_texts, minlength=len(features) * N_INTERVALS).reshape(-1, N_INTERVALS)
        return counts[:, ::-1].cumsum(1)[:, ::-1].astype(np.float64)

    @cached_property
    def bits_of_interval(self) -> Float[ndarray, "d_sae n_intervals"]:
        """How rare it is that a feature's peak lies in an interval or a higher one; 0 for the lowest."""
        n_above = self.summed(np.arange(len(self.max_act)))
        return np.where(np.arange(N_INTERVALS) > 0, -np.log2((n_above + 1) / (self.n_texts + 1)), 0.0)

    def of_texts(self, features: Int[ndarray, "n"]) -> sparse.csc_array:
        """(n_texts, n): the bits of these features' peaks."""
        some = self.by_text[:, features]
        data = self.bits_of_interval[np.repeat(features, np.diff(some.indptr)), some.data]
        return sparse.csc_array((data, some.indices, some.indptr), shape=some.shape)

    def of_prompts(self, peaks: Peaks, n_prompts: int, features: Int[ndarray, "n"]) -> Float[ndarray, "n_prompts n"]:
        """The same of prompts; features ascend."""
        return self.bits(features, peaks.of(features, n_prompts).T).T

    def bits(self, features: Int[ndarray, "n"], level: Float[ndarray, "n n_prompts"]) -> Float[ndarray, "n n_prompts"]:
        """How rare it is that each of these features is at least as active as its levels; 0 for one in the lowest interval."""
        return np.take_along_axis(self.bits_of_interval[features], self.intervals(features[:, None], level), axis=1)
