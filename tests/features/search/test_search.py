"""Prompt sets find what dense booleans find; every filter says what it removed; bad prompts are named before anything is read."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from made_models import random_sae

from workbench.bench import Workbench
from workbench.features.index.index import build_index
from workbench.features.search import codes as coding
from workbench.features.search.bit_sets import all_of, bits_of, in_most, members, size, without
from workbench.features.search.codes import encode
from workbench.features.search.rarity import Rarity
from workbench.sae.config import SAEConfig
from workbench.sae.sae import SAE

POSITIVE = ["the cat sat", "the cat ran to the mat", "a cat"]
NEGATIVE = ["the dog ran", "and the mat"]


@pytest.fixture
def bench(model, sae) -> Workbench:
    return Workbench(model=model, sae=sae, labels={3: "cats"})


def dense(bench: Workbench, prompt: str) -> torch.Tensor:
    """(pos, d_sae), one prompt by itself."""
    _, cache = bench.model.run_with_cache(prompt)
    acts = bench.sae.encode(cache[bench.sae.cfg.hook_name][0])
    acts[0] = 0  # the start token
    return acts


def sets(n: int, n_sets: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((n_sets, n)) < 0.7


@pytest.mark.parametrize("n", [1, 64, 100, 3000])
def test_bit_sets_are_the_sets_that_they_were_made_of(n: int):
    is_in = sets(n, 1)[0]
    features = np.random.default_rng(1).permutation(np.flatnonzero(is_in))
    bits = bits_of(features, n)
    assert members(bits).tolist() == np.flatnonzero(is_in).tolist()
    assert size(bits) == is_in.sum() and size(all_of(n)) == n and members(all_of(n)).tolist() == list(range(n))


@pytest.mark.parametrize("n_missed", range(6))
def test_filters_equal_dense_booleans(n_missed: int, monkeypatch):
    monkeypatch.setattr("workbench.features.search.bit_sets.N_WORDS", 3)
    is_in, n = sets(700, 6), 700
    bits = [bits_of(np.flatnonzero(row), n) for row in is_in]
    assert members(in_most(all_of(n), bits, n_missed)).tolist() == np.flatnonzero((~is_in).sum(0) <= n_missed).tolist()
    assert members(without(all_of(n), bits[:2])).tolist() == np.flatnonzero(~is_in[0] & ~is_in[1]).tolist()


KINDS = {
    "standard": {},
    "jumprelu": {},
    "topk": dict(k=5),
    "centered": dict(centers_input=True),
}


@pytest.mark.parametrize("kind", KINDS)
def test_all_prompts_together_are_encoded_as_each_alone(model, kind: str, monkeypatch):
    sae = random_sae()
    cfg = SAEConfig(32, 64, sae.cfg.hook_name, architecture="standard" if kind == "centered" else kind, **KINDS[kind])
    other = SAE(cfg).requires_grad_(False)
    other.load_state_dict(sae.state_dict(), strict=False)
    if other.threshold is not None:
        other.threshold += 0.5
    monkeypatch.setitem(coding.ELEMENTS, "cpu", 100)  # blocks of a few features
    bench = Workbench(model=model, sae=other)
    codes = encode(model, other, POSITIVE + NEGATIVE)
    for i, prompt in enumerate(POSITIVE + NEGATIVE):
        np.testing.assert_allclose(codes.of(i).toarray(), dense(bench, prompt), rtol=1e-4, atol=1e-5)


def test_what_is_found_is_what_dense_booleans_find(bench: Workbench):
    peaks = [torch.stack([dense(bench, prompt).amax(0) for prompt in prompts]).numpy() for prompts in (POSITIVE, NEGATIVE)]
    for share, margin in ((1.0, 0.0), (0.6, 0.0), (1.0, 0.7), (0.3, 0.5)):
        found = bench.find(POSITIVE, NEGATIVE, share=share, margin=margin, top=64)
        is_active = (peaks[0] > 0).mean(0) >= share
        passes = is_active & (peaks[1].max(0) <= margin * peaks[0].mean(0))
        assert sorted(found.table["feature"]) == np.flatnonzero(passes).tolist()
        assert [each.n_removed for each in found.removed] == [64 - is_active.sum(), is_active.sum() - passes.sum()]
        assert found.n_passed == passes.sum()
        for row in found.table.to_dict("records"):
            own = [each[:, row["feature"]] for each in peaks]
            expected = [own[0].min(), own[0].mean(), own[1].max(), (own[0] > 0).sum()]
            columns = ["min_activation", "mean_activation", "max_negative", "n_positive"]
            assert [row[name] for name in columns] == pytest.approx(expected, rel=1e-4, abs=1e-5)
            assert row["label"] == ("cats" if row["feature"] == 3 else "")


def test_why_names_the_token_of_each_prompt(bench: Workbench):
    found = bench.find(POSITIVE, NEGATIVE, margin=0.9)
    feature = int(found.table["feature"][0])
    for row, prompt in zip(found.why(feature).to_dict("records"), POSITIVE + NEGATIVE, strict=True):
        acts = dense(bench, prompt)[:, feature]
        assert (row["prompt"], row["kind"]) == (prompt, "positive" if prompt in POSITIVE else "negative")
        assert row["activation"] == pytest.approx(float(acts.max()), rel=1e-4)
        assert row["pos"] == (int(acts.argmax()) if acts.max() > 0 else -1)
        assert row["token"] == (bench.model.to_str_tokens(prompt)[row["pos"]] if acts.max() > 0 else "")


def test_without_an_index_the_note_says_what_the_score_is(bench: Workbench):
    assert "the score is the mean activation" in bench.find(["the cat"]).note


def test_with_an_index_dense_features_are_removed_and_rare_activations_come_first(model, sae, tmp_path: Path):
    texts = ["the cat sat on the mat", "the dog ran to the cat", "and the mat", "to the dog and the cat"] * 3
    index = build_index(model, sae, texts, tmp_path, progress=False)
    bench = Workbench(model=model, sae=sae, index=index)
    all_found = bench.find(POSITIVE, max_density=1.0, top=64).table
    some = bench.find(POSITIVE, max_density=0.5, top=64)
    assert set(some.table["feature"]) == set(all_found[all_found["density"] <= 0.5]["feature"])
    assert "at most 50 % of" in some.removed[-1].filter and some.removed[-1].n_removed == (all_found["density"] > 0.5).sum() > 0
    assert all_found["score"].is_monotonic_decreasing and all_found["score"].between(0, 1).all()


def test_a_better_feature_that_the_filters_leave_out_is_named_with_what_lets_it_in(model, sae, tmp_path: Path):
    bench = Workbench(
        model=model, sae=sae, labels={3: "cats"}, index=build_index(model, sae, POSITIVE * 3 + NEGATIVE, tmp_path, progress=False)
    )
    n_named = 0
    for positive, negative in ((POSITIVE, NEGATIVE), ([*POSITIVE, "and the mat"], ["the dog ran"]), (POSITIVE, [])):
        best = bench.find(positive, negative, share=0.5, margin=9.0, max_density=1.0).table
        found = bench.find(positive, negative, share=1.0, margin=0.0, max_density=1.0)
        if best["feature"][0] in found.table["feature"].tolist():
            assert "lets it in" not in found.note
            continue
        n_named += 1
        options = {name: float(value) for name, value in re.findall(r"(share|margin)=([\d.]+)", found.note)}
        loosened = bench.find(positive, negative, max_density=1.0, **({"share": 1.0, "margin": 0.0} | options))
        assert loosened.table["feature"][0] == best["feature"][0] and f"feature {best['feature'][0]} " in found.note
    assert n_named


def test_rarity_counts_the_texts_that_are_at_least_as_active(bench: Workbench, tmp_path: Path):
    texts = ["the cat sat on the mat", "the dog ran to the cat", "and the mat", "to the dog and the cat"]
    rarity, features = Rarity.of(build_index(bench.model, bench.sae, texts, tmp_path, progress=False)), np.arange(64)
    peaks = np.stack([dense(bench, text).amax(0).numpy() for text in texts])
    for share in (0.9, 0.5, 0.2, 0.07):
        level = np.stack([peaks.max(0) * share, np.zeros(64)], axis=1).astype(np.float32)
        n_above = (rarity.intervals(features, peaks) >= rarity.intervals(features, level[:, 0])).sum(0)
        expected = np.where(rarity.intervals(features, level[:, 0]) > 0, -np.log2((n_above + 1) / 5), 0)
        assert rarity.bits(features, level)[:, 0] == pytest.approx(expected) and not rarity.bits(features, level)[:, 1].any()
    assert expected.max() > 1


def test_when_nothing_passes_every_filter_says_how_many_it_removed(bench: Workbench):
    found = bench.find(["the cat"], ["the cat sat on the mat and the dog ran to the cat"], margin=0.0)
    assert not len(found.table) and found.n_passed == 0
    assert "no feature passes" in repr(found) and f"{found.removed[1].n_removed} of {found.removed[1].n_before} removed" in repr(found)
    assert sum(each.n_removed for each in found.removed) == 64
    assert "No feature passes" in found._repr_html_()


WRONG = {
    "positive prompt 2 of 2 is empty": dict(positive=["the cat", " "]),
    "negative prompt 1 of 1 is empty": dict(positive=["the cat"], negative=[""]),
    "there is no positive prompt": dict(positive=[]),
    "positive is one string; expected a list of prompts": dict(positive="the cat"),
    "'the cat' is both a positive and a negative prompt": dict(positive=["the cat"], negative=["the cat"]),
    "share=0.0: expected a share": dict(positive=["the cat"], share=0.0),
    "margin=-1.0: expected 0": dict(positive=["the cat"], margin=-1.0),
    "max_density=2.0: expected a share": dict(positive=["the cat"], max_density=2.0),
    "top=0 asks for no feature": dict(positive=["the cat"], top=0),
    "prompt 1: the prompt is .* tokens long": dict(positive=["the cat " * 50]),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_cannot_be_searched_with_is_said_before_anything_is_read(bench: Workbench, message: str, monkeypatch):
    monkeypatch.setattr(coding, "through_bridge", lambda *args: pytest.fail("the model ran"))
    with pytest.raises(ValueError, match=message):
        bench.find(**WRONG[message])


def test_hostile_prompts_and_labels_are_shown_as_text(model, sae):
    labels = dict.fromkeys(range(64), "<script>alert(1)</script></td>")
    found = Workbench(model=model, sae=sae, labels=labels).find(["<img src=x> \u202e & the cat", '"<b>'], margin=9.0)
    html = found._repr_html_()
    assert len(found.table) and "alert(1)" in html
    assert not {"<script", "<img", "\u202e", "</td></td>"} & {part for part in ("<script", "<img", "\u202e", "</td></td>") if part in html}


def test_a_search_at_the_last_tokens_counts_nothing_else(bench: Workbench):
    prompts = ["the cat sat on the", "the dog ran to"]
    found = bench.find(prompts, at_last=True, top=1000)
    acts = [dense(bench, prompt)[-1] for prompt in prompts]
    active = set(torch.stack(acts).gt(0).sum(0).ge(2).nonzero()[:, 0].tolist())
    assert set(found.table["feature"]) == active and "at the last token of each" in found.wants
    expected = {feature: float(np.mean([act[feature].item() for act in acts])) for feature in active}
    assert dict(zip(found.table["feature"], found.table["mean_activation"], strict=True)) == pytest.approx(expected, rel=1e-4)


def test_fewer_than_ten_texts_like_the_prompts_are_said_to_be_few(bench: Workbench, tmp_path: Path):
    texts = [*POSITIVE, *NEGATIVE, *(f"the dog {'ran ' * n}" for n in range(1, 20))]
    index = build_index(bench.model, bench.sae, texts, tmp_path, progress=False)
    note = Workbench(model=bench.model, sae=bench.sae, index=index).find(POSITIVE, NEGATIVE).note
    n = int(re.search(r"the (\d+) of the index's", note)[1])
    assert n < 10 and f": {n} are few to tell features apart by" in note
