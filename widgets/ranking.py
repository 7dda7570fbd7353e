"""The live table of a ranking: sort, filter, page, choose a feature and see where it acts and what it means.

    RankingTable(ranking)                                          rows only
    RankingTable(ranking, examples=bench.examples)                 with the chosen feature's strongest texts

The traits are the state: `table.feature` is the chosen feature, and setting `table.query = "lakers effect>0.1"` filters. Python computes
with numpy and sends one page; ranking.js draws.
"""

from collections.abc import Callable, Sequence
from typing import Any

import anywidget
import numpy as np
import pandas as pd
import traitlets

from widgets.html import ORDERS, STATIC, detail_html, rows_html
from widgets.marks import visible
from widgets.rows import QueryError, Rows

PAIR_COLUMNS = (("feature", "integer"), ("label", "text"), ("token", "token"), ("pos", "integer"))
SUMMED_COLUMNS = (("feature", "integer"), ("label", "text"), ("n_pos", "integer"))
TITLES = {"n_pos": "positions"}
N_EXAMPLES, N_AROUND = 8, 12  # examples shown, and tokens to either side of the strongest


class RankingTable(anywidget.AnyWidget):
    _esm = STATIC / "ranking.js"
    _css = STATIC / "ranking.css"

    sort_by = traitlets.Unicode("effect").tag(sync=True)
    is_descending = traitlets.Bool(True).tag(sync=True)
    query = traitlets.Unicode("").tag(sync=True)
    page = traitlets.Int(0, min=0).tag(sync=True)
    page_size = traitlets.Int(12, min=1).tag(sync=True)
    is_summed = traitlets.Bool(False, help="one row per feature, summed over positions").tag(sync=True)
    feature = traitlets.Int(None, allow_none=True, help="the chosen feature").tag(sync=True)
    view = traitlets.Dict(read_only=True).tag(sync=True)  # what is drawn: one page of rows
    detail = traitlets.Dict(read_only=True).tag(sync=True)  # what is drawn of the chosen feature

    def __init__(self, ranking: Any, examples: Callable[[int], Sequence[Any]] | None = None, **traits: Any):
        """`ranking`: a FeatureRanking. `examples`: feature → examples, each with `str_tokens` and `activations`, strongest first."""
        self._ranking, self._examples = ranking, examples
        self._pairs, self._summed = Rows(ranking.table), Rows(ranking.by_feature())
        super().__init__(**traits)
        self._show_page()
        self._show_feature()

    @property
    def rows(self) -> Rows:
        return self._summed if self.is_summed else self._pairs

    @traitlets.observe("sort_by", "is_descending", "query", "page", "page_size", "is_summed")
    def _show_page(self, change: Any = None) -> None:
        self.set_trait("view", {**self.view, **self._page()})

    @traitlets.observe("feature")
    def _show_feature(self, change: Any = None) -> None:
        shown = {} if self.feature is None else feature_detail(self._ranking, self._summed.table, self.feature, self._examples)
        self.set_trait("detail", shown)

    def _page(self) -> dict[str, Any]:
        """One page as plain data; an unreadable query leaves the page as it was and says why."""
        rows = self.rows
        try:
            order = rows.order(self.sort_by if self.sort_by in rows.table else "effect", self.is_descending)
            matches = rows.matching(self.query)
        except QueryError as error:
            return {"message": str(error)}
        numbers, n_matching = rows.page(order, matches, self.page, self.page_size)
        first = min(self.page, max(0, (n_matching - 1) // self.page_size)) * self.page_size
        columns = [*(SUMMED_COLUMNS if self.is_summed else PAIR_COLUMNS), *[(name, "measure") for name in ORDERS]]
        return {
            "columns": [{"name": name, "title": TITLES.get(name, name), "kind": kind} for name, kind in columns],
            "rows": [_row(rows, int(i), [name for name, _ in columns]) for i in numbers],
            "scales": {name: rows.largest(name) for name in ORDERS},
            "n_rows": len(rows),
            "n_matching": n_matching,
            "first": first,
            "unit": "features" if self.is_summed else "(feature, position) pairs",
            "message": "",
        }

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """Beside the live view: a static table and a text that is the same on every run."""
        bundle, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        parts = [rows_html(self.view), detail_html(self.detail)]
        return {**bundle, "text/plain": repr(self), "text/html": "".join(parts)}, metadata

    def __repr__(self) -> str:
        chosen = "no feature chosen" if self.feature is None else f"feature {self.feature} chosen"
        return f"RankingTable: {len(self.rows):,} rows by {self.sort_by}, {chosen}"


def feature_detail(ranking: Any, sums: pd.DataFrame, feature: int, examples: Callable[[int], Sequence[Any]] | None) -> dict[str, Any]:
    """The chosen feature as plain data: its sums over positions and their ranks, the prompt shaded by it, its strongest texts."""
    found = sums[sums["feature"] == feature]
    if found.empty:
        raise ValueError(f"feature {feature} is not active on this prompt; expected one of {sums['feature'].head(5).tolist()} …")
    pairs = ranking.table[ranking.table["feature"] == feature]
    name = "effect" if pairs["effect"].notna().any() else "attribution"
    values = dict(zip(pairs["pos"], pairs[name], strict=True))
    first = 0 if ranking.is_start_included else 1
    row = found.iloc[0]
    shown = list(examples(feature))[:N_EXAMPLES] if examples else []
    start = None if ranking.is_start_included else ranking.str_tokens[0]
    return {
        "feature": int(feature),
        "label": visible(row["label"]),
        "measures": [
            {"name": by, "value": _plain(row[by]), "rank": _plain(row[f"{by}_rank"]), "scale": _plain(sums[by].abs().max()) or 0.0}
            for by in reversed(ORDERS)
        ],
        "tokens": [visible(token) for token in ranking.str_tokens[first:]],
        "values": [_plain(values.get(pos)) for pos in range(first, len(ranking.str_tokens))],
        "name": name,
        "scale": _plain(ranking.table[name].abs().max()) or 0.0,
        "examples": [example_window(example.str_tokens, example.activations, start) for example in shown],
        "message": "No example texts for this feature." if examples and not shown else "",
    }


def example_window(str_tokens: Sequence[str], activations: Any, start: str | None = None) -> dict[str, Any]:
    """The tokens around the strongest one, a leading start token left out, with their activations (null where the feature is off)."""
    values = np.asarray(activations, dtype=float)
    strongest = int(values.argmax())
    first, last = max(0, strongest - N_AROUND), min(len(values), strongest + N_AROUND + 1)
    first = 1 if first == 0 and str_tokens[0] == start else first
    is_cut = first > 1 or (first == 1 and str_tokens[0] != start)
    around = [(visible(str_tokens[i]), round(values[i], 4) if values[i] > 0 else None) for i in range(first, last)]
    around = [("…", None)] * is_cut + around + [("…", None)] * (last < len(values))
    largest = round(float(values.max()), 4)
    return {"tokens": [token for token, _ in around], "activations": [value for _, value in around], "max": largest, "scale": largest}


def _row(rows: Rows, i: int, names: list[str]) -> dict[str, Any]:
    cells = {name: _plain(rows.table[name].iat[i]) for name in names}
    return {**cells, "ranks": {name: rows.rank(name, i) for name in ORDERS}}


def _plain(value: Any) -> Any:
    """A cell as JSON knows it: None for what is missing, text made visible."""
    if isinstance(value, str):
        return visible(value)
    if pd.isna(value) or not np.isfinite(float(value)):
        return None
    return int(value) if isinstance(value, int | np.integer) else float(f"{value:.6g}")
