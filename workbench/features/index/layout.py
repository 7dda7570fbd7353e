"""How what an index keeps of a feature is laid out: bins, intervals, windows, numbers of rows; for who builds one and who reads it."""

from typing import Any

import numpy as np

N_BINS, N_INTERVALS = 64, 16  # powers of two: merging halves them; 2^e is up to twice the maximum, so 8 to 16 intervals are in use
TOP = -1  # stands where an interval's number would: the window is one of the largest
BEFORE, AFTER = 20, 11  # tokens around the activation: a causal model's reasons stand before it
PART_BITS = 20  # a row's number is text << PART_BITS | which part of the text it is: a million parts, 8 · 10¹² texts in an int64
RANGE = 1024  # features summarized at once; ten bits in the sort keys below


def bin_width(max_act: Any) -> Any:
    """2^e / 64, with max_act (a number or an array of them) in [2^(e − 1), 2^e)."""
    return np.ldexp(1.0, np.frexp(max_act)[1]) / N_BINS


def interval_of(act: np.ndarray, max_act: np.ndarray) -> np.ndarray:
    """0 to 15: the interval of each activation, of features with these maxima; the highest for what lies above, and for any activation of
    a feature that never had one."""
    share = np.where(max_act > 0, np.ldexp(act.astype(np.float64), -np.frexp(max_act)[1]), act > 0)
    return (share * N_INTERVALS).astype(np.int64).clip(max=N_INTERVALS - 1)
