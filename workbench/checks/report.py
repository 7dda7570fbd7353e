"""What a check found, a row each, and how it shows itself: verdict, figure, and what it means.

ok        as it should be
note      right, but something to know
warning   numbers may mislead: do what the row says, or know why not
error     this does not work, or gives wrong numbers
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import pandas as pd

from workbench.files import checked_file, write_text

WIDTH, INDENT = 118, 4  # of repr


class Verdict(StrEnum):
    """From the best to the worst."""

    ok = "ok"
    note = "note"
    warning = "warning"
    error = "error"


@dataclass(frozen=True)
class Finding:
    """What one check says."""

    verdict: Verdict
    figure: str
    meaning: str  # one sentence or two: what the figure means, and what to do about it

    def __post_init__(self):
        assert self.meaning, f"{self.figure!r} is shown without a word on what it means"


@dataclass(frozen=True, repr=False, eq=False)
class CheckReport:
    """`table`: one row a check, with the columns check, verdict, figure and meaning."""

    table: pd.DataFrame
    name: str = ""  # the model, as it was called

    @classmethod
    def of(cls, found: Sequence[tuple[str, Finding]], name: str) -> "CheckReport":
        """From (what was checked, what was found)."""
        rows = [(check, str(each.verdict), each.figure, each.meaning) for check, each in found]
        return cls(pd.DataFrame(rows, columns=["check", "verdict", "figure", "meaning"]), name)

    @property
    def verdict(self) -> Verdict:
        """The worst of the rows."""
        order = list(Verdict)
        return max((Verdict(each) for each in self.table["verdict"]), key=order.index)

    def to_html(self, path: str | Path) -> Path:
        """Write the table as one page that needs nothing else: no network, no scripts."""
        from widgets.html.evaluate import check_page

        path = checked_file(path)
        write_text(path, check_page(self))
        return path

    def summary(self) -> str:
        """How many rows have which verdict, the worst first: "1 warning, 2 notes, 8 ok"."""
        counts = {each: int((self.table["verdict"] == each).sum()) for each in reversed(Verdict)}
        plural = {each: "s" if n > 1 and each != Verdict.ok else "" for each, n in counts.items()}
        return ", ".join(f"{n} {each}{plural[each]}" for each, n in counts.items() if n)

    def _repr_html_(self) -> str:
        from widgets.html.evaluate import check_html

        return check_html(self)

    def __repr__(self) -> str:
        lines = [f"CheckReport of {self.name}: {self.summary()}"]
        for row in self.table.itertuples():
            lines.append(f"  {row.verdict:<8} {row.check}: {row.figure}".rstrip(": "))
            lines += textwrap.wrap(str(row.meaning), WIDTH - INDENT, initial_indent=" " * 11, subsequent_indent=" " * 11)
        return "\n".join(lines)
