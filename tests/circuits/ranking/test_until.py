"""Until the largest are certain: the probability by hand arithmetic, the same ten as all pairs give, and what is refused."""

import math

import numpy as np
import pytest
from made_folders import PROMPT
from scipy.special import ndtr

from workbench import atlas
from workbench.bench import Workbench
from workbench.circuits.metrics import logit_diff
from workbench.circuits.ranking.until import N_DRAWN, Estimates, misses, n_wanted, rounds

METRIC = logit_diff(" Sacramento", " Albany")


def test_the_scale_is_of_second_order_in_what_is_removed():
    found = Estimates.of(np.array([1.0, 2.0]), gradient=np.array([3.0, 3.0]), removed=np.array([2.0, 4.0]), x=np.array([6.0, 6.0]))
    np.testing.assert_allclose(found.scale, [2.0, 8.0])


def test_where_the_gradient_is_flat_a_tenth_of_the_median_stands_for_it():
    flat = Estimates.of(np.zeros(3), gradient=np.array([0.0, 5.0, 5.0]), removed=np.ones(3), x=np.ones(3))
    np.testing.assert_allclose(flat.scale, [0.5, 5.0, 5.0])


def test_the_chance_of_an_unmeasured_pair_by_hand():
    estimates = Estimates(np.array([5.0, 4.0, 3.0, 1.0, 9.0]), np.array([1.0, 1.0, 1.0, 2.0, 1.0]))
    effects = np.array([6.0, 6.0, 3.5, np.nan, np.nan])  # |r| / s: 1, 2 and a half: the median is 1, above it ln 2 once
    found = misses(estimates, effects, n=2)
    spread = max(0.5, math.sqrt(math.log(2) ** 2 / 2))  # over the two that are not below the median
    assert found[:3].tolist() == [0.0, 0.0, 0.0]
    assert found[3] == pytest.approx(1 - ndtr(math.log((6 - 1) / 2) / spread))
    assert found[4] == 1.0  # its estimate alone is above the second largest effect


def test_fewer_measured_than_asked_for_is_no_certainty():
    estimates = Estimates(np.array([5.0, 4.0]), np.ones(2))
    assert misses(estimates, np.array([5.0, np.nan]), n=2).tolist() == [0.0, 1.0]


def test_where_attributions_are_exact_the_first_round_is_the_last():
    estimates = Estimates(np.linspace(9, 1, 500), np.ones(500))
    effects, n_rounds = np.full(500, np.nan), 0
    for rows in rounds(estimates, effects, 10, 0.99):
        effects[rows], n_rounds = estimates.attribution[rows], n_rounds + 1
    assert n_rounds == 1 and np.isfinite(effects[:24]).all() and np.isfinite(effects[24:]).sum() == N_DRAWN


def test_nothing_is_measured_twice_and_it_ends():
    draws = np.random.default_rng(1)
    truth, effects = draws.normal(size=300), np.full(300, np.nan)
    for rows in rounds(Estimates(np.zeros(300), np.ones(300)), effects, 10, 0.999):  # attributions that say nothing
        assert np.isnan(effects[rows]).all()
        effects[rows] = truth[rows]
    assert set(np.argsort(-truth)[:10]) <= set(np.flatnonzero(np.isfinite(effects)))


def test_what_is_no_number_is_refused_and_measuring_ends():
    with pytest.raises(ValueError, match="attributions hold NaN"):
        next(rounds(Estimates(np.array([1.0, np.nan]), np.ones(2)), np.full(2, np.nan), 1, 0.99))
    effects = np.full(100, np.nan)
    with pytest.raises(ValueError, match="effects hold NaN"):
        for rows in rounds(Estimates(np.zeros(100), np.ones(100)), effects, 1, 0.99):
            effects[rows[1:]] = 1.0


def test_the_ten_are_those_of_all_pairs_and_the_ranking_says_what_it_measured():
    bench = atlas.load()
    for question in atlas.questions(held_out=True)[:6]:
        metric = logit_diff(question.answer, question.baseline)
        whole, part = (bench.rank(question.prompt, metric, until=until, progress=False) for until in (None, "top 10"))
        wanted = whole.top(10)[["feature", "pos"]].to_numpy().tolist()
        assert part.top(10)[["feature", "pos"]].to_numpy().tolist() == wanted
        n_measured = int(part.table["effect"].notna().sum())
        assert n_measured < len(part.table) and f"among the {n_measured} of {len(part.table)} pairs measured" in part.notes[-1]
        np.testing.assert_allclose(part.top(10)["effect"], whole.top(10)["effect"], rtol=0, atol=1e-5)


def test_all_are_measured_where_more_are_asked_for_than_there_are(bench: Workbench):
    ranking = bench.rank(PROMPT, METRIC, until="top 100000", progress=False)
    assert ranking.table["effect"].notna().all()


@pytest.mark.parametrize("until", ["top 0", "ten", "top", "top -3", "10"])
def test_what_is_no_goal_is_refused(until):
    with pytest.raises(ValueError, match='such as until="top 10"'):
        n_wanted(until)


def test_two_ways_to_stop_and_a_confidence_that_is_none_are_refused(bench: Workbench):
    with pytest.raises(ValueError, match="one of the two"):
        bench.rank(PROMPT, METRIC, ablate=5, until="top 10", progress=False)
    for confidence in (0.0, 1.0, 99.0):
        with pytest.raises(ValueError, match="between 0 and 1"):
            bench.rank(PROMPT, METRIC, until="top 10", confidence=confidence, progress=False)
