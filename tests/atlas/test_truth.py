"""What the answer key calls a feature's meaning: the concept of best F1, and as a label only one that holds where it is most active."""

import numpy as np
import pytest
from scipy import sparse

from workbench import atlas
from workbench.atlas.build import label
from workbench.atlas.text import Text
from workbench.atlas.truth import AnswerKey
from workbench.features.survey.activity import read_activity
from workbench.features.survey.specificity import of_labels

N = 200
CAT, DOG = np.arange(N) < 40, (np.arange(N) >= 40) & (np.arange(N) < 60)


@pytest.fixture(scope="module")
def key() -> AnswerKey:
    """Feature 0 is the cat's; 1 is the cat's, but most active at dogs; 2 is most active elsewhere; 3 is never active."""
    cat = np.where(CAT, 5.0, 0.0)
    peaks = np.stack([cat, cat + np.where(DOG, 10, 0), cat + np.where(np.arange(N) > 190, 10, 0), np.zeros(N)], axis=1)
    return AnswerKey(["cat", "dog"], sparse.csc_matrix(np.stack([CAT, DOG], axis=1)), sparse.csc_matrix(peaks))


def test_the_share_at_the_top_is_counted_in_the_texts_of_largest_activation(key: AnswerKey):
    assert [key.at_top(feature).tolist() for feature in range(4)] == [[1, 0], [0, 1], [0, 0], [0, 0]]


def test_a_label_holds_where_the_feature_is_most_active(key: AnswerKey):
    table = key.table()
    assert table["concept"].tolist() == ["cat", "dog", "cat", ""] and (table["f1"] >= 0.5)[:3].all()
    assert label(key) == {0: "cat 1.00", 1: "dog 1.00"}
    assert key.table(true_at_top=0.9)["concept"].tolist() == ["cat", "dog", "", ""]


def test_on_fresh_texts_labels_hold_where_their_features_are_most_active():
    bench = atlas.load()
    texts = atlas.texts(seed=7, n=2000)
    activity = read_activity(bench.model, {"2k": bench.sae}, texts, Text.concepts_named, progress=False)["2k"]
    found = of_labels(activity, {feature: text.rpartition(" ")[0] for feature, text in bench.labels.items()})
    assert len(found) > 600 and found["clean_at_top"].median() == 1.0
    assert found["in_text_at_top"].mean() > 0.95 and found["clean_at_top"].mean() > 0.8
