"""The curve through which concepts have a feature: F1 by brute force, a planted 50 % point found again."""

import numpy as np
import pandas as pd
import pytest
from made_bench import sparse_sae
from scipy import sparse

from workbench.features.survey.activity import Activity, TaggedTexts, read_activity
from workbench.features.survey.completeness import _fitted, best_concepts, best_f1, completeness, fit_sigmoid


def made(n_texts: int = 400, n_concepts: int = 60, n_units: int = 80, half: float = 0.02, seed: int = 0) -> Activity:
    """Texts of one token. Concept c is in play in a share of them that falls with c; it has unit c as its feature with the probability
    1 / (1 + (half / share)²). The other units are noise."""
    rng = np.random.default_rng(seed)
    shares = np.geomspace(0.002, 0.3, n_concepts)
    present = rng.random((n_texts, n_concepts)) < shares
    acts = (rng.random((n_texts, n_units)) < 0.05) * rng.random((n_texts, n_units))
    has = rng.random(n_concepts) < 1 / (1 + (half / shares) ** 2)
    acts[:, :n_concepts][:, has] = present[:, has] * (1 + rng.random((n_texts, int(has.sum()))))
    names = [f"thing:{c:02d}" for c in range(n_concepts)]
    corpus = TaggedTexts(np.arange(n_texts), np.arange(n_texts + 1), names, sparse.csc_matrix(present), lambda ids: [""] * len(ids))
    return Activity(corpus, sparse.csc_matrix(acts), "made")


def test_the_best_f1_of_every_concept_is_that_of_brute_force():
    activity = made(n_texts=60, n_concepts=8, n_units=12)
    acts, present = activity.acts.toarray(), activity.corpus.present.toarray()
    features, scores = best_f1(activity.peaks, activity.corpus.texts_with)
    for concept in range(8):
        tries = {}
        for unit in range(12):
            for threshold in acts[:, unit][acts[:, unit] > 0]:
                found = acts[:, unit] >= threshold
                f1 = 2 * (found & present[:, concept]).sum() / (found.sum() + present[:, concept].sum())
                tries[unit] = max(tries.get(unit, 0.0), f1)
        assert scores[concept] == pytest.approx(max(tries.values()))
        if scores[concept]:
            assert tries[features[concept]] == pytest.approx(scores[concept])


@pytest.mark.parametrize("noise", [0.0, 1e-6, -1e-6])
def test_no_threshold_lies_between_texts_that_are_as_active_but_for_rounding(noise):
    """Of three texts two begin alike; one of them has the concept, and neither F1 nor feature depend on whose sum is rounded up."""
    acts = np.array([[5.0], [2.0 * (1 + noise)], [2.0], [1.0]])
    present = np.array([[False], [True], [False], [False]])
    features, scores = best_f1(sparse.csc_matrix(acts), sparse.csc_matrix(present))
    assert features.tolist() == [0] and scores == pytest.approx([2 * 1 / (3 + 1)])


def test_a_unit_that_is_a_concept_s_own_is_given_that_concept():
    activity = made(half=1e-6)  # every concept has its unit
    found = best_concepts(activity, range(40, 60))
    assert found["unit"].tolist() == list(range(40, 60)) and (found["f1"] == 1).all()
    assert found["concept"].tolist() == [f"thing:{c}" for c in range(40, 60)]
    assert best_concepts(activity, range(60, 80))["f1"].max() < 0.6  # noise


def test_a_sigmoid_is_found_again_and_stays_finite_where_it_separates():
    rng = np.random.default_rng(0)
    x = rng.uniform(-6, -2, 20_000)
    y = rng.random(len(x)) < 1 / (1 + np.exp(-(12 + 3 * x)))
    intercept, slope = fit_sigmoid(x, y)
    assert slope == pytest.approx(3, rel=0.1) and -intercept / slope == pytest.approx(-4, abs=0.05)
    intercept, slope = fit_sigmoid(np.arange(10.0), np.arange(10) >= 5)
    assert 4 < -intercept / slope < 5 and np.isfinite(slope)


def test_a_planted_half_point_lies_in_its_interval_and_is_counted_in_features():
    found = completeness({"made": made(n_texts=3000, n_concepts=300, n_units=400)})
    row = found.table.iloc[0]
    assert row["low"] < 0.02 < row["high"] and row["high"] / row["low"] < 4
    assert row["half_times_alive"] == row["half"] * 400
    assert "300 concepts" in repr(found) or "concepts" in repr(found)


def test_a_half_point_outside_of_what_was_seen_is_not_claimed():
    found = completeness({"made": made(half=1e-6)})
    assert found.table["half"].isna().all() and found.table["found"].iloc[0] > 0.9


def test_the_grid_shows_concepts_from_frequent_to_rare_or_those_asked_for():
    found = completeness({"a": made(), "b": made(half=0.5)})
    figure, frequency = found.plot_concepts(n=5), found.concepts.set_index("concept")["frequency"]
    shown = list(figure.data[0].y)
    assert len(shown) == 5 and list(figure.data[0].x) == ["a", "b"]
    assert frequency[shown].is_monotonic_decreasing and shown[0] == frequency.idxmax() and frequency[shown[-1]] == frequency.min()
    asked = found.plot_concepts(["thing:50", "thing:40"])
    assert list(asked.data[0].y) == ["thing:50", "thing:40"]
    assert asked.data[0].z[0][0] == found.concepts.set_index("concept").loc["thing:50", "a"]
    with pytest.raises(ValueError, match="'thing:99' is not among the"):
        found.plot_concepts(["thing:99"])


def test_too_few_concepts_are_said():
    with pytest.raises(ValueError, match="0 of 2 concepts are in play in 8 texts or more"):
        completeness({"made": made()}, ["thing:00", "unheard of"])


def test_of_few_concepts_resamples_that_do_not_rise_leave_an_end_open_and_not_both_unknown():
    table = pd.DataFrame({"frequency": np.geomspace(1e-4, 1e-1, 12), "made": [0, 0, 1, 0, 0, 1, 0, 1, 0, 1, 1, 1]}).astype(float)
    curve = _fitted(table, "made", made(n_texts=20, n_concepts=12, n_units=12), seed=0)
    assert 1e-4 < curve.half < 1e-1 and 0 <= curve.low < curve.half < curve.high


def test_a_text_that_begins_with_the_start_token_has_it_once_and_not_as_text(model):
    sae, text = sparse_sae(), "the cat sat"
    plain, led = (read_activity(model, {"": sae}, [each] * 2)[""] for each in (text, f"<|start|>{text}"))
    assert plain.corpus.ids.tolist() == led.corpus.ids.tolist() and (plain.acts != led.acts).nnz == 0
    with pytest.raises(ValueError, match="one string"):
        read_activity(model, {"": sae}, text)
