"""The whole workbench on one screen, around one selection: choose a feature anywhere and every pane follows.

from widgets import explore
explore(bench)                                                        the atlas brings its own first question
explore(bench, "The cat sat on the", " mat", " floor", feature=7)
explorer.pane["ranking"].query = "lakers effect>0.1"                  each pane's traits are its state
explorer.state(); explorer.restore(state); explorer.to_python(); explorer.to_html("view.html")
"""

import json
from collections.abc import Mapping
from typing import Any

import traitlets

from widgets.html.ranking import ranking_html
from widgets.html.standalone import WIDGET, page
from widgets.panes.attention import AttentionPane
from widgets.panes.card import CardPane
from widgets.panes.finder import Finder
from widgets.panes.jobs import SETTING, Job, Progress
from widgets.panes.map import FeatureMap
from widgets.panes.pane import Pane, module, style
from widgets.panes.prompt import PromptPane
from widgets.panes.ranking import RankingTable
from widgets.panes.steering import SteeringPane
from workbench.sae.sae import checked_feature

FIRST_QUESTION = {"atlas": ("Fact: The capital of the state where Kobe Bryant played basketball is", " Sacramento", " Albany")}
PATIENCE = 5.0  # seconds that `explore` waits for the first ranking, so that the notebook keeps it for where no script runs
TITLES = {
    "prompt": "Question",
    "ranking": "Ranking",
    "card": "Feature",
    "finder": "Find",
    "steering": "Steer",
    "map": "Map",
    "attention": "Attention",
}


def explore(bench: Any, prompt: str = "", answer: str = "", baseline: str = "", *, feature: int | None = None) -> "Explorer":
    """The workbench as one widget. No baseline: the answer against the mean logit; no answer: the model's first."""
    from workbench.bench import Workbench

    if not isinstance(bench, Workbench):
        raise ValueError(f"{bench!r} is no Workbench: expected what wb.load gives, such as wb.load('atlas')")
    if feature is not None:
        checked_feature(feature, bench.sae.cfg.d_sae)
    if not prompt:
        prompt, answer, baseline = FIRST_QUESTION.get(bench.name, ("", "", ""))
    explorer = Explorer(bench, prompt=prompt, answer=answer, baseline=baseline)
    if prompt and (job := explorer.pane["prompt"].run()):
        job.wait(PATIENCE)
    explorer.feature = feature if feature is not None else explorer.first_feature()
    return explorer


