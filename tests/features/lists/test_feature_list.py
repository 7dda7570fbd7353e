"""A person's list of features: kept with notes in a file that is whole, of one dictionary, read by others, refused where it is damaged."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from made_index import TEXTS, made_saes

import workbench
from workbench.bench import Workbench
from workbench.features.index.index import build_index
from workbench.features.lists.feature_list import FeatureList

HOSTILE = "</td><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def bench(model_of, tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    saes = made_saes()
    index = build_index(model_of("gpt2"), saes, TEXTS[:8], tmp_path_factory.mktemp("index"), progress=False)
    return Workbench(model=model_of("gpt2"), sae=saes["wide"], saes=saes, index=index.with_sae("wide"), labels={3: "cats", 4: HOSTILE})


def test_what_is_kept_is_there_for_the_next_notebook_in_its_order(bench: Workbench, tmp_path: Path):
    kept = FeatureList(bench, tmp_path / "kept.json")
    assert not kept.path.exists() and kept.features == []
    for feature in (9, 3, 4):
        kept.keep(feature, f"note {feature}")
    kept.keep(3)  # no note: the one that is there stays
    kept.note(4, "=other")
    again = FeatureList(bench, tmp_path / "kept.json")
    table = again.table
    assert table["feature"].tolist() == [9, 3, 4] and table["note"].tolist() == ["note 9", "note 3", "=other"]
    assert table["label"].tolist() == ["", "cats", HOSTILE]
    page = bench.feature(9)
    assert (table["density"][0], table["max_act"][0]) == (pytest.approx(page.density), pytest.approx(page.max_act))
    entry = again.remove(3)._replace(kept="2020-01-01T00:00:00+00:00", label="as it was then")
    assert kept.features == [9, 4]
    for _ in range(2):  # what is there already stays
        kept.put_back(entry)
    assert kept.features == [9, 4, 3] and kept.entries[-1] == entry and entry.note == "note 3"
    assert "'=other" in kept.csv() and pd.read_csv(kept.to_csv(tmp_path / "kept.csv"))["feature"].tolist() == [9, 4, 3]
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".partial"] == []


def test_features_of_another_dictionary_are_named_so_and_not_shown_as_this_ones(bench: Workbench, tmp_path: Path):
    path = tmp_path / "kept.json"
    FeatureList(bench, path).keep(3, "mine")
    narrow = FeatureList(bench.with_sae("narrow"), path)
    assert narrow.features == [] and narrow.others.iloc[0].to_dict() | {"kept": ""} == {
        "sae_name": "wide", "model_name": bench.model.cfg.model_name, "feature": 3, "label": "cats", "note": "mine", "kept": ""
    }  # fmt: skip
    narrow.keep(3, "theirs")
    assert FeatureList(bench, path).entries[0].note == "mine" and len(FeatureList(bench, path).others) == 1
    assert "of other dictionaries" in narrow._repr_html_() and "other dictionaries" in repr(narrow)
    named = replace(bench, saes={}, name="renamed")  # by its weights, whatever it is called
    assert FeatureList(named, path).features == [3]


def test_its_page_is_one_offline_file_in_which_texts_are_texts(bench: Workbench, tmp_path: Path):
    kept = FeatureList(bench, tmp_path / "kept.json")
    with pytest.raises(ValueError, match="holds no feature of SAE wide"):
        kept.to_html(tmp_path / "kept.html")
    kept.keep(3, f"two\nlines {HOSTILE}")
    kept.keep(4)
    page = kept.to_html(tmp_path / "kept.html", progress=False).read_text()
    assert "<img src=x" not in page and "<img" not in kept._repr_html_() and "default-src 'none'" in page
    assert 'href="#3"' in page and 'id="3"' in page and 'id="4"' in page and str(tmp_path) not in page
    assert [each.feature for each in kept.beside(4, 3).pages] == [4, 3]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "holds no feature list that can be read"),
        ("[1]", "holds no feature list that can be read"),
        ('{"format": 1, "entries": [{"sae": "a", "feature": "3"}]}', "'3' is no feature"),
        ('{"format": 1, "entries": [{"sae": "a", "feature": 3, "note": 5}]}', "note of feature 3 is no text"),
        ('{"format": 7, "entries": []}', "has format 7, this version reads 1"),
    ],
)
def test_a_damaged_file_is_one_sentence_and_stays_as_it_is(bench: Workbench, tmp_path: Path, text: str, says: str):
    path = tmp_path / "kept.json"
    path.write_text(text)
    for read in (lambda: FeatureList(bench, path).table, lambda: FeatureList(bench, path).keep(3)):
        with pytest.raises(ValueError, match=says) as said:
            read()
        assert "\n" not in str(said.value) and "kept.json" in str(said.value)
    assert path.read_text() == text


def test_what_cannot_be_kept_is_refused(bench: Workbench, tmp_path: Path):
    kept = FeatureList(bench, tmp_path / "kept.json")
    with pytest.raises(ValueError, match="is out of range"):
        kept.keep(10_000)
    kept.keep(3)
    with pytest.raises(ValueError, match="feature 5 is not in kept.json; of this dictionary it holds 3"):
        kept.note(5, "…")
    with pytest.raises(ValueError, match="belongs to the installed package"):
        FeatureList(bench, Path(workbench.__file__).parent / "kept.json")
    far = json.loads(kept.path.read_text())
    far["entries"][0]["feature"] = 10_000
    kept.path.write_text(json.dumps(far))
    with pytest.raises(ValueError, match="lists feature 10,000 of this dictionary, which has 0 to"):
        assert kept.table is None
