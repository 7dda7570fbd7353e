"""The map's place on the one screen: drawn when it is first looked at, the ranking ringed on it, points of other dictionaries previewed."""

from collections.abc import Mapping
from typing import Any

from widgets.html.card import card_html
from widgets.marks import visible
from widgets.panes.jobs import SETTING, Job, Progress
from widgets.panes.map import FeatureMap

N_RINGED = 20  # of a ranking's features: more would hide the map


class MapPlace:
    """explorer: whose `pane`, `preview` and `waiting` it fills."""

    def __init__(self, explorer: Any):
        self._explorer = explorer
        self.drawing: Job | None = None
        self.state: Mapping[str, Any] = {}  # what a state says of a map that is not drawn yet

    @property
    def drawn(self) -> FeatureMap | None:
        """The pane, once it is there."""
        return self._explorer.pane.get("map")

    def draw(self) -> None:
        """In a job: an index keeps a map, but without one it takes a while."""
        explorer = self._explorer

        def work(job: Job) -> None:
            table = explorer.bench.map().table
            with SETTING:
                if not job.is_cancelled:
                    drawn = FeatureMap(table, sae_name=explorer.bench.sae_name, feature=explorer.feature)
                    drawn.observe(self.follow, ["feature", "sae_name"])
                    drawn.restore(self.state)
                    explorer.take_map(drawn)

        def show(progress: Progress) -> None:
            explorer.set_trait("waiting", progress.message if progress.is_over else "drawing the map …")

        self.drawing = Job(work, explorer.bench.model, show)

    def ring(self, ranking: Any) -> None:
        """The first of a ranking's features, each once, by the largest effect that it has anywhere; None: nothing is ringed."""
        if self.drawn is None:
            return
        if ranking is None:
            return self.drawn.ring(self._explorer.bench.sae_name, [], "")
        features = ranking.table["feature"].drop_duplicates().head(N_RINGED).tolist()
        by = "effect" if ranking.table["effect"].notna().any() else "attribution"
        self.drawn.ring(self._explorer.bench.sae_name, features, f"the {len(features)} features of largest {by} on {ranking.answer!r}")

    def point_at(self, feature: int | None) -> None:
        """Selects a feature of the dictionary that is looked through."""
        if self.drawn is not None and feature is not None:
            self.drawn.point_at(self._explorer.bench.sae_name, feature)

    def follow(self, change: Any) -> None:
        """A point is selected; one of another dictionary is looked at beside what there is, which stays."""
        explorer, drawn = self._explorer, self.drawn
        if drawn is None:
            return
        name, feature = drawn.sae_name, drawn.feature
        if name == explorer.bench.sae_name:
            explorer.set_trait("preview", {})
            explorer.feature = feature
        elif name in explorer.bench.saes and feature is not None:
            explorer.set_trait("preview", preview_of(explorer.bench.with_sae(name), feature))


def preview_of(bench: Any, feature: int) -> dict[str, Any]:
    """A feature's page as plain data, its HTML escaped; without an index its name alone."""
    html = card_html(bench.feature(feature)) if bench.index is not None else ""
    return {"sae": bench.sae_name, "feature": feature, "title": visible(bench.labels.get(feature, "")), "html": html}
