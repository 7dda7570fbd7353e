"""The whole workbench on one screen, around one selection: choose a feature anywhere and every pane follows.

from widgets import explore
explore(bench)                                                        the atlas brings its own first question
explore(bench, "The cat sat on the", " mat", " floor", feature=7)
explorer.look_up("sacramento")                                        a feature by number, label or a text that it is active on
explorer.pane["ranking"].query = "lakers effect>0.1"                  each pane's traits are its state
explorer.state(); explorer.restore(state); explorer.to_python(); explorer.to_html("view.html")

Each SAE of the bench has panes of its own, which stay as they are while another one is looked through.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import traitlets

from widgets.html.ranking import ranking_html
from widgets.html.standalone import page
from widgets.panes.beside.batch import BatchPane
from widgets.panes.beside.compare import ComparePane
from widgets.panes.beside.lists import ListPane
from widgets.panes.circuit import CircuitView
from widgets.panes.jobs import SETTING
from widgets.panes.map import FeatureMap
from widgets.panes.pane import Pane, module, reference, style
from widgets.panes.prompt import PromptPane, as_typed
from widgets.panes.ranking import RankingTable
from widgets.panes.screen.first_look import first_look
from widgets.panes.screen.history import Trail
from widgets.panes.screen.kept import python_of, restore, state_of
from widgets.panes.screen.mapped import MapPlace
from widgets.panes.screen.opening import offered, opened
from widgets.panes.screen.rooms import own_panes
from widgets.panes.screen.told import in_sight, relabel, stale_words, tell_ranking
from workbench.circuits.metrics import Metric
from workbench.features.index import own_labels
from workbench.model.start import start_token
from workbench.sae.config import checked_feature

FIRST_QUESTION = {"atlas": ("Fact: The capital of the state where Kobe Bryant played basketball is", " Sacramento", " Albany")}
PATIENCE = 5.0  # seconds that `explore` waits for the first ranking, so that the notebook keeps it for where no script runs
TITLES = {
    "prompt": "Question",
    "ranking": "Ranking",
    "compare": "Two prompts",
    "batch": "Several prompts",
    "card": "Feature",
    "finder": "Find",
    "steering": "Steer",
    "group": "Group",
    "lists": "Lists",
    "circuit": "Circuit",
    "map": "Map",
    "attention": "Attention",
}
LEFT = ("ranking", "compare", "batch")  # of one prompt, of two, of several
SHARED = ("prompt", *LEFT, "lists", "circuit", "map")  # panes that all SAEs have together
FOLLOWING = ("circuit", "compare", "batch", "lists")  # of these, who is told which SAE is looked through


def explore(bench: Any, prompt: str = "", answer: str | Metric = "", baseline: str = "", *, feature: int | None = None) -> "Explorer":
    """The workbench as one widget. answer: one token as text, or a metric of two; none: the model's first. No baseline: the mean logit."""
    from workbench.bench import Workbench

    if not isinstance(bench, Workbench):
        raise ValueError(f"{bench!r} is no Workbench: expected what wb.load gives, such as wb.load('atlas')")
    if feature is not None:
        checked_feature(feature, bench.sae.cfg.d_sae)
    if not prompt:
        prompt, answer, baseline = FIRST_QUESTION.get(bench.name, ("", "", ""))
    answer, baseline = as_typed(bench, answer, baseline)
    with first_look(prompt, answer, baseline):
        explorer = Explorer(bench, prompt=prompt, answer=answer, baseline=baseline)
        if prompt and (job := explorer.pane["prompt"].run()):
            job.wait(PATIENCE)
        explorer.feature = feature if feature is not None else explorer.first_feature()
    return explorer


