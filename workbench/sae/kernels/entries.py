"""Products with a matrix of which few entries are known: feature activations, of which all but 64 in 16,384 are 0.

    dots               out[n]  = a[row_n] · b[feature_n]                 what a dense product a @ bᵀ would hold at the entries
    add_times          out += M @ weights                                decodes
    transposed_times   out = Mᵀ @ a + scales · weights                   gradients of a weight matrix, row by row

Here they are plain torch, for any device. On a CPU compiled loops take their place (cpu.py), on a CUDA device Triton kernels
where triton is installed (cuda.py): `fast(device)` gives the ones to use (fast.py). A test holds them equal.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Values = Float[Tensor, "n_entries"]
Rows = Float[Tensor, "batch d_in"]
Weights = Float[Tensor, "d_sae d_in"]

SLAB = 2**22  # numbers gathered at a time: 16 MB of each operand


@dataclass(frozen=True)
class Entries:
    """Places in a (batch, d_sae) matrix, ordered by feature, then by row: the rows of W_dec and W_enc are then read once, in order,
    and what is gathered at random is the batch, which fits into a cache."""

    rows: Int[Tensor, "n_entries"]
    features: Int[Tensor, "n_entries"]
    n_rows: int
    n_features: int

    @cached_property
    def counts(self) -> Int[Tensor, "d_sae"]:
        """How many entries each feature has."""
        return torch.bincount(self.features, minlength=self.n_features)

    @cached_property
    def starts(self) -> Int[Tensor, "d_sae_plus_1"]:
        """The entries of feature i are starts[i] to starts[i + 1]."""
        return torch.cat([self.counts.new_zeros(1), self.counts.cumsum(0)])

    def at(self, which: Bool[Tensor, "n_entries"]) -> "Entries":
        """Some of the entries, in the same order."""
        places = which.nonzero()[:, 0]
        return Entries(self.rows[places], self.features[places], self.n_rows, self.n_features)

    def between(self, first: int, last: int) -> tuple["Entries", slice]:
        """The entries of features first to last - 1, these numbered from 0, and where their values stand."""
        if (first, last) == (0, self.n_features):
            return self, slice(None)
        where = slice(*self.starts[[first, last]].tolist())
        return Entries(self.rows[where], self.features[where] - first, self.n_rows, last - first), where

    def per_feature(self, values: Values) -> Float[Tensor, "d_sae"]:
        """Sums of the values of each feature, each in one order, also on a GPU."""
        return torch.segment_reduce(values, "sum", lengths=self.counts, initial=0.0, unsafe=True)  # counts are right: no wait to check them


def dots(entries: Entries, a: Rows, b: Weights) -> Values:
    """out[n] = a[row_n] · b[feature_n], gathered a slab at a time."""
    # all at once would copy two rows for each entry: 400 MB where 64 features are active on each of 1,024 rows of 768
    n_at_once = max(1, SLAB // a.shape[1])
    slabs = zip(entries.rows.split(n_at_once), entries.features.split(n_at_once), strict=True)
    return torch.cat([(a[rows] * b[features]).sum(1) for rows, features in slabs])


def add_times(entries: Entries, values: Values, weights: Weights, out: Rows) -> None:
    """out += M @ weights, in place: M (n_rows, n_features) holds the values at the entries."""
    at = torch.stack([entries.rows, entries.features])
    # unchecked: Entries are in order and in range by construction, and the check reads them all
    out += torch.sparse_coo_tensor(at, values, (entries.n_rows, entries.n_features), check_invariants=False) @ weights


def transposed_times(entries: Entries, values: Values, a: Rows, scales: Float[Tensor, "d_sae"], weights: Weights, out: Weights) -> None:
    """out = Mᵀ @ a + scales[:, None] · weights, written into out."""
    at = torch.stack([entries.features, entries.rows])
    matrix = torch.sparse_coo_tensor(at, values, (entries.n_features, entries.n_rows), check_invariants=False)
    torch.mul(scales[:, None], weights, out=out).add_(matrix @ a)
