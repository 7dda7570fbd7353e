"""The features of one or several dictionaries as points on a map: near each other where their directions are.

    FeatureMap(bench.map())                                 or any table with sae, feature, x, y, cluster, density, label; it may have
                                                            input_score and output_score
    pane.show_scores(found.table)                           colored by a search's score

Pan, zoom, lasso, search; a click or the arrow keys select. The points travel as bytes, once; map.js says which file then does what.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import traitlets

from widgets.html.map import map_html
from widgets.marks import visible
from widgets.panes.pane import Pane, module, style
from workbench.features.survey.mapping import named_regions

COLUMNS = ("sae", "feature", "x", "y", "cluster", "density", "label")
COLORS = ("density", "label", "dictionary", "reads", "writes", "score")
MOST_CHARS = 80  # of a label on the map
N_PLACES = 400  # clusters that may be named: more would never fit


class FeatureMap(Pane):
    """`feature` and `sae_name` are the selection, `lassoed` the rows of `table` inside the lasso (`lassoed_features`: as a table)."""

    _esm = module(
        "shared/copy",
        "shared/picture",
        *(f"map/{name}" for name in ("points", "map_data", "map_scene", "map_canvas", "map_svg", "map_words", "map_hand", "map")),
    )
    _css = style("map/map")
    kept = ("feature", "sae_name", "color_by", "query", "hidden", "view", "lassoed", "is_ringed")
    maker = "FeatureMap(bench.map())"

    sae_name = traitlets.Unicode("", help="the dictionary of the selection").tag(sync=True)
    color_by = traitlets.Enum(COLORS, "density").tag(sync=True)
    query = traitlets.Unicode("", help="words of labels, or a feature's number: what matches stands out").tag(sync=True)
    hidden = traitlets.List(traitlets.Unicode(), help="dictionaries that are not drawn").tag(sync=True)
    is_ringed = traitlets.Bool(True, help="are the ranking's features ringed?").tag(sync=True)
    view = traitlets.List([0.0, 0.0, 1.0], help="middle (x, y in −1 to 1) and zoom").tag(sync=True)
    lassoed = traitlets.List(traitlets.Int()).tag(sync=True)

    sae_names = traitlets.List(traitlets.Unicode()).tag(sync=True)
    points = traitlets.Bytes(help="float32: all x, then all y, in −1 to 1").tag(sync=True)
    numbers = traitlets.Bytes(help="int32: all features, all dictionaries' places in sae_names, all labels' places in texts").tag(sync=True)
    densities = traitlets.Bytes(help="float32").tag(sync=True)
    scores = traitlets.Bytes(help="float32, NaN where there is none; empty: no search was shown").tag(sync=True)
    reads = traitlets.Bytes(help="float32, each feature's input score, NaN where there is none; empty: none is known").tag(sync=True)
    writes = traitlets.Bytes(help="the same of output scores").tag(sync=True)
    texts = traitlets.Bytes(help="the different labels, one a line, UTF-8").tag(sync=True)
    ranked = traitlets.List(traitlets.Int(), read_only=True, help="rows of `table` that are ringed, a ranking's first ones first").tag(
        sync=True
    )
    ranked_of = traitlets.Unicode(read_only=True, help="what they are").tag(sync=True)
    places = traitlets.List(help="[x, y, name] of clusters, large ones first").tag(sync=True)

    def __init__(self, table: Any, **traits: Any):
        """`table`: a DataFrame, or what has one as `.table`. cluster −1: in none."""
        self.table = checked(getattr(table, "table", table))
        self._xy = fitted(self.table)
        self._features = self.table["feature"].to_numpy(np.int32)
        names = self.table["sae"].astype(str).value_counts(ascending=True, sort=True).index.tolist()  # small dictionaries first
        self._saes = pd.Categorical(self.table["sae"].astype(str), names).codes.astype(np.int32)
        drawn = dict(
            sae_names=[visible(name) for name in names],
            points=self._xy.astype(np.float32).T.tobytes(),
            densities=self.table["density"].to_numpy(np.float32).tobytes(),
            reads=self._known("input_score"),
            writes=self._known("output_score"),
            **self._named(),
        )
        super().__init__(**{**drawn, "sae_name": visible(names[0]) if len(names) else "", **traits})

    def _known(self, score: str) -> bytes:
        return self.table[score].to_numpy(np.float32).tobytes() if score in self.table and self.table[score].notna().any() else b""

    def _named(self) -> dict[str, Any]:
        """What follows from the labels."""
        labels, texts = pd.factorize(self.table["label"].fillna("").astype(str))
        shown = [text if text.isprintable() else visible(text) for text in (str(text)[:MOST_CHARS] for text in texts)]
        return dict(
            numbers=np.stack([self._features, self._saes, labels]).astype(np.int32).tobytes(),
            texts="\n".join(shown).encode("utf-8", "replace"),
            places=places(self._xy, self.table),
        )

    def point_at(self, sae_name: str, feature: int | None) -> None:
        """Selects a feature of a dictionary."""
        with self.hold_trait_notifications():
            self.sae_name, self.feature = sae_name, feature

    def ring(self, sae_name: str, features: Sequence[int], of: str) -> None:
        """Marks features of one dictionary, in this order, and says what they are; those that are not on the map are left out."""
        rows = {int(self._features[row]): int(row) for row in np.flatnonzero((self.table["sae"].astype(str) == sae_name).to_numpy())}
        with self.hold_sync():
            self.set_trait("ranked", [rows[feature] for feature in features if feature in rows])
            self.set_trait("ranked_of", visible(of))

    def relabel(self, sae_name: str, labels: Mapping[int, str]) -> None:
        """Features of one dictionary are called as they are now."""
        is_its = (self.table["sae"].astype(str) == sae_name).to_numpy()
        now = [labels.get(int(feature), "") for feature in self.table["feature"][is_its]]
        if now != self.table["label"][is_its].tolist():
            self.table.loc[is_its, "label"] = now
            with self.hold_sync():
                for name, value in self._named().items():
                    setattr(self, name, value)

    @property
    def lassoed_features(self) -> pd.DataFrame:
        """The rows of `table` inside the lasso."""
        return self.table.iloc[self.lassoed]

    def show_scores(self, scores: Mapping[int, float] | pd.DataFrame) -> None:
        """Color by a search's score: feature → score, or a table with feature and score; without a column sae, of `sae_name`'s features."""
        table = pd.DataFrame(scores.items(), columns=["feature", "score"]) if isinstance(scores, Mapping) else scores
        missing = [name for name in ("feature", "score") if name not in table]
        if missing:
            raise ValueError(f"scores need a column {missing[0]!r}; there are {', '.join(map(str, table.columns))}")
        keys = table.assign(sae=table["sae"].astype(str) if "sae" in table else self.sae_name)[["sae", "feature", "score"]]
        rows = pd.DataFrame({"sae": np.array(self.sae_names, dtype=object)[self._saes], "feature": self._features})
        found = rows.merge(keys.drop_duplicates(["sae", "feature"]), how="left", on=["sae", "feature"])
        with self.hold_sync():
            self.scores, self.color_by = found["score"].to_numpy(np.float32).tobytes(), "score"

    def static_html(self) -> str:
        selected = None if self.feature is None else self._row()
        return map_html(self._xy, self._saes, self.sae_names, self.table, selected, self.lassoed)

    def _row(self) -> int | None:
        if self.sae_name not in self.sae_names:
            return None
        rows = np.flatnonzero((self._features == self.feature) & (self._saes == self.sae_names.index(self.sae_name)))
        return int(rows[0]) if len(rows) else None

    def __repr__(self) -> str:
        chosen = "nothing selected" if self.feature is None else f"feature {self.feature} of {self.sae_name} selected"
        return f"FeatureMap: {len(self.table):,} features of {', '.join(self.sae_names) or 'no dictionary'}, {chosen}"


def checked(table: pd.DataFrame) -> pd.DataFrame:
    """The table. Raises ValueError for a missing column or a point without a place."""
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        raise ValueError(f"a map needs the columns {', '.join(COLUMNS)}; {', '.join(missing)} is missing")
    wrong = ~np.isfinite(table[["x", "y"]].to_numpy(float)).all(axis=1)
    if wrong.any():
        row = table[wrong].iloc[0]
        raise ValueError(f"{wrong.sum():,} features have no place: feature {row.feature} of {row.sae} is at ({row.x}, {row.y})")
    return table.reset_index(drop=True)


def fitted(table: pd.DataFrame) -> np.ndarray:
    """(n, 2), moved and scaled, by one factor, into −1 to 1: distances stay comparable."""
    xy = table[["x", "y"]].to_numpy(float)
    if not len(xy):
        return xy
    low, high = xy.min(axis=0), xy.max(axis=0)
    return 2 * (xy - (low + high) / 2) / (float((high - low).max()) or 1.0)


def places(xy: np.ndarray, table: pd.DataFrame) -> list[list[Any]]:
    """Where the map's named regions lie, and their names."""
    regions = named_regions(table.assign(x=xy[:, 0], y=xy[:, 1])).head(N_PLACES)
    rows = zip(regions["x"], regions["y"], regions["name"], strict=True)
    return [[round(float(x), 4), round(float(y), 4), visible(str(name)[:MOST_CHARS])] for x, y, name in rows]
