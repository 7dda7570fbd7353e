"""Controls: each kind's effects equal hooked forward passes, integrated gradients add up, and a linear model makes all estimates exact."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from made_bench import made_bench, sparse_sae
from made_linear import linear_model
from made_models import D_SAE

from workbench.circuits.evidence.controls import KINDS, Controls, _like, controls
from workbench.circuits.evidence.reference import read_mean_acts
from workbench.circuits.metrics import logit_diff
from workbench.circuits.ranking.ablation import ablate
from workbench.circuits.ranking.attribution import attribute, gradient_at, integrate
from workbench.model.hooks import hooked
from workbench.model.tokens import to_tokens

PROMPT, OTHER = "the cat sat on the mat and", "the dog ran to the cat and"
TEXTS = ["the dog ran to the cat", "the mat on the dog", "and the cat ran"]
METRIC = logit_diff(5, 7)
HOOK = "blocks.1.hook_resid_pre"


def hooked_metric(model, hook_name: str, pos: int, change) -> float:
    """The slow way: one forward pass with change(x[pos]) there."""

    def replace(x):
        x = x.clone()
        x[0, pos] = change(x[0, pos])
        return x

    with hooked(model, hook_name, replace):
        return float(METRIC.resolve(model)(model(to_tokens(model, PROMPT))[:, -1]))


def of(found: Controls, kind: str) -> pd.DataFrame:
    return found.table[found.table["kind"] == kind].reset_index(drop=True)


@pytest.fixture(scope="module", params=["gpt2", "neox"])
def measured(request, model_of):
    """(model, SAE, controls) of a model with a start token and of one without."""
    model, sae = model_of(request.param), sparse_sae()
    return model, sae, controls(made_bench(model, sae, TEXTS), PROMPT, METRIC, n=6, other=OTHER)


def test_feature_rows_are_the_largest_attributions_with_the_effects_of_ablation(measured):
    model, sae, found = measured
    rows, tokens = of(found, "feature"), to_tokens(model, PROMPT)
    whole = attribute(model, sae, tokens, METRIC)
    first = int(tokens[0, 0] == model.tokenizer.bos_token_id)
    expected = whole.attribution[first:].abs().flatten().topk(6).values
    assert rows["attribution"].abs().tolist() == pytest.approx(expected.tolist(), rel=1e-4)
    pairs = torch.tensor(rows[["pos", "feature"]].to_numpy().tolist())
    assert rows["effect"].tolist() == pytest.approx(ablate(model, sae, tokens, METRIC, pairs, progress=False).tolist(), abs=1e-5)


def test_rows_of_like_activation_are_other_active_pairs_near_in_activation(measured):
    model, sae, found = measured
    features, like = of(found, "feature"), of(found, "like activation")
    acts = attribute(model, sae, to_tokens(model, PROMPT), METRIC).feature_acts
    assert len(like) == 6 and not set(zip(features["pos"], features["feature"], strict=True)) & set(
        zip(like["pos"], like["feature"], strict=True)
    )
    assert like["activation"].tolist() == pytest.approx([float(acts[p, f]) for p, f in zip(like["pos"], like["feature"], strict=True)])
    assert not like.duplicated(["pos", "feature"]).any()
    taken = {(p, f) for p, f in zip(features["pos"], features["feature"], strict=True)}
    first = int(to_tokens(model, PROMPT)[0, 0] == model.tokenizer.bos_token_id)
    rest = [float(acts[p, f]) for p, f in acts.nonzero().tolist() if p >= first and (p, f) not in taken]
    nearest = min(rest, key=lambda value: abs(value - features["activation"][0]))
    assert like["activation"][0] == pytest.approx(nearest)


def test_no_pair_is_like_two_of_the_features():
    wanted, there, rest = torch.tensor([5.0, 5.0]), torch.tensor([4.9, 1.0]), torch.tensor([[0, 2], [0, 3]])
    assert _like(wanted, there, rest).tolist() == [[0, 2], [0, 3]]


def test_error_rows_put_the_reconstruction_in_the_place_of_the_activation(measured):
    model, sae, found = measured
    rows, clean = of(found, "error"), hooked_metric(model, HOOK, 1, lambda x: x)
    assert rows["pos"].tolist() == list(range(int(rows["pos"][0]), to_tokens(model, PROMPT).shape[1]))
    for row in rows.itertuples():
        assert row.effect == pytest.approx(clean - hooked_metric(model, HOOK, row.pos, sae), abs=1e-4)


def test_random_directions_are_as_long_as_the_features_activations(measured):
    model, sae, found = measured
    rows, features, clean = of(found, "random direction"), of(found, "feature"), hooked_metric(measured[0], HOOK, 1, lambda x: x)
    lengths = [a * float(sae.W_dec[f].norm()) for a, f in zip(features["activation"], features["feature"], strict=True)]
    assert rows["activation"].tolist() == pytest.approx(lengths, rel=1e-4)
    drawn = torch.randn(6, 32, generator=torch.Generator().manual_seed(0))
    taken = torch.tensor(lengths)[:, None] * drawn / drawn.norm(dim=1, keepdim=True)
    for row, vector in zip(rows.itertuples(), taken, strict=True):
        assert row.effect == pytest.approx(clean - hooked_metric(model, HOOK, row.pos, lambda x, vector=vector: x - vector), abs=1e-4)


def test_neuron_rows_are_the_largest_attributions_of_all_layers_each_set_to_0(measured):
    model, sae, found = measured
    rows, clean = of(found, "neuron"), hooked_metric(model, HOOK, 1, lambda x: x)
    tokens = to_tokens(model, PROMPT)
    first = int(tokens[0, 0] == model.tokenizer.bos_token_id)
    every = [gradient_at(model, f"blocks.{k}.mlp.hook_post", tokens, METRIC) for k in range(model.cfg.n_layers)]
    expected = torch.cat([(at.x * at.gradient)[0, first:].flatten() for at in every]).abs().topk(6).values
    assert rows["attribution"].abs().tolist() == pytest.approx(expected.tolist(), rel=1e-3)
    for row in rows.itertuples():
        name = f"blocks.{row.label.split()[1]}.mlp.hook_post"

        def off(x, neuron=row.feature):
            return x.index_fill(0, torch.tensor([neuron]), 0.0)

        assert row.effect == pytest.approx(clean - hooked_metric(model, name, row.pos, off), abs=1e-4)


def test_features_are_set_to_their_mean_and_to_their_value_in_the_other_prompt(measured):
    model, sae, found = measured
    clean, level = hooked_metric(model, HOOK, 1, lambda x: x), read_mean_acts(model, sae, TEXTS)
    others = sae.encode(model.run_with_cache(to_tokens(model, OTHER))[1][HOOK][0])
    for row in of(found, "feature").itertuples():
        for value, effect in ((level[row.feature], row.effect_mean), (others[row.pos, row.feature], row.effect_resample)):

            def moved(x, row=row, value=value):
                return x + (value - sae.encode(x)[row.feature]) * sae.W_dec[row.feature]

            assert effect == pytest.approx(clean - hooked_metric(model, HOOK, row.pos, moved), abs=1e-4)


def test_integrated_gradients_add_up_to_what_all_features_carry(model):
    sae, tokens = sparse_sae(), to_tokens(model, PROMPT)
    found = integrate(model, sae, tokens, METRIC, n_steps=200)

    def without(x):
        x = x.clone()
        x[0, 1:] -= sae.encode(x[0, 1:]) @ sae.W_dec
        return x

    clean = hooked_metric(model, HOOK, 1, lambda x: x)
    with hooked(model, HOOK, without):
        floor = float(METRIC.resolve(model)(model(tokens)[:, -1]))
    assert float(found.sum()) == pytest.approx(clean - floor, abs=2e-3) and abs(clean - floor) > 0.1
    assert not found[0].any(), "the start token is left alone"
    plain = attribute(model, sae, tokens, METRIC).attribution[1:].sum()
    assert abs(float(plain) - (clean - floor)) > 0.02, "the plain attribution does not add up here"


def test_on_a_linear_model_attribution_integrated_gradients_and_effects_are_one(tokenizer):
    model, sae = linear_model(tokenizer), sparse_sae(dtype=torch.float64)
    found = controls(made_bench(model, sae, TEXTS), PROMPT, METRIC, n=8)
    features = found.table[found.table["kind"].isin(["feature", "like activation"])]
    assert features["effect"].abs().max() > 1e-3
    assert np.allclose(features["attribution"], features["effect"], rtol=1e-5, atol=1e-7)
    assert np.allclose(features["integrated"], features["effect"], rtol=1e-5, atol=1e-7)
    rest = found.table[found.table["kind"].isin(["random direction", "error"])]
    assert np.allclose(rest["attribution"], rest["effect"], rtol=1e-5, atol=1e-7)


def test_what_was_not_asked_for_is_left_open(model):
    found = controls(made_bench(model, sparse_sae()), PROMPT, METRIC, n=3)
    assert found.table[["effect_mean", "effect_resample"]].isna().all().all()
    assert found.ways()["way"].tolist() == ["effect"]
    assert list(found.by_kind()["kind"]) == list(KINDS)
    assert found.by_kind().set_index("kind").loc["error", "n"] == 7


def test_prompts_that_cannot_be_compared_are_refused(model):
    bench = made_bench(model, sparse_sae(), TEXTS)
    with pytest.raises(ValueError, match="the other prompt has 3 tokens, the prompt 8"):
        controls(bench, PROMPT, METRIC, other="the cat")
    with pytest.raises(ValueError, match="n=0: expected how many"):
        controls(bench, PROMPT, METRIC, n=0)
    bench.sae.b_enc.data -= 1000.0
    with pytest.raises(ValueError, match="no feature of this SAE is active"):
        controls(bench, PROMPT, METRIC)


def test_controls_show_themselves_without_markup_from_tokens_and_labels():
    rows = [
        (kind, 3 if kind != "error" else -1, 1, "<b>", 1.0, 0.5 * i, 0.2, -0.4 * i, 0.1, np.nan, "<i>x") for i, kind in enumerate(KINDS)
    ]
    columns = "kind feature pos token activation attribution integrated effect effect_mean effect_resample label".split()
    found = Controls("<u>the", METRIC, 2.0, pd.DataFrame(rows, columns=columns))
    html = found._repr_html_()
    assert not any(tag in html for tag in ("<b>&", "<i>x", "<u>", "<b><")) and "&lt;b&gt;" in html and "&lt;u&gt;the" in html
    assert "largest 1.600  of 1" in repr(found)
    assert found.by_kind()["largest"].tolist() == pytest.approx([0.0, 0.4, 0.8, 1.2, 1.6])


def test_more_features_than_there_are_is_all_of_them(model):
    found = controls(made_bench(model, sparse_sae(), TEXTS), PROMPT, METRIC, n=10 * D_SAE)
    assert of(found, "like activation").empty and len(of(found, "feature")) > 20


def test_the_error_of_an_sae_that_centers_is_without_the_mean_that_it_takes_away(model):
    sae = sparse_sae()
    sae.cfg = replace(sae.cfg, centers_input=True)
    errors = of(controls(made_bench(model, sae), PROMPT, METRIC, n=2, progress=False), "error")
    with torch.no_grad():
        x = model.run_with_cache(to_tokens(model, PROMPT))[1][HOOK][0, 1:]
        expected = (x - x.mean(1, keepdim=True) - sae(x)).norm(dim=1)
    np.testing.assert_allclose(errors["activation"], expected, rtol=1e-4)
