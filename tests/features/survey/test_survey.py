"""A splitting tree and a map of features: known directions come where they must, and what was drawn once is only read."""

import base64
import re
from pathlib import Path

import pandas as pd
import pytest
import torch
from made_models import random_sae

from widgets import FeatureMap
from widgets.html.survey import map_svg
from workbench.bench import Workbench
from workbench.features.index.index import FeatureIndex, build_index
from workbench.features.index.parts import Label
from workbench.features.survey import mapping
from workbench.features.survey.mapping import FeatureMapping, feature_map, named_regions
from workbench.features.survey.splitting import splitting
from workbench.sae.config import SAEConfig
from workbench.sae.sae import SAE

TEXTS = ["the cat sat on the mat", "the dog ran to the cat", "and the mat on the dog"]


@pytest.fixture(scope="module")
def saes() -> dict[str, SAE]:
    """small: 4 orthogonal directions; large: 0 as 0, 1 and 5, 1 as 2, and 3, 4 near none; largest: 2 and 7 as large's 5."""
    axes = torch.eye(32)

    def made(rows: list[torch.Tensor]) -> SAE:
        sae = SAE(SAEConfig(32, len(rows), "blocks.1.hook_resid_pre")).requires_grad_(False)
        sae.W_dec.copy_(torch.stack(rows))
        sae.W_enc.copy_(sae.W_dec.T)
        sae.b_enc += 1.0
        return sae

    large = [axes[0], axes[0] + 0.3 * axes[9], axes[1], axes[20], axes[21], axes[0] + 0.5 * axes[10]]
    largest = [axes[22], axes[23], large[5] + 0.1 * axes[11], axes[24], axes[25], axes[26], axes[27], large[5] + 0.2 * axes[12]]
    return {"small": made([axes[i] for i in range(4)]), "largest": made(largest), "large": made(large)}


