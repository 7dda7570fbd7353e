"""The index equals a dense computation, and is read without the model."""

import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from made_index import TEXTS, WORDS
from made_models import random_sae

from workbench.features.index.building import collect as collecting
from workbench.features.index.building import finish as finishing
from workbench.features.index.building.windows import N_TOP
from workbench.features.index.index import FeatureIndex, build_index
from workbench.features.index.layout import AFTER, BEFORE, N_BINS, interval_of
from workbench.features.index.parts import Label
from workbench.features.search.rarity import Rarity


@pytest.fixture(scope="module")
def dense(model, saes) -> list[np.ndarray]:
    """Each text's activations (tokens, 64) of the wide SAE, one text at a time, the start token left out."""
    hook_name = saes["wide"].cfg.hook_name
    return [saes["wide"].encode(model.run_with_cache(text)[1][hook_name][0, 1:]).numpy() for text in TEXTS]


def test_densities_maxima_and_histograms_equal_the_dense_computation(index: FeatureIndex, dense: list[np.ndarray]):
    acts = np.concatenate(dense)
    assert index.manifest["n_tokens"] == len(acts)
    np.testing.assert_allclose(index.table["max_act"], acts.max(0), rtol=1e-4)
    assert index.table["n_active"].tolist() == pytest.approx((acts > 0).sum(0), abs=1)  # an activation can lie within rounding of 0
    assert index.table["density"].tolist() == pytest.approx((acts > 0).mean(0), abs=1 / len(acts))
    for feature in range(64):
        page = index.feature(feature)
        active = acts[acts[:, feature] > 0, feature]
        expected = np.histogram(active, np.arange(N_BINS + 1) * page.bin_width)[0]
        assert np.abs(expected - page.histogram).sum() <= 2  # … or of a bin's edge
        assert sum(page.histogram) == page.n_active == sum(interval.n_active for interval in page.intervals)


def test_top_examples_equal_the_dense_computation(index: FeatureIndex, dense: list[np.ndarray]):
    for feature in range(64):
        peaks = np.array([acts[:, feature].max() for acts in dense])
        shown = index.feature(feature).top
        assert len(shown) == min(N_TOP, (peaks > 0).sum())
        np.testing.assert_allclose([each.activation for each in shown], np.sort(peaks)[::-1][: len(shown)], rtol=1e-4, atol=1e-5)
        assert len({each.text for each in shown}) == len(shown)
        for each in shown:
            acts = dense[each.text][:, feature]
            first = max(0, int(acts.argmax()) - BEFORE)
            window = slice(first, int(acts.argmax()) + AFTER + 1)
            np.testing.assert_allclose(each.activations, acts[window], rtol=1e-4, atol=1e-5)
            assert "".join(each.str_tokens) in TEXTS[each.text]
            assert each.is_cut == (first > 0, window.stop < len(acts))


def test_interval_examples_are_activations_of_their_interval(index: FeatureIndex, dense: list[np.ndarray]):
    shown = [(page, interval) for page in map(index.feature, range(64)) for interval in page.intervals]
    assert len(shown) > 300 and max(len(interval.examples) for _, interval in shown) == 4
    for page, interval in shown:
        assert len(interval.examples) == min(4, interval.n_active)
        for each in interval.examples:
            assert interval.low <= each.activation < interval.high
            acts = dense[each.text][:, page.feature]
            assert np.isclose(acts, each.activation, rtol=1e-4, atol=1e-5).any()


