"""What a search found is judged on prompts that it did not see, by a threshold chosen on those that it saw, beside words."""

import numpy as np
import pytest

from workbench.bench import Workbench
from workbench.features.probes.held_out import best_threshold, f1, held_out, share_interval

SEEN = ["the cat sat", "the cat ran", "a cat on the mat"], ["the dog ran", "a dog on the mat", "the dog sat"]
NEW = ["a cat ran", "one cat sat"], ["a dog ran", "one dog sat"]


@pytest.fixture
def bench(model, sae) -> Workbench:
    return Workbench(model=model, sae=sae)


def search(bench: Workbench):
    return bench.find(*SEEN, margin=9.0, share=0.1, top=bench.sae.cfg.d_sae)


def test_f1_by_hand():
    assert f1(np.array([True, True, False, False]), np.array([True, False, True, False])) == 0.5
    assert f1(np.zeros(2, bool), np.array([True, False])) == 0.0


def test_the_threshold_is_halfway_between_activations_that_differ_and_never_between_those_that_rounding_tells_apart():
    is_positive = np.array([True, True, False, False])
    assert best_threshold(np.array([9.0, 5.0, 3.0, 0.0]), is_positive) == (1.0, 4.0)
    assert best_threshold(np.array([2.0, 1.0, 0.0, 0.0]), is_positive) == (1.0, 0.0)
    score, threshold = best_threshold(np.array([5.00001, 5.00001, 5.0, 5.0]), is_positive)
    assert threshold == 0.0 and score == pytest.approx(2 / 3)


def test_no_feature_of_those_found_does_better_on_the_prompts_of_the_search(bench):
    found = search(bench)
    row = held_out(bench, found, *NEW).iloc[0]
    assert found.codes is not None
    is_positive = np.arange(6) < 3
    columns = {feature: found.codes.peaks.of(np.array([feature]), 6)[:, 0] for feature in found.table["feature"]}
    scores = {feature: best_threshold(column, is_positive)[0] for feature, column in columns.items()}
    assert row["feature"] in columns and row["f1_seen"] == max(scores.values()) == scores[row["feature"]]
    told = [
        max(bench.find_at(prompt, top=bench.sae.cfg.d_sae).table.query(f"feature == {row['feature']}")["activation"].sum(), 0)
        > best_threshold(columns[row["feature"]], is_positive)[1]
        for prompt in [*NEW[0], *NEW[1]]
    ]
    assert row["right"] == np.mean(np.array(told) == np.array([True, True, False, False]))


def test_words_are_chosen_where_the_feature_is_and_judged_where_it_is(bench):
    rows = held_out(bench, search(bench), *NEW).set_index("reads")
    assert rows.loc["everything", ["f1", "right"]].tolist() == [pytest.approx(2 / 3), 0.5]
    assert rows.loc["list of words", "f1_seen"] == 1.0 and rows.loc["list of words", "f1"] == 1.0
    assert set(rows.loc["one word", "words"].split()) <= set(rows.loc["list of words", "words"].split())
    others = held_out(bench, search(bench), ["one kitten sat"], ["one puppy sat"]).set_index("reads")
    assert others.loc["list of words", "f1_seen"] == 1.0 and others.loc["list of words", "right"] <= 0.5


def test_wilsons_interval_by_hand():
    low, high = share_interval(15, 15)
    z = 1.959964
    assert high == pytest.approx(1.0) and low == pytest.approx(1 / (1 + z**2 / 15), abs=1e-6)


def test_what_cannot_be_judged_is_refused(bench):
    with pytest.raises(ValueError, match="no negative prompts to choose a threshold by"):
        held_out(bench, bench.find(SEEN[0]), *NEW)
    with pytest.raises(ValueError, match="'the cat sat' was searched with"):
        held_out(bench, search(bench), ["the cat sat"], NEW[1])
    with pytest.raises(ValueError, match="no negative prompt"):
        held_out(bench, search(bench), NEW[0], [])