class Explorer(Pane):
    """The whole workbench on one screen: every pane follows the feature that is chosen in any."""

    _esm = module("shared/copy", "shared/inner", "explorer/explorer")
    _css = style("explorer/explorer")

    panes = traitlets.List(read_only=True).tag(sync=True, to_json=lambda panes, _: [_reference(each) for each in panes])
    waiting = traitlets.Unicode(read_only=True, help="where the map will be, what is being done or is wrong").tag(sync=True)
    tab = traitlets.Unicode("card", help="the pane beside the ranking").tag(sync=True)
    left = traitlets.Enum(LEFT, "ranking", help="one prompt's ranking, a second one beside it, or several together").tag(sync=True)
    preview = traitlets.Dict(read_only=True, help="a feature of another SAE, looked at beside this one's").tag(sync=True)
    sought = traitlets.Unicode("", help="what is typed into the box that opens a feature").tag(sync=True)
    offers = traitlets.List(read_only=True, help="what it may mean: feature or None, text, why not").tag(sync=True)
    notice = traitlets.Unicode(read_only=True, help="what a key did that is seen nowhere else").tag(sync=True)
    can_go = traitlets.List([False, False], read_only=True, help="back, forward").tag(sync=True)
    code = traitlets.Unicode(read_only=True).tag(sync=True)  # to_python()
    facts = traitlets.Unicode(read_only=True).tag(sync=True)  # state() as JSON

    kept = ("feature", "tab", "left")
    actions = ("save", "back", "forward", "follow", "leave", "steer", "read", "keep")

    def __init__(self, bench: Any, prompt: str = "", answer: str | Metric = "", baseline: str = ""):
        self.bench, self.pane, self._map = bench, {}, MapPlace(self)
        self._rooms: dict[str, tuple[dict[str, Pane], int | None]] = {}  # SAE → its own panes and the feature that was selected among them
        self._links: dict[str, Any] = {}
        self._trail = Trail(self)
        answer, baseline = as_typed(bench, answer, baseline)
        super().__init__()
        self._add("prompt", PromptPane(bench, prompt=prompt, answer=answer, baseline=baseline))
        self._add("ranking", RankingTable())
        self._add("compare", ComparePane(self.pane["prompt"]))
        self._add("batch", BatchPane(self.pane["prompt"]))
        self._add("lists", ListPane(bench))
        self._add("circuit", CircuitView(bench=bench, question=self._question()))
        self._look_through(bench)
        asking = self.pane["prompt"]
        asking.first_look = len(start_token(bench.model).ids)
        asking.observe(self._look_at_token, "looked_at")
        asking.observe(self._show_ranking, "ranking")
        asking.observe(self._show_stale, ["prompt", "answer", "baseline", "ranked"])
        asking.observe(self._choose_first, "progress")
        asking.observe(lambda change: self._look_through(change["new"]), "bench")
        for name in LEFT:
            self.pane[name].observe(self._read_ahead, "view")
        self.pane["ranking"].observe(self._point_attention, "pair")
        self.pane["ranking"].observe(self._show_marks, "marked")
        for name in ("compare", "batch"):
            self.pane[name].on_msg(self._hear)
            self.pane[name].observe(self._write, "code")
        self.pane["lists"].observe(self._show_kept, "rows")
        own_labels.changes.watch(self._relabel)
        self.on_msg(self._hear)

    def _look_through(self, bench: Any) -> None:
        """The panes of one SAE: made when it is first looked through, kept as they are when another one is."""
        own = {name: pane for name, pane in self.pane.items() if name not in SHARED}
        if own:
            self._rooms[self.bench.sae_name] = (own, self.feature)
            for name in own:
                self.pane.pop(name)
                self._links.pop(name).unlink()
        self.bench = bench
        for name in FOLLOWING:
            self.pane[name].look_through(bench)
        room, feature = self._rooms.pop(bench.sae_name, (None, None))
        self.set_trait("preview", {})
        self.feature = feature
        if room is None:
            room = own_panes(bench, self._question(), self._ranked_features)
            self._listen(room)
        for name, pane in room.items():
            self._enter(name, pane)
        self._show_marks()
        self._show_kept()
        self._show_panes()

    def _listen(self, room: dict[str, Any]) -> None:
        """To panes that were just made."""
        room["group"].observe(self._show_marks, "marked")
        room["card"].observe(self._read_ahead, "html")
        room["finder"].observe(self._read_ahead, "view")
        for name in ("group", "card"):
            room[name].on_msg(self._hear)
        for pane in room.values():
            pane.observe(self._write, list(pane.kept))

    def _show_marks(self, change: Any = None) -> None:
        """Rows are marked in the ranking and in the group's pane alike."""
        if change is not None and change["owner"] is self.pane["ranking"]:
            self.pane["group"].marked = change["new"]
        elif "group" in self.pane:
            self.pane["ranking"].marked = self.pane["group"].marked

    def steer(self) -> None:
        """A slider for every marked feature."""
        for feature in dict.fromkeys(feature for feature, _ in self.pane["group"].marked):
            self.pane["steering"].give(feature)
        self.tab = "steering"

    def keep(self) -> None:
        """The selection into the person's list; what is kept already is shown there."""
        kept, feature = self.pane["lists"], self.feature
        if feature is None:
            return
        if kept.holds(feature):
            self.tab = "lists"
            return
        kept.keep(feature)
        self.set_trait("notice", kept.problem or f"feature {feature:,} kept in {kept.where}")

    def _show_kept(self, change: Any = None) -> None:
        if "card" in self.pane:
            self.pane["card"].is_kept = self.feature is not None and self.pane["lists"].holds(self.feature)

    def read(self) -> None:
        """The page of what was selected in a table."""
        self.tab = "card"

    def _show_panes(self) -> None:
        self.set_trait("panes", [{"name": name, "title": title, "widget": self.pane.get(name)} for name, title in TITLES.items()])
        self._write()

    def _add(self, name: str, widget: Pane) -> None:
        self._enter(name, widget)
        widget.observe(self._write, list(widget.kept))

    def _enter(self, name: str, widget: Pane) -> None:
        self.pane[name] = widget
        self._links[name] = traitlets.link((self, "feature"), (widget, "feature"))

    def _question(self) -> dict[str, str]:
        return {name: getattr(self.pane["prompt"], name) for name in ("prompt", "answer", "baseline")}

    def _show_ranking(self, change: Any) -> None:
        """What is ranked, everywhere: a new question is also the one whose attention is looked at, and what steering goes on from."""
        tell_ranking(self.pane, self._question(), change["old"], change["new"])
        self._map.ring(change["new"])
        self._point_attention()
        self._show_stale()
        self._choose_first()

    def _show_stale(self, change: Any = None) -> None:
        """Rows of another question than the one that is typed say so."""
        self.pane["ranking"].stale = stale_words(self.pane["prompt"], self.pane["ranking"].ranking)

    def _choose_first(self, change: Any = None) -> None:
        self._trail.choose_first()

    def go(self, by: int) -> None:
        """Back (−1) or forward (1) to what was looked at before: questions, SAEs, features; nothing is measured again."""
        self._trail.go(by)

    def back(self) -> None:
        """go(−1), for the page."""
        self.go(-1)

    def forward(self) -> None:
        """go(1), for the page."""
        self.go(1)

    @traitlets.observe("feature")
    def _see(self, change: Any) -> None:
        if self.panes:
            self._map.point_at(self.feature)
            self._point_attention()
            self._show_kept()
            if self.feature is not None:
                self._trail.visit()

    @traitlets.observe("tab")
    def _point_attention(self, change: Any = None) -> None:
        """The heads of the row that is chosen, measured as soon as they are looked at."""
        pane, pair = self.pane.get("attention"), self.pane["ranking"].pair if self.panes else []
        if pane is None:
            return
        pane.pos = pair[1] if pair and pair[0] == self.feature else None
        if self.tab == "attention":
            pane.measure()

    @traitlets.observe("left")
    def _read_ahead(self, change: Any) -> None:
        """What is seen now is likely to be chosen next: rows of the ranking and of a search, neighbors of the selection."""
        if "card" in self.pane:
            self.pane["card"].read_ahead(in_sight(self.pane, self.left))

    @traitlets.observe("tab")
    def _draw_map(self, change: Any = None) -> None:
        """The map is drawn when it is first looked at."""
        if self.tab == "map" and self._map.drawn is None and not self.waiting:
            self._map.draw()

    @traitlets.observe("tab")
    def _read_lists(self, change: Any = None) -> None:
        """Another notebook may have written the file since it was last looked at."""
        if self.tab == "lists" and self.panes:
            self.pane["lists"].refresh()

    @property
    def _drawing(self) -> Any:
        return self._map.drawing

    def take_map(self, drawn: FeatureMap) -> None:
        """The map, now that it is drawn."""
        self.pane["map"] = drawn
        drawn.observe(self._write, list(drawn.kept))
        self._map.ring(self.pane["ranking"].ranking)
        self._show_panes()

    def follow(self) -> None:
        """Looks through the SAE of the feature that is previewed."""
        sae, feature = self.preview.get("sae"), self.preview.get("feature")
        if sae is not None:
            self.pane["prompt"].sae = sae
            self.feature = feature

    def leave(self) -> None:
        """Closes the preview."""
        self.set_trait("preview", {})
        self._map.point_at(self.feature)

    def _relabel(self) -> None:
        """Labels have changed, here or in a cell: every pane shows them."""
        with SETTING:
            relabel(self.pane, self.bench)

    def _look_at_token(self, change: Any) -> None:
        """What is active at a token of the question."""
        if change["new"] is not None:
            self.tab = "finder"
            self.pane["finder"].look_at(self.pane["prompt"].prompt, change["new"])

    @traitlets.observe("sought")
    def _offer(self, change: Any = None) -> None:
        self.set_trait("offers", offered(self.bench, self.sought))

    def look_up(self, typed: str, at: int = 0) -> None:
        """What is typed, opened: a feature by its number or words of its label, or what is active on a text. at: which of what it may mean,
        the likeliest first. Raises ValueError where it is nothing of this dictionary's."""
        meant = opened(self.bench, typed, at)
        if meant.feature is None:
            self.tab = "finder"
            self.pane["finder"].look_at(meant.text, None)
        else:
            self.feature, self.tab = meant.feature, "card"

    def first_feature(self) -> int | None:
        """The one of largest effect."""
        ranking = self.pane["ranking"].ranking
        return None if ranking is None or not len(ranking.table) else int(ranking.table["feature"].iloc[0])

    @traitlets.observe("tab", "feature", "left")
    def _write(self, change: Any = None) -> None:
        is_whole = self.panes and "card" in self.pane  # not before all are there, nor between two SAEs
        if is_whole and all(self.pane[name].feature == self.feature for name in self._links):  # once, when the last one has followed
            self.set_trait("code", self.to_python())
            self.set_trait("facts", json.dumps(self.state(), ensure_ascii=False))

    def state(self) -> dict[str, Any]:
        return state_of(self, super().state())

    def restore(self, state: Mapping[str, Any]) -> None:
        """Also starts the ranking anew. Raises ValueError for a pane or a name that is not there."""
        restore(self, state, super().restore)

    def to_python(self) -> str:
        """Code that loads the same bench, computes what the panes show, and opens the explorer as it is."""
        return python_of(self)

    def _ranked_features(self) -> list[int]:
        """Those whose pages a saved file holds, the largest effects first."""
        ranking = self.pane["ranking"].ranking
        return [] if ranking is None else ranking.table["feature"].drop_duplicates().tolist()

    def save(self) -> None:
        """Sends the page the file that `to_html` writes, to download."""
        self.send({"name": "explorer.html", "page": page(self)})

    def _hear(self, _: Any, content: Any, buffers: Any) -> None:
        if not isinstance(content, dict):
            return
        if content.get("do") == "open" and isinstance(content.get("at"), int) and isinstance(content.get("typed"), str):
            with suppress(ValueError):  # which the offers say
                self.look_up(content["typed"], content["at"])
        elif content.get("do") in self.actions:
            getattr(self, content["do"])()

    def close(self) -> None:
        own_labels.changes.unwatch(self._relabel)
        if self._drawing is not None:
            self._drawing.cancel()
        for widget in [*self.pane.values(), *(each for room, _ in self._rooms.values() for each in room.values())]:
            widget.close()
        super().close()

    def static_html(self) -> str:
        ranking, beside = self.pane["ranking"].ranking, "" if self.left == "ranking" else self.pane[self.left].static_html()
        return (beside or ("" if ranking is None else ranking_html(ranking))) + self.pane["card"].static_html()

    def __repr__(self) -> str:
        chosen = "no feature" if self.feature is None else f"feature {self.feature}"
        return f"Explorer: {self.pane['prompt'].prompt!r}, {chosen}"


def _reference(pane: dict[str, Any]) -> dict[str, Any]:
    """How the page names a pane's widget: None while there is none."""
    return {**pane, "widget": reference(pane["widget"])}
