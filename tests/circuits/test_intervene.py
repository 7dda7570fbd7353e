"""Edits change what they name and nothing else, with or without a KV cache, and leave no hook behind."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from made_models import D_SAE, FAMILIES, n_hooks, random_sae

from workbench.circuits.intervene import clamp, editing


def residual(model, tokens, sae):
    _, cache = model.run_with_cache(tokens, names_filter=sae.cfg.hook_name)
    return cache[sae.cfg.hook_name]


@pytest.mark.parametrize("family", FAMILIES)
def test_identity_edit_leaves_logits_unchanged_to_the_bit(model_of, tokens, sae, family):
    model = model_of(family)
    clean = model(tokens)
    with editing(model, sae, lambda feature_acts: feature_acts):
        assert torch.equal(model(tokens), clean)


def test_clamping_to_the_clean_value_leaves_logits_unchanged(model, tokens, sae):
    feature_acts = sae.encode(residual(model, tokens, sae))
    feature, pos = int(feature_acts[0, 4].argmax()), 4
    clean = model(tokens)
    with editing(model, sae, {feature: feature_acts[0, pos, feature].item()}, pos=pos):
        torch.testing.assert_close(model(tokens), clean)


HOOK_NAMES = ["blocks.1.hook_resid_pre", "blocks.2.hook_resid_post", "blocks.2.attn.hook_z", "blocks.2.hook_mlp_out"]


@pytest.mark.parametrize("hook_name", HOOK_NAMES)
def test_a_clamp_moves_the_activation_along_the_features_direction_and_keeps_the_error(model, tokens, hook_name):
    sae = random_sae(hook_name)
    x = residual(model, tokens, sae).flatten(2)
    change = (7.0 - sae.encode(x)[..., 3, None]) * sae.W_dec[3]
    with editing(model, sae, {3: 7.0}):
        torch.testing.assert_close(residual(model, tokens, sae).flatten(2), x + change, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16, np.int64, int, torch.tensor])
def test_a_clamp_takes_numbers_of_any_kind(model, tokens, sae, kind):
    with editing(model, sae, {3: 7.0}):
        wanted = model(tokens)
    with editing(model, sae, {3: kind(7.0)}):
        assert torch.equal(model(tokens), wanted)


def test_an_edit_at_one_position_changes_no_earlier_logits_and_its_own(model, tokens, sae):
    clean = model(tokens)
    with editing(model, sae, {3: 7.0}, pos=5):
        edited = model(tokens)
    assert torch.equal(edited[:, :5], clean[:, :5])
    assert (edited[:, 5:] - clean[:, 5:]).abs().amax(-1).min() > 1e-3


@pytest.mark.parametrize("pos", [np.int64(5), torch.tensor(5), np.array([5]), [torch.tensor(5), 5], pd.Series([5])])
def test_a_position_is_a_number_of_any_kind(model, tokens, sae, pos):
    """A ranking's table has NumPy's."""
    with editing(model, sae, {3: 7.0}, pos=5):
        expected = model(tokens)
    with editing(model, sae, {3: 7.0}, pos=pos):
        assert torch.equal(model(tokens), expected)


def test_two_clamps_inside_each_other_are_one_clamp_of_both(model, tokens):
    sae = random_sae()
    sae.W_dec.data = torch.linalg.qr(torch.randn(32, 32)).Q.repeat(2, 1)
    sae.W_enc.data = sae.W_dec.data.T.clone()  # features 3 and 4 are orthogonal: clamping one leaves the other's activation alone
    with editing(model, sae, {3: 7.0, 4: 2.0}):
        both = model(tokens)
    with editing(model, sae, {3: 7.0}), editing(model, sae, {4: 2.0}):
        torch.testing.assert_close(model(tokens), both, rtol=1e-4, atol=1e-5)


def test_clamp_reads_a_workbench(model, tokens, sae):
    with editing(model, sae, {3: 7.0}, pos=[2, 5]):
        expected = model(tokens)
    with clamp(SimpleNamespace(model=model, sae=sae), {3: 7.0}, pos=[2, 5]):
        assert torch.equal(model(tokens), expected)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("pos", [None, 2, [3, 12]], ids=["everywhere", "in the prompt", "in prompt and continuation"])
def test_the_kv_cache_changes_nothing_in_greedy_generation_under_a_clamp(model_of, tokens, sae, family, pos):
    model = model_of(family)
    options = dict(max_new_tokens=6, do_sample=False, stop_at_eos=False, verbose=False, output_logits=True, return_type="tokens")
    plain = model.generate(tokens, **options)
    with editing(model, sae, {3: 9.0, 8: 0.0}, pos=pos):
        cached = model.generate(tokens, use_past_kv_cache=True, **options)
    with editing(model, sae, {3: 9.0, 8: 0.0}, pos=pos):
        whole = model.generate(tokens, use_past_kv_cache=False, **options)
    assert torch.equal(cached.sequences, whole.sequences)
    torch.testing.assert_close(torch.stack(cached.logits), torch.stack(whole.logits), rtol=1e-3, atol=1e-4)
    assert not torch.allclose(torch.stack(cached.logits), torch.stack(plain.logits), atol=1e-3), "the clamp did nothing"


def test_sampled_rows_see_the_clamp_at_every_position_with_and_without_the_cache(model, tokens, sae):
    options = dict(max_new_tokens=6, do_sample=True, stop_at_eos=False, verbose=False, return_type="tokens")
    rows = tokens.expand(3, -1)
    generated = []
    for use_past_kv_cache in (True, False):
        torch.manual_seed(5)
        with editing(model, sae, {3: 9.0}):
            generated.append(model.generate(rows, use_past_kv_cache=use_past_kv_cache, **options))
    assert torch.equal(*generated)
    assert len({tuple(row.tolist()) for row in generated[0]}) == 3, "three samples of one prompt differ"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_no_hook_is_left_after_an_error_inside(model, tokens, sae, error):
    before, clean = n_hooks(model), model(tokens)
    with pytest.raises(error, match="inside"), editing(model, sae, {3: 7.0}, pos=1):
        model(tokens)
        raise error("inside")
    assert n_hooks(model) == before
    assert torch.equal(model(tokens), clean)


def test_no_hook_is_left_when_the_edit_itself_fails(model, tokens, sae):
    before = n_hooks(model)

    def fail(feature_acts):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), editing(model, sae, fail):
        model(tokens)
    assert n_hooks(model) == before


def test_an_edit_that_never_happened_is_an_error(model, tokens, sae):
    with pytest.raises(RuntimeError, match="never happened"), editing(model, sae, {3: 7.0}):
        pass
    with pytest.raises(RuntimeError, match=r"never came to positions \[30\]"), editing(model, sae, {3: 7.0}, pos=[2, 30]):
        model(tokens)


@pytest.mark.parametrize(
    ("values", "pos", "says"),
    [
        ({D_SAE: 1.0}, None, f"feature {D_SAE} is out of range: this SAE has features 0 to {D_SAE - 1}"),
        ({-1: 1.0}, None, "feature -1 is out of range"),
        ({3: float("nan")}, None, "cannot be clamped to nan"),
        ({3: 1.0}, -1, "position -1 is not one of this model's, 0 to 63"),
        ({3: 1.0}, [2, 64], "position 64"),
        ({3: 1.0}, [2, True], "position True"),
        ({3: 1.0}, [], "pos is empty"),
    ],
)
def test_features_and_positions_that_cannot_be_are_refused_before_any_hook(model, sae, values, pos, says):
    before = n_hooks(model)
    with pytest.raises(ValueError, match=says), editing(model, sae, values, pos=pos):
        raise AssertionError("entered")
    assert n_hooks(model) == before
