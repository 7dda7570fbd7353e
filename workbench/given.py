"""What people give, as what it is: whole numbers, Python's, NumPy's or a tensor of one number; lists of prompts, which no table is.

`ranking.table` holds NumPy's integers, of which none is an `int`: what takes an `int` only refuses them, or takes them for something else.
Who iterates over a table of prompts reads the names of its columns.
"""

import operator
from collections.abc import Mapping
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


def no_table(prompts: Any, what: str) -> Any:
    """The same. Raises ValueError for a table or a mapping: read one by one, its names would be the prompts."""
    if isinstance(prompts, Mapping) or hasattr(prompts, "columns"):
        names = ", ".join(repr(name) for name in list(getattr(prompts, "columns", prompts))[:4])
        raise ValueError(f"the {what} are a {type(prompts).__name__} of {names}: expected a list of them, such as one of its columns")
    return prompts
