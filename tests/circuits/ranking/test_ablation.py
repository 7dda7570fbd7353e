"""effect = metric(clean) − metric(feature set to 0 at one position): exact, signed, in the caller's order, and interruptible."""

import threading

import pytest
import torch
from made_models import FAMILIES, n_hooks, random_sae

from workbench.circuits.metrics import logit_diff
from workbench.circuits.ranking import ablation
from workbench.circuits.ranking.ablation import ablate
from workbench.circuits.ranking.attribution import active_pairs, attribute
from workbench.model.model import load_model


def one_at_a_time(model, sae, tokens, metric, pairs):
    """The tutorial's way: one hooked forward pass of the whole model per (pos, feature)."""
    resolved = metric.resolve(model)
    clean = resolved(model(tokens)[:, -1])
    effects = []
    for pos, feature in pairs.tolist():

        def remove(x, hook, pos=pos, feature=feature):
            x[:, pos] -= sae.encode(x[:, pos].flatten(1))[:, feature, None].mul(sae.W_dec[feature]).view(x[:, pos].shape)
            return x

        effects.append(clean - resolved(model.run_with_hooks(tokens, fwd_hooks=[(sae.cfg.hook_name, remove)])[:, -1]))
    return torch.cat(effects)


def some_pairs(model, sae, tokens, n: int = 12):
    """Active pairs at all positions, in no order."""
    pairs = attribute(model, sae, tokens, logit_diff(5)).pairs
    return pairs[torch.randperm(len(pairs), generator=torch.Generator().manual_seed(0))[:n]]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("baseline", [7, None])
@pytest.mark.parametrize("point", ["hook_resid_pre", "hook_mlp_out"])
def test_equals_hooked_forward_passes_to_a_ten_thousandth(model_of, tokens, family, baseline, point):
    model, sae, metric = model_of(family), random_sae(f"blocks.1.{point}"), logit_diff(5, baseline)
    pairs = some_pairs(model, sae, tokens)
    expected = one_at_a_time(model, sae, tokens, metric, pairs)
    found = ablate(model, sae, tokens, metric, pairs=pairs, progress=False)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * expected.abs().max().item())


def test_in_double_precision_every_single_effect_is_right(folder_of, tokens):
    model, sae, metric = load_model(folder_of("gpt2"), dtype=torch.float64), random_sae(dtype=torch.float64), logit_diff(5, 7)
    pairs = some_pairs(model, sae, tokens, n=60)
    expected = one_at_a_time(model, sae, tokens, metric, pairs)
    torch.testing.assert_close(ablate(model, sae, tokens, metric, pairs=pairs, progress=False), expected, rtol=1e-8, atol=1e-12)


def test_of_an_sae_of_16_bits_only_the_features_are_rounded_not_what_they_write(model, tokens):
    sae, metric = random_sae(dtype=torch.bfloat16), logit_diff(5, 7)
    pairs, hook_name = some_pairs(model, sae, tokens), sae.cfg.hook_name
    x = model.run_with_cache(tokens, names_filter=hook_name)[1][hook_name]
    acts = sae.encode(x.to(torch.bfloat16)).float()
    resolved, expected = metric.resolve(model), []
    for pos, feature in pairs.tolist():
        off = x.clone()
        off[:, pos] -= acts[:, pos, feature, None] * sae.W_dec[feature].float()
        logits = model.run_with_hooks(tokens, fwd_hooks=[(hook_name, lambda was, hook, off=off: off)])
        expected.append(resolved(model(tokens)[:, -1]) - resolved(logits[:, -1]))
    found = ablate(model, sae, tokens, metric, pairs=pairs, progress=False)
    torch.testing.assert_close(found, torch.cat(expected), rtol=0, atol=1e-4 * torch.cat(expected).abs().max().item())


def test_without_pairs_every_active_one_is_measured_in_the_order_of_active_pairs(model, tokens, sae):
    found = attribute(model, sae, tokens, logit_diff(5))
    effects = ablate(model, sae, tokens, logit_diff(5), progress=False)
    assert effects.shape == (len(active_pairs(found.feature_acts)),) and not effects.isnan().any()
    pairs = found.pairs
    backwards = ablate(model, sae, tokens, logit_diff(5), pairs=pairs.flip(0), progress=False)
    torch.testing.assert_close(backwards.flip(0), effects, rtol=0, atol=1e-5 * effects.abs().max().item())


def test_a_feature_that_writes_the_answers_direction_has_a_positive_effect(model, tokens):
    sae = random_sae("blocks.3.hook_resid_post")
    sae.W_dec.data[0] = model.unembed.W_U[:, 5] - model.unembed.W_U[:, 7]
    sae.W_dec.data[1] = -sae.W_dec.data[0]
    sae.b_enc.data[:2] = 10.0
    last = tokens.shape[1] - 1
    supports, opposes, too_early = ablate(
        model, sae, tokens, logit_diff(5, 7), pairs=torch.tensor([[last, 0], [last, 1], [last - 1, 0]]), progress=False
    )
    assert supports > 0.01 and opposes < -0.01
    assert too_early.abs() < 1e-6, "after the last block only the last position counts"


