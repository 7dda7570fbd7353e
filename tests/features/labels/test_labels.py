"""Labels: scores by hand arithmetic, rules over tokens, a person's label stands; corpus text and labels are data."""

import math
from pathlib import Path

import pytest
from made_evidence import CATS, DOGS, EVIDENCE, TEXTS, rare_sae, window
from made_page import HOSTILE, made_example

from workbench.features.index.index import FeatureIndex, build_index
from workbench.features.index.parts import Example, Label
from workbench.features.labels import labels
from workbench.features.labels.labels import label_features
from workbench.features.labels.meanings import Evidence, Marked, Rule, Scores, marked, score
from workbench.features.labels.token_labels import At, TokenLabeller


@pytest.fixture
def index(model, tmp_path: Path) -> FeatureIndex:
    return build_index(model, rare_sae(model), TEXTS, tmp_path / "index", progress=False)


def test_the_rule_that_holds_at_every_peak_and_in_no_other_text_is_found():
    assert TokenLabeller().propose(EVIDENCE).text == "at ' cat'"


def test_what_follows_a_token_is_found_where_peaks_share_none():
    shown = [window(f"x{i} capital y{i} z{i}", 3, number=i) for i in range(4)]
    others = [window(f"x{i} mayor y{i} z{i}", 3, number=9 + i) for i in range(4)]
    rule = TokenLabeller().propose(Evidence(7, shown, [], others, []))
    assert rule.text == "after ' capital'"
    assert rule.where(["a", " capital", "b"]).tolist() == [False, True, True]


def test_scores_are_balanced_accuracies():
    right = score(At("at ' cat'", (" cat",)), EVIDENCE)
    assert right == (1.0, 1.0, 4) and right.mean == 1.0
    assert score(At("at ' dog'", (" dog",)), EVIDENCE).detection == 0.0
    everything = score(At("at ' a'", (" a",)), EVIDENCE)
    assert everything.detection == 0.5  # it finds all eight, four of them wrongly
    assert everything.fuzzing == pytest.approx((0 + wrong_marks_refused(" a")) / 2)


def wrong_marks_refused(token: str) -> float:
    wrong = marked(EVIDENCE)[1]
    return sum(each.example.str_tokens[each.marks[0]] != token for each in wrong) / len(wrong)


def test_marks_are_at_the_activation_or_where_there_is_none():
    right, wrong = marked(EVIDENCE)
    assert [each.marks for each in right] == [[2], [2]] and len(wrong) == 2
    assert all(len(each.marks) == 1 and 2 not in each.marks for each in wrong)


def test_labels_without_a_score_show_themselves_too(index: FeatureIndex, monkeypatch: pytest.MonkeyPatch):
    assert "0 features labelled" in label_features(index, TokenLabeller(), [], progress=False)._repr_html_()
    monkeypatch.setattr(labels, "score", lambda meaning, evidence: Scores(math.nan, math.nan, 0))
    assert "features labelled by token statistics; the best:" in label_features(index, TokenLabeller(), progress=False)._repr_html_()


def test_nothing_held_out_is_no_score():
    scores = score(At("", (" cat",)), Evidence(7, CATS, [], DOGS, []))
    assert math.isnan(scores.detection) and scores.mean is None


def test_ratings_go_by_the_distance_to_what_the_label_says():
    rule = At("at ' cat'", (" cat",))
    far = window("a cat sat on and on and on", 7)
    assert rule.rate([CATS[0], window("a cat sat", 2), far, DOGS[0]]) == [3, 2, 1, 0]


def test_shown_and_held_out_share_no_text_and_others_none_with_either(index: FeatureIndex):
    page = index.feature(int(index.table["n_active"].idxmax()))
    pool = [made_example(["x"] * 5, text=i) for i in range(40)]
    evidence = Evidence.of(page, pool)
    shown, held_out = ({each.text for each in some} for some in (evidence.shown, evidence.held_out))
    others = {each.text for each in [*evidence.others, *evidence.others_held_out]}
    assert shown and held_out and others
    assert not shown & held_out and not (shown | held_out) & others


def test_labels_are_kept_in_the_index_with_score_and_origin(index: FeatureIndex):
    labeling = label_features(index, TokenLabeller(), progress=False)
    assert len(labeling.table) == (index.table["n_active"] > 0).sum()
    again = FeatureIndex.open(index.folder)
    row = labeling.table.iloc[3]
    assert again.labels()[int(row["feature"])] == Label(row["label"], row["score"], "token statistics")
    assert "features labelled by token statistics" in repr(labeling)


def test_a_persons_label_stands_and_survives_a_rebuild(index: FeatureIndex, model):
    mine = Label("cats on mats", origin="a person")
    index.save_labels({3: mine})
    index.save_labels({3: Label("dogs", 0.9, "answer key")})
    labeling = label_features(index, TokenLabeller(), [3, 4], progress=False)
    assert labeling.n_by_person == 1 and labeling.table["feature"].tolist() == [4]
    again = build_index(model, rare_sae(model), TEXTS, index.folder, progress=False)
    assert again.labels()[3] == mine
    again.save_labels({3: Label("cats", origin="a person: Ada")})
    assert again.labels()[3].text == "cats"
    again.save_labels({3: Label("", origin="a person")})
    assert again.labels()[3].text == "dogs", "an empty one gives back what the index says"


def test_ctrl_c_keeps_what_is_done(index: FeatureIndex, monkeypatch):
    def interrupted(labeller, evidence: Evidence) -> Rule:
        if evidence.feature == 5:
            raise KeyboardInterrupt
        return At(f"feature {evidence.feature}", ())

    monkeypatch.setattr(TokenLabeller, "propose", interrupted)
    with pytest.raises(KeyboardInterrupt):
        label_features(index, TokenLabeller(), range(1, 9), progress=False)
    assert set(FeatureIndex.open(index.folder).labels()) == {1, 2, 3, 4}


def test_hostile_tokens_make_labels_that_are_shown_as_text():
    shown = [made_example(HOSTILE[1:4], text=i) for i in range(4)]
    rule = TokenLabeller().propose(Evidence(7, shown, [], [], []))
    assert rule.text == "at '<bos>'"
    assert rule.is_marked([Marked(shown[0], [1])]) == [True]


def letters(text: str, peak: int, number: int) -> Example:
    return Example(list(text), [float(pos == peak) for pos in range(len(text))], peak, number, (False, False))


def test_where_single_tokens_say_nothing_runs_of_them_and_what_follows_one_do():
    others = [letters(text, 4, 20 + i) for i, text in enumerate(("KWVDAEW", "WDAVKEW", "AVWEDKW", "EWKAVDW", "VKDWAEW", "DAWVEKW"))]
    shown = [letters(f"{a}DVW{b}", 3, i) for i, (a, b) in enumerate(zip("KAEVWD", "AEKDVW", strict=True))]
    rule = TokenLabeller().propose(Evidence(7, shown, [], others, []))
    assert rule.text == "at 'W' after 'DV'"
    assert rule.where(list("DVWAW")).tolist() == [False, False, True, False, False]
    after = [letters(f"{a}DV{b}{a}", 3, i) for i, (a, b) in enumerate(zip("KAEVWD", "AEKDVW", strict=True))]
    rule = TokenLabeller().propose(Evidence(7, after, [], others, []))
    assert rule.text == "right after 'DV'"
    assert rule.where(list("DVEDV")).tolist() == [False, False, True, False, False]  # nothing follows the last one


def test_where_a_token_says_it_no_run_is_named():
    assert TokenLabeller().propose(EVIDENCE).text == "at ' cat'"
