"""What a feature reads and what it writes: by hand, by hooked passes one by one, and refused where nothing says what a feature means."""

import copy
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from made_bench import made_bench
from made_index import TEXTS
from made_models import random_sae
from sklearn.metrics import average_precision_score

from workbench.circuits.acts import read_on
from workbench.circuits.intervene import editing
from workbench.circuits.steering.generation import Decoding, generate
from workbench.circuits.steering.output_scores import AMPLIFIED, Told, by_tokens, clamped, doses
from workbench.circuits.steering.scores import COLUMNS, FeatureScores, score_features
from workbench.features.index.examples import Examples
from workbench.features.index.index import FeatureIndex, build_index
from workbench.features.index.parts import FeatureScore, Label
from workbench.features.survey.activity import read_activity
from workbench.features.survey.input_scores import by_concept, ranks, share_promoted
from workbench.model.hooks import hooked, last_logits
from workbench.model.tokens import to_tokens

FAST = Decoding(4, 1.0, 2, progress=False)


def key(text: str, ends: Sequence[int]) -> list[Collection[str]]:
    """A cat or a dog is in play from its word on."""
    found = []
    for end in ends:
        found.append({animal for animal in ("cat", "dog") if animal in str(text)[:end]})
    return found


@pytest.fixture(scope="module")
def model(model_of):
    return model_of("gpt2")


@pytest.fixture(scope="module")
def bench(model, tmp_path_factory):
    sae = random_sae()
    index = build_index(model, sae, TEXTS, tmp_path_factory.mktemp("index"), progress=False)
    index.save_labels({3: Label("cat", 0.9, "the answer key"), 8: Label("dog", 0.8, "the answer key"), 9: Label("<b>horse", 0.7, "x")})
    return made_bench(model, sae, index=index)


@pytest.fixture(scope="module")
def scores(bench) -> FeatureScores:
    return score_features(bench, TEXTS, key, progress=False)


def test_peaks_that_are_equal_but_for_rounding_are_one_threshold():
    for alike in ([2.0, 2.0 + 1e-6], [2.0 + 1e-6, 2.0]):
        assert ranks(np.array([*alike, 1.0, 0.0, 0.0, 2.1])).tolist() == [2, 2, 1, 0, 0, 3]
    assert ranks(np.zeros(3)).tolist() == [0, 0, 0]


def test_a_share_of_few_texts_is_none():
    assert np.isnan(share_promoted([1] * 9, [1])) and share_promoted([1] * 5 + [2] * 5, [1]) == 0.5


def test_the_input_score_is_of_texts_with_the_concept(bench, scores):
    activity = read_activity(bench.model, {"": bench.sae}, TEXTS, key, progress=False)[""]
    has = np.array(["cat" in text for text in TEXTS])
    expected = average_precision_score(has, activity.peaks[:, [3]].toarray().ravel().round(5))  # texts that begin alike: one threshold
    assert by_concept(activity, {3: "cat", 4: "bird"})[3] == pytest.approx(expected) and np.isnan(by_concept(activity, {4: "bird"})[4])
    assert scores.table.set_index("feature").loc[3, "input"] == pytest.approx(expected)
    assert scores.table["feature"].tolist() == [3, 8] and "1 features are not scored" in scores.notes[0]


def test_what_tokens_tell_is_counted_and_rare_ones_tell_less(bench):
    corpus = read_activity(bench.model, {"": bench.sae}, ["the cat", "a dog", "the dog"], key, progress=False)[""].corpus
    told = Told.of(corpus, bench.model.cfg.d_vocab)
    words = {word: int(to_tokens(bench.model, f"the{word}")[0, -1]) for word in (" cat", " dog")}
    assert told.of_concept("dog")[words[" dog"]] == pytest.approx(2 / 3) and told.of_concept("cat")[words[" cat"]] == pytest.approx(1 / 2)
    assert told.of_concept("dog")[words[" cat"]] == 0
    assert told.natural[told.column["dog"]] == pytest.approx(2 / 3)


def test_features_clamped_together_are_those_clamped_one_by_one(bench):
    activity = read_activity(bench.model, {"": bench.sae}, TEXTS, key, progress=False)[""]
    told, concepts, values = Told.of(activity.corpus, bench.model.cfg.d_vocab), {3: "cat", 8: "dog", 11: "cat"}, {3: 9.0, 8: 5.0, 11: 7.0}
    found = clamped(bench, concepts, values, told, ["the", "a cat"], FAST, progress=False)
    for feature, concept in concepts.items():
        weights, nexts, texts = told.of_concept(concept), [], []
        for prompt in ("the", "a cat"):
            rows = to_tokens(bench.model, prompt).expand(2, -1)
            with editing(bench.model, bench.sae, {feature: values[feature]}):
                new = generate(bench.model, rows, FAST, FAST.seeds)
            nexts.append(float(new.next_logits[0].softmax(-1) @ weights))
            texts.append(float(weights[new.tokens[new.is_text]].mean()))
        assert found[feature].next == pytest.approx(np.mean(nexts), abs=1e-6) and found[feature].text == pytest.approx(np.mean(texts))
        assert found[feature].share == pytest.approx((np.mean(nexts) + 4 * np.mean(texts)) / 5)


