"""Find features: by prompts that have something and prompts that lack it, what each filter removed, and why each feature passed; or in one
of the other ways: a classifier of the two sets, a token of a text, attribution to an answer, what is near a feature, words of a label,
what reads and does not write.

    pane = Finder(bench, positive=["Kobe Bryant plays", …], negative=["Larry Bird plays", …])
    pane.run().wait(); pane.found                           the Found that bench.find gives
    pane.share = 0.5                                        filters work on what was read: no model
    pane.way, pane.words = "label", "lakers"                run() finds in that way; pane.code says it in Python

The model's work is done in a thread; workbench/features/search says what the filters and the scores are.
"""

from dataclasses import replace
from typing import Any

import traitlets

from widgets.html.find import found_html
from widgets.html.heads import lens_rows
from widgets.marks import FAINT, visible
from widgets.panes.found import COLUMNS, WAYS, acts_of, found_view
from widgets.panes.jobs import SETTING, Job
from widgets.panes.pane import WorkingPane, module, style
from workbench.circuits.depth.logit_lens import ABOUT
from workbench.circuits.metrics import logit_diff
from workbench.features.search.codes import Codes, encode
from workbench.features.search.found import Found
from workbench.features.search.search import Filters, checked_sets, filtered
from workbench.model.start import start_token
from workbench.model.tokens import to_str_tokens, to_tokens

N_SAID = 3  # tokens of each depth of the logit lens
N_CHIPS = 256  # tokens offered of a long text


