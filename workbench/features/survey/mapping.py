"""A map of all features of several dictionaries: those that point the same way lie near each other.

    decoder directions → each one's nearest by cosine → two numbers (UMAP, seeded; PCA where umap-learn is absent) → clusters of the map

Scaling Monosemanticity, "Feature Survey". A map is a picture, not a measurement: distances across it mean little. It is kept
beside the index, map.parquet: what was drawn once is only read.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Float
from torch.nn.functional import normalize

from workbench.features.index.building.shards import write_table
from workbench.features.index.manifest import reading
from workbench.features.index.parts import FeatureScore
from workbench.files import is_in_package
from workbench.process import put_back, quiet
from workbench.sae.dictionary import Dictionary
from workbench.sae.neighborhoods import nearest

if TYPE_CHECKING:
    from workbench.features.index.index import FeatureIndex

MAP = "map.parquet"
N_NEAREST, SEED = 15, 0
FEWEST = 10  # features in a cluster


@dataclass(frozen=True, repr=False, eq=False)
class FeatureMapping:
    """`.table`: one row a feature that is ever active: sae, feature, x, y, cluster (−1: in none), density, label; input_score and
    output_score, NaN where a feature has none, if the index keeps some."""

    table: pd.DataFrame
    method: str  # "UMAP" or "PCA"

    @property
    def regions(self) -> pd.DataFrame:
        """The clusters that have a name: see `named_regions`."""
        return named_regions(self.table)

    @property
    def clusters(self) -> pd.DataFrame:
        """One row a cluster, the largest first: how many features, from which dictionaries, and its name ("" where labels disagree)."""
        grouped = self.table[self.table["cluster"] >= 0].groupby("cluster")
        sizes = grouped["sae"].value_counts().unstack(fill_value=0)
        sizes.insert(0, "n_features", grouped.size())
        names = self.regions.set_index("cluster")["name"]
        sizes["label"] = names.reindex(sizes.index).fillna("")
        return sizes.sort_values("n_features", ascending=False, kind="stable").reset_index()

    def _repr_html_(self) -> str:
        from widgets.html.survey import map_html

        return map_html(self)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{n:,} of {sae}" for sae, n in self.table["sae"].value_counts(sort=False).items())
        lines = [f"FeatureMapping by {self.method}: {len(self.table):,} features ({sizes}), {len(self.clusters)} clusters"]
        lines += [f"  {row.n_features:>5} features  {row.label}".rstrip() for row in self.clusters.head(8).itertuples()]
        return "\n".join(lines)


def feature_map(saes: Mapping[str, Dictionary], index: "FeatureIndex | None" = None) -> FeatureMapping:
    """All SAEs on one map; of those that the index knows only features that are ever active, with density and label. Where it knows all of
    them, the map is kept there. The index may call the SAEs otherwise: the map has the names that are given here.

    Raises ValueError for SAEs whose decoder rows differ in length: their directions cannot be compared.
    """
    widths = {name: sae.W_dec.shape[1] for name, sae in saes.items()}
    if not saes or len(set(widths.values())) > 1:
        raise ValueError(f"one map needs SAEs that read the same activations, not of widths {widths or 'none'}")
    known = {name: index.name_of(sae) for name, sae in saes.items() if index is not None and index.has(sae)}
    if index is None or len(set(known.values())) < len(saes):  # or knows one that has two names here
        shown = {name: _active(index, known[name]) if index and name in known else np.arange(sae.cfg.d_sae) for name, sae in saes.items()}
        return _labeled(*drawn(saes, shown), index, known)
    names = {theirs: name for name, theirs in known.items()}
    found = _of_index({index.name_of(sae): sae for sae in saes.values()}, index)
    return replace(found, table=found.table.assign(sae=found.table["sae"].map(names)))


def _of_index(saes: Mapping[str, Dictionary], index: "FeatureIndex") -> FeatureMapping:
    """saes: as the index calls them."""
    prints, file = {name: sae.fingerprint() for name, sae in saes.items()}, index.folder / MAP
    if not (placed := _kept(file, prints)):
        placed = drawn(saes, {name: _active(index, name) for name in saes})
        if not is_in_package(file):
            table = pa.Table.from_pandas(placed[0], preserve_index=False)
            write_table(file, table.replace_schema_metadata({"saes": json.dumps(prints), "method": placed[1]}))
    return _labeled(*placed, index, {name: name for name in saes})


def _active(index: "FeatureIndex", sae: str) -> np.ndarray:
    return index.sql("SELECT feature FROM features WHERE sae = ? AND n_active > 0 ORDER BY feature", sae)["feature"].to_numpy()


def drawn(saes: Mapping[str, Dictionary], features: Mapping[str, np.ndarray]) -> tuple[pd.DataFrame, str]:
    """(sae, feature, x, y, cluster; the method)"""
    with put_back():
        from sklearn.cluster import HDBSCAN

    rows = [normalize(sae.W_dec.detach().float().cpu()[torch.tensor(features[name])], dim=1) for name, sae in saes.items()]
    places, method = place(torch.cat(rows))
    cluster = HDBSCAN(min_cluster_size=FEWEST, copy=True).fit_predict(places) if len(places) >= FEWEST else np.full(len(places), -1)
    names = np.repeat(list(features), [len(each) for each in features.values()])
    table = pd.DataFrame({"sae": names, "feature": np.concatenate(list(features.values())).astype(np.int32)})
    return table.assign(x=places[:, 0], y=places[:, 1], cluster=cluster.astype(np.int32)), method


def place(directions: Float[torch.Tensor, "n d_in"]) -> tuple[Float[np.ndarray, "n 2"], str]:
    """(two numbers for each unit row, the method)"""
    flat = _principal(directions)
    if len(directions) <= N_NEAREST + 1:
        return flat, "PCA"
    try:
        with put_back():
            from umap import UMAP
    except ImportError:
        return flat, "PCA"
    cosines, indices = nearest(directions, directions, N_NEAREST)
    known = indices.numpy().astype(np.int32), (1 - cosines).clamp_min(0).numpy(), None  # exact: no approximate search, no start of its own
    start = (10 * flat / np.abs(flat).max()).astype(np.float32)
    reducer = UMAP(n_neighbors=N_NEAREST, metric="cosine", random_state=SEED, n_jobs=1, init=start, precomputed_knn=known)
    with put_back(), quiet("precomputed_knn", "n_jobs value"):  # new points cannot be placed on it: none come
        return reducer.fit_transform(directions.numpy()).astype(np.float32), "UMAP"


def _principal(directions: Float[torch.Tensor, "n d_in"]) -> Float[np.ndarray, "n 2"]:
    """The two axes of largest variance, each turned so that its largest component is positive."""
    centered = (directions - directions.mean(0)).double()
    axes = torch.linalg.eigh(centered.T @ centered).eigenvectors[:, -2:].flip(1)
    axes = axes * axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
    return (centered @ axes).float().numpy()


def _kept(file: Path, prints: Mapping[str, str]) -> tuple[pd.DataFrame, str] | None:
    """The map that was drawn of these SAEs before."""
    if not file.is_file():
        return None
    with reading(file):
        table = pq.read_table(file, page_checksum_verification=True)
        about = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
        if about.get("saes") != json.dumps(prints):
            return None
        places = table.to_pandas()[["sae", "feature", "x", "y", "cluster"]]
        if not set(places["sae"]) <= set(prints) or not np.isfinite(places[["feature", "x", "y", "cluster"]].to_numpy(float)).all():
            raise ValueError("a place or a name in it is none")
        return places, about["method"]


def _labeled(table: pd.DataFrame, method: str, index: "FeatureIndex | None", known: Mapping[str, str]) -> FeatureMapping:
    """known: an SAE's name on the map → what the index calls it."""
    if index is None or not known:
        return FeatureMapping(table.assign(density=np.nan, label=""), method)
    density = index.sql("SELECT sae AS theirs, feature, density FROM features")
    density = density.merge(pd.DataFrame({"sae": list(known), "theirs": list(known.values())})).drop(columns="theirs")
    labels = {(name, i): label.text for name, theirs in known.items() for i, label in index.labels(theirs).items()}
    text = [labels.get(key, "") for key in zip(table["sae"], table["feature"], strict=True)]
    table = table.merge(density, on=["sae", "feature"], how="left").assign(label=text)
    return FeatureMapping(_scored(table, index, known), method)