@pytest.fixture(scope="module")
def folder(model_of, saes, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("survey")
    index = build_index(model_of("gpt2"), saes, TEXTS, folder, progress=False)
    assert (index.sql("SELECT n_active FROM features")["n_active"] > 0).all()
    index.with_sae("large").save_labels({5: Label("<b>bold</b>", 0.9, "an answer key")})
    return folder


def test_a_feature_splits_into_those_of_larger_dictionaries_that_are_nearest_to_it(folder: Path):
    tree = splitting(FeatureIndex.open(folder, "small"), 0)
    assert tree.saes == ["small", "large", "largest"] and tree.counts == {"small": 1, "large": 3, "largest": 2}
    rows = tree.table[["depth", "sae", "feature", "parent"]].values.tolist()
    assert rows == [
        [0, "small", 0, -1],
        [1, "large", 0, 0],
        [1, "large", 1, 0],
        [1, "large", 5, 0],
        [2, "largest", 2, 5],
        [2, "largest", 7, 5],
    ]
    assert tree.table["cosine"][2] == pytest.approx(1 / 1.09**0.5, abs=1e-3)
    assert tree.root.children[2].label == "<b>bold</b>" and "<b>bold</b>" not in tree._repr_html_()
    assert repr(tree).startswith("Splitting of feature 0: 1 in small, 3 in large, 2 in largest")


def test_of_two_dictionaries_of_one_width_each_is_what_the_smaller_one_becomes(model_of, saes, tmp_path: Path):
    other = SAE(saes["large"].cfg).requires_grad_(False)
    other.load_state_dict(saes["large"].state_dict())
    other.W_dec[4] = torch.eye(32)[3]  # small's 3, which `large` has nowhere
    index = build_index(model_of("gpt2"), {**saes, "other": other}, TEXTS, tmp_path / "index", progress=False)
    rows = splitting(index.with_sae("small"), 3).table[["depth", "sae", "feature", "parent"]].values.tolist()
    assert rows == [[0, "small", 3, -1], [1, "other", 4, 3]]
    assert splitting(index.with_sae("small"), 0).counts == {"small": 1, "large": 3, "other": 3, "largest": 2}


def test_a_feature_that_no_larger_one_is_near_stays_alone(folder: Path):
    assert splitting(FeatureIndex.open(folder, "small"), 3).counts == {"small": 1, "large": 0, "largest": 0}


def test_the_largest_dictionary_splits_no_further_and_says_so(folder: Path):
    with pytest.raises(ValueError, match="largest is the largest dictionary at .* in this index, which has small, largest, large"):
        splitting(FeatureIndex.open(folder, "largest"), 0)
    with pytest.raises(ValueError, match="out of range: small has features 0 to 3"):
        splitting(FeatureIndex.open(folder, "small"), 4)


@pytest.fixture
def clumps() -> SAE:
    """Three clumps of 30 directions, 64 wide."""
    torch.manual_seed(0)
    sae = SAE(SAEConfig(32, 90, "blocks.1.hook_resid_pre")).requires_grad_(False)
    sae.W_dec.copy_(torch.eye(32)[[3, 11, 19]].repeat_interleave(30, dim=0) + 0.1 * torch.randn(90, 32))
    return sae


@pytest.mark.parametrize("method", ["UMAP", "PCA"])
def test_features_that_point_the_same_way_lie_in_one_cluster(clumps: SAE, method: str, monkeypatch):
    if method == "PCA":
        monkeypatch.setitem(__import__("sys").modules, "umap", None)
    drawn = feature_map({"own": clumps})
    assert drawn.method == method
    clusters = drawn.table["cluster"].to_numpy().reshape(3, 30)
    assert len({row[row >= 0][0] for row in clusters}) == 3
    assert all((row == row[row >= 0][0]).mean() > 0.8 for row in clusters)
    assert "<img" in drawn._repr_html_() and method in repr(drawn)


def test_a_map_is_the_same_twice(clumps: SAE):
    assert feature_map({"own": clumps}).table.equals(feature_map({"own": clumps}).table)


def test_a_map_is_kept_beside_the_index_and_read_again(model_of, saes, folder: Path, monkeypatch):
    bench = Workbench(model=model_of("gpt2"), sae=saes["small"], saes=saes, index=FeatureIndex.open(folder))
    first = bench.map()
    assert list(first.table.columns) == ["sae", "feature", "x", "y", "cluster", "density", "label"] and len(first.table) == 18
    assert first.table.query("sae == 'large' and feature == 5")["label"].item() == "<b>bold</b>"
    assert "<b>bold" not in first._repr_html_()
    monkeypatch.setattr(mapping, "drawn", lambda *args: pytest.fail("it was drawn again"))
    assert bench.map().table.equals(first.table)
    FeatureIndex.open(folder)  # a map is no damage


def test_a_map_of_other_saes_is_drawn_anew(saes, folder: Path, model_of):
    index = FeatureIndex.open(folder)
    feature_map(saes, index)
    assert len(feature_map({"small": saes["small"]}, index).table) == 4


def test_what_the_index_knows_of_some_of_the_saes_is_on_their_map(saes, folder: Path):
    index = FeatureIndex.open(folder)
    other = SAE(SAEConfig(saes["large"].cfg.d_in, 5, "blocks.1.hook_resid_pre")).requires_grad_(False)
    torch.nn.init.normal_(other.W_dec)
    table = feature_map({"mine": saes["large"], "other": other}, index).table
    known, unknown = table[table["sae"] == "mine"], table[table["sae"] == "other"]
    expected = index.sql("SELECT feature, density FROM features WHERE sae = 'large' AND n_active > 0 ORDER BY feature")
    assert known["feature"].tolist() == expected["feature"].tolist() and known["density"].tolist() == expected["density"].tolist()
    assert known.query("feature == 5")["label"].item() == "<b>bold</b>"
    assert unknown["feature"].tolist() == list(range(5)) and unknown["density"].isna().all() and set(unknown["label"]) == {""}


def test_one_sae_under_two_names_is_on_the_map_twice(saes, folder: Path):
    table = feature_map({"a": saes["large"], "b": saes["large"]}, FeatureIndex.open(folder)).table
    first, second = (table[table["sae"] == name].drop(columns=["sae", "x", "y", "cluster"]).reset_index(drop=True) for name in "ab")
    assert len(first) and first["density"].notna().all() and first.equals(second)


def test_saes_of_different_widths_have_no_common_map():
    with pytest.raises(ValueError, match="one map needs SAEs that read the same activations, not of widths"):
        feature_map({"a": random_sae(), "b": SAE(SAEConfig(16, 8, "blocks.1.hook_resid_pre"))})


def test_a_region_is_called_by_what_half_of_its_labeled_features_bear_or_not_at_all():
    labels = {
        0: ["a", "a", "b", ""],  # half at least
        1: ["b", "a", "b", "a", "c"],  # two together, the first of the alphabet first
        2: ["a", "b", "c", "d"],  # no two agree
        3: ["x"],  # one alone names nothing
        -1: ["a", "a", "a"],  # in no region
        4: ["", " "],
    }
    rows = [(cluster, label, float(i), -float(i)) for cluster, some in labels.items() for i, label in enumerate(some)]
    table = pd.DataFrame(rows, columns=["cluster", "label", "x", "y"])
    found = named_regions(table)
    assert found[["cluster", "name", "n_named"]].to_numpy().tolist() == [[1, "a · b", 4], [0, "a", 2]]
    assert found[["x", "y"]].to_numpy().tolist() == [[1.5, -1.5], [0.5, -0.5]]
    shuffled = named_regions(table.sample(frac=1, random_state=0))
    pd.testing.assert_frame_equal(found, shuffled)
    mapped = FeatureMapping(table.assign(sae="s", feature=range(len(table)), density=0.1), "PCA")
    assert mapped.clusters.set_index("cluster")["label"].to_dict() == {0: "a", 1: "a · b", 2: "", 3: "", 4: ""}
    assert {name for _, _, name in FeatureMap(mapped).places} == {"a", "a · b"}  # on the screen as in the table


def test_a_still_map_names_each_region_once_in_full_or_with_dots_and_glares_in_no_theme():
    names = ["a name that is much longer than any tag has room for", "code", "code", "code"]
    at = {"x": [0.0, 400.0, 0.0, 400.0], "y": [0.0, 0.0, 400.0, 400.0]}
    table = pd.DataFrame({**at, "sae": "s", "feature": range(4)})
    picture = map_svg(table, {"s": "1,2,3"}, pd.DataFrame({**at, "name": names}))
    drawn = base64.b64decode(picture.split("base64,")[1].split('"')[0]).decode()
    said = re.findall(r"<text[^>]*>([^<]+)<", drawn)
    assert said == ["a name that is much longer th…", "code"]
    grays = {int(color, 16) for fill in re.findall(r'<rect[^>]* fill="#(\w+)"', drawn) for color in re.findall("..", fill)}
    assert grays and 0x50 < min(grays) <= max(grays) < 0x80