class Explorer(Pane):
    _esm = module("shared/copy", "explorer/explorer")
    _css = style("explorer/explorer")

    panes = traitlets.List(read_only=True).tag(sync=True, to_json=lambda panes, _: [_reference(each) for each in panes])
    waiting = traitlets.Unicode(read_only=True, help="where the map will be, what is being done or is wrong").tag(sync=True)
    tab = traitlets.Unicode("card", help="the pane beside the ranking").tag(sync=True)
    code = traitlets.Unicode(read_only=True).tag(sync=True)  # to_python()
    facts = traitlets.Unicode(read_only=True).tag(sync=True)  # state() as JSON

    kept = ("feature", "tab")
    actions = ("save",)

    def __init__(self, bench: Any, prompt: str = "", answer: str = "", baseline: str = ""):
        self.bench, self.pane, self._drawing = bench, {}, None
        super().__init__()
        self._add("prompt", PromptPane(bench, prompt=prompt, answer=answer, baseline=baseline))
        self._add("ranking", RankingTable())
        self._look_through(bench)
        self.pane["prompt"].observe(self._show_ranking, "ranking")
        self.pane["ranking"].observe(self._read_ahead, "view")
        self.pane["prompt"].observe(lambda change: self._look_through(change["new"]), "bench")
        self.on_msg(self._hear)

    def _look_through(self, bench: Any) -> None:
        """The panes that read one SAE, made anew for it."""
        self.bench, question = bench, self._question()
        for name in [name for name in self.pane if name not in ("prompt", "ranking", "map")]:
            self.pane.pop(name).close()
        self._add("card", CardPane(bench, saved_features=self._ranked_features))
        self._add("finder", Finder(bench))
        self.pane["card"].observe(self._read_ahead, "html")
        self.pane["finder"].observe(self._read_ahead, "view")
        self._add("steering", SteeringPane(bench, prompt=question["prompt"]))
        self._add("attention", AttentionPane(bench, **question))
        if "map" in self.pane:
            self.pane["map"].sae_name = bench.sae_name
        self._show_panes()

    def _show_panes(self) -> None:
        self.set_trait("panes", [{"name": name, "title": title, "widget": self.pane.get(name)} for name, title in TITLES.items()])
        self._write()

    def _add(self, name: str, widget: Pane) -> None:
        self.pane[name] = widget
        traitlets.link((self, "feature"), (widget, "feature"))
        widget.observe(self._write, list(widget.kept))

    def _question(self) -> dict[str, str]:
        return {name: getattr(self.pane["prompt"], name) for name in ("prompt", "answer", "baseline")}

    def _show_ranking(self, change: Any) -> None:
        """What is ranked, everywhere: a new question is also the one whose attention is looked at, and what steering goes on from."""
        old, new = change["old"], change["new"]
        self.pane["ranking"].ranking = new
        if new is not None and (old is None or old.prompt != new.prompt):
            self.pane["steering"].prompt = new.prompt
        for name, value in self._question().items():
            setattr(self.pane["attention"], name, value)

    def _read_ahead(self, change: Any) -> None:
        """What is seen now is likely to be chosen next: rows of the ranking and of a search, neighbors of the selection."""
        rows = [row for name in ("ranking", "finder") if name in self.pane for row in self.pane[name].view.get("rows", [])]
        if "card" in self.pane:
            self.pane["card"].read_ahead(list(dict.fromkeys([*(row["feature"] for row in rows), *self.pane["card"].neighbors])))

    @traitlets.observe("tab")
    def _draw_map(self, change: Any = None) -> None:
        """The map is drawn when it is first looked at, in a job: an index keeps it, but without one it takes a while."""
        if self.tab != "map" or "map" in self.pane or self.waiting:
            return

        def work(job: Job) -> None:
            table = self.bench.map().table
            with SETTING:
                if not job.is_cancelled:
                    self._add("map", FeatureMap(table, sae_name=self.bench.sae_name, feature=self.feature))
                    self.pane["map"].observe(self._follow_map, "sae_name")
                    self._show_panes()

        def show(progress: Progress) -> None:
            self.set_trait("waiting", progress.message if progress.is_over else "drawing the map …")

        self._drawing = Job(work, self.bench.model, show)

    def _follow_map(self, change: Any) -> None:
        """A point of another dictionary was chosen: everything looks through that one."""
        feature = self.pane["map"].feature
        if change["new"] in self.bench.saes and change["new"] != self.bench.sae_name:
            self.pane["prompt"].sae = change["new"]
            self.feature = feature

    def first_feature(self) -> int | None:
        """The one of largest effect."""
        ranking = self.pane["ranking"].ranking
        return None if ranking is None or not len(ranking.table) else int(ranking.table["feature"].iloc[0])

    @traitlets.observe("tab", "feature")
    def _write(self, change: Any = None) -> None:
        if self.panes:  # not before all are there
            self.set_trait("code", self.to_python())
            self.set_trait("facts", json.dumps(self.state(), ensure_ascii=False))

    def state(self) -> dict[str, Any]:
        return {**super().state(), "panes": {name: widget.state() for name, widget in self.pane.items()}}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Also starts the ranking anew. Raises ValueError for a pane or a name that is not there."""
        panes = state.get("panes", {})
        unknown = [name for name in panes if name not in self.pane]
        if unknown:
            raise ValueError(f"the explorer has no pane {unknown[0]!r}; it has {', '.join(self.pane)}")
        for name in ("prompt", *(each for each in self.pane if each != "prompt")):  # the question first: it may change the SAE
            self.pane[name].restore(panes.get(name, {}))
        super().restore({name: value for name, value in state.items() if name != "panes"})
        if self.pane["prompt"].prompt:
            self.pane["prompt"].run()

    def to_python(self) -> str:
        """Code that loads the same bench, computes what the panes show, and opens the explorer as it is."""
        model = self.bench.name or str(self.bench.model.cfg.model_name)
        sae = repr(self.bench.sae_name) if model == "atlas" else "the folder of its SAE"
        steps = [self.pane[name].to_python() for name in ("prompt", "card")]
        steps += [f"found = {self.pane['finder'].query()}"] if self.pane["finder"].positive else []
        imports = "import workbench as wb\nfrom widgets import explore"
        lines = [imports, "", f"bench = wb.load({model!r}, sae={sae})", *filter(None, steps), "", "explorer = explore(bench)"]
        return "\n".join([*lines, f"explorer.restore({self.state()!r})"])

    def _ranked_features(self) -> list[int]:
        """Those whose pages a saved file holds, the largest effects first."""
        ranking = self.pane["ranking"].ranking
        return [] if ranking is None else ranking.table["feature"].drop_duplicates().tolist()

    def save(self) -> None:
        """Sends the page the file that `to_html` writes, to download."""
        self.send({"name": "explorer.html", "page": page(self)})

    def _hear(self, _: Any, content: Any, buffers: Any) -> None:
        if isinstance(content, dict) and content.get("do") in self.actions:
            getattr(self, content["do"])()

    def close(self) -> None:
        if self._drawing is not None:
            self._drawing.cancel()
        for widget in self.pane.values():
            widget.close()
        super().close()

    def static_html(self) -> str:
        ranking, card = self.pane["ranking"].ranking, self.pane["card"]
        return ("" if ranking is None else ranking_html(ranking)) + card.static_html()

    def __repr__(self) -> str:
        chosen = "no feature" if self.feature is None else f"feature {self.feature}"
        return f"Explorer: {self.pane['prompt'].prompt!r}, {chosen}"


def _reference(pane: dict[str, Any]) -> dict[str, Any]:
    """How the page names a pane's widget: None while there is none."""
    return {**pane, "widget": None if pane["widget"] is None else WIDGET + pane["widget"].model_id}
