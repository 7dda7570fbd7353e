"""Features in which reading and writing part: by hand, through an index that keeps scores, and refused where it keeps none."""

import json

import pytest
from made_index import TEXTS
from made_models import random_sae

from widgets import Finder
from workbench import atlas, cli
from workbench.atlas.build import N_SCORE_TEXTS, SCORE_SEED, SCORED
from workbench.bench import Workbench
from workbench.cli.score import ATLAS_SEED, N_TEXTS
from workbench.features.index.index import FeatureIndex, build_index
from workbench.features.index.parts import FeatureScore, Label
from workbench.features.search.parted import parted

SCORES = {
    3: FeatureScore(0.9, 0.0),
    5: FeatureScore(0.8, 0.2),
    8: FeatureScore(0.2, 0.9),
    9: FeatureScore(0.1, 0.1),
    11: FeatureScore(1.0, None),  # never clamped: it has no gap, and counts for nobody's
}


@pytest.fixture(scope="module")
def bench(model_of, tmp_path_factory) -> Workbench:
    sae = random_sae()
    index = build_index(model_of("gpt2"), sae, TEXTS, tmp_path_factory.mktemp("parted") / "index", progress=False)
    index.save_labels({i: Label(f"<b>label {i}") for i in SCORES})
    index.save_scores(SCORES, "by hand")
    return Workbench(model=model_of("gpt2"), sae=sae, index=index, labels=index.label_texts())


def test_places_are_compared_among_the_features_that_have_both_scores():
    reads, writes = (parted(does, SCORES, {}, None) for does in ("reads", "writes"))
    assert reads.table["feature"].tolist() == [3] and reads.table["score"].tolist() == [1 - 1 / 4]  # 5 is third in both
    assert writes.table["feature"].tolist() == [8, 9] and writes.table["score"].tolist() == [1 - 2 / 4, 2 / 4 - 1 / 4]
    assert writes.table["input_score"].tolist() == [0.2, 0.1] and "among 4 features" in writes.note
    assert parted("writes", SCORES, {}, None, top=1).table["feature"].tolist() == [8]


def test_every_search_has_both_scores_beside_its_own_and_nan_where_one_is_not_known(bench: Workbench):
    assert bench.find_parted("writes").table["label"].tolist() == ["<b>label 8", "<b>label 9"]
    found = bench.find_by_label("label").table.set_index("feature")
    assert found.loc[8, "output_score"] == 0.9 and found["output_score"].isna().tolist() == [i == 11 for i in found.index]
    others = bench.find_near(3, top=63).table.set_index("feature")
    assert others.loc[5, "input_score"] == 0.8 and others["input_score"].notna().sum() == 4  # all but itself


def test_what_is_asked_wrong_or_not_known_is_one_sentence(bench: Workbench):
    with pytest.raises(ValueError, match="expected 'reads' or 'writes'"):
        bench.find_parted("both")
    with pytest.raises(ValueError, match="asks for no feature"):
        bench.find_parted(top=0)
    with pytest.raises(ValueError, match="score them first"):
        Workbench(model=bench.model, sae=bench.sae).find_parted()


def test_the_finder_finds_them_shows_both_scores_and_keeps_how_its_rows_are_sorted(bench: Workbench):
    pane = Finder(bench, way="writes", sort_by="input_score", is_descending=False)
    assert pane.run().wait(60).stage == "done" and pane.is_asked, pane.progress
    assert [row["feature"] for row in pane.view["rows"]] == [8, 9]  # the page sorts what it shows
    assert [each["title"] for each in pane.view["columns"]] == ["gap", "density", "reads", "writes"]
    assert pane.view["rows"][0]["output_score"] == 0.9 and "<b>label" not in pane.static_html()
    assert eval(pane.code, {"bench": bench}).table["feature"].tolist() == [8, 9]
    other = Finder(bench)
    other.restore(json.loads(json.dumps(pane.state())))
    assert (other.sort_by, other.is_descending, other.way) == ("input_score", False, "writes")


def test_scores_stay_when_a_filter_of_a_search_by_prompts_moves(bench: Workbench):
    pane = Finder(bench, positive=["the cat sat"], max_density=1.0, top=64)
    pane.run().wait(60)
    for pane.share in (0.9, 0.5):
        scored = {row["feature"]: row["input_score"] for row in pane.view["rows"]}
        assert {i: value for i, value in scored.items() if value is not None} == {i: SCORES[i].input for i in scored if i in SCORES}
        assert any(i in SCORES for i in scored)


def test_the_map_has_them_in_its_table(bench: Workbench):
    table = bench.map().table.set_index("feature")
    assert table.loc[8, "output_score"] == 0.9 and table["input_score"].notna().sum() == len(SCORES)


def test_a_label_of_ones_own_says_that_the_scores_are_of_the_one_before(bench: Workbench):
    bench.label(8, "what it really is")
    assert "of the label before, <b>label 8" in bench.feature(8).scored
    assert bench.feature(3).scored == "by hand"


def test_the_atlas_has_scores_of_two_widths_for_its_labelled_features():
    for name in SCORED:
        index = FeatureIndex.open(atlas.WEIGHTS / "index", name)
        scores = index.scores()
        labelled = [i for i in index.labels() if i in scores]
        assert set(scores) <= set(index.labels()) and len(labelled) > 0.8 * len(index.labels())
        assert sum(each.output is not None for each in scores.values()) > 0.9 * len(scores)
    assert (ATLAS_SEED, N_TEXTS) == (SCORE_SEED, N_SCORE_TEXTS)


def test_the_verb_needs_no_model_of_the_atlas(capsys, monkeypatch):
    monkeypatch.setattr("workbench.benches.load", lambda *args, **options: pytest.fail("a model was loaded"))
    assert cli.main(["find", "--parted", "reads", "--top", "3", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert len(rows) == 3 and all(row["input_score"] > row["output_score"] for row in rows)
    assert cli.main(["find", "--parted", "neither"]) == 2
    assert "expected 'reads' or 'writes'" in capsys.readouterr().err
