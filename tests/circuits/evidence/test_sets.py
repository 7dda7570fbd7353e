"""Sets of features: equal to hooked forward passes, additive where the model is linear, and their curves are what single sets give."""

import pandas as pd
import pytest
import torch
from made_bench import made_bench, sparse_sae
from made_linear import linear_model
from made_models import D_SAE, FAMILIES, random_sae

from workbench.circuits.evidence.reference import mean_acts, read_mean_acts
from workbench.circuits.evidence.set_curves import interactions
from workbench.circuits.evidence.sets import FeatureSets, ablate_set, keep_only
from workbench.circuits.metrics import logit_diff
from workbench.features.index.index import build_index
from workbench.model.hooks import hooked
from workbench.model.tokens import to_tokens

PROMPT = "the cat sat on the mat and"
TEXTS = ["the dog ran to the cat", "the mat on the dog", "and the cat ran"]
METRIC = logit_diff(5, 7)


def hooked_metric(model, hook_name: str, replace) -> float:
    """The slow way: one forward pass with x (pos, d_in) put through `replace`."""
    resolved = METRIC.resolve(model)
    with hooked(model, hook_name, lambda x: replace(x[0].flatten(1)).view_as(x)):
        return float(resolved(model(to_tokens(model, PROMPT))[:, -1]))


def active(model, sae) -> tuple[torch.Tensor, torch.Tensor, int]:
    """(active pairs after the start token, the two features that are active most often, the first position that is no start token)"""
    tokens = to_tokens(model, PROMPT)
    first = int(tokens[0, 0] == model.tokenizer.bos_token_id)
    x = model.run_with_cache(tokens)[1][sae.cfg.hook_name][0].flatten(1)
    is_on = sae.encode(x)[first:] > 0
    return is_on.nonzero() + torch.tensor([first, 0]), is_on.sum(0).topk(2).indices, first


def chosen(kind: str, model, sae):
    pairs, features, _ = active(model, sae)
    return {
        "features": features.tolist(),
        "pairs": pairs[::3].tolist(),
        "position": pairs[pairs[:, 0] == 3].tolist(),
        "everything": list(range(D_SAE)),
    }[kind]


def where(members, first: int, n_pos: int) -> list[tuple[int, int]]:
    is_features = isinstance(members[0], int)
    return [(pos, feature) for pos in range(first, n_pos) for feature in members] if is_features else [tuple(pair) for pair in members]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("point", ["hook_resid_pre", "hook_mlp_out"])
@pytest.mark.parametrize("kind", ["features", "pairs", "everything"])
def test_an_ablated_set_equals_a_hooked_forward_pass(model_of, family, point, kind):
    model, sae = model_of(family), random_sae(f"blocks.1.{point}")
    members, first = chosen(kind, model, sae), active(model, sae)[2]

    def without(x):
        feature_acts, x = sae.encode(x), x.clone()
        for pos, feature in where(members, first, len(x)):
            x[pos] -= feature_acts[pos, feature] * sae.W_dec[feature]
        return x

    clean = hooked_metric(model, sae.cfg.hook_name, lambda x: x)
    expected = clean - hooked_metric(model, sae.cfg.hook_name, without)
    assert abs(expected) > 1e-3
    assert ablate_set(made_bench(model, sae, TEXTS), PROMPT, METRIC, members) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("off", ["zero", "mean"])
@pytest.mark.parametrize("keep_error", [True, False])
@pytest.mark.parametrize("kind", ["features", "pairs", "position"])
def test_a_set_alone_equals_a_hooked_forward_pass_with_all_others_switched_off(model, off, keep_error, kind):
    sae = sparse_sae()
    bench, members = made_bench(model, sae, TEXTS), chosen(kind, model, sae)
    level = read_mean_acts(model, sae, TEXTS) if off == "mean" else torch.zeros(D_SAE)

    def alone(x):
        feature_acts = sae.encode(x)
        error, edited = x - sae.decode(feature_acts), level.expand_as(feature_acts).clone()
        for pos, feature in where(members, 1, len(x)):
            edited[pos, feature] = feature_acts[pos, feature]
        new = sae.decode(edited) + (error if keep_error else 0.0)
        return torch.cat([x[:1], new[1:]])  # the start token is left alone

    expected = hooked_metric(model, sae.cfg.hook_name, alone)
    assert keep_only(bench, PROMPT, METRIC, members, off, keep_error) == pytest.approx(expected, abs=1e-4)


