"""The bundled transcoders: one a layer, each says what its MLP makes; their features have labels, are ranked, and make a graph."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from workbench import atlas
from workbench.activations.stream import harvest_many, padded
from workbench.atlas import build as recipe
from workbench.atlas.layers import transcoder_labels
from workbench.benches import load
from workbench.circuits.graph.groups import concept
from workbench.circuits.metrics import logit_diff
from workbench.sae.sae import SAE
from workbench.sae.training.train import TrainConfig
from workbench.sae.transcoder import Transcoder

KOBE = "Fact: The capital of the state where Kobe Bryant played basketball is"
METRIC = logit_diff(" Sacramento", " Albany")


@pytest.fixture(scope="module")
def bench():
    return atlas.load()


def test_each_predicts_its_own_mlp_and_no_other(bench):
    assert list(bench.transcoders) == list(range(bench.model.cfg.n_layers))
    tokens, is_text = padded(bench.model, atlas.texts(seed=5, n=128))
    names = [name for each in bench.transcoders.values() for name in (each.reads, each.writes)]
    found = {name: acts[is_text] for name, acts in harvest_many(bench.model, tokens, names).items()}
    for layer, each in bench.transcoders.items():
        x, y = found[each.reads], found[each.writes]
        assert (each.reads, each.writes) == (f"blocks.{layer}.mlp.hook_in", f"blocks.{layer}.hook_mlp_out")
        others = [found[other.reads] for other in bench.transcoders.values() if other is not each]
        own, *wrong = [float((y - each(read)).square().sum() / (y - y.mean(0)).square().sum()) for read in (x, *others)]
        assert own < 0.1 < min(wrong)
        assert (each.encode(x) > 0).sum(1).float().mean() <= 32


def test_a_graph_of_them_names_steps_of_the_answer(bench):
    graph = bench.circuit(KOBE, METRIC, over="transcoders", progress=False)
    steps = set(atlas.questions()[0].steps)
    found = set(graph.strongest(30).nodes["label"].map(concept)) & steps
    assert {"city:Los Angeles", "state:California"} <= found  # the team is not made by an MLP: attention brings it
    assert graph.scores.replacement > 0.5


def test_a_layer_is_looked_through_and_a_label_is_what_the_key_says(bench):
    layer = max(bench.transcoders)
    seen = bench.with_transcoder(layer)
    ranking = seen.rank(KOBE, METRIC, progress=False)
    assert ranking.hook_name == f"blocks.{layer}.hook_mlp_out" and ranking.agreement().attribution_rank_correlation > 0.5
    labels = transcoder_labels()
    assert set(labels) == {each.reads for each in bench.transcoders.values()} and all(labels.values())
    assert bench.transcoders.labels == labels and not labels.keys() & bench.layer_labels.keys()
    assert set(ranking.table["label"]) - {""} <= set(labels[seen.sae.reads].values())


def test_labels_say_nothing_of_other_transcoders_at_the_same_places(bench):
    others = {layer: Transcoder(each.cfg) for layer, each in bench.transcoders.items()}
    for layer, each in others.items():
        each.load_state_dict(bench.transcoders[layer].state_dict())
        each.requires_grad_(False)
    loaded = load("atlas", transcoders=others)
    for changed in (loaded, replace(bench, transcoders=others)):
        graph = changed.circuit(KOBE, METRIC, over="transcoders", limit=20, progress=False)
        assert set(graph.nodes.loc[graph.nodes["kind"] == "feature", "label"]) == {""}
        assert not any(changed.with_transcoder(3).labels.values())
    sae = SAE(bench.layers["blocks.1.hook_resid_pre"].cfg)
    sae.load_state_dict(bench.layers["blocks.1.hook_resid_pre"].state_dict())
    mixed = [sae.requires_grad_(False), bench.layers["blocks.3.hook_resid_pre"]]
    nodes = bench.circuit(KOBE, METRIC, "attributed", saes=mixed, limit=40, progress=False).nodes
    labeled = set(nodes.loc[(nodes["kind"] == "feature") & (nodes["label"] != ""), "hook_name"])
    assert labeled == {"blocks.3.hook_resid_pre"}


def test_the_recipe_writes_a_transcoder_in_16_bits_for_each_layer(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "TRANSCODER", TrainConfig(16, n_steps=3, l1=1.0))
    monkeypatch.setattr(recipe, "TRANSCODER_BUFFER", 2**12)
    folders = [tmp_path / f"blocks.{layer}" for layer in range(2)]
    recipe.build_transcoders(bench.model, folders, tmp_path / "training")
    for layer, folder in enumerate(folders):
        made = Transcoder.load(folder)
        assert made.reads == f"blocks.{layer}.mlp.hook_in" and made.cfg.model_name == "atlas"
        assert {weight.dtype for weight in load_file(folder / "sae_weights.safetensors").values()} == {torch.float16}
    assert not (tmp_path / "training").exists()
