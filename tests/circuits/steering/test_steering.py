"""Steering by strength: units of the largest activation, to the bit where nothing changes, and said where it cannot be."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from made_bench import PROMPT, made_bench
from made_models import D_SAE, N_CTX, random_sae

from workbench.circuits.intervene import editing
from workbench.circuits.steering.continuations import Steering, round_down
from workbench.circuits.steering.generation import Decoding, Generated, generate
from workbench.circuits.steering.steering import steer
from workbench.model.tokens import to_tokens

SHORT = Decoding(max_new_tokens=6)
KNOWN = dict.fromkeys(range(D_SAE), 2.0)  # max_act of every feature


def whole_text(model, clamp: dict[int, float]) -> tuple[torch.Tensor, int]:
    """(the prompt's tokens and those that follow under the clamp, how many are the prompt's)"""
    tokens = to_tokens(model, PROMPT)
    with editing(model, random_sae(), clamp):
        return torch.cat([tokens, generate(model, tokens, SHORT).tokens], dim=1), tokens.shape[1]


def texts(steering: Steering, kind: str = "features") -> list[str]:
    return [each.text for each in steering.continuations if each.setting.kind == kind]


def test_strength_0_equals_ablation(model):
    bench = made_bench(model)
    found = steer(bench, PROMPT, {3: 0.0}, SHORT, max_act=KNOWN).continuations[1]
    tokens = to_tokens(model, PROMPT)
    with editing(model, bench.sae, {3: 0.0}):
        expected = generate(model, tokens, SHORT)
    assert found.text == model.tokenizer.decode(expected.tokens[0])
    likeliest = expected.next_logits[0].softmax(-1).max().item()
    assert max(found.next_tokens.values()) == pytest.approx(likeliest, rel=1e-5)


def test_strength_is_in_units_of_the_largest_activation(model):
    bench = made_bench(model)
    found = steer(bench, PROMPT, {3: [2.0, -4.0], 8: 1.0}, SHORT, max_act={3: 2.5, 8: 7.0}).continuations
    tokens = to_tokens(model, PROMPT)
    for each, clamp in zip(found[1:], [{3: 5.0, 8: 7.0}, {3: -10.0, 8: 7.0}], strict=True):
        with editing(model, bench.sae, clamp):
            assert each.text == model.tokenizer.decode(generate(model, tokens, SHORT).tokens[0])
    assert [each.setting.name for each in found] == ["unsteered", "3 × 2, 8 × 1", "3 × -4, 8 × 1"]


def test_clamping_a_feature_to_its_own_value_changes_nothing_to_the_bit(model):
    sae = random_sae()
    sae.W_enc.data[:, 3], sae.b_enc.data[3] = 0.0, 2.5  # active everywhere, always 2.5
    sae.b_enc.data[8] = -1000.0  # never active
    found = steer(made_bench(model, sae), PROMPT, {3: 1.0, 8: 0.0}, SHORT, max_act={3: 2.5, 8: 1.0}).continuations
    assert found[1].next_tokens == found[0].next_tokens and found[1].text == found[0].text
    assert found[1].log_probs == found[0].log_probs


def test_samples_of_one_seed_have_the_same_luck_whatever_else_is_in_the_batch(model):
    sampled = Decoding(max_new_tokens=8, temperature=1.0, n_samples=3, seed=5)
    found = steer(made_bench(model), PROMPT, {3: [0.0, 4.0]}, sampled, max_act=KNOWN)
    plain = texts(found, "unsteered")
    assert len(set(plain)) == 3
    one = Decoding(max_new_tokens=8, temperature=1.0, seed=6)
    again = steer(made_bench(model), PROMPT, {3: 4.0}, one, max_act=KNOWN)
    assert texts(again, "unsteered")[0] == plain[1]
    assert texts(again)[0] == texts(found)[4]


def test_perplexity_and_log_probabilities_are_the_unsteered_model_s(model):
    found = steer(made_bench(model), PROMPT, {3: 8.0}, SHORT, max_act=KNOWN).continuations[1]
    tokens, n_prompt = whole_text(model, {3: 16.0})
    log_probs = model(tokens)[0].log_softmax(-1)
    expected = [log_probs[pos - 1, tokens[0, pos]].item() for pos in range(n_prompt, tokens.shape[1])]
    assert found.log_probs == pytest.approx(expected, abs=1e-4)
    assert found.perplexity == pytest.approx(np.exp(-np.mean(expected)), rel=1e-4)


def test_own_activations_are_read_without_the_clamp(model):
    bench = made_bench(model)
    found = steer(bench, PROMPT, {3: 8.0, 9: 1.0}, SHORT, max_act=KNOWN).continuations[1]
    tokens, n_prompt = whole_text(model, {3: 16.0, 9: 2.0})
    x = model.run_with_cache(tokens)[1][bench.sae.cfg.hook_name][0, n_prompt:]
    assert found.activations == pytest.approx(bench.sae.encode(x)[:, [3, 9]].sum(1).tolist(), abs=1e-4)


def test_tokens_that_were_asked_for_are_followed(model):
    found = steer(made_bench(model), PROMPT, {3: [1.0, 4.0]}, SHORT, tokens=[" mat"], max_act=KNOWN)
    probability = model(to_tokens(model, PROMPT))[0, -1].softmax(-1)[model.to_single_token(" mat")].item()
    assert found.table["p( mat)"][0] == pytest.approx(probability, rel=1e-4)
    assert found.table["p( mat)"].nunique() == 3


class Index:
    table = pd.DataFrame({"feature": [3, 8], "max_act": [2.5, 0.0]})

    @staticmethod
    def sql(query: str) -> pd.DataFrame:
        return pd.DataFrame({"tokens": []})


def test_max_act_is_as_given_else_the_index_s_else_the_examples_else_asked_for(model):
    def examples(feature: int) -> list:
        return [SimpleNamespace(activations=[0.0, 1.5, 1.0]), SimpleNamespace(activations=[1.0])] if feature == 3 else []

    indexed, exemplified = made_bench(model, index=Index), made_bench(model, examples=examples)
    assert steer(indexed, PROMPT, {3: 1.0}, SHORT, max_act={3: 4.0}).max_act == {3: 4.0}
    assert steer(indexed, PROMPT, {3: 1.0}, SHORT).max_act == {3: 2.5}
    assert steer(exemplified, PROMPT, {3: 1.0}, SHORT).max_act == {3: 1.5}
    for bench in (indexed, exemplified):
        with pytest.raises(ValueError, match=r"feature 8 never fired .* give max_act=\{8: …\}"):
            steer(bench, PROMPT, {8: 1.0}, SHORT)
    with pytest.raises(ValueError, match=r"not known here .* give max_act=\{3: …\}"):
        steer(made_bench(model), PROMPT, {3: 1.0}, SHORT)


WRONG = {
    "a feature out of range": (dict(features={D_SAE: 1.0}), f"feature {D_SAE} is out of range: this SAE has features 0 to {D_SAE - 1}"),
    "a negative feature": (dict(features={-1: 1.0}), "feature -1 is out of range"),
    "nothing to steer by": (dict(features={}), "nothing to steer by"),
    "a strength that is no number": (dict(features={3: float("inf")}), "feature 3 cannot be steered at inf"),
    "lists of two lengths": (dict(features={3: [1.0, 2.0], 8: [1.0, 2.0, 3.0]}), r"lists of strengths go together.*\[2, 3\]"),
    "an empty list": (dict(features={3: []}), "expected one length, at least 1"),
    "a token that is none": (dict(tokens=["mat cat"]), "expected one token"),
    "past the context": (dict(decoding=Decoding(100)), rf"more than the {N_CTX} .* at most \d+ new ones"),
    "an empty prompt": (dict(prompt=" "), "the prompt is empty"),
}


@pytest.mark.parametrize("how", WRONG)
def test_what_cannot_be_steered_is_said_before_anything_runs(model, monkeypatch, how):
    options, says = WRONG[how]
    monkeypatch.setattr(type(model), "forward", lambda *_, **__: pytest.fail("the model ran"))
    asked = dict(prompt=PROMPT, features={3: 1.0}, decoding=SHORT, max_act=KNOWN) | options
    with pytest.raises(ValueError, match=says):
        steer(made_bench(model), **asked)


@pytest.mark.parametrize(
    ("row", "says"), [(2, r"3 × 1e\+06 is more than the model can compute with"), (0, "the model's own logits are NaN")]
)
def test_a_strength_that_makes_logits_nan_is_refused_by_name_and_a_broken_model_as_such(model, monkeypatch, row, says):
    def broken(*args) -> Generated:  # as a model in float16 gives, where a row is past its range
        written = generate(*args)
        written.next_logits[row] = torch.nan
        return written

    monkeypatch.setattr("workbench.circuits.steering.steering.generate", broken)
    with pytest.raises(ValueError, match=says):
        steer(made_bench(model), PROMPT, {3: [1.0, 1e6]}, SHORT, max_act=KNOWN)


def test_the_whole_context_can_be_used(model):
    n_prompt = to_tokens(model, PROMPT).shape[1]
    found = steer(made_bench(model), PROMPT, {3: 1.0}, Decoding(N_CTX - n_prompt), max_act=KNOWN)
    assert len(found.continuations) == 2


def test_strengths_beyond_the_sane_range_are_named_and_not_forbidden(model):
    far = steer(made_bench(model), PROMPT, {3: [1.0, 100.0]}, SHORT, max_act={3: 1e-3})
    assert far.notes == ["feature 3 at strength 100: beyond ±10 texts usually turn into nonsense"]
    large = steer(made_bench(model), PROMPT, {3: [0.5, -2.0]}, SHORT, max_act={3: 0.8 * far.x_norm / far.row_norms[3]})
    assert len(large.notes) == 1 and "at strength -2: beyond ±1 " in large.notes[0] and "outweighs" in large.notes[0]
    assert large.notes[0] in repr(large) and "outweighs" in large._repr_html_()


@pytest.mark.parametrize(
    ("strength", "shown"),
    [(10.0, 10), (7.9, 7.5), (0.5, 0.5), (0.4999, 0.4), (0.497, 0.4), (0.3, 0.3), (0.0999, 0.09), (0.01, 0.01), (3e-7, 3e-7), (0.0, 0)],
)
def test_a_safe_limit_is_rounded_down_so_that_it_is_safe(strength, shown):
    assert round_down(strength) == shown <= strength
