"""A table of features that the page gets one page of: sorted, filtered and cut in Python, drawn by paged.js; all of it in a saved file.

class Mine(Paged):
    sort_by = traitlets.Enum(…).tag(sync=True)
    self._rows = Rows(table); self._cut()               which rows are looked at now, and the plain data that draws them
"""

from typing import Any, ClassVar

import pandas as pd
import traitlets

from widgets.html.ranking_data import plain
from widgets.panes.pane import STATIC, Pane
from widgets.rows import Rows
from workbench.files import spreadsheet

N_SAVED = 2_000  # rows in a saved file, the table's first


class Paged(Pane):
    """Which rows are looked at. What a row shows, a subclass says: `columns`, and `_rows` once there are some."""

    _offline = (STATIC / "shared/rows_offline.js", STATIC / "shared/paged_offline.js")
    columns: ClassVar[tuple[str, ...]] = ()  # of the table, that a page is sent

    sort_by = traitlets.Unicode().tag(sync=True)  # a subclass says of which columns
    is_descending = traitlets.Bool(True).tag(sync=True)
    query = traitlets.Unicode("").tag(sync=True)
    page = traitlets.Int(0, min=0).tag(sync=True)
    page_size = traitlets.Int(10, min=1).tag(sync=True)
    view = traitlets.Dict(read_only=True, help="one page of rows, what they are of, what to know first").tag(sync=True)
    csv = traitlets.Dict(read_only=True, help="all rows that match as CSV, when asked for: text, and the how many-th time").tag(sync=True)
    code = traitlets.Unicode(read_only=True, help="what computes the table in Python").tag(sync=True)

    _rows: Rows | None = None
    _found = pd.DataFrame()  # the rows that match, in their order

    def _cut(self) -> dict[str, Any]:
        """The page that is looked at. Raises QueryError, and goes on with the rows that matched before."""
        rows = self._rows
        assert rows is not None
        order = rows.order(self.sort_by, self.is_descending)
        self._found = found = rows.table.iloc[order[rows.matching(self.query)[order]]]
        first = min(self.page, max(0, (len(found) - 1) // self.page_size)) * self.page_size
        drawn = [self._drawn(row) for row in found.iloc[first : first + self.page_size].to_dict("records")]
        about = {"n_rows": len(rows), "n_matching": len(found), "first": first, "n_left_out": max(0, len(rows) - N_SAVED)}
        return {"rows": drawn, **about, "message": ""}

    def _drawn(self, row: dict[str, Any]) -> dict[str, Any]:
        return {name: plain(row[name]) for name in self.columns}

    def shown(self) -> tuple[pd.DataFrame, str]:
        """The page that is looked at, and which one that is, in words: for where no script runs."""
        found, first = self._found, self.view["first"]
        which = f"{min(first + 1, len(found)):,} to {min(first + self.page_size, len(found)):,} of {len(found):,}"
        way = "largest" if self.is_descending else "smallest"
        sieve = f" that match “{self.query}”" if self.query else ""
        return found.iloc[first : first + self.page_size], f"{which}{sieve}, the {way} {self.sort_by.replace('_', ', ')} first"

    def to_csv(self) -> str:
        """The rows that match, in their order; texts that a spreadsheet would take for formulas are quoted."""
        if self._rows is None:
            return ""
        return spreadsheet(self._found, ["label"])

    def offline(self) -> dict[str, Any]:
        """The rows, for a saved page to sort and filter."""
        if self._rows is None:
            return {}
        table = self._rows.table.head(N_SAVED)
        return {"rows": {name: [plain(value) for value in table[name]] for name in self.columns}, "numeric": self._rows.numeric}

    def _hear(self, _: Any, content: Any, buffers: Any) -> None:
        if isinstance(content, dict) and content.get("do") == "csv":
            if self._rows is not None:
                self.set_trait("csv", {"text": self.to_csv(), "n": self.csv.get("n", 0) + 1})
        elif hasattr(super(), "_hear"):
            super()._hear(_, content, buffers)  # pyright: ignore[reportAttributeAccessIssue] of a pane that works, too