def test_the_papers_output_score_is_its_formula(bench):
    tokens, promoted = to_tokens(bench.model, "the"), {3: [5, 6], 11: [7, 8]}
    found = by_tokens(bench, promoted, "the", progress=False)
    most = float(bench.sae.encode(read_on(bench.model, bench.sae, tokens))[-1].max())
    for feature, some in promoted.items():
        added = torch.zeros(1, tokens.shape[1], 32)
        added[0, -1] = AMPLIFIED * most * bench.sae.W_dec[feature]
        with hooked(bench.model, bench.sae.writes, lambda x, added=added: x + added):
            p = last_logits(bench.model, tokens)[0].softmax(-1)
        ranks = [int((p > p[i]).sum()) for i in some]
        assert found[feature] == pytest.approx((1 - min(ranks) / len(p)) * float(p[some].max()), rel=1e-4)


def test_where_nothing_is_active_there_is_nothing_to_amplify_by_and_no_score(bench):
    silent = copy.deepcopy(bench.sae)
    silent.b_enc -= 1e4
    apart = made_bench(bench.model, silent, index=bench.index)
    assert np.isnan(by_tokens(apart, {3: [5, 6]}, "the", progress=False)[3])
    with pytest.raises(ValueError, match="no feature is active at the end of 'The', so how far to push is not known"):
        score_features(apart, progress=False)


def test_the_features_in_which_the_two_part_come_from_both_ends():
    rows = [(i, f"label {i}", i / 9, (9 - i) / 9, *[np.nan] * 5) for i in range(10)]
    scores = FeatureScores(pd.DataFrame(rows, columns=list(COLUMNS)), "made up")
    apart = scores.apart(2)
    assert apart["feature"].tolist() == [9, 8, 0, 1] and apart["does"].tolist() == ["reads it"] * 2 + ["writes it"] * 2
    assert scores.correlation() == pytest.approx(-1) and scores.both_high(0.4) == pytest.approx(0.2)
    assert "rank correlation −1.00" in scores.verdict and scores.by("output")["feature"].tolist()[0] == 0
    assert "reads it" in repr(scores) and "<img" in scores._repr_html_()
    with pytest.raises(ValueError, match="expected one of input"):
        scores.by("writing")


def test_without_a_key_what_a_direction_promotes_stands_in_for_its_label(bench):
    scores = score_features(bench, features=[3, 8], progress=False)
    assert scores.table["feature"].tolist() == [3, 8] and scores.table["output"].between(0, 1).all()
    assert "in place of what the label means" in scores.basis
    pd.testing.assert_series_equal(scores.table["input"], scores.table["input_tokens"], check_names=False)


def test_an_index_keeps_scores_and_shows_them(bench, scores):
    index: FeatureIndex = bench.index
    assert "input_score" not in index.table and not index.scores()
    index.save_scores({3: FeatureScore(0.75, None), 8: FeatureScore(0.5, -0.25)}, "by <b>hand")
    for known in (index, FeatureIndex.open(index.folder)):
        row = known.table.set_index("feature").loc[8]
        assert row["input_score"] == 0.5 and row["output_score"] == -0.25 and known.table["output_score"].notna().sum() == 1
        page = known.feature(8)
        assert "input score 0.50, output score −0.25 (by <b>hand)" in repr(page)
        assert "output score <b>−0.25</b>" in page._repr_html_() and "<b>hand" not in page._repr_html_()
        assert known.features([3, 8]).table["input_score"].tolist() == [0.75, 0.5]
    assert "2 features, by <b>hand" in index.facts()["scores"]
    (index.folder / "scores-64.json").write_text('{"scores": {"3": ["high", 1]}, "basis": ""}')
    with pytest.raises(ValueError, match="holds no scores that can be read"):
        FeatureIndex.open(index.folder).scores()
    (index.folder / "scores-64.json").unlink()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (dict(texts=TEXTS), "texts and key belong together"),
        (dict(key=key), "texts and key belong together"),
        (dict(texts="one text", key=key), "texts and key belong together"),
        (dict(prompts=[]), "a list of one short prompt or more"),
        (dict(texts=TEXTS, key=lambda text, ends: [["bird"]] * len(ends)), "no label of these 3 features is a concept of the key"),
        (dict(features=[64]), "out of range"),
    ],
)
def test_what_cannot_be_scored_is_one_sentence(bench, asked: dict, message: str):
    with pytest.raises(ValueError, match=message):
        score_features(bench, **asked, progress=False)


def test_what_never_fired_gets_no_dose_with_an_index_or_without(bench, model):
    sae = random_sae()
    sae.b_enc.data[5] = -1e6
    alone = made_bench(model, sae)
    alone.examples = Examples(model, sae, TEXTS)
    assert set(doses(alone, [3, 5])) == {3}
    alone.labels = {5: "cat"}
    with pytest.raises(ValueError, match="none of 1 features with a concept of the key ever fired"):
        score_features(alone, TEXTS, key, progress=False)


def test_outside_of_the_residual_stream_nothing_says_what_a_feature_means_without_a_key(model):
    with pytest.raises(ValueError, match="promote no tokens, since it is not in the residual stream"):
        score_features(made_bench(model, random_sae("blocks.1.attn.hook_z")), progress=False)
    with pytest.raises(ValueError, match="top ones is not known here"):
        score_features(made_bench(model), progress=False)


def test_the_packages_own_index_is_not_written_to():
    from workbench import atlas

    index = FeatureIndex.open(Path(atlas.__file__).parent / "weights" / "index")
    with pytest.raises(ValueError, match="belongs to the installed package"):
        index.save_scores({3: FeatureScore(1.0, 1.0)}, "by hand")
