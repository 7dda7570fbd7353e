"""Texts of an index that are like some prompts are found without being told, and features are judged by them; planted concepts."""

import numpy as np
import pytest
from scipy import sparse

from workbench.features.index.layout import N_INTERVALS
from workbench.features.search.alike import alike, alike_f1
from workbench.features.search.codes import Codes
from workbench.features.search.rarity import Rarity

N_TEXTS, N_FEATURES = 2000, 40
CONCEPT, LOOSE, PARTIAL = 3, 7, 5  # the features of the concept: exactly, with as many other texts, of half of it


def planted(n: int, share: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(activations (n, N_FEATURES), in which texts the concept is): noise in a tenth, and the concept's features."""
    acts = rng.uniform(0.2, 4, (n, N_FEATURES)) * (rng.random((n, N_FEATURES)) < 0.1)
    has = rng.random(n) < share
    acts[:, [CONCEPT, LOOSE, PARTIAL]] = 0
    acts[has, CONCEPT], acts[has, LOOSE] = 3.9, 3.9
    acts[rng.random(n) < share, LOOSE] = 3.9
    acts[has & (rng.random(n) < 0.5), PARTIAL] = 3.9
    acts[has, 10:13] = rng.uniform(1, 4, (has.sum(), 3))  # what else these texts are about, now strongly, now weakly
    return acts.astype(np.float32), has


def rarity_of(acts: np.ndarray) -> Rarity:
    bare = Rarity(np.zeros(N_FEATURES), np.full(N_FEATURES, 3.99), sparse.csc_array((1, N_FEATURES), dtype=np.int64))
    intervals = bare.intervals(np.arange(N_FEATURES), acts)
    return Rarity(bare.density, bare.max_act, sparse.csc_array(intervals))


def codes_of(acts: np.ndarray) -> Codes:
    """One token a prompt."""
    return Codes([f"prompt {i}" for i in range(len(acts))], [["x"]] * len(acts), sparse.csr_array(acts), first=0)


@pytest.fixture(scope="module")
def corpus() -> tuple[Rarity, np.ndarray]:
    acts, has = planted(N_TEXTS, 0.03, np.random.default_rng(0))
    return rarity_of(acts), has


@pytest.fixture(scope="module")
def prompts() -> Codes:
    """Eight of the concept, eight others."""
    rng = np.random.default_rng(1)
    return codes_of(np.concatenate([planted(8, 1.0, rng)[0], planted(8, 0.0, rng)[0]]))


def test_texts_of_the_concept_are_like_the_prompts(corpus, prompts: Codes):
    rarity, has = corpus
    found = alike(prompts, 8, rarity)
    assert (found & has).sum() > 0.9 * has.sum() and (found & ~has).sum() < 0.1 * has.sum()


def test_the_concept_s_feature_agrees_most_with_them(corpus, prompts: Codes):
    exact, loose, partial, noise = alike_f1(prompts, 8, np.array([CONCEPT, LOOSE, PARTIAL, 20]), corpus[0])
    assert exact > 0.9 and exact > 1.2 * max(loose, partial) > 0.3 > noise


@pytest.mark.parametrize("n_positive", [1, 2, 16], ids=["one positive", "two", "no negatives"])
def test_other_numbers_of_prompts_do(corpus, n_positive: int):
    codes = codes_of(planted(n_positive, 1.0, np.random.default_rng(2))[0])
    exact, noise = alike_f1(codes, n_positive, np.array([CONCEPT, 20]), corpus[0])
    assert exact > noise


def test_where_the_prompts_share_no_feature_no_text_is_alike(corpus):
    codes = codes_of(np.eye(8, N_FEATURES, dtype=np.float32))
    assert not alike(codes, 8, corpus[0]).any() and not alike_f1(codes, 8, np.arange(N_FEATURES), corpus[0]).any()


def test_agreement_is_the_best_f1_over_thresholds(corpus, prompts: Codes):
    rarity, features = corpus[0], np.arange(N_FEATURES)
    are_alike, by_text = alike(prompts, 8, rarity), rarity.by_text.toarray()
    for feature, found in enumerate(alike_f1(prompts, 8, features, rarity)):
        above = [by_text[:, feature] >= interval for interval in range(1, N_INTERVALS)]
        expected = max(2 * (are_alike & is_above).sum() / (are_alike.sum() + is_above.sum()) for is_above in above)
        assert found == pytest.approx(expected)


def test_texts_and_prompts_of_the_same_activations_have_the_same_bits(corpus):
    acts, _ = planted(50, 0.2, np.random.default_rng(4))
    rarity, features = rarity_of(acts), np.array([0, CONCEPT, 11])
    of_texts = rarity.of_texts(features).toarray()
    assert rarity.of_prompts(codes_of(acts).peaks, 50, features) == pytest.approx(of_texts) and of_texts.max() > 3


def test_sums_are_of_the_texts_at_or_above_each_interval(corpus):
    rarity, features = corpus[0], np.array([11, CONCEPT, 0])
    weights = np.random.default_rng(3).random(N_TEXTS)
    by_text = rarity.by_text.toarray()[:, features]
    for interval in range(1, N_INTERVALS):
        is_above = by_text >= interval
        assert rarity.summed(features)[:, interval] == pytest.approx(is_above.sum(0))
        assert rarity.summed(features, weights)[:, interval] == pytest.approx(weights @ is_above)