def test_repeated_texts_are_shown_once_and_only_the_start_token_in_front_is_left_out(model, saes, tmp_path: Path):
    texts = ["the cat sat", "the cat sat", "the <|start|>dog", "<|start|>", "<|start|>the mat", ""]
    index = build_index(model, saes["wide"], texts, tmp_path, progress=False)
    count = [len(model.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
    assert index.manifest["n_tokens"] == sum(count) - 2  # those that two texts begin with lead them; the one inside is the text's own
    shown = [each for feature in range(64) for each in index.feature(feature).top]
    assert {each.text for each in shown} == {0, 2, 4}
    assert any(each.str_tokens[each.peak] == "<|start|>" for each in shown)
    assert all(each.str_tokens[0] != "<|start|>" for each in shown)


def test_long_texts_are_read_in_parts_that_see_themselves_only(model, saes, tmp_path: Path):
    text = " ".join(random.Random(1).choices(WORDS, k=150))  # the model reads 64 tokens
    index = build_index(model, saes["wide"], [text], tmp_path, progress=False)
    ids = model.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert index.manifest["n_tokens"] == len(ids)
    parts = [ids[at : at + 63] for at in range(0, len(ids), 63)]
    hook_name = saes["wide"].cfg.hook_name
    acts = [saes["wide"].encode(model.run_with_cache(torch.tensor([[0, *part]]))[1][hook_name][0, 1:]).numpy() for part in parts]
    assert index.table["n_active"].tolist() == pytest.approx((np.concatenate(acts) > 0).sum(0), abs=1)
    cut = {each.is_cut for each in index.feature(0).top}
    assert (False, True) in cut and {each.text for each in index.feature(0).top} == {0}


def test_nearest_neighbors_are_those_of_largest_cosine_in_every_sae(index: FeatureIndex, saes):
    directions = {name: sae.W_dec / sae.W_dec.norm(dim=1, keepdim=True) for name, sae in saes.items()}
    neighbors = index.feature(3).neighbors
    assert list(neighbors) == ["wide", "narrow"]
    assert neighbors["narrow"][0].feature == 3 and neighbors["narrow"][0].cosine == pytest.approx(1, abs=1e-5)  # the same row
    for name, found in neighbors.items():
        cosines = directions[name] @ directions["wide"][3]
        expected = [i for i in cosines.argsort(descending=True).tolist() if (name, i) != ("wide", 3)][:6]
        assert [each.feature for each in found] == expected
        assert [each.cosine for each in found] == pytest.approx(cosines[expected].tolist(), abs=1e-5)


def test_an_index_is_read_without_the_model(index: FeatureIndex):
    code = (
        "import sys; from workbench.features.index.index import FeatureIndex; page = FeatureIndex.open(sys.argv[1]).feature(0); "
        "assert '<div' in page._repr_html_(); print('transformer_lens' in sys.modules, 'transformers' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code, index.folder], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["False", "False"]


def test_threads_that_read_at_once_get_what_one_gets(index: FeatureIndex):
    features = [7 * i % 24 for i in range(72)]
    expected = [repr(FeatureIndex.open(index.folder).feature(feature)) for feature in range(24)]
    shared = FeatureIndex.open(index.folder)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda feature: repr(shared.feature(feature)), features))
    assert found == [expected[feature] for feature in features]


def test_peaks_of_the_texts_drawn_equal_the_dense_computation(index: FeatureIndex, dense: list[np.ndarray]):
    """All of them here, to an interval; an activation can lie within rounding of its edge."""
    expected = np.stack([interval_of(acts.max(0), Rarity.of(index).max_act) for acts in dense])
    found = Rarity.of(index).by_text.toarray()
    assert found.shape == (len(TEXTS), 64) and np.abs(found - expected).max() <= 1 and (found != expected).sum() <= 4


def test_of_a_larger_corpus_texts_are_drawn(index: FeatureIndex, model, saes, tmp_path: Path, monkeypatch):
    """The same ones however it is cut up."""
    for module in (collecting, finishing):
        monkeypatch.setattr(module, "PEAK_TOKENS", 300)
    some = Rarity.of(build_index(model, saes, TEXTS, tmp_path / "one", progress=False)).by_text
    of_shards = Rarity.of(build_index(model, saes, TEXTS, tmp_path / "many", shard=300, progress=False)).by_text
    assert (some != of_shards).nnz == 0
    every = {tuple(row) for row in Rarity.of(index).by_text.toarray().tolist()}
    assert 5 < some.shape[0] < len(TEXTS) / 2 and {tuple(row) for row in some.toarray().tolist()} <= every


def test_sql_reaches_every_table(index: FeatureIndex):
    query = "SELECT feature, count(*) AS n FROM features JOIN examples USING (sae, feature) WHERE sae = ? GROUP BY feature ORDER BY feature"
    counts = index.sql(query, "narrow")
    page = index.with_sae("narrow").feature(int(counts["feature"][0]))
    assert counts["n"][0] == len(page.table)
    tokens = index.sql("SELECT str_token FROM (SELECT unnest(tokens) AS token FROM texts) JOIN vocabulary USING (token)")["str_token"]
    assert set(WORDS) <= set(tokens.str.strip())
    peaks = index.sql("SELECT len(texts) AS n FROM peaks WHERE sae = 'wide' ORDER BY feature")["n"]
    assert peaks.tolist() == (Rarity.of(index).by_text.toarray() != 0).sum(0).tolist()


def test_labels_are_kept_and_shown_with_their_score_and_origin(index: FeatureIndex, model, saes, tmp_path: Path):
    own = build_index(model, saes, TEXTS, tmp_path, progress=False)
    own.save_labels({3: Label("cats", 0.8, "answer key")})
    own.with_sae("narrow").save_labels({3: Label("dogs")})
    again = FeatureIndex.open(build_index(model, saes, TEXTS, tmp_path, progress=False).folder)
    assert again.feature(3).label == Label("cats", 0.8, "answer key") and "cats (answer key, 0.80)" in repr(again.feature(3))
    assert again.table["label"].tolist() == ["cats" if i == 3 else "" for i in range(64)]
    assert again.feature(3).neighbors["narrow"][0].label == "dogs"


def test_hostile_texts_are_read_and_found_again(model, saes, tmp_path: Path):
    texts = [
        "</td><script>alert(1)</script> \"'",
        "\u202ertl \x00\x07",
        "العربية 👩‍👩‍👧 \ud800",
        "the cat " * 130_000,
        "{}%s'; DROP TABLE features;--",
    ]
    index = build_index(model, saes, texts, tmp_path / "it's [odd] = *?", progress=False)
    shown = {each.text: "".join(each.str_tokens) for feature in range(64) for each in index.feature(feature).top}
    assert set(shown) == set(range(5))
    assert "script" in shown[0]


def test_a_hook_point_outside_the_residual_stream_promotes_nothing(model, tmp_path: Path):
    index = build_index(model, random_sae("blocks.1.mlp.hook_post", d_in=4 * 32), TEXTS[:5], tmp_path, progress=False)
    assert index.feature(0).promoted is None and index.table["promoted"].tolist() == [[]] * 64
