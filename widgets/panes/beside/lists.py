"""The features that a person keeps, with their notes: to see, to annotate, to take out, to set side by side, to take away as files.

pane = ListPane(bench)                                  ./kept_features.json; pane.path = "lakers.json" for another file
pane.keep(574); pane.note(574, "…"); pane.remove(574); pane.undo()
pane.list                                               the FeatureList, the same in a cell
pane.pair = [574, 77]                                   the two pages, in pane.beside
"""

from typing import Any

import traitlets

from widgets.html.card import cards_html
from widgets.html.pages import list_html
from widgets.html.ranking_data import plain
from widgets.marks import visible
from widgets.panes.jobs import SETTING, Job
from widgets.panes.pane import WorkingPane, module, style
from workbench.features.lists.feature_list import FILE, Entry, FeatureList, changes


class ListPane(WorkingPane):
    """A list of one dictionary. Its file is written at each change; what stands in it of other dictionaries is named as theirs."""

    _esm = module("shared/copy", "lists/lists")
    _css = style("lists/lists")
    kept = ("feature", "path", "pair")
    maker = "ListPane(bench)"
    actions = ("run", "cancel", "undo", "csv", "json", "refresh")

    path = traitlets.Unicode(FILE, help="the file; a name alone is beside the notebook").tag(sync=True)
    pair = traitlets.List(traitlets.Int(), help="features whose pages stand side by side").tag(sync=True)
    rows = traitlets.List(read_only=True, help="feature, label, note, density, max_act").tag(sync=True)
    others = traitlets.List(read_only=True, help="entries of other dictionaries, in words").tag(sync=True)
    where = traitlets.Unicode(read_only=True, help="which file, in which folder").tag(sync=True)
    problem = traitlets.Unicode(read_only=True).tag(sync=True)
    removed = traitlets.Unicode(read_only=True, help="what can be put back").tag(sync=True)
    beside = traitlets.Unicode(read_only=True, help="the pages of `pair`, escaped").tag(sync=True)
    exported = traitlets.Dict(read_only=True, help="a file, when asked for: name, text, type, and the how many-th").tag(sync=True)

    def __init__(self, bench: Any, **traits: Any):
        self._bench = bench
        self.list: FeatureList | None = None
        self._removed: list[Entry] = []
        super().__init__(bench.model, **traits)
        self._take_path()  # the default, too
        changes.watch(self.refresh)

    def look_through(self, bench: Any) -> None:
        """Another dictionary: its entries of the same file."""
        self._bench, self._removed = bench, []
        self.pair = []
        self._take_path()

    @traitlets.observe("path")
    def _take_path(self, change: Any = None) -> None:
        try:
            self.list = FeatureList(self._bench, self.path)
        except ValueError as error:
            self.list = None
            return self._tell([], [], str(error))
        self.set_trait("where", f"{visible(self.list.path.name)} in {visible(self.list.path.parent.name)}/")
        self.refresh()

    def refresh(self) -> None:
        """What the file holds now. Of what a cell writes it hears by itself; another notebook may have written it, too."""
        with SETTING:
            if self.list is None:
                return
            try:
                table, others = self.list.table, self.list.others
            except (ValueError, OSError) as error:
                return self._tell([], [], str(error))
            rows = [{name: plain(value) for name, value in row.items()} for row in table.to_dict("records")]
            rows = [row | {"label": visible(row["label"])} for row in rows]
            named = [f"feature {each.feature:,} of {each.sae_name} ({each.model_name}) {each.label}" for each in others.itertuples()]
            self._tell(rows, [visible(each) for each in named], "")

    def _tell(self, rows: list[dict[str, Any]], others: list[str], problem: str) -> None:
        self.set_trait("rows", rows)
        self.set_trait("others", others)
        self.set_trait("problem", visible(problem))
        self._tell_removed()

    def _tell_removed(self) -> None:
        self.set_trait("removed", visible(f"feature {self._removed[-1].feature:,}") if self._removed else "")

    def relabel(self) -> None:
        """What is kept, called as it is now."""
        self.refresh()

    def holds(self, feature: int | None) -> bool:
        """Is it in the list?"""
        return any(row["feature"] == feature for row in self.rows)

    def keep(self, feature: int | None = None) -> None:
        """The selected feature, or another one. What is kept already stays as it is."""
        feature = self.feature if feature is None else feature
        if feature is not None:
            self._change(lambda kept: kept.keep(feature))

    def note(self, feature: int, text: str) -> None:
        """What is noted of it."""
        self._change(lambda kept: kept.note(feature, text))

    def remove(self, feature: int) -> None:
        """Takes it out; `undo` puts it back."""
        self._change(lambda kept: self._removed.append(kept.remove(feature)))
        self.pair = [each for each in self.pair if each != feature]

    def undo(self) -> None:
        """Puts back what was removed last, with its note."""
        if self._removed:
            self._change(lambda kept: (kept.put_back(self._removed[-1]), self._removed.pop()))  # written first: it may not be possible

    def _change(self, act: Any) -> None:
        with SETTING:
            if self.list is None:
                return
            try:
                act(self.list)  # whoever shows a list hears of it, this pane too
            except (ValueError, OSError) as error:
                return self.set_trait("problem", visible(str(error)))
            self._tell_removed()

    @traitlets.observe("pair")
    def _set_beside(self, change: Any = None) -> None:
        """The pages are read in a job: without an index they are computed first."""
        if len(self.pair) < 2:
            self.set_trait("beside", "")
        else:
            self._job = Job(self._read_pair, self._model, self._show)

    def _read_pair(self, job: Job) -> None:
        pair = list(self.pair)
        html = cards_html([self._bench.feature(feature) for feature in pair])
        with SETTING:
            if pair == self.pair:
                self.set_trait("beside", html)

    def work(self, job: Job) -> None:
        """The list as one offline page."""
        if self.list is None:
            raise ValueError("there is no list to write")
        self._give("html", self.list.page(progress=False), "text/html")

    def csv(self) -> None:
        """The table as a file to download."""
        self._change(lambda kept: self._give("csv", kept.csv(), "text/csv"))

    def json(self) -> None:
        """The file itself, to share."""
        self._change(lambda kept: self._give("json", kept.json(), "application/json"))

    def _give(self, kind: str, text: str, mime: str) -> None:
        stem = "kept_features" if self.list is None else self.list.path.stem
        with SETTING:
            self.set_trait("exported", {"name": f"{stem}.{kind}", "text": text, "type": mime, "n": self.exported.get("n", 0) + 1})

    def _hear(self, _: Any, content: Any, buffers: Any) -> None:
        said = content if isinstance(content, dict) else {}
        feature, do = said.get("feature"), said.get("do")
        if do == "note" and isinstance(feature, int) and isinstance(said.get("text"), str):
            self.note(feature, said["text"])
        elif do in ("remove", "keep") and isinstance(feature, int):
            getattr(self, do)(feature)
        else:
            super()._hear(_, content, buffers)

    def close(self) -> None:
        changes.unwatch(self.refresh)
        super().close()

    def to_python(self) -> str:
        """The list in a cell."""
        return f"kept = wb.FeatureList(bench, {self.path!r})" if self.rows else ""

    def static_html(self) -> str:
        rows = [
            {name: float("nan") if value is None else value for name, value in row.items()} for row in self.rows
        ]  # which is written as –
        return list_html(f"SAE {self._bench.sae_name}", self.where, rows, []) if rows else ""

    def __repr__(self) -> str:
        return f"ListPane: {len(self.rows)} features kept in {self.where or self.path}"
