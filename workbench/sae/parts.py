"""Feature activations of many rows, a part of the rows at a time: thousands of tokens × 131,072 features are gigabytes, what is active of
them megabytes.

    x → some rows of it → feature_acts of these → what is kept of them; the next rows

To the last bit what `encode` of all rows together gives: a product's row does not depend on the others, as long as there are a few of
them. BatchTopK compares all rows: a first pass over the parts finds the least activation that it lets through.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.sae.dictionary import Dictionary
from workbench.shapes import FeatureActs

N_ACTS = 2**25  # feature activations at once: 128 MB, twice while they are selected
FEWEST_ROWS = 16  # … but so many rows: products of one or two are summed in another order

T = TypeVar("T")


class Active(NamedTuple):
    """The entries above 0, by row, then feature."""

    pairs: Int[Tensor, "n_pairs 2"]  # (row, feature)
    acts: Float[Tensor, "n_pairs"]


def in_parts(sae: Dictionary, x: Float[Tensor, "n_rows d_in"], keep: Callable[[int, FeatureActs], T]) -> list[T]:
    """[keep(first row, feature_acts of some rows), …]. What keep does not return is gone before the next rows are encoded."""
    n = n_parts(sae.cfg.d_sae, len(x))
    if n == 1:
        return [keep(0, sae.encode(x))]
    found, least, first = [], _least(sae, x, n), 0
    for rows in x.tensor_split(n):
        found.append(keep(first, sae.encode(rows) if least is None else _from(sae.pre_acts(rows), least)))
        first += len(rows)
    return found


def active(sae: Dictionary, x: Float[Tensor, "n_rows d_in"], each: Callable[[int, int], None] = lambda n_active, n_rows: None) -> Active:
    """Every active (row, feature). each(n_active, n_rows): told after each part how many pairs the rows so far have."""
    n_active = 0

    def keep(first: int, feature_acts: FeatureActs) -> Active:
        nonlocal n_active
        n_active += len((found := entries(first, feature_acts)).pairs)
        each(n_active, first + len(feature_acts))
        return found

    return joined(in_parts(sae, x, keep))


def entries(first: int, feature_acts: FeatureActs) -> Active:
    """The active ones of some rows, which begin at row `first`."""
    pairs = feature_acts.nonzero()
    acts = feature_acts[pairs[:, 0], pairs[:, 1]]
    pairs[:, 0] += first
    return Active(pairs, acts)


def joined(parts: Sequence[Active]) -> Active:
    """Those of several parts, one after the other."""
    pairs, acts = zip(*parts, strict=True)
    return parts[0] if len(parts) == 1 else Active(torch.cat(pairs), torch.cat(acts))


def acts_at(sae: Dictionary, x: Float[Tensor, "n_rows d_in"], pairs: Int[Tensor, "n_pairs 2"]) -> Float[Tensor, "n_pairs"]:
    """The activation of each (row, feature), in any order; 0 where it is not active."""
    found = x.new_zeros(len(pairs))

    def keep(first: int, feature_acts: FeatureActs) -> None:
        here = ((pairs[:, 0] >= first) & (pairs[:, 0] < first + len(feature_acts))).nonzero()[:, 0]
        found[here] = feature_acts[pairs[here, 0] - first, pairs[here, 1]]

    in_parts(sae, x, keep)
    return found


def encoding_bytes(sae: Dictionary, n_rows: int) -> int:
    """What one part takes at its peak: pre-activations, and what is selected of them."""
    return 2 * -(-n_rows // n_parts(sae.cfg.d_sae, n_rows)) * sae.cfg.d_sae * sae.W_enc.element_size()


def pairs_of(sae: Dictionary, n_rows: int) -> int | None:
    """How many pairs n_rows may activate at most, where the architecture says so."""
    return None if sae.cfg.k is None else sae.cfg.k * n_rows


def n_parts(d_sae: int, n_rows: int) -> int:
    """Of equal size, as few as N_ACTS allows."""
    return max(1, min(-(-n_rows * d_sae // N_ACTS), n_rows // FEWEST_ROWS))


def _least(sae: Dictionary, x: Tensor, n_parts: int) -> Tensor | None:
    """The smallest pre-activation among the k · n_rows largest of BatchTopK."""
    if sae.cfg.architecture != "batchtopk":
        return None
    assert sae.cfg.k is not None
    best, n = x.new_empty(0), sae.cfg.k * len(x)
    for rows in x.tensor_split(n_parts):
        best = torch.cat([best, sae.pre_acts(rows).flatten()])
        best = best.topk(min(n, len(best)), sorted=False).values
    return best.min()


def _from(pre_acts: FeatureActs, least: Tensor) -> FeatureActs:
    return torch.relu(pre_acts).masked_fill_(pre_acts < least, 0.0)
