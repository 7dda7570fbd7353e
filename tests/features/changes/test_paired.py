"""Paired differences against scipy's own test and by hand, and false discoveries where nothing changed."""

import numpy as np
from scipy import sparse, stats

from workbench.features.changes.paired import false_discovery, paired


def test_it_is_the_paired_t_test_with_its_interval():
    rng = np.random.default_rng(0)
    base, tuned = (rng.gamma(1.0, size=(30, 5)) * (rng.random((30, 5)) < 0.6) for _ in range(2))
    found, known = paired(sparse.csr_array(base), sparse.csr_array(tuned)), stats.ttest_rel(tuned, base)
    np.testing.assert_allclose(found.p, known.pvalue, rtol=1e-9)
    np.testing.assert_allclose([found.low, found.high], known.confidence_interval(0.95), rtol=1e-9)
    np.testing.assert_allclose(found.change, (tuned - base).mean(0), rtol=1e-9)


def test_what_moved_is_the_difference_s_share_of_both_spreads():
    base = np.array([[0.0, 1.0, 0.0, 3.0], [2.0, 1.0, 0.0, 3.0]])
    tuned = np.array([[2.0, 1.0, 0.0, 5.0], [0.0, 1.0, 4.0, 5.0]])
    found = paired(sparse.csr_array(base), sparse.csr_array(tuned))
    # d² = 4 + 4 over spreads 2 + 2; nothing; 16 over 0 + 8; a shift of what never varies has no spread to be a share of
    np.testing.assert_allclose(found.moved, [2.0, 0.0, 2.0, 0.0])
    assert found.p[1] == 1.0 and found.p[3] == 0.0


def test_the_interval_of_what_moved_holds_it_in_nineteen_of_twenty_draws():
    """Texts drawn from a law under which the share is known: base and tuned are c · (z ± e), each with its own half of the noise."""
    rng, held = np.random.default_rng(2), []
    for _ in range(400):
        z, e = rng.exponential(size=(300, 1)), 0.3 * rng.normal(size=(300, 1))
        found = paired(*(sparse.csr_array(5 + z + way * e) for way in (-1, 1)))
        expected = 4 * 0.3**2 / (2 * (1 + 0.3**2))
        held.append(found.moved_low[0] <= expected <= found.moved_high[0])
    assert 0.9 <= np.mean(held) <= 0.98


def test_a_change_in_few_texts_is_believed_by_their_number_not_by_their_size():
    base, tuned = np.ones((1000, 3)), np.ones((1000, 3))
    for column, (n, size) in enumerate([(2, 1e6), (30, 1e-3), (30, 1e3)]):
        tuned[:n, column] += size
    p = paired(sparse.csr_array(base), sparse.csr_array(tuned)).p
    assert p[0] > 0.1 and p[1] < 1e-6 and np.isclose(p[1], p[2])


def test_false_discoveries_are_controlled_where_both_are_alike_in_law():
    """Features as SAEs have them, mostly 0 and with heavy tails; every tenth one really changed, or none."""
    rng, shares, power, n_any = np.random.default_rng(1), [], [], 0
    for _ in range(200):
        base, tuned = (rng.exponential(size=(200, 100)) ** 2 * (rng.random((200, 100)) < 0.2) for _ in range(2))
        n_any += bool((false_discovery(paired(sparse.csr_array(base), sparse.csr_array(tuned)).p) <= 0.05).any())
        tuned[:, :10] += 1.0
        called = false_discovery(paired(sparse.csr_array(base), sparse.csr_array(tuned)).p) <= 0.05
        power.append(called[:10].mean())
        shares.append(called[10:].sum() / called.sum())
    assert n_any / 200 <= 0.08 and np.mean(shares) <= 0.06 and np.mean(power) >= 0.7
