"""Two prompts side by side: a second question, asked as the first one is, and the same features on both, sorted by how much they differ.

    pane = ComparePane(prompt_pane)                     the pane of the first question
    pane.asking.prompt = "Fact: The capital of the state where Larry Bird …"; pane.asking.run()
    pane.comparison                                     the RankingComparison that wb.compare gives

Both panes keep their rankings together, so that a question of the history is shown at once.
"""

from collections.abc import Mapping
from typing import Any

import traitlets

from widgets.html.batch import comparison_html
from widgets.html.ranking_data import question_of
from widgets.marks import visible
from widgets.panes.beside.paged import Paged
from widgets.panes.pane import module, reference, style
from widgets.panes.prompt import PromptPane, Question
from widgets.panes.screen.loading import script
from widgets.rows import QueryError, Rows
from workbench.circuits.ranking.comparison import SIDES, RankingComparison, compare

MEASURES = ("effect", "attribution", "activation")
PARTS = (*SIDES, "difference")
SORTS = ("feature", *(f"{name}_{part}" for name in MEASURES for part in PARTS))


class SecondPrompt(PromptPane):
    """A question that is asked of the dictionary of the first one, with the rankings and the history of both."""

    def __init__(self, first: PromptPane, **traits: Any):
        self._first = first
        super().__init__(first.bench, which="Second", **traits)
        self._rankings = first._rankings
        self._share()
        first.observe(self._share, "asked")

    def _share(self, change: Any = None) -> None:
        self.set_trait("asked", list(self._first.asked))

    def _keep(self, question: Question, ranking: Any) -> None:
        super()._keep(question, ranking)
        self._first.set_trait("asked", list(self.asked))

    def recall(self, question: Question) -> None:
        """A question of the history, through this dictionary: ranked where it was not yet."""
        super().recall(question._replace(sae=self.sae))
        if not self.ranked or self.question_ranked != self.question:
            self.run()


class ComparePane(Paged):
    """The same features on two prompts: each measure on both and its difference; a row selects, Enter opens its page."""

    _esm = module("shared/copy", "shared/inner", "shared/paged", "compare/compare")
    _css = style("shared/paged", "compare/compare")
    columns = ("feature", "label", "n_pos_first", "n_pos_second", *SORTS[1:])
    kept = ("sort_by", "is_descending", "query", "page", "feature")

    asking = traitlets.Any(help="the second question's PromptPane").tag(sync=True, to_json=reference)
    ranking = traitlets.Any(None, help="of the first question, or None")
    sort_by = traitlets.Enum(SORTS, "effect_difference").tag(sync=True)
    stale = traitlets.Unicode(read_only=True, help="which of the prompts was changed since").tag(sync=True)

    def __init__(self, first: PromptPane, **traits: Any):
        self._bench, self._first = first.bench, first
        self.comparison: RankingComparison | None = None
        super().__init__(asking=SecondPrompt(first), ranking=first.ranking, **traits)
        self.asking.observe(self._compare, "ranking")
        for asking in (first, self.asking):
            asking.observe(self._show_stale, ["prompt", "answer", "baseline", "ranked"])
        self.on_msg(self._hear)
        self._compare()

    def look_through(self, bench: Any) -> None:
        """Another dictionary: both questions are asked of it."""
        self._bench = bench
        self.asking.sae = bench.sae_name

    def relabel(self) -> None:
        """The features, called as they are now; the first ranking's come with it."""
        self.asking.relabel()

    @traitlets.observe("ranking")
    def _compare(self, change: Any = None) -> None:
        self.comparison, message = None, ""
        if self.asking is None:  # being made
            return
        if self.ranking is None or self.asking.ranking is None:
            message = "Rank the question above first." if self.ranking is None else "Type a second prompt, or pick one: Enter ranks it."
        else:
            try:
                self.comparison = compare(self.ranking, self.asking.ranking)
            except ValueError as error:
                message = str(error)
        self._rows = None if self.comparison is None else Rows(self.comparison.table)
        self.set_trait("code", "" if self.comparison is None else script(self._bench, self._first.to_python(), self.to_python()))
        self._show(message)

    def _show_stale(self, change: Any = None) -> None:
        """Rows of another question than one that is typed say so."""
        asked = zip(SIDES, (self._first, self.asking), strict=True)
        changed = [side for side, asking in asked if asking.ranked and asking.ranked != asking.question._asdict()]
        self.set_trait(
            "stale", f"The {' and the '.join(changed)} prompt was changed since. Enter ranks what is typed now." if changed else ""
        )

    @traitlets.observe("sort_by", "is_descending", "query", "page", "page_size")
    def _turn(self, change: Any = None) -> None:
        if self.comparison is not None:
            self._show("")

    def _show(self, message: str) -> None:
        found, rows = self.comparison, self._rows
        if found is None or rows is None:
            return self.set_trait("view", {"message": visible(message)})
        try:
            cut = self._cut()
        except QueryError as error:
            return self.set_trait("view", {**self.view, "message": str(error)})
        scales = {name: max(rows.largest(f"{name}_{part}") for part in PARTS) for name in MEASURES}
        about = [question_of(each) | {"n_tokens": len(each.str_tokens)} for each in (found.first, found.second)]
        self.set_trait("view", {**cut, "scales": scales, "questions": about, "notes": [visible(note) for note in found.notes]})

    def state(self) -> dict[str, Any]:
        return {**super().state(), "asking": {name: getattr(self.asking, name) for name in ("prompt", "answer", "baseline")}}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Also ranks the second question anew."""
        super().restore({name: value for name, value in state.items() if name != "asking"})
        self.asking.restore(state.get("asking", {}))
        if self.asking.prompt:
            self.asking.run()

    def to_python(self) -> str:
        """After `ranking = …`: the second ranking, and both beside each other."""
        if self.comparison is None:
            return ""
        second = self.comparison.second
        asked = Question("", second.prompt, second.answer, second.baseline)  # of what is shown, whatever is typed by now
        return f"other = {self.asking.call(asked)}\ncomparison = wb.compare(ranking, other)"

    def close(self) -> None:
        self.asking.close()
        super().close()

    def static_html(self) -> str:
        return "" if self.comparison is None else comparison_html(self.comparison, *self.shown())

    def __repr__(self) -> str:
        return (
            "ComparePane: no second prompt"
            if self.comparison is None
            else f"ComparePane: {self.comparison.second.prompt!r} beside the first"
        )