def test_features_are_switched_to_their_mean_in_ablated_sets_too(model):
    sae = sparse_sae()
    level, features = read_mean_acts(model, sae, TEXTS), chosen("features", model, sae)

    def at_mean(x):
        feature_acts, x = sae.encode(x), x.clone()
        x[1:] -= (feature_acts[1:, features] - level[features]) @ sae.W_dec[features]
        return x

    clean = hooked_metric(model, sae.cfg.hook_name, lambda x: x)
    expected = clean - hooked_metric(model, sae.cfg.hook_name, at_mean)
    assert ablate_set(made_bench(model, sae, TEXTS), PROMPT, METRIC, features, off="mean") == pytest.approx(expected, abs=1e-4)


def test_the_mean_is_over_every_token_of_the_texts_but_the_start_token(model, sae):
    expected = torch.cat([sae.encode(model.run_with_cache(text)[1][sae.cfg.hook_name][0, 1:]) for text in TEXTS]).mean(0)
    torch.testing.assert_close(read_mean_acts(model, sae, TEXTS), expected, rtol=1e-4, atol=1e-5)


def test_an_index_tells_the_mean_to_half_a_bin(model, tmp_path):
    sae, bench = sparse_sae(), made_bench(model, sparse_sae(), TEXTS)
    expected = mean_acts(bench)
    bench.index = build_index(model, sae, TEXTS, tmp_path / "index", progress=False)
    table = bench.index.table
    slack = torch.tensor((table["density"] * table["max_act"] / 64 + 1e-6).tolist())  # a bin is at most a 32nd of the largest
    assert ((mean_acts(bench) - expected).abs() <= slack).all()
    assert mean_acts(bench).max() > 0


def test_many_sets_are_measured_as_each_alone(model):
    sets = FeatureSets(made_bench(model, texts=TEXTS), PROMPT, METRIC)
    torch.manual_seed(0)
    chosen = torch.rand(40, len(sets.pairs)) < torch.rand(40, 1)
    chosen[0], chosen[1] = False, True
    found = sets.effects(chosen), sets.effects_of_only(chosen)
    for row in range(40):
        assert found[0][row] == pytest.approx(float(sets.effects(chosen[row, None])[0]), abs=1e-4)
        assert found[1][row] == pytest.approx(float(sets.effects_of_only(chosen[row, None])[0]), abs=1e-4)
    assert found[0][0] == pytest.approx(0.0, abs=1e-6), (
        "nothing taken away changes nothing: equal rows of MKL's products may differ in a bit"
    )


def test_with_the_error_kept_everything_switched_off_is_everything_ablated(model):
    sets = FeatureSets(made_bench(model, texts=TEXTS), PROMPT, METRIC, keep_error=True)
    assert sets.clean_metric - sets.floor == pytest.approx(sets.ablate(list(range(D_SAE))), abs=1e-4)
    assert float(sets.effects_of_only(~sets.none())[0]) == 0.0, "everything kept changes nothing"


def test_on_a_linear_model_effects_of_sets_are_sums_of_single_effects(tokenizer):
    model = linear_model(tokenizer)
    sets = FeatureSets(made_bench(model, random_sae(dtype=torch.float64), TEXTS), PROMPT, METRIC)
    singles = sets.effects(torch.eye(len(sets.pairs), dtype=torch.bool))
    assert (singles.abs() > 1e-3).sum() > 50, "features of earlier positions matter too"
    torch.manual_seed(0)
    chosen = torch.rand(20, len(sets.pairs)) < 0.5
    torch.testing.assert_close(sets.effects(chosen), chosen.double() @ singles, rtol=1e-6, atol=1e-6)
    kept = sets.clean_metric - sets.effects_of_only(chosen)
    torch.testing.assert_close(kept - sets.floor, chosen.double() @ singles, rtol=1e-6, atol=1e-6)
    rows = pd.DataFrame(sets.pairs[::7].numpy(), columns=["pos", "feature"])
    assert interactions(sets, rows)["interaction"].abs().max() < 1e-6


