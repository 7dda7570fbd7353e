"""The selected feature's page, live: its neighbors are selected by a click, a text of your own is read by it, a person labels it.

    card = CardPane(bench, feature=1234)
    card.text = "The Lakers are from Los Angeles"       card.tried: the feature's activation at each token
    card.label("Lakers players")                        kept in a file of the person's own, over what anything else called it

The page itself is card_html (widgets/html/card.py), the same as bench.feature(1234) shows.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from html import escape
from typing import Any

import torch
import traitlets

from widgets.html.card import block_html, card_html, first_html, intervals_html, rest_html
from widgets.marks import visible
from widgets.panes.jobs import SETTING, Job
from widgets.panes.pane import STATIC, WorkingPane, module, style
from workbench.features.index.own_labels import changes
from workbench.features.index.parts import Label
from workbench.model.hooks import last_logits, seen
from workbench.model.start import start_token
from workbench.model.tokens import to_str_tokens, to_tokens

REST = 0.3  # seconds
N_OFFLINE = 24  # pages in a saved file, about 30 KB each


class CardPane(WorkingPane):
    """Traits: `feature`, `text`. A page is read in a job where it must be computed first (no index yet)."""

    _esm = module("shared/copy", "card/card")
    _css = style("card/card")

    text = traitlets.Unicode("", help="a text of your own").tag(sync=True)
    html = traitlets.Unicode(read_only=True).tag(sync=True)  # the page's first parts, which fill a screen
    rest = traitlets.Unicode(read_only=True).tag(sync=True)  # the parts that follow, sent when the first are painted, but for
    weaker = traitlets.Unicode(read_only=True).tag(sync=True)  # the weaker examples: a third of all, sent when they are asked for
    title = traitlets.Unicode(read_only=True).tag(sync=True)  # its label
    facts = traitlets.Unicode(read_only=True).tag(sync=True)  # the page as JSON
    tried = traitlets.Dict(read_only=True).tag(sync=True)  # tokens, values, scale; or message
    own = traitlets.Dict(read_only=True, help="the person's labels: of how many features, where kept, is the shown one theirs").tag(
        sync=True
    )
    exported = traitlets.Dict(read_only=True, help="the person's labels as a file, when asked for: text, and the how many-th time").tag(
        sync=True
    )
    problem = traitlets.Unicode(read_only=True).tag(sync=True)
    is_there = traitlets.Bool(read_only=True, help="is the selection a feature of this SAE?").tag(sync=True)
    is_kept = traitlets.Bool(None, allow_none=True, help="is it in a list of features? None: there is no list here").tag(sync=True)

    _offline = (STATIC / "card/card_offline.js",)
    actions = ("cancel",)
    kept = ("feature", "text")
    maker = "CardPane(bench)"

    def __init__(self, bench: Any, saved_features: Callable[[], list[int]] = list, **traits: Any):
        """saved_features: whose pages a saved file holds beside the selected one's, the first ones at least."""
        self._bench, self._saved_features, self._page = bench, saved_features, None
        self._ahead: Job | None = None
        self._was_read: set[int] = set()
        super().__init__(bench.model, **traits)
        self._tell_own()
        changes.watch(self.relabel)

    @traitlets.observe("feature")
    def _show_page(self, change: Any = None) -> None:
        self.set_trait("is_there", self.feature is not None and self.feature < self._bench.sae.cfg.d_sae)
        if self.feature is None:
            self._show_nothing("")
        elif self._bench.index is not None or self._bench.examples is None:  # read, not computed
            self._read(self.feature)
        else:
            self.run()
        if self.text and self.is_there:
            self._try()

    def work(self, job: Job) -> None:
        feature = self.feature
        if feature is not None:
            page = self._bench.feature(feature)
            with SETTING:
                if feature == self.feature:
                    self._draw(page)

    def _read(self, feature: int) -> None:
        try:
            page = self._bench.feature(feature, with_examples=False)
        except ValueError as error:  # it can be labeled, and tried on a text, nevertheless
            self._show_nothing(str(error))
            self._tell_own()
            return self.set_trait("title", visible(self._own_label().text) if self.is_there else "")
        self._draw(page)

    def read_ahead(self, features: Sequence[int]) -> None:
        """Reads what the index has of features that may be chosen next, once the hand rests: to open their pages takes half the time
        then. In a job that runs no model: it takes turns with other readers of the index only."""
        if self._ahead is not None:
            self._ahead.replace()
        index, features = self._bench.index, [feature for feature in features if feature not in self._was_read]
        if index is None or not features:
            return

        def work(job: Job) -> None:
            job.event.wait(REST)
            for n_read, feature in enumerate(features):
                job.go_on(n_read, len(features))
                index.read_ahead(feature)
                self._was_read.add(feature)

        self._ahead = Job(work, index, lambda progress: None)

    @property
    def neighbors(self) -> list[int]:
        """Of the page that is shown, in its own dictionary."""
        return [] if self._page is None else [each.feature for each in self._page.neighbors.get(self._bench.sae_name, [])]

    def close(self) -> None:
        changes.unwatch(self.relabel)
        if self._ahead is not None:
            self._ahead.cancel()
        super().close()

    def _draw(self, page: Any) -> None:
        """A page, perhaps without its example texts: these the page in the browser asks for when it has painted what there is."""
        self._page = page
        self._tell_own()
        with self.hold_sync():  # one message, drawn once
            for name in ("rest", "facts", "weaker", "problem"):
                self.set_trait(name, "")
            self.set_trait("title", visible(page.label.text))
            self.set_trait("html", block_html(first_html(page)))
            if page.has_examples:
                self._draw_rest()

    def _draw_rest(self) -> None:
        page = self._whole()
        if page is None:
            return
        drawn, facts = rest_html(replace(page, intervals=[]), self._address), json.dumps(page_facts(page), ensure_ascii=False)
        with SETTING:
            if self._page is page:  # no other one was chosen meanwhile
                self.set_trait("rest", drawn)
                self.set_trait("facts", facts)

    def _whole(self) -> Any:
        """The page that is shown, with its example texts."""
        page = self._page
        if page is None or page.has_examples:
            return page
        whole = self._bench.feature(page.feature)
        with SETTING:
            if self._page is page:
                self._page = whole
        return whole

    def _address(self, sae: str, feature: int) -> str:
        """Of a feature's page: "" where a click would lead nowhere."""
        return f"#{feature}" if sae == self._bench.sae_name else ""

    def offline(self) -> dict[str, Any]:
        """The pages that a saved file holds: what is shown, and of the first features, where they need only be read, all but the weaker
        examples."""
        features = self._saved_features()[:N_OFFLINE] if self._bench.index is not None else []
        pages = {}
        for feature in features:
            with suppress(ValueError):  # of a damaged index: the file says that it is not among them
                pages[feature] = self._saved(replace(self._bench.feature(feature), intervals=[]))
        if self._page is not None:
            try:
                shown = self._whole()
                pages[shown.feature] = self._saved(shown) | {"facts": json.dumps(page_facts(shown), ensure_ascii=False)}
            except ValueError:
                pages[self._page.feature] = {"title": self.title, "html": self.static_html(), "facts": ""}
        return {"pages": pages}

    def _saved(self, page: Any) -> dict[str, str]:
        return {"title": visible(page.label.text), "html": card_html(page, self._address), "facts": ""}

    def _show_nothing(self, problem: str) -> None:
        self._page = None
        for name in ("html", "rest", "weaker", "title", "facts"):
            self.set_trait(name, "")
        self.set_trait("problem", problem)

    @traitlets.observe("text")
    def _try(self, change: Any = None) -> None:
        """Each token's activation of the selected feature, in a job of its own."""
        if not self.text.strip() or self.feature is None:
            self.set_trait("tried", {})
            return
        bench, feature, text = self._bench, self.feature, self.text
        try:
            tokens = to_tokens(bench.model, text)
        except ValueError as error:
            self.set_trait("tried", {"message": str(error)})
            return

        def work(job: Job) -> None:
            acts = activations(bench, tokens, feature)
            first = len(start_token(bench.model).ids)
            values = acts[first:]
            shown = {"tokens": [visible(t) for t in to_str_tokens(bench.model, tokens)][first:], "values": values}
            with SETTING:
                if (feature, text) == (self.feature, self.text):
                    scale = max([self._page.max_act if self._page else 0.0, *values, 1e-9])
                    self.set_trait("tried", shown | {"scale": scale, "max": max(values, default=0.0)})

        Job(work, bench.model, lambda progress: None)

    def label(self, text: str, feature: int | None = None) -> None:
        """What a person calls the selected feature, or another one; "" gives back what it was called before."""
        feature = self.feature if feature is None else feature
        if feature is None:
            raise ValueError("no feature is selected to give the label to")
        self._bench.label(feature, text)

    def unlabel(self) -> None:
        """Takes back the last label that the person gave the selected feature."""
        if self.feature is not None:
            self._bench.unlabel(self.feature)

    def relabel(self) -> None:
        """Labels have changed, here or in a cell: what is shown is shown anew."""
        with SETTING:
            self._tell_own()
            if self._page is not None:
                if self._bench.index is not None:
                    self._draw(self._bench.feature(self._page.feature, with_examples=False))
                else:
                    self._draw(replace(self._page, label=self._own_label()))
            elif self.feature is not None and self.problem:
                self._read(self.feature)

    def _own_label(self) -> Label:
        own = self._bench.own_labels.of(self._bench.sae.fingerprint())
        return own.get(self.feature, Label(self._bench.labels.get(self.feature, "")))

    def _tell_own(self) -> None:
        own = self._bench.own_labels
        mine = own.of(self._bench.sae.fingerprint()) if own.path.is_file() else {}
        self.set_trait("own", {"n": len(mine), "path": str(own.path), "is_shown": self.feature in mine})

    def _hear(self, _: Any, content: Any, buffers: Any) -> None:
        said = content.get("do") if isinstance(content, dict) else None
        try:
            if said == "rest":
                self._draw_rest()
            elif said == "weaker" and self._page is not None:
                self.set_trait("weaker", intervals_html(self._whole()))
            elif said == "label":
                feature = content.get("feature")
                self.label(str(content.get("text", "")), feature if isinstance(feature, int) else None)
            elif said == "unlabel":
                self.unlabel()
            elif said == "export":
                self.set_trait("exported", {"text": self._bench.own_labels.as_text(), "n": self.exported.get("n", 0) + 1})
            elif said == "import":
                self._bench.own_labels.add_text(str(content.get("text", "")))
            else:
                super()._hear(_, content, buffers)
        except (ValueError, OSError) as error:
            self.set_trait("problem", str(error))

    def to_python(self) -> str:
        has_page = self.feature is not None and (self._bench.index is not None or self._bench.examples is not None)
        return f"bench.feature({self.feature})" if has_page else ""

    def static_html(self) -> str:
        if self._page is None:
            return "<p>No feature is selected.</p>"
        try:
            return card_html(self._whole())  # without links: nothing follows them
        except ValueError as error:  # the texts of a damaged index
            return f"<p>{escape(str(error))}</p>{block_html(first_html(self._page))}"

    def __repr__(self) -> str:
        return "CardPane: no feature" if self.feature is None else f"CardPane: feature {self.feature} {self.title}".rstrip()


@torch.no_grad()
def activations(bench: Any, tokens: torch.Tensor, feature: int) -> list[float]:
    """The feature's activation at each token of one text."""
    caught: list[torch.Tensor] = []
    with seen(bench.model, bench.sae.reads, caught.append):
        last_logits(bench.model, tokens)
    (x,) = caught
    return [round(value, 5) for value in bench.sae.encode(x[0].flatten(1).to(bench.sae.W_dec.dtype))[:, feature].tolist()]


def page_facts(page: Any) -> dict[str, Any]:
    """A FeaturePage as plain data."""
    plain = {name: getattr(page, name) for name in ("feature", "sae_name", "hook_name", "n_active", "n_tokens", "density", "max_act")}
    lists = {name: [each._asdict() for each in getattr(page, name) or []] for name in ("promoted", "suppressed")}
    neighbors = {sae: [each._asdict() for each in found] for sae, found in page.neighbors.items()}
    top = [{"activation": each.activation, "tokens": each.str_tokens, "activations": each.activations} for each in page.top]
    return {
        **plain,
        "label": page.label._asdict(),
        "histogram": page.histogram,
        "bin_width": page.bin_width,
        **lists,
        "neighbors": neighbors,
        "top": top,
        "notes": list(page.notes),
    }
