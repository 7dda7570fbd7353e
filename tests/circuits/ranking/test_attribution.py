"""attribution = feature_acts · (∂metric/∂x · W_dec), against autograd through the SAE, finite differences and a case done by hand."""

import pytest
import torch
from made_models import D_SAE, FAMILIES, n_hooks, random_sae

from workbench.circuits.metrics import logit_diff
from workbench.circuits.ranking import attribution as attribution_module
from workbench.circuits.ranking.attribution import active_pairs, attribute
from workbench.sae import parts


def slow_attribution(model, sae, tokens, metric):
    """The SAE inside the graph, its error added back; the gradient of the metric to each feature's activation."""
    kept = {}

    def splice(x, hook):
        kept["acts"] = sae.encode(x.detach()).requires_grad_()
        return x.copy_(sae.decode(kept["acts"]) + (x - sae.decode(sae.encode(x))).detach())  # in place: also beside the MLP's norm

    logits = model.run_with_hooks(tokens, fwd_hooks=[(sae.cfg.hook_name, splice)])
    metric.resolve(model)(logits[:, -1]).backward()
    return (kept["acts"] * kept["acts"].grad)[0].detach()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("baseline", [7, None])
@pytest.mark.parametrize("point", ["hook_resid_pre", "hook_resid_mid", "hook_mlp_out"])
def test_equals_the_gradient_through_the_sae(model_of, tokens, family, baseline, point):
    model, sae, metric = model_of(family), random_sae(f"blocks.1.{point}"), logit_diff(5, baseline)
    if sae.cfg.hook_name not in model.hook_dict:
        pytest.skip(f"{family}'s attention and MLP run side by side: it has no {point}")
    expected = slow_attribution(model, sae, tokens, metric)
    found = attribute(model, sae, tokens, metric)
    torch.testing.assert_close(found.attribution, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())
    assert found.metric == pytest.approx(metric.resolve(model)(model(tokens)[:, -1]).item(), abs=1e-5)


def test_is_what_a_small_change_of_the_activation_does_per_unit(model_of, folder_of, tokens):
    from workbench.model.model import load_model

    model, sae, metric = load_model(folder_of("gpt2"), dtype=torch.float64), random_sae(dtype=torch.float64), logit_diff(5, 7)
    found = attribute(model, sae, tokens, metric)
    resolved = metric.resolve(model)
    for pos, feature in found.pairs[::80].tolist():
        share = 1e-5

        def shrink(x, hook, pos=pos, feature=feature, share=share):
            x[:, pos] -= share * found.feature_acts[pos, feature] * sae.W_dec[feature]
            return x

        shrunk = resolved(model.run_with_hooks(tokens, fwd_hooks=[(sae.cfg.hook_name, shrink)])[:, -1]).item()
        assert (found.metric - shrunk) / share == pytest.approx(found.attribution[pos, feature].item(), rel=1e-3, abs=1e-7)


def test_a_feature_that_writes_the_answers_direction_supports_the_answer(model, tokens):
    """At the last residual stream only the last position counts, and the unembedding says which directions help."""
    sae = random_sae("blocks.3.hook_resid_post")
    sae.W_dec.data[0] = model.unembed.W_U[:, 5] - model.unembed.W_U[:, 7]
    sae.W_dec.data[1] = -sae.W_dec.data[0]
    sae.b_enc.data[:2] = 10.0  # both fire everywhere
    found = attribute(model, sae, tokens, logit_diff(5, 7)).attribution
    assert found[-1, 0] > 0 > found[-1, 1]
    assert (found[:-1] == 0).all()


def test_features_that_are_off_have_no_attribution(model, tokens, sae):
    found = attribute(model, sae, tokens, logit_diff(5))
    assert (found.feature_acts == 0).any()
    assert (found.attribution[found.feature_acts == 0] == 0).all()
    assert torch.equal(found.pairs, active_pairs(found.feature_acts))
    assert torch.equal(found.of(found.pairs), found.attribution[found.feature_acts > 0])


