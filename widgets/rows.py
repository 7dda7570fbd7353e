"""A table too long to send: sorted, filtered and cut into pages with numpy, so that a browser only ever gets one page.

A query is words and conditions, all of which must hold:    lakers effect>0.1 pos=8 "x = 1"
A word is looked for in the text columns (any case) and compared with feature numbers; quotes make a word of anything.
"""

import difflib
import operator
import re

import numpy as np
import pandas as pd

_COMPARE = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt, "=": operator.eq}
_CONDITION = re.compile(r"([a-z_]+)(<=|>=|<|>|=)(.*)", re.IGNORECASE)


class QueryError(ValueError):
    """A query that cannot be read: says which part, and what it could be."""


class Rows:
    """A table as a page holds it: which columns are numbers, which are text; rows by place."""

    def __init__(self, table: pd.DataFrame):
        self.table = table.reset_index(drop=True)
        self.numeric = [name for name in table if pd.api.types.is_numeric_dtype(table[name])]
        self.text = [name for name in table if name not in self.numeric]
        self._values = {name: self.table[name].to_numpy(float, na_value=np.nan) for name in self.numeric}
        self._codes = {name: pd.factorize(self.table[name].fillna("").astype(str)) for name in self.text}  # search each different text once
        self._orders: dict[tuple[str, bool], np.ndarray] = {}
        self._ranks: dict[str, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.table)

    def order(self, by: str, is_descending: bool) -> np.ndarray:
        """Row numbers in order; equal values keep the table's order, missing ones come last either way."""
        if by not in self.table:
            raise QueryError(f"cannot sort by {by!r}{_nearest(by, list(self.table))}")
        if (by, is_descending) not in self._orders:
            values = self._values[by] if by in self.numeric else _text_ranks(*self._codes[by])
            self._orders[by, is_descending] = np.argsort(-values if is_descending else values, kind="stable")
        return self._orders[by, is_descending]

    def rank(self, by: str, row: int) -> int | None:
        """1 for the row with the largest value; None where the value is missing."""
        if by not in self._ranks:
            self._ranks[by] = np.empty(len(self), dtype=np.int64)
            self._ranks[by][self.order(by, is_descending=True)] = np.arange(1, len(self) + 1)
        return None if np.isnan(self._values[by][row]) else int(self._ranks[by][row])

    def largest(self, name: str) -> float:
        """The largest absolute value: what a bar of full length stands for."""
        return float(np.nanmax(np.abs(self._values[name]), initial=0.0))

    def matching(self, query: str) -> np.ndarray:
        """True for each row that meets every word and condition of the query. Raises QueryError."""
        matches = np.ones(len(self), dtype=bool)
        for term in re.findall(r'"[^"]*"|\S+', query):
            condition = _CONDITION.fullmatch(term)
            matches &= self._meets(*condition.groups()) if condition else self._contains(term.strip('"'))
        return matches

    def page(self, order: np.ndarray, matches: np.ndarray, number: int, size: int) -> tuple[np.ndarray, int]:
        """Row numbers on a page (0 is the first; past the end gives the last), and how many rows match in all."""
        found = order[matches[order]]
        first = min(number, max(0, (len(found) - 1) // size)) * size
        return found[first : first + size], len(found)

    def _meets(self, column: str, sign: str, bound: str) -> np.ndarray:
        if column.lower() not in self.numeric:
            raise QueryError(f"no numbers in {column!r}{_nearest(column, self.numeric)}")
        try:
            return _COMPARE[sign](self._values[column.lower()], float(bound))
        except ValueError:
            raise QueryError(f"{column}{sign} wants a number, not {bound!r}: for example {column}{sign}0.1") from None

    def _contains(self, word: str) -> np.ndarray:
        found = np.zeros(len(self), dtype=bool)
        for codes, texts in self._codes.values():
            found |= np.array([word.lower() in str(text).lower() for text in texts], dtype=bool)[codes]
        if word.isdecimal() and "feature" in self.numeric:
            found |= self._values["feature"] == float(word)
        return found


def _text_ranks(codes: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """Alphabetical, any case; empty texts last."""
    lowered = [str(text).strip().lower() for text in texts]
    places = {text: place for place, text in enumerate(sorted(set(lowered)))}
    return np.array([places[text] if text else np.nan for text in lowered], dtype=float)[codes]


def _nearest(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(names)}"
