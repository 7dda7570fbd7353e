"""Ratings by an answer key, levels and sensitivity, against hand-made texts; samples keep to their levels."""

from collections.abc import Sequence

import numpy as np
import pytest
from made_evidence import CATS, DOGS, TEXTS
from made_models import random_sae
from scipy import sparse

from workbench.features.labels.token_labels import At
from workbench.features.survey.activity import Activity, TaggedTexts, read_activity
from workbench.features.survey.specificity import drawn, exact, key_ratings, of_labels, specificity

# two texts of ten and one of four tokens; "cat" is in play at tokens 7 to 9 of the first, "dog" at 2 of the last
BOUNDS, CAT, DOG = np.array([0, 10, 20, 24]), [7, 8, 9], [22]


def made_corpus() -> TaggedTexts:
    columns = np.repeat([0, 1], [len(CAT), len(DOG)])
    present = sparse.csc_matrix((np.ones(4, dtype=bool), (CAT + DOG, columns)), shape=(24, 2))
    return TaggedTexts(np.arange(24), BOUNDS, ["cat", "dog"], present, lambda ids: [f" t{i}" for i in ids])


def made_activity(acts: dict[int, float]) -> Activity:
    matrix = sparse.csc_matrix((list(acts.values()), (list(acts), [0] * len(acts))), shape=(24, 1))
    matrix.sort_indices()
    return Activity(made_corpus(), matrix)


def test_ratings_go_by_the_nearest_token_in_the_same_text_at_which_the_concept_is_in_play():
    tokens = np.array([0, 2, 3, 6, 7, 9, 10, 21])
    assert key_ratings(made_corpus(), "cat", tokens).tolist() == [1, 1, 2, 2, 3, 3, 0, 0]  # token 10 is next to 9, in another text
    assert key_ratings(made_corpus(), "dog", np.array([20, 22, 23, 9])).tolist() == [2, 3, 2, 0]


def test_levels_are_tenths_of_the_maximum_and_sensitivity_counts_texts():
    found = exact(made_activity({7: 10.0, 8: 9.5, 3: 9.2, 15: 3.0, 22: 0.5}), 0, "cat")
    assert found.table["low"].tolist() == [9.0, 3.0, 0.0] and found.table["n_active"].tolist() == [3, 1, 1]
    assert found.at_top == pytest.approx(2 / 3) and found.table["near"].iloc[0] == pytest.approx(1 / 3)
    assert found.overall == pytest.approx(2 / 5)
    assert found.table["sensitivity"].tolist() == [1.0, 1.0, 1.0]  # the one text with a cat, at 10
    dog = exact(made_activity({7: 10.0, 22: 0.5}), 0, "dog")
    assert dog.at_top == 0.0 and dog.table["sensitivity"].tolist() == [0.0, 1.0]


def test_a_table_of_many_leaves_out_what_is_not_here():
    table = of_labels(made_activity({7: 10.0, 15: 9.9}), {0: "cat"})
    assert table.loc[0, ["n_top", "clean_at_top", "in_text_at_top", "sensitivity"]].tolist() == [2, 0.5, 0.5, 1.0]
    assert of_labels(made_activity({7: 10.0}), {0: "whale"}).empty


def test_what_is_never_in_play_or_active_is_said():
    with pytest.raises(ValueError, match="'whale' is not in play in these 3 texts"):
        exact(made_activity({7: 1.0}), 0, "whale")
    with pytest.raises(ValueError, match="feature 0 is active nowhere"):
        exact(made_activity({}), 0, "cat")


def test_rated_examples_give_the_same_table():
    rule = At("at ' cat'", (" cat",))
    found = specificity([*CATS, *DOGS], rule.rate([*CATS, *DOGS]), rule.text)
    assert found.at_top == 0.5 and found.table["n_rated"].tolist() == [16]
    with pytest.raises(ValueError, match="1 ratings for 8 examples"):
        specificity(CATS, [3], "")
    with pytest.raises(ValueError, match="expected one of 0, 1, 2, 3"):
        specificity(CATS, [4] * 8, "")


def key(text: str, ends: list[int]) -> Sequence[set[str]]:
    """ "cat" is in play from where it stands."""
    at = text.find("cat")
    return [{"cat"} if 0 <= at < end else set() for end in ends]


def test_activity_equals_a_dense_computation_and_knows_what_is_in_play(model):
    sae = random_sae()
    texts = [*TEXTS[:20], "the cat " * 100]
    activity = read_activity(model, {"one": sae}, texts, key, progress=False)["one"]
    for i in (0, 7, 20):
        first, last = activity.corpus.bounds[i : i + 2]
        expected = sae.encode(model.run_with_cache(texts[i])[1][sae.cfg.hook_name][0, 1:]).numpy()
        np.testing.assert_allclose(activity.acts[first:last].toarray(), expected[: last - first], rtol=1e-4, atol=1e-5)
    assert last - first == 63  # the long one is cut where the model reads no further
    assert activity.corpus.n_texts == 21 and (activity.max_act == activity.acts.toarray().max(0)).all()
    with_it = [i for i, text in enumerate(texts) if "cat" in text]
    assert activity.corpus.texts_with[:, [0]].indices.tolist() == with_it
    token = int(activity.corpus.tokens_with("cat")[0])
    assert "cat" in activity.example(0, token).str_tokens[activity.example(0, token).peak]
    peak = activity.peaks[:, [5]].toarray().ravel()
    assert peak[3] == activity.acts[activity.corpus.bounds[3] : activity.corpus.bounds[4], [5]].max()


def test_drawn_examples_come_from_every_level(model):
    activity = read_activity(model, {"one": random_sae()}, TEXTS, progress=False)["one"]
    examples, largest = drawn(activity, 3, n=50), activity.max_act[3]
    levels = [min(int(each.activation / largest * 10), 9) for each in examples]
    tokens, acts = activity.of(3)
    there = np.bincount(np.minimum((acts / largest * 10).astype(int), 9), minlength=10)
    assert np.bincount(levels, minlength=10).tolist() == np.minimum(there, 5).tolist()
    assert [each.str_tokens for each in drawn(activity, 3, n=50)] == [each.str_tokens for each in examples]
