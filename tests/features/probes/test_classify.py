"""How good a classifier is: by hand, by brute force, and on noise, where the answer is one half."""

import numpy as np
import pytest
from scipy import sparse

from workbench.features.probes.classify import Choice, auroc, best_columns, chosen, drawn, parts, spreads

RNG = np.random.default_rng(0)


def test_auroc_counts_pairs_in_the_right_order_and_ties_half():
    y = np.array([True, True, False, False])
    assert auroc(y, np.array([3.0, 1.0, 2.0, 0.0])) == pytest.approx(3 / 4)
    assert auroc(y, np.array([1.0, 1.0, 1.0, 0.0])) == pytest.approx((0.5 + 1 + 0.5 + 1) / 4)
    assert auroc(y, np.zeros(4)) == pytest.approx(0.5)


def test_on_noise_nothing_is_found_although_hundreds_of_columns_are_chosen_from():
    """Chosen on all texts, ten of 500 columns of noise would seem to tell: 0.9."""
    x, y = RNG.standard_normal((60, 500)), np.arange(60) % 2 == 0
    for choice in (Choice(), Choice(10), Choice(1)):
        scores, folds = [], parts(y, 5, 0)
        for train, test in folds:
            scores.append(chosen({"mean": x[train]}, y[train], choice, 0)[1].scores(x[test]))
        assert 0.25 < np.mean([auroc(y[test], each) for (_, test), each in zip(folds, scores, strict=True)]) < 0.75
    cheating = Choice(10).fit(x, y, 1.0)
    assert auroc(y, cheating.scores(x)) > 0.9


@pytest.mark.parametrize("is_sparse", [False, True])
def test_a_column_that_tells_is_found_whatever_its_sign_and_scale(is_sparse: bool):
    y = np.arange(80) % 2 == 0
    x = np.abs(RNG.standard_normal((80, 40))) * (RNG.random((80, 40)) < 0.2)
    x[:, 7] = np.where(y, 0.0, 1e-3 * (1 + RNG.random(80)))  # silent on the positive texts
    matrix = sparse.csr_array(x) if is_sparse else x
    assert best_columns(matrix, y, 1).tolist() == [7] and 7 in best_columns(matrix, y, 5)
    for choice in (Choice(1), Choice(5), Choice()):
        fitted = choice.fit(matrix[:60], y[:60], 0.1)
        assert auroc(y[60:], fitted.scores(matrix[60:])) > 0.95
    np.testing.assert_allclose(spreads(matrix), np.where(x.std(0) > 0, x.std(0), 1.0))


def test_a_column_far_from_zero_weighs_as_its_deviation_says():
    """As a residual stream's massive dimensions are, a thousand times their deviation away, in float32."""
    y = np.arange(200) % 2 == 0
    x = np.random.default_rng(5).standard_normal((200, 20))
    x[:, 3] += 3000 + 1.5 * y
    x = x.astype(np.float32)
    np.testing.assert_allclose(spreads(x), x.astype(float).std(0), rtol=1e-4)
    ours, plain = (Choice().fit(matrix, y, 0.01) for matrix in (x, x.astype(float) - x.astype(float).mean(0)))
    np.testing.assert_allclose(ours.weights, plain.weights, rtol=0.01, atol=1e-3)
    assert auroc(y, ours.scores(x)) == pytest.approx(auroc(y, plain.scores(x.astype(float))), abs=1e-3)


def test_the_way_of_pooling_that_tells_is_chosen():
    y = np.arange(60) % 2 == 0
    noise, tells = RNG.standard_normal((60, 6)), RNG.standard_normal((60, 6)) + 2 * y[:, None]
    assert chosen({"mean": noise, "last": tells, "largest": noise}, y, Choice(), 0)[0] == "last"


def test_draws_are_those_of_texts_drawn_one_by_one():
    y = [np.array([True] * 12 + [False] * 9)] * 2
    scores = [RNG.standard_normal(21) + each for each in y]
    found = drawn(y, scores, 3)
    assert found[0] == pytest.approx(np.mean([auroc(a, b) for a, b in zip(y, scores, strict=True)]))
    slow = []
    for _ in range(2_000):
        of_parts = []
        for these, values in zip(y, scores, strict=True):
            some = np.concatenate([RNG.choice(np.flatnonzero(these == side), (these == side).sum()) for side in (True, False)])
            of_parts.append(auroc(these[some], values[some]))
        slow.append(np.mean(of_parts))
    np.testing.assert_allclose(np.quantile(found[1:], [0.05, 0.5, 0.95]), np.quantile(slow, [0.05, 0.5, 0.95]), atol=0.03)
