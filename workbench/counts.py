"""Whole numbers as people give them: Python's own, NumPy's out of a table, a tensor of one number. True, 2.5 and "3" are none.

`ranking.table` holds NumPy's integers, of which none is an `int`: what takes an `int` only refuses them, or takes them for something else.
"""

import operator
from typing import Any


def whole(value: Any) -> int | None:
    """As an int; None for what is no whole number."""
    if isinstance(value, bool) or "bool" in str(getattr(value, "dtype", "")):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def counted(value: Any, name: str, of: str) -> int:
    """How many of something, 1 or more. Raises ValueError, in a sentence, for what is no such number."""
    n = whole(value)
    if n is None or n < 1:
        asks = f"asks for no {of}" if n is not None else f"is no number of {of}s"
        raise ValueError(f"{name}={value!r} {asks}: expected a whole number, at least 1")
    return n


def on_prompt(pos: Any, n_pos: int) -> int:
    """A position of a prompt of so many tokens, the start token counted. Raises ValueError for what is none."""
    at = whole(pos)
    if at is None or not 0 <= at < n_pos:
        raise ValueError(f"position {pos!r} is not on this prompt: expected 0 (the start token) to {n_pos - 1}")
    return at