class Finder(WorkingPane):
    """A search, as it is typed."""

    _esm = module("shared/copy", "shared/prompt_list", "finder/finder")
    _css = style("finder/finder")
    filters = ("share", "margin", "max_density", "top")
    typed = ("way", "positive", "negative", *filters, "text", "at", "answer", "baseline", "target", "words")
    kept = ("feature", *typed, "sort_by", "is_descending")
    maker = "Finder(bench)"

    way = traitlets.Enum(list(WAYS), "prompts", help="how to search").tag(sync=True)
    positive = traitlets.List(traitlets.Unicode(), help="prompts on which the feature is active").tag(sync=True)
    negative = traitlets.List(traitlets.Unicode(), help="prompts on which it is less so, or silent").tag(sync=True)
    share = traitlets.Float(0.75, min=0.01, max=1.0, help="of the positive prompts that suffices").tag(sync=True)
    margin = traitlets.Float(2.0, min=0.0, help="activation allowed on negative prompts, in means over the positive ones").tag(sync=True)
    max_density = traitlets.Float(0.1, min=1e-7, max=1.0, help="share of the index's tokens").tag(sync=True)
    top = traitlets.Int(20, min=1, max=500).tag(sync=True)
    text = traitlets.Unicode("", help="whose token is looked at, or that an answer goes on from").tag(sync=True)
    at = traitlets.Int(None, allow_none=True, help="the token's position, start token counted; None: anywhere").tag(sync=True)
    answer = traitlets.Unicode("", help="one token, for attribution").tag(sync=True)
    baseline = traitlets.Unicode("", help="one token; empty: the mean logit").tag(sync=True)
    target = traitlets.Int(None, allow_none=True, help="the feature that others are near to; None: the selection").tag(sync=True)
    words = traitlets.Unicode("", help="that a label holds").tag(sync=True)
    sort_by = traitlets.Enum(["score", "feature", *COLUMNS], "score", help="of what is shown; what the search thinks best, by score").tag(
        sync=True
    )
    is_descending = traitlets.Bool(True).tag(sync=True)

    ways = traitlets.List([list(each) for each in WAYS.items()], read_only=True).tag(sync=True)
    tokens = traitlets.List(read_only=True, help="of the text: [position, token]").tag(sync=True)
    has_index = traitlets.Bool(read_only=True).tag(sync=True)
    code = traitlets.Unicode(read_only=True, help="the search as a line of Python").tag(sync=True)
    asking = traitlets.List(read_only=True, help="what the model would be asked now").tag(sync=True)
    view = traitlets.Dict(read_only=True, help="what was found, and of which `asking`").tag(sync=True)
    lens = traitlets.Dict(read_only=True, help="the logit lens at the token that is looked at; or message").tag(sync=True)
    outside = traitlets.Dict(read_only=True, help="the selection, where it is not among the results").tag(sync=True)

    def __init__(self, bench: Any, **traits: Any):
        self._bench = bench
        self._n_positive = 0
        self._asked: list[Any] = []  # what `found` answers
        self._codes: Codes | None = None  # what features do on the prompts that were searched with
        self.found: Found | None = None
        super().__init__(bench.model, **traits)
        self.set_trait("has_index", bench.index is not None)
        self._write()

    def work(self, job: Job) -> None:
        """What the bench's own searches do; that by prompts can end between two batches."""
        asked, bench = self._asking(), self._bench
        if self.way == "prompts":
            sets = checked_sets(list(self.positive), list(self.negative))
            found, codes = None, encode(bench.model, bench.sae, [*sets[0], *sets[1]], job.go_on)
        else:
            found = self._search()
            codes = found.codes
        lens = self._lens() if asked[0] == "token" and asked[2] is not None else {}
        with SETTING:
            if job.is_cancelled:
                return
            self._asked, self._codes, self.found = asked, codes, found
            self.set_trait("lens", lens and lens | {"asked": asked})
            self._n_positive = len(sets[0]) if found is None else found.n_positive
            self._filter()
            self._show_found()

    def _search(self) -> Found:
        """In any way but by prompts. Raises ValueError, which is shown, for what cannot be searched with."""
        bench = self._bench
        if self.way == "classifier":
            return bench.find_by_classifier(self.positive, self.negative, top=self.top)
        if self.way == "token":
            return bench.find_at(self.text, self.at, top=self.top)
        if self.way == "attribution":
            if not self.answer:
                raise ValueError("attribution is to an answer: rank a question first, or type its answer")
            return bench.find_by_attribution(self.text, logit_diff(self.answer, self.baseline or None), top=self.top)
        if self.way == "label":
            return bench.find_by_label(self.words, top=self.top)
        if self.way in ("reads", "writes"):
            return bench.find_parted(self.way, top=self.top)
        if self._target is None:
            raise ValueError("near which feature? Select one, or type its number")
        return bench.find_near(self._target, top=self.top)

    def _lens(self) -> dict[str, Any]:
        """What the model would say next there, by depth; where its stream cannot be read, why."""
        try:
            return lens_rows(self._bench.logit_lens(self.text, self.at, top=N_SAID), ABOUT)
        except ValueError as error:
            return {"message": visible(str(error))}

    @property
    def _target(self) -> int | None:
        return self.feature if self.target is None else self.target

    @traitlets.observe(*filters)
    def _filter(self, change: Any = None) -> None:
        if self._asked and self._asked[0] == "prompts" and self._codes is not None:
            self.found = self._bench._with_scores(
                filtered(self._codes, self._n_positive, Filters(**self._filters()), self._bench._known_beside)
            )
            self._show_found()

    def _show_found(self) -> None:
        if self.found is None:
            return
        unit = "mean activation" if self._bench._known_beside.rarity is None else "F1"
        self.set_trait("view", found_view(self.found, self._asked[0]) | {"asked": self._asked, "unit": unit})
        self._show_outside()

    def relabel(self) -> None:
        """What was found, called as it is now."""
        if self.found is not None:
            labels = [self._bench.labels.get(int(feature), "") for feature in self.found.table["feature"]]
            self.found = replace(self.found, table=self.found.table.assign(label=labels))
            self._show_found()

    def ask_about(self, prompt: str, answer: str, baseline: str, before: str = "") -> None:
        """The question that is ranked, which a text that a person typed stays in the way of. before: the prompt until now."""
        with self.hold_trait_notifications():
            if self.text in ("", before):
                self.text = prompt
            self.answer, self.baseline = answer, baseline

    def look_at(self, text: str, at: int | None) -> Job:
        """What is active at a token of a text, or anywhere on it."""
        with self.hold_trait_notifications():
            self.way, self.text, self.at = "token", text, at
        return self.run()

    @traitlets.observe("feature")
    def _show_outside(self, change: Any = None) -> None:
        feature, codes = self.feature, self._codes
        shown = [row["feature"] for row in self.view.get("rows", [])]
        if codes is None or feature is None or feature in shown or not 0 <= feature < self._bench.sae.cfg.d_sae:
            self.set_trait("outside", {})
        else:
            label = visible(self._bench.labels.get(feature, ""))
            self.set_trait("outside", {"feature": feature, "label": label, "acts": acts_of(codes, feature)})

    @traitlets.observe("text")
    def _read(self, change: Any = None) -> None:
        """The tokens to choose from; none of a text that cannot be read, which a search says."""
        try:
            tokens = to_str_tokens(self._bench.model, to_tokens(self._bench.model, self.text))
        except ValueError:
            tokens = []
        first = len(start_token(self._bench.model).ids)
        self.set_trait("tokens", [[pos, visible(token)] for pos, token in enumerate(tokens)][first : first + N_CHIPS])
        if self.at is not None and self.at >= len(tokens):
            self.at = None

    @traitlets.observe(*typed)
    def _write(self, change: Any = None) -> None:
        self.set_trait("code", self.query())
        self.set_trait("asking", self._asking())

    @traitlets.observe("feature")
    def _follow(self, change: Any = None) -> None:
        if self.way == "near" and self.target is None:
            self._write()

    def _asking(self) -> list[Any]:
        sets = [list(self.positive), list(self.negative)]
        about = {"prompts": sets, "classifier": sets, "token": [self.text, self.at], "near": [self._target], "label": [self.words]}
        about |= {"reads": [], "writes": []}
        return [self.way, *about.get(self.way, [self.text, self.answer, self.baseline])]

    @property
    def is_asked(self) -> bool:
        """Is there anything to search with?"""
        needed = {"token": self.text, "attribution": self.text and self.answer, "near": self._target is not None, "label": self.words}
        needed |= {"reads": True, "writes": True}
        return bool(needed.get(self.way, self.positive))

    @property
    def is_answered(self) -> bool:
        """Does what was found answer what is typed now? What is typed since may be nothing that can be searched with."""
        return self.found is not None and self._asked == self._asking()

    def query(self) -> str:
        """The search as code."""
        if self.way in ("prompts", "classifier"):
            sets = [
                f"    {name}=[\n" + "".join(f"        {prompt!r},\n" for prompt in getattr(self, name)) + "    ],\n"
                for name in ("positive", "negative")
            ]
            shown = f"{sets[0]}{sets[1] if self.negative or self.way == 'classifier' else ''}"
            if self.way == "classifier":
                return f"bench.find_by_classifier(\n{shown})"
            changed = {name: value for name, value in self._filters().items() if value != self.trait_defaults(name)}
            options = "".join(f"    {name}={value!r},\n" for name, value in changed.items())
            return f"bench.find(\n{shown}{options})"
        if self.way == "token":
            return f"bench.find_at({self.text!r}{'' if self.at is None else f', {self.at}'})"
        if self.way == "attribution":
            metric = ", ".join(repr(token) for token in (self.answer, self.baseline) if token)
            return f"bench.find_by_attribution({self.text!r}, wb.logit_diff({metric}))"
        if self.way in ("reads", "writes"):
            return f"bench.find_parted({self.way!r})"
        return f"bench.find_by_label({self.words!r})" if self.way == "label" else f"bench.find_near({self._target})"

    def _filters(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.filters}

    def static_html(self) -> str:
        return found_html(self.found) if self.found is not None else f'<div style="{FAINT}">{repr(self)}: not searched yet</div>'

    def __repr__(self) -> str:
        found = "" if self.found is None else f", {self.found.n_passed:,} features"
        if self.way in ("prompts", "classifier"):
            return f"Finder: {len(self.positive)} positive and {len(self.negative)} negative prompts{found}"
        return f"Finder: {self.query()}{found}"
