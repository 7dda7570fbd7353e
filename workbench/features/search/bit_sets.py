"""Sets of features as bits, 64 to a word: what is active on one prompt is 4 MB for 34 million features, and sets are combined at the rate
of memory.

    feature i is bit i & 63 of word i >> 6
"""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Int, UInt64
from numpy import ndarray

N_WORDS = 2**14  # at once: a hundred kilobytes for each set at hand stay in the processor's cache

Bits = UInt64[ndarray, "n_words"]


def bits_of(features: Int[ndarray, "_"], n: int) -> Bits:
    """The set of these of n features."""
    found, features = np.zeros(-(-n // 64), dtype=np.uint64), np.sort(features)
    if len(features):
        words = features >> 6
        starts = np.flatnonzero(np.append(True, np.diff(words) != 0))
        found[words[starts]] = np.bitwise_or.reduceat(np.uint64(1) << (features & 63).astype(np.uint64), starts)
    return found


def members(bits: Bits) -> Int[ndarray, "_"]:
    """The features in a set, ascending."""
    words = np.flatnonzero(bits)
    is_in = np.unpackbits(bits[words].view(np.uint8), bitorder="little").reshape(-1, 64)
    row, bit = np.nonzero(is_in)
    return words[row] * 64 + bit


def size(bits: Bits) -> int:
    """How many features are in it."""
    return int(np.bitwise_count(bits).sum(dtype=np.int64))


def all_of(n: int) -> Bits:
    """The set of all n features."""
    found = np.full(-(-n // 64), ~np.uint64(0))
    if n % 64:
        found[-1] = (np.uint64(1) << np.uint64(n % 64)) - np.uint64(1)
    return found


def without(kept: Bits, sets: Iterable[Bits]) -> Bits:
    """The features of `kept` that are in none of the sets."""
    words, found = np.flatnonzero(kept), np.zeros_like(kept)
    left = kept[words]
    for each in sets:
        left &= ~each[words]
    found[words] = left
    return found


def in_most(kept: Bits, sets: Sequence[Bits], n_missed: int) -> Bits:
    """The features of `kept` that are in all of the sets but at most n_missed.

    Each is in one of the first n_missed + 1 sets: only their words are looked at, thousands of half a million.
    missed[j] = those that j + 1 sets or more lack; a set after the other: missed[j] |= missed[j − 1] without the set.
    """
    if len(sets) <= n_missed:
        return kept.copy()
    likely = sets[0]
    for each in sets[1 : n_missed + 1]:
        likely = likely | each
    found = np.zeros_like(kept)
    words = np.flatnonzero(likely)
    for some in np.split(words, range(N_WORDS, len(words), N_WORDS)):
        missed = np.zeros((n_missed + 1, len(some)), dtype=np.uint64)
        for each in sets:
            lacks = ~each[some]
            missed[1:] |= missed[:-1] & lacks
            missed[0] |= lacks
        found[some] = kept[some] & ~missed[-1]
    return found
