"""Everything that writes files, small: each a function of a folder of its own, made ready before, that can be called again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from made_bench import made_bench
from made_graph import made_graph
from made_index import TEXTS, made_saes
from made_models import random_sae
from made_stream import D_SAE, Planted
from made_transcoders import random_cross_layer, random_transcoder

from workbench.activations.shards import write_shards
from workbench.activations.stream import ActivationStream
from workbench.features.index.index import FeatureIndex, build_index
from workbench.features.index.own_labels import OwnLabels
from workbench.features.index.parts import Label
from workbench.features.lists.feature_list import FeatureList
from workbench.features.survey import mapping
from workbench.sae.convert import convert
from workbench.sae.formats.circuit_tracer_write import write_set
from workbench.sae.formats.sparsify import write_sparsify
from workbench.sae.sae import SAE
from workbench.sae.scaling.sweep import add_rows
from workbench.sae.training.recipe import TrainConfig
from workbench.sae.training.train import train

CONFIG = TrainConfig(d_sae=D_SAE, n_steps=20, lr=3e-3)
RUN = dict(n_features=8, n_steps=50, lr=1e-3, seed=0, loss=1.0, fvu=0.1, l0=2.0, dead=0.0)
ROW = RUN | dict(model_name="made", hook_name="blocks.0.hook_resid_pre", d_in=16, batch=64, l1=5.0)
Writer = Callable[[Path], Any]


def made_writers(model: Any) -> dict[str, tuple[Writer, Writer]]:
    """name → (what makes its folder ready, what writes)."""
    saes = made_saes()
    sets = {layer: random_transcoder(layer=layer) for layer in range(2)}

    def index(at: Path) -> FeatureIndex:
        return build_index(model, {"narrow": saes["narrow"]}, TEXTS[:6], at / "index", shard=100, progress=False)

    def opened(at: Path) -> FeatureIndex:
        return FeatureIndex.open(at / "index")

    def nothing(at: Path) -> None:
        pass

    return {
        "an SAE": (nothing, lambda at: random_sae().save(at / "sae")),
        "an SAE over another": (lambda at: made_saes()["narrow"].save(at / "sae"), lambda at: random_sae().save(at / "sae")),
        "a transcoder": (nothing, lambda at: random_transcoder(has_skip=True).save(at / "transcoder")),
        "a cross-layer transcoder": (nothing, lambda at: random_cross_layer().save(at / "clt")),
        "circuit-tracer's set": (nothing, lambda at: write_set(sets, at / "set")),
        "sparsify's folder": (nothing, lambda at: write_sparsify(random_transcoder("topk", d_out=8), at / "sparsify")),
        "convert": (lambda at: random_sae().save(at / "sae"), lambda at: convert(at / "sae", at / "a" / "b")),
        "convert a set": (lambda at: write_set(sets, at / "set"), lambda at: convert(at / "set", at / "folders")),
        "index": (nothing, index),
        "labels": (index, lambda at: opened(at).save_labels({3: Label("cats", 0.5, "token statistics")})),
        "map": (index, lambda at: made_map({"narrow": saes["narrow"]}, opened(at))),
        "pages": (index, lambda at: opened(at).to_html([3, 4], at / "pages", progress=False)),
        "kept features": (nothing, lambda at: FeatureList(made_bench(model), at / "kept.json").keep(3, "a note")),
        "own labels": (nothing, lambda at: OwnLabels(at / "mine.json").put("abc", {3: Label("cats")})),
        "train": (nothing, lambda at: train(Planted(), CONFIG, progress=False, folder=at / "run", checkpoint_every=7)),
        "runs": (lambda at: add_rows([ROW], at / "runs.jsonl"), lambda at: add_rows([ROW | {"lr": 2e-3}], at / "runs.jsonl")),
        "shards": (nothing, lambda at: write_shards(made_activations(model), at / "shards", 600, 256)),
        "graph": (nothing, lambda at: made_graph().to_json(at / "graph.json")),
        "graph's page": (nothing, lambda at: made_graph().to_html(at / "graph.html")),
    }


def made_map(saes: dict[str, SAE], index: FeatureIndex) -> None:
    """By the two axes of largest variance: UMAP compiles for ten seconds."""
    with mock.patch.object(mapping, "place", lambda directions: (mapping._principal(directions), "PCA")):
        mapping.feature_map(saes, index)


def made_activations(model: Any) -> ActivationStream:
    return ActivationStream(model, TEXTS, "blocks.1.hook_resid_pre", batch=64, buffer=256)


def without_clock(folder: Path) -> dict[str, Any]:
    """What is in it, the metrics without what depends on the clock."""
    found: dict[str, Any] = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for name in found:
        if name.endswith("metrics.jsonl"):
            rows = [json.loads(line) for line in found[name].splitlines()]
            found[name] = [{key: value for key, value in row.items() if key != "tokens_per_second"} for row in rows]
        if name.endswith("kept.json"):
            found[name] = [each | {"kept": ""} for each in json.loads(found[name])["entries"]]
        if name.endswith("mine.json"):
            found[name] = {i: said[-1]["text"] for i, said in json.loads(found[name])["saes"]["abc"].items()}
    return found
