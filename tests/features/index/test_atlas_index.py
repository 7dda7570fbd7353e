"""The index that the atlas ships with is of the atlas's own model and SAEs, small, labeled, and has its map."""

import pytest

from workbench import atlas
from workbench.atlas.build import SAES, known_labels
from workbench.features.index.index import FeatureIndex
from workbench.features.survey import mapping


@pytest.fixture(scope="module")
def bench():
    return atlas.load()


def test_it_is_of_all_the_saes_and_of_the_model(bench):
    assert list(bench.index.manifest["saes"]) == list(SAES)
    assert all(bench.index.of(bench.model, sae).sae_name == name for name, sae in bench.saes.items())
    assert bench.index.manifest["model"]["name"] == "atlas"


def test_with_the_model_and_all_saes_it_takes_sixty_megabytes_at_most():
    assert sum(path.stat().st_size for path in atlas.WEIGHTS.rglob("*") if path.is_file()) < 60e6


@pytest.mark.parametrize("name", SAES)
def test_the_answer_keys_labels_are_in_it(name: str):
    known = known_labels(atlas.WEIGHTS / f"sae_{name}" / "labels.json")
    assert known and FeatureIndex.open(atlas.WEIGHTS / "index", name).labels() == known


def test_pages_examples_and_neighbors_come_without_reading_a_text(bench, monkeypatch):
    monkeypatch.setattr("workbench.model.head.Head.__call__", lambda *args: pytest.fail("the model ran"))
    lakers = next(feature for feature, label in bench.labels.items() if label.startswith("team:Lakers"))
    page = bench.feature(lakers)
    assert page.label.text == "team:Lakers" and list(page.neighbors) == list(SAES) and len(page.top) == 20
    assert len(bench.examples(lakers, 5)) == 5
    wide = bench.with_sae("16k")
    assert wide.labels and wide.feature(3).sae_name == "16k" and wide.examples(3) is not None


def test_a_page_draws_its_neighbors(bench):
    page = bench.with_sae("1k").feature(628)
    figure = page.plot_neighbors(3)
    assert {trace.name: len(trace.x) for trace in figure.data} == {**dict.fromkeys(SAES, 3), "the feature": 1}
    nearest = page.neighbors["2k"][0]
    assert f"{nearest.cosine:.2f} {nearest.label}" in [note.text for note in figure.layout.annotations]


def test_another_sae_shows_the_labels_that_it_is_loaded_with(bench):
    assert bench.with_sae("1k").labels == atlas.load("1k").labels


def test_its_map_is_not_drawn_again(bench, monkeypatch):
    monkeypatch.setattr(mapping, "drawn", lambda *args: pytest.fail("it was"))
    drawn = bench.map()
    assert drawn.method == "UMAP" and set(drawn.table["sae"]) == set(SAES)
