"""Whose effect changed: every measured number against passes of the model in which one feature is taken out by hand."""

import itertools

import numpy as np
import pytest
import torch
from made_models import random_hf_model, random_sae
from transformers import AutoModelForCausalLM

import workbench as wb
from workbench.bench import Workbench
from workbench.features.changes.effects import _likeliest, effect_words
from workbench.model.model import load_model
from workbench.model.tokens import answer_token, to_tokens

TEXTS = [
    " ".join(words) for words in itertools.product(("the", "a"), ("cat", "dog"), ("sat", "ran"), ("on", "to"), ("the mat", "a cat down"))
]


@pytest.fixture(scope="module")
def bench(model_of) -> Workbench:
    return Workbench(model=model_of("gpt2"), sae=random_sae(), labels={n: f"<b>label</b> {n}" for n in range(64)})


@pytest.fixture(scope="module")
def tuned(tokenizer):
    """Other weights both before and after the SAE."""
    hf_model = random_hf_model("gpt2")
    drawn = torch.Generator().manual_seed(3)
    for path in ("transformer.h.0.mlp.c_proj.weight", "transformer.h.2.mlp.c_proj.weight"):
        weight = hf_model.get_parameter(path)
        weight.data += 0.3 * weight.std() * torch.randn(weight.shape, generator=drawn)
    return load_model(hf_model, tokenizer=tokenizer)


@pytest.fixture(scope="module")
def changes(bench, tuned):
    return wb.diff(bench, tuned, TEXTS, effects=True, progress=False)


@torch.no_grad()
def by_hand(model, sae, feature: int, answers: list[int]) -> list[float]:
    """The effect in every other text: log p as it is − log p with the feature taken out."""
    found = []
    for text, answer in list(zip(TEXTS, answers, strict=True))[1::2]:
        tokens = to_tokens(model, text)

        def without(x, hook):
            acts = sae.encode(x)[..., feature].clone()
            acts[:, 0] = 0  # the start token stays
            return x - acts[..., None] * sae.W_dec[feature]

        as_it_is = model(tokens)[0, -1].log_softmax(-1)[answer]
        found.append(float(as_it_is - model.run_with_hooks(tokens, fwd_hooks=[(sae.reads, without)])[0, -1].log_softmax(-1)[answer]))
    return found


def test_each_effect_is_what_taking_the_feature_out_changes_of_what_the_tuned_model_says(bench, tuned, changes):
    with torch.no_grad():
        answers = [int(tuned(to_tokens(tuned, text))[0, -1].argmax()) for text in TEXTS]
    assert len(changes.effects) > 5
    for row in changes.effects.head(4).itertuples():
        ours, theirs = (by_hand(model, bench.sae, row.feature, answers) for model in (bench.model, tuned))
        np.testing.assert_allclose([row.base, row.tuned], [np.mean(ours), np.mean(theirs)], atol=2e-5)
        assert row.change == pytest.approx(np.mean(theirs) - np.mean(ours), abs=2e-5) and row.low <= row.change <= row.high


def test_an_answer_that_is_given_is_the_one_that_is_asked_for(bench, tuned):
    answer = answer_token(bench.model, "cat")
    one = wb.diff(bench, tuned, TEXTS, effects="cat", progress=False).effects
    each = wb.diff(bench, tuned, TEXTS, effects=["cat"] * len(TEXTS), progress=False).effects
    assert one.equals(each)
    row = one.iloc[0]
    assert row["base"] == pytest.approx(np.mean(by_hand(bench.model, bench.sae, int(row["feature"]), [answer] * len(TEXTS))), abs=2e-5)


def test_the_largest_change_stands_first_and_q_counts_what_was_measured(changes):
    table = changes.effects
    assert table["change"].abs().is_monotonic_decreasing and len(table) <= 20
    assert (table["has_changed"] == (table["q"] <= 0.05)).all() and table["n_texts"].between(0, len(TEXTS) // 2).all()
    assert table["label"].iloc[0] == f"<b>label</b> {table['feature'].iloc[0]}"


def test_what_chose_a_feature_does_not_measure_it(bench, tuned, changes):
    """Other texts in the half that is measured: the same features are chosen, with the same estimates."""
    others = [text if i % 2 == 0 else "a dog sat down" for i, text in enumerate(TEXTS)]
    found = wb.diff(bench, tuned, others, effects="cat", progress=False).effects.set_index("feature")
    before = wb.diff(bench, tuned, TEXTS, effects="cat", progress=False).effects.set_index("feature")
    assert set(found.index) == set(before.index)
    np.testing.assert_allclose(found["attribution"].sort_index(), before["attribution"].sort_index(), atol=1e-7)
    assert not np.allclose(found["change"].sort_index(), before["change"].sort_index())


def test_effects_are_shown_and_left_out_where_nobody_asked(bench, tuned, changes):
    assert "Effects on what follows" in changes._repr_html_() and "&lt;b&gt;label" in changes._repr_html_()
    assert effect_words(changes.effects) in repr(changes) and effect_words(changes.effects.head(0)).startswith("Effects: no feature")
    without = wb.diff(bench, tuned, TEXTS, progress=False)
    assert without.effects is None and "Effects" not in without._repr_html_() + repr(without)


def test_what_is_no_answer_is_refused_in_words(bench, tuned):
    for texts, effects, words in (
        (TEXTS, ["cat"] * 3, "3 answers for 32 texts: expected one token for all, one for each, or True"),
        (TEXTS[:12], True, "12 texts: half of them choose features and half are measured, give 20 or more"),
        (TEXTS, "", "the answer is empty"),
    ):
        with pytest.raises(ValueError) as refused:
            wb.diff(bench, tuned, texts, effects=effects, progress=False)
        assert words in str(refused.value), refused.value


@torch.no_grad()
def test_the_likeliest_token_of_a_model_of_16_bits_is_that_of_its_weights_in_float32(folder_of):
    """In 16 bits dozens of tokens share the highest logit."""
    folder = folder_of("gemma2")
    model, wide = load_model(folder, dtype=torch.bfloat16), AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).float()
    rows = [to_tokens(model, text)[0].tolist() for text in TEXTS]
    logits = [wide(torch.tensor([row])).logits[0, -1] for row in rows]
    found = _likeliest(model, rows)
    assert [float(each[token]) for each, token in zip(logits, found, strict=True)] == pytest.approx(
        [float(each.max()) for each in logits], abs=1e-6
    )
