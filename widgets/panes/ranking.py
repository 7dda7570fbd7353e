"""The live table of a ranking: sort, filter, page, choose a feature and see where it acts and what it means; the same rows as ranks in
three orders, and as effect against attribution.

    RankingTable(ranking)                                          rows only
    RankingTable(ranking, examples=bench.examples)                 with the chosen feature's strongest texts

The traits are the state: `table.feature` is the chosen feature, `table.query = "lakers effect>0.1"` filters, `table.ranking = other` shows
another one. Python computes with numpy and sends one page; ranking.js draws.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import traitlets

from widgets.html.ranking import ORDERS, STATIC, detail_html, page_rows, rows_html
from widgets.html.ranking_data import digits_of, feature_detail, picture, plain, question_of
from widgets.panes.pane import Pane, module, style
from widgets.rows import QueryError, Rows
from workbench.files import spreadsheet

PAIR_COLUMNS = (("feature", "integer"), ("label", "text"), ("token", "token"), ("pos", "integer"))
SUMMED_COLUMNS = (("feature", "integer"), ("label", "text"), ("n_pos", "integer"))
TITLES = {"n_pos": "positions"}
VIEWS = ("table", "ranks", "agreement")


class RankedRows:
    """One ranking's rows as the table asks for them: (feature, position) pairs, or features summed when they are first asked for."""

    def __init__(self, ranking: Any):
        self.ranking = ranking
        self._found: dict[tuple, np.ndarray] = {}

    @cached_property
    def pairs(self) -> Rows:
        """A row per (feature, position)."""
        return Rows(self.ranking.table)

    @cached_property
    def summed(self) -> Rows:
        """A row per feature."""
        return Rows(self.ranking.by_feature())

    def found(self, rows: Rows, sort_by: str, is_descending: bool, query: str) -> np.ndarray:
        """The matching rows in order; kept, so that turning a page or choosing a row of a million costs nothing."""
        asked = (rows is self.pairs, sort_by, is_descending, query)
        if asked not in self._found:
            order, matches = rows.order(sort_by, is_descending), rows.matching(query)
            self._found = {asked: order[matches[order]]}
        return self._found[asked]