def test_what_a_hook_does_to_the_logits_is_part_of_the_gradient(model, tokens, sae):
    plain = attribute(model, sae, tokens, logit_diff(5, 7))
    handle = model.unembed.original_component.register_forward_hook(lambda module, args, logits: 2 * logits)
    try:
        doubled = attribute(model, sae, tokens, logit_diff(5, 7))
    finally:
        handle.remove()
    assert doubled.metric == pytest.approx(2 * plain.metric)
    torch.testing.assert_close(doubled.attribution, 2 * plain.attribution)


def test_products_at_active_pairs_equal_the_dense_product(model, tokens, sae, monkeypatch):
    monkeypatch.setattr(attribution_module, "DENSE_SHARE", 0.0)
    dense = attribute(model, sae, tokens, logit_diff(5))
    monkeypatch.setattr(attribution_module, "DENSE_SHARE", 1.0)
    torch.testing.assert_close(attribute(model, sae, tokens, logit_diff(5)).attribution, dense.attribution, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("hook_name", ["blocks.2.hook_mlp_out", "blocks.2.attn.hook_z", "blocks.0.hook_resid_mid", "hook_embed"])
def test_any_hook_point_works(model, tokens, hook_name):
    sae, metric = random_sae(hook_name), logit_diff(5)
    found = attribute(model, sae, tokens, metric)
    assert found.attribution.shape == (tokens.shape[1], D_SAE)
    assert found.attribution.abs().max() > 1e-4


def test_a_caller_without_gradients_still_gets_them_and_nothing_is_left(model, tokens, sae):
    before = n_hooks(model)
    with torch.no_grad():
        found = attribute(model, sae, tokens, logit_diff(5))
    assert found.attribution.abs().max() > 1e-4
    assert not found.attribution.requires_grad
    assert all(weight.grad is None for module in model.modules() for weight in module.parameters(recurse=False))
    assert n_hooks(model) == before


def test_what_is_wrong_is_said_before_the_model_runs(model, tokens, sae, monkeypatch):
    monkeypatch.setattr(type(model), "forward", lambda *args, **kwargs: pytest.fail("the model ran"))
    with pytest.raises(ValueError, match="same token"):
        attribute(model, sae, tokens, logit_diff(5, 5))
    with pytest.raises(ValueError, match="this SAE reads 16"):
        attribute(model, random_sae(d_in=16), tokens, logit_diff(5))


@pytest.mark.parametrize("share", [0.0, 2.0], ids=["a dense product", "gathered rows"])
def test_a_part_of_the_positions_at_a_time_has_the_bits_of_all_at_once(model, sae, monkeypatch, share: float):
    tokens = torch.randint(1, 300, (1, 60), generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(attribution_module, "DENSE_SHARE", share)
    whole = attribute(model, sae, tokens, logit_diff(5))
    monkeypatch.setattr(parts, "N_ACTS", 1)
    monkeypatch.setitem(attribution_module.N_GATHERED, "cpu", 100)
    heard: list[tuple[int, int]] = []
    found = attribute(model, sae, tokens, logit_diff(5), lambda *so_far: heard.append(so_far))
    assert len(heard) == 3 and heard[-1] == (len(whole.pairs), 60)
    dense = sae.encode(model.run_with_cache(tokens)[1][sae.cfg.hook_name][0])
    torch.testing.assert_close(found.feature_acts, dense)
    torch.testing.assert_close(found.attributions, whole.attributions)
    x = model.run_with_cache(tokens)[1][sae.cfg.hook_name][0]
    if not torch.equal(torch.cat([sae.encode(part) for part in x.tensor_split(3)]), dense):
        return  # a product of a part has other bits than a part of the product here: MKL with AVX2
    assert torch.equal(found.feature_acts, dense) and torch.equal(found.pairs, dense.nonzero()) and torch.equal(found.acts, whole.acts)
    assert torch.equal(found.attributions, whole.attributions) and torch.equal(found.gradient, whole.gradient)
    if not share:
        assert torch.equal(found.attribution, dense * (found.gradient @ sae.W_dec.T))
    torch.testing.assert_close(found.summed(3), found.attribution[3:].double().sum(0))
    assert torch.equal(found.acts_of(found.pairs.flip(0)), found.acts.flip(0))