def test_the_same_set_can_be_said_in_four_ways(model):
    sets = FeatureSets(made_bench(model, texts=TEXTS), PROMPT, METRIC)
    pairs = sets.pairs[(sets.pairs[:, 1] == 3) | (sets.pairs[:, 1] == 9)]
    frame = pd.DataFrame(pairs.numpy(), columns=["pos", "feature"])
    ways = [pairs, frame, pairs.tolist(), [3, 9], frame[["feature"]]]
    masks = [sets.set_of(members) for members in ways]
    assert all(torch.equal(masks[0], mask) for mask in masks[1:]) and 0 < masks[0].sum() == len(pairs)


def test_measure_says_what_is_lost_without_and_left_with_each_set(model):
    sets = FeatureSets(made_bench(model, texts=TEXTS), PROMPT, METRIC)
    table = sets.measure({"two": [3, 9], "one": [(2, 3)] if (sets.pairs == torch.tensor([2, 3])).all(1).any() else [3]}).set_index("set")
    assert table.loc["two", "effect"] == pytest.approx(sets.ablate([3, 9]), abs=1e-5)
    assert table.loc["two", "only"] == pytest.approx(sets.keep_only([3, 9]), abs=1e-5)
    assert table.loc["two", "kept"] == pytest.approx(table.loc["two", "only"] / sets.clean_metric)
    assert table.loc["two", "n_features"] == 2 and table.loc["two", "n_pairs"] >= 2


WRONG = {
    "an empty set": ([], "the set is empty"),
    "a feature out of range": ([D_SAE], f"feature {D_SAE} is out of range: this SAE has features 0 to {D_SAE - 1}"),
    "a position out of range": ([(99, 3)], "position 99 is not one of the prompt's, 0 to 7"),
    "a position before the first": ([(-1, 3), (5, 3)], "position -1 is not one of the prompt's, 0 to 7"),
    "a silent set": ([63], "none of the set is active on this prompt"),
    "the start token": ([(0, 3)], "none of the set is active"),
    "fractions": (pd.DataFrame({"feature": [1.5]}), "all whole numbers"),
    "triples": ([(1, 2, 3)], "features or .* pairs"),
}


@pytest.mark.parametrize("how", WRONG)
def test_sets_that_cannot_be_are_refused(model, how):
    members, says = WRONG[how]
    sae = random_sae()
    sae.b_enc.data[63] = -1000.0
    sets = FeatureSets(made_bench(model, sae, TEXTS), PROMPT, METRIC)
    with pytest.raises(ValueError, match=says):
        sets.ablate(members)


def test_keeping_everything_and_unknown_ways_to_switch_off_are_refused(model):
    sets = FeatureSets(made_bench(model, texts=TEXTS), PROMPT, METRIC)
    with pytest.raises(ValueError, match="keeping everything changes nothing"):
        sets.keep_only(list(range(D_SAE)))
    with pytest.raises(ValueError, match="off='means': expected 'zero' or 'mean'; did you mean 'mean'"):
        FeatureSets(made_bench(model, texts=TEXTS), PROMPT, METRIC, off="means")
    bench = made_bench(model, texts=TEXTS)
    bench.examples = None
    with pytest.raises(ValueError, match="neither an index nor example texts"):
        FeatureSets(bench, PROMPT, METRIC, off="mean")
    silent = random_sae()
    silent.b_enc.data -= 1000.0
    with pytest.raises(ValueError, match="no feature of this SAE is active"):
        FeatureSets(made_bench(model, silent, TEXTS), PROMPT, METRIC)
