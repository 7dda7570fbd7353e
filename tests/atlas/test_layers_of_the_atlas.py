"""The bundled SAEs of every layer: each reads its own layer well, they stand in order of depth, steps of questions have features there."""

import shutil
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import normalize

from workbench import atlas
from workbench.activations.stream import harvest, padded
from workbench.atlas import build as recipe
from workbench.circuits.depth.layers import by_layer
from workbench.features.index.index import FeatureIndex
from workbench.features.index.parts import FeatureScore
from workbench.model.points import place
from workbench.sae.sae import SAE
from workbench.sae.training.train import TrainConfig


@pytest.fixture(scope="module")
def bench():
    return atlas.load()


def test_there_is_an_sae_at_every_depth_in_order(bench):
    assert [place(name)[0] for name in bench.layers] == [0, 1, 2, 3, 4, 5, 6]
    assert bench.layers["blocks.3.hook_resid_pre"] is bench.saes["2k"]
    assert list(by_layer(bench.model, bench.layers)) == list(bench.layers)


def test_each_reads_its_own_layer_and_no_other(bench):
    tokens, is_text = padded(bench.model, atlas.texts(seed=5, n=64))
    read = [harvest(bench.model, tokens, name)[is_text] for name in bench.layers]
    for name, sae in bench.layers.items():
        assert sae.cfg.hook_name == name
        unexplained = [float((x - sae(x)).square().sum() / (x - x.mean(0)).square().sum()) for x in read]
        assert min(unexplained) == unexplained[list(bench.layers).index(name)] < 0.05


def test_no_bundled_dictionary_is_full_of_copies(bench):
    """Features that read anything: fewer than 1 in 1,000 pairs point the same way; where copies were merged, 1 in 10 features has a twin at
    most."""
    found = bench.saes | dict(bench.layers) | {f"transcoder {layer}": each for layer, each in bench.transcoders.items()}
    for name, each in found.items():
        rows = normalize(each.W_dec[each.W_enc.norm(dim=0) > 0], dim=1)
        n_alike = torch.cat([(part @ rows.T > 0.99).sum(1) for part in rows.split(1024)]) - 1
        assert n_alike.sum() <= 0.001 * len(rows) * (len(rows) - 1), name
        assert "merged" not in each.cfg.metadata or (n_alike > 0).float().mean() <= 0.2, name


def test_what_was_merged_is_dead_has_no_label_and_is_near_nobody(bench):
    sae, index = bench.saes["16k"], bench.index.with_sae("16k")
    freed = (sae.W_enc.norm(dim=0) == 0).nonzero()[:, 0].tolist()
    assert len(freed) == sae.cfg.metadata["merged"] > 5_000
    assert (index.table["n_active"].to_numpy()[freed] == 0).all() and not set(index.labels()) & set(freed)
    near = {each.feature for i in (241, 7636, 2571) for each in index.feature(i).neighbors["16k"]}
    assert near and not near & set(freed)


def test_a_layer_that_has_no_sae_is_said(bench):
    with pytest.raises(KeyError, match=r"no SAE at 'blocks\.0\.hook_resid_mid'; it has blocks\.0"):
        bench.layers["blocks.0.hook_resid_mid"]


def test_before_block_0_half_of_the_players_have_a_feature():
    """Behind it next to none has one that is named after a single player: all 1,024 share the features of their teams."""
    players = {name: sum(label.startswith("player:") for label in labels.values()) for name, labels in atlas.layer_labels().items()}
    assert players.pop("blocks.0.hook_resid_pre") > 500 and max(players.values()) < 20


def test_the_features_of_a_concept_are_those_labelled_with_it(bench):
    labels, found = atlas.layer_labels(), atlas.features_of(["state:California", "team:Lakers", "nobody"])
    assert list(found) == ["state:California", "team:Lakers"]
    assert labels["blocks.3.hook_resid_pre"] == bench.labels
    for concept, features in found.items():
        for name, some in features.items():
            assert some and all(labels[name][feature].startswith(concept + " ") for feature in some)


def test_a_lakers_feature_fires_at_the_last_name_of_a_lakers_player(bench):
    tokens, _ = padded(bench.model, [atlas.questions()[0].prompt])
    for name, features in atlas.features_of(["team:Lakers"])["team:Lakers"].items():
        acts = bench.layers[name].encode(harvest(bench.model, tokens, name))[0][:, features].amax(1)
        assert acts[10] > 0, (name, torch.round(acts, decimals=1))


def test_the_recipe_writes_an_sae_in_16_bits_for_each_layer(bench, tmp_path, monkeypatch):
    names = ["blocks.1.hook_resid_pre", "blocks.5.hook_resid_post"]
    monkeypatch.setattr(recipe, "LAYERS", names)
    monkeypatch.setattr(recipe, "LAYER_SAE", TrainConfig(32, n_steps=4, l1=1.0))
    monkeypatch.setattr(recipe, "LAYER_BUFFER", 8192)
    recipe.build_layers(bench.model, tmp_path / "layers", tmp_path / "training")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["layers"]
    for name in names:
        assert SAE.load(tmp_path / "layers" / name).cfg.hook_name == name
        weights = load_file(tmp_path / "layers" / name / "sae_weights.safetensors")
        assert {weight.dtype for weight in weights.values()} == {torch.float16}


def test_a_build_scores_each_width_once_and_keeps_it_beside_the_index(bench, tmp_path, monkeypatch):
    for name in ("index", "sae_1k"):
        shutil.copytree(atlas.WEIGHTS / name, tmp_path / name)
    asked = []

    def score(known, texts, key):
        asked.append((known.index.sae_name, list(texts), known.labels == known.index.label_texts()))
        return SimpleNamespace(scores={3: FeatureScore(0.5, -0.1)}, basis="made up")

    monkeypatch.setattr(recipe, "score_features", score)
    monkeypatch.setattr(recipe, "SCORED", ("1k",))
    monkeypatch.setattr(recipe, "N_SCORE_TEXTS", 5)
    for _ in range(2):
        recipe.write_scores(bench.model, tmp_path)
    assert asked == [("1k", list(atlas.texts(recipe.SCORE_SEED, 5)), True)]
    assert FeatureIndex.open(tmp_path / "index", "1k").scores() == {3: FeatureScore(0.5, -0.1)}