class RankingTable(Pane):
    """A ranking that sorts, filters and scrolls, however long; a click chooses a feature."""

    _esm = module("shared/copy", "shared/picture", "ranking/ranking_views", "ranking/ranking")
    _css = style("ranking/ranking")
    _offline = (STATIC / "shared/rows_offline.js", STATIC / "ranking/ranking_offline.js")

    ranking = traitlets.Any(None, help="a FeatureRanking, or None")
    sort_by = traitlets.Unicode("effect").tag(sync=True)
    is_descending = traitlets.Bool(True).tag(sync=True)
    query = traitlets.Unicode("").tag(sync=True)
    page = traitlets.Int(0, min=0).tag(sync=True)
    page_size = traitlets.Int(12, min=1).tag(sync=True)
    is_summed = traitlets.Bool(False, help="one row per feature, summed over positions").tag(sync=True)
    shows = traitlets.Enum(VIEWS, "table", help="rows, ranks in three orders, or effect against the cheap orders").tag(sync=True)
    view = traitlets.Dict(read_only=True).tag(sync=True)  # what is drawn: one page of rows
    detail = traitlets.Dict(read_only=True).tag(sync=True)  # what is drawn of the chosen feature
    chosen = traitlets.Int(None, allow_none=True, read_only=True).tag(sync=True)  # its place among the rows; None: not active, or hidden
    picture = traitlets.Dict(read_only=True).tag(sync=True)  # what is drawn where `shows` is no table
    question = traitlets.Dict(read_only=True).tag(sync=True)  # answer, baseline, metric, caveat, notes: what the numbers are of
    pair = traitlets.List(help="the row that was chosen: feature, position; empty where none was").tag(sync=True)
    marked = traitlets.List(traitlets.List(traitlets.Int()), help="[feature, position] of rows that are marked").tag(sync=True)
    csv = traitlets.Dict(read_only=True, help="all rows that match as CSV, when asked for: text, and the how many-th time").tag(sync=True)
    stale = traitlets.Unicode("", help="whose rows these are, where another question is being typed").tag(sync=True)

    kept = ("sort_by", "is_descending", "query", "page_size", "is_summed", "shows", "page", "feature", "pair")
    maker = "RankingTable(ranking)"

    def __init__(self, ranking: Any = None, examples: Callable[[int], Sequence[Any]] | None = None, **traits: Any):
        """`ranking`: a FeatureRanking. `examples`: feature → examples, each with `str_tokens` and `activations`, strongest first."""
        self._rows, self._examples = RankedRows(ranking), examples
        super().__init__(ranking=ranking, **traits)
        self._show_ranking()
        self.on_msg(self._hear)

    def _hear(self, _: Any, content: Any, buffers: Any) -> None:
        if isinstance(content, dict) and content.get("do") == "csv" and self.view:
            self.set_trait("csv", {"text": self.to_csv(), "n": self.csv.get("n", 0) + 1})

    def to_csv(self) -> str:
        """The rows that match, in their order, all of them; texts that a spreadsheet would take for formulas are quoted."""
        return spreadsheet(self.rows.table.iloc[self._found()], self.rows.text)

    @property
    def rows(self) -> Rows:
        """Those that are shown."""
        return self._rows.summed if self.is_summed else self._rows.pairs

    @traitlets.observe("ranking")
    def _show_ranking(self, change: Any = None) -> None:
        self._rows = RankedRows(self.ranking)
        self.set_trait("question", {} if self.ranking is None else question_of(self.ranking))
        self._show_page()
        self._show_feature()
        self._show_picture()

    @traitlets.observe("sort_by", "is_descending", "query", "page", "page_size", "is_summed")
    def _show_page(self, change: Any = None) -> None:
        self.set_trait("view", {} if self.ranking is None else {**self.view, **self._page()})
        self._show_place()

    @traitlets.observe("feature")
    def _show_feature(self, change: Any = None) -> None:
        shown = {}
        if self.feature is not None and self.ranking is not None:
            shown = feature_detail(self.ranking, self._rows.summed, self.feature, self._examples)
        self.set_trait("detail", shown)
        self._show_place()

    @traitlets.observe("shows")
    def _show_picture(self, change: Any = None) -> None:
        self.set_trait("picture", {} if self.ranking is None or self.shows == "table" else picture(self.ranking, self.shows))

    def _found(self) -> np.ndarray:
        by = self.sort_by if self.sort_by in self.rows.table else "effect"
        return self._rows.found(self.rows, by, self.is_descending, self.query)

    def _page(self) -> dict[str, Any]:
        """One page as plain data; an unreadable query leaves the page as it was and says why."""
        rows = self.rows
        try:
            found = self._found()
        except QueryError as error:
            return {"message": str(error)}
        first = min(self.page, max(0, (len(found) - 1) // self.page_size)) * self.page_size
        columns = [*(SUMMED_COLUMNS if self.is_summed else PAIR_COLUMNS), *[(name, "measure") for name in ORDERS]]
        return {
            "columns": [{"name": name, "title": TITLES.get(name, name), "kind": kind} for name, kind in columns],
            "rows": [_row(rows, int(i), [name for name, _ in columns]) for i in found[first : first + self.page_size]],
            "scales": {name: rows.largest(name) for name in ORDERS},
            "digits": digits_of({name: rows.largest(name) for name in ORDERS}),
            "n_rows": len(rows),
            "n_matching": len(found),
            "first": first,
            "unit": "features" if self.is_summed else "(feature, position) pairs",
            "message": "",
            "n_left_out": 0,
        }

    def _show_place(self) -> None:
        """Where among the matching rows the chosen feature comes first; None where it is not active, or a filter hides it."""
        if not self.view or self.view["message"]:
            return
        places = np.flatnonzero(self.rows.table["feature"].to_numpy()[self._found()] == self.feature)
        self.set_trait("chosen", int(places[0]) if len(places) else None)

    def offline(self) -> dict[str, Any]:
        """What a saved page needs to sort, filter and choose without Python."""
        if self.ranking is None:
            return {}
        return {**page_rows(self.ranking), "pictures": {name: picture(self.ranking, name) for name in VIEWS[1:]}}

    def static_html(self) -> str:
        return "".join([rows_html(self.view), detail_html(self.detail)]) if self.view else "<p>No prompt was ranked yet.</p>"

    def __repr__(self) -> str:
        if self.ranking is None:
            return "RankingTable: no ranking"
        chosen = "no feature chosen" if self.feature is None else f"feature {self.feature} chosen"
        return f"RankingTable: {len(self.rows):,} rows by {self.sort_by}, {chosen}"


def _row(rows: Rows, i: int, names: list[str]) -> dict[str, Any]:
    cells = {name: plain(rows.table[name].iat[i]) for name in names}
    return {**cells, "ranks": {name: rows.rank(name, i) for name in ORDERS}}