def _scored(table: pd.DataFrame, index: "FeatureIndex", known: Mapping[str, str]) -> pd.DataFrame:
    scores = {(name, i): each for name, theirs in known.items() for i, each in index.with_sae(theirs).scores().items()}
    if not scores:
        return table
    pairs = [scores.get(key, FeatureScore()) for key in zip(table["sae"], table["feature"], strict=True)]
    return table.assign(**dict(zip(("input_score", "output_score"), np.array(pairs, dtype=np.float64).T, strict=True)))


def named_regions(table: pd.DataFrame) -> pd.DataFrame:
    """What each cluster is called, the same wherever a map is drawn: cluster, name, n_named (features that bear it), x, y (their median).

    The label that most of its labeled features bear, if at least two do and at least half of them; else the two commonest, if these do
    together; else it has no name. Of equally common labels the first of the alphabet. Those most borne come first.
    """
    named = table[(table["cluster"] >= 0) & (table["label"].fillna("").astype(str).str.strip() != "")]
    counts = named.groupby(["cluster", "label"]).size().rename("n").reset_index()
    counts["n_labeled"] = counts.groupby("cluster")["n"].transform("sum")
    counts = counts[counts["n"] > 1].sort_values(["cluster", "n", "label"], ascending=[True, False, True], kind="stable")
    counts["place"] = counts.groupby("cluster").cumcount()
    two = counts[counts["place"] < 2].copy()
    is_enough = two["n"] * 2 >= two["n_labeled"]
    agreed = two.loc[(two["place"] == 0) & is_enough, "cluster"]
    together = two.groupby("cluster")["n"].sum() * 2 >= two.groupby("cluster")["n_labeled"].first()
    borne = two[
        ((two["place"] == 0) & two["cluster"].isin(agreed)) | (~two["cluster"].isin(agreed) & two["cluster"].map(together).astype(bool))
    ]
    middles = named.merge(borne[["cluster", "label"]], on=["cluster", "label"]).groupby("cluster")[["x", "y"]].median()
    grouped = borne.groupby("cluster")
    found = pd.DataFrame({"name": grouped["label"].agg(" · ".join), "n_named": grouped["n"].sum()}).join(middles).reset_index()
    return found.sort_values(["n_named", "cluster"], ascending=[False, True], kind="stable").reset_index(drop=True)