def test_a_feature_that_is_off_has_no_effect(model, tokens, sae):
    off = (attribute(model, sae, tokens, logit_diff(5)).feature_acts == 0).nonzero()[:20]
    assert ablate(model, sae, tokens, logit_diff(5), pairs=off, progress=False).abs().max() < 1e-6


def test_effects_grow_out_of_attributions_as_the_features_shrink(model, tokens):
    """With a decoder a thousand times smaller the edit is small and the first-order estimate exact."""
    model, sae = load_model(model), random_sae()
    sae.W_dec.data *= 1e-2
    found = attribute(model, sae, tokens, logit_diff(5))
    effects = ablate(model, sae, tokens, logit_diff(5), progress=False)
    torch.testing.assert_close(effects, found.of(found.pairs), rtol=0, atol=0.02 * effects.abs().max().item())


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(ablation, "FIRST_CHUNK", 8)


def test_batches_stream_early_rows_first_and_every_row_once(model, tokens, sae, small_batches):
    pairs = some_pairs(model, sae, tokens, n=100)
    seen, values = [], torch.full((100,), torch.nan)

    def watch(rows, effects):
        seen.append(rows)
        values[rows] = effects

    effects = ablate(model, sae, tokens, logit_diff(5), pairs=pairs, progress=False, on_batch=watch)
    assert torch.equal(values, effects)
    assert torch.cat(seen).sort().values.tolist() == list(range(100))
    assert sorted(torch.cat(seen)[:8].tolist()) == list(range(8)), "the first chunk is the caller's first pairs"


def test_cancel_keeps_what_was_measured_and_leaves_the_rest_nan(model, tokens, sae, small_batches):
    pairs, cancel = some_pairs(model, sae, tokens, n=100), threading.Event()
    effects = ablate(
        model, sae, tokens, logit_diff(5), pairs=pairs, progress=False, cancel=cancel, on_batch=lambda rows, effects: cancel.set()
    )
    is_done = ~effects.isnan()
    assert is_done[:8].any() and not is_done[8:].any()
    expected = one_at_a_time(model, sae, tokens, logit_diff(5), pairs[is_done])
    torch.testing.assert_close(effects[is_done], expected, rtol=0, atol=1e-4 * expected.abs().max().item())


def test_ctrl_c_leaves_no_hook_and_the_same_model(model, tokens, sae):
    before, clean = n_hooks(model), model(tokens)

    def interrupt(rows, effects):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ablate(model, sae, tokens, logit_diff(5), progress=False, on_batch=interrupt)
    assert n_hooks(model) == before
    assert torch.equal(model(tokens), clean)


def test_inside_a_clamp_effects_are_those_of_the_clamped_model(model, tokens, sae):
    from workbench.circuits.intervene import editing

    elsewhere = random_sae("blocks.2.hook_mlp_out")
    pairs = some_pairs(model, sae, tokens)
    unclamped = ablate(model, sae, tokens, logit_diff(5), pairs=pairs, progress=False)
    with editing(model, elsewhere, {3: 20.0}, pos=4):
        expected = one_at_a_time(model, sae, tokens, logit_diff(5), pairs)
        found = ablate(model, sae, tokens, logit_diff(5), pairs=pairs, progress=False)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * expected.abs().max().item())
    assert (found - unclamped).abs().max() > 1e-3, "the clamp did nothing"


def test_progress_is_shown_only_when_asked(model, tokens, sae, capsys, monkeypatch):
    monkeypatch.setattr(ablation, "BAR_DELAY", 0.0)
    ablate(model, sae, tokens, logit_diff(5), progress=False)
    assert capsys.readouterr().err == ""
    ablate(model, sae, tokens, logit_diff(5))
    assert "ablating: 100%" in capsys.readouterr().err


@pytest.mark.parametrize("pairs", [[[12, 0]], [[0, 64]], [[-1, 0]]])
def test_pairs_outside_of_the_prompt_or_the_sae_are_refused(model, tokens, sae, pairs):
    with pytest.raises(ValueError, match="pos below 12 and feature below 64"):
        ablate(model, sae, tokens, logit_diff(5), pairs=torch.tensor(pairs), progress=False)


def test_a_prompt_that_activates_nothing_says_so(model, tokens, sae):
    sae.b_enc.data -= 1000.0
    with pytest.raises(ValueError, match="no feature is active"):
        ablate(model, sae, tokens, logit_diff(5), progress=False)
