"""One prompt through several SAEs: each layer's ranking is that layer's own, and a step's effect is a hooked forward pass per cell."""

import numpy as np
import pandas as pd
import pytest
import torch
from made_bench import made_bench
from made_models import D_SAE, random_sae

from workbench.circuits.depth.layers import StepTrace, by_layer, rank_layers, trace_steps
from workbench.circuits.metrics import logit_diff
from workbench.circuits.ranking.ranking import rank
from workbench.model.hooks import hooked
from workbench.model.tokens import to_tokens

PROMPT = "the cat sat on the mat and"
METRIC = logit_diff(5, 7)
NAMES = ["blocks.0.hook_resid_pre", "blocks.1.hook_mlp_out", "blocks.2.hook_resid_pre", "blocks.3.hook_resid_post"]


@pytest.fixture
def saes():
    found = [random_sae(name) for name in NAMES]
    for sae in found:
        sae.b_enc.data -= 1.0
    return [found[2], found[0], found[3], found[1]]


def hooked_metric(model, hook_name: str, replace) -> float:
    with hooked(model, hook_name, lambda x: replace(x[0].flatten(1)).view_as(x)):
        return float(METRIC.resolve(model)(model(to_tokens(model, PROMPT))[:, -1]))


def test_saes_are_ordered_by_depth(model, saes):
    assert list(by_layer(model, saes)) == NAMES


def test_each_layer_s_ranking_is_the_one_of_its_own_sae(model, saes):
    found = rank_layers(made_bench(model, saes[0]), saes, PROMPT, METRIC, labels={NAMES[0]: {3: "third"}}, progress=False)
    assert list(found.rankings) == NAMES
    for sae in saes:
        alone = rank(made_bench(model, sae), PROMPT, METRIC, progress=False)
        pd.testing.assert_frame_equal(found[sae.cfg.hook_name].table.drop(columns="label"), alone.table.drop(columns="label"))
    assert len(found.table) == sum(len(found[name].table) for name in NAMES) and found.table["effect"].is_monotonic_decreasing
    labels = found[NAMES[0]].table.set_index("feature")["label"]
    assert all(label == ("third" if feature == 3 else "") for feature, label in labels.items())
    assert all(name in repr(found) and name in found._repr_html_() for name in NAMES)


@pytest.mark.parametrize("family", ["gpt2", "gemma2", "neox"])
def test_a_step_s_effect_in_every_cell_equals_a_hooked_forward_pass(model_of, saes, family):
    model, layers = model_of(family), by_layer(model_of(family), saes)
    steps = {"one": {name: [3, 9, 20] for name in NAMES}, "two": {NAMES[1]: [5]}}
    found = trace_steps(made_bench(model, saes[0]), saes, PROMPT, METRIC, steps).table
    first = int(to_tokens(model, PROMPT)[0, 0] == model.tokenizer.bos_token_id)
    clean = hooked_metric(model, NAMES[0], lambda x: x)
    for row in found[found["step"] == "one"].itertuples():
        sae, acts = layers[row.hook_name], []

        def off(x, pos=row.pos, sae=sae, acts=acts):
            acts.append(sae.encode(x)[pos, [3, 9, 20]])
            return torch.cat([x[:pos], x[pos : pos + 1] - acts[0] @ sae.W_dec[[3, 9, 20]], x[pos + 1 :]])

        assert row.effect == pytest.approx(clean - hooked_metric(model, row.hook_name, off), abs=1e-4)
        assert row.activation == pytest.approx(float(acts[0].sum()), rel=1e-3, abs=1e-5)
    assert sorted(set(found["pos"])) == list(range(first, to_tokens(model, PROMPT).shape[1]))
    two = found[found["step"] == "two"].set_index("hook_name")["effect"]
    assert two.notna().groupby(level=0).all().to_dict() == {name: name == NAMES[1] for name in NAMES}


def made_trace(**changed) -> StepTrace:
    """Step A counts early, step B late; numbers by hand."""
    rows = []
    for step, cells in (("<b>A", {(1, 2): 4.0, (2, 2): 2.0, (2, 3): -1.0}), ("B", {(3, 3): 3.0, (2, 3): 1.0})):
        for layer in (1, 2, 3):
            for pos in (1, 2, 3):
                value = np.nan if (step, layer) == ("B", 1) else cells.get((layer, pos), 0.0)
                rows.append((step, f"blocks.{layer}.hook_resid_pre", layer, pos, "<i>x", abs(value), value))
    table = pd.DataFrame(rows, columns="step hook_name layer pos token activation effect".split())
    fields = dict(prompt="<u>the", metric=METRIC, clean_metric=5.0, str_tokens=["s", "<i>x", "y", "z"], table=table)
    return StepTrace(**(fields | changed))


def test_the_summary_says_where_a_step_counts_most_and_how_deep_on_average():
    found = made_trace().summary().set_index("step")
    assert found.loc["<b>A", ["hook_name", "pos", "effect"]].tolist() == ["blocks.1.hook_resid_pre", 2, 4.0]
    assert found.loc["<b>A", "mean_layer"] == pytest.approx((4 * 1 + 2 * 2) / 6)
    assert found.loc["B", "mean_layer"] == pytest.approx((3 * 3 + 1 * 2) / 4) and found.loc["B", "mean_pos"] == 3.0


def test_a_step_without_support_has_no_mean_layer():
    table = made_trace().table
    found = made_trace(table=table.assign(effect=-table["effect"].abs())).summary()
    assert found["mean_layer"].isna().all()


def test_the_grid_has_the_deepest_hook_point_on_top_and_gaps_where_nothing_is_known():
    grid = made_trace().grid("B")
    assert list(grid.index) == [f"blocks.{layer}.hook_resid_pre" for layer in (3, 2, 1)] and list(grid.columns) == [1, 2, 3]
    assert grid.iloc[0, 2] == 3.0 and grid.iloc[2].isna().all()
    with pytest.raises(ValueError, match="no step 'b' here.* there are <b>A, B"):
        made_trace().grid("b")


def test_heat_maps_show_every_step_and_no_markup_from_tokens_or_names():
    figure = made_trace().plot()
    assert len(figure.data) == 2 and figure.data[0].zmax == 4.0
    assert figure.data[0].z[0][1] == 4.0 and figure.data[0].y[0] == "1.resid_pre", "plotly draws from below"
    shown = figure._repr_mimebundle_()["text/html"] + made_trace()._repr_html_()
    assert not any(hostile in shown for hostile in ("<i>x", "<b>A", "<u>")) and shown.count("<img") == 4
    assert "&lt;b&gt;A" in shown and "<b>A" not in str(figure.layout.annotations)
    assert len(made_trace().plot("activation").data) == 2


def test_what_cannot_be_followed_is_refused(model, saes):
    bench = made_bench(model, saes[0])
    wrong = {
        "there is no SAE at blocks.1.hook_resid_pre; did you mean": {"s": {"blocks.1.hook_resid_pre": [1]}},
        f"feature {D_SAE} is out of range": {"s": {NAMES[0]: [D_SAE]}},
        "step 's' has no features": {"s": {NAMES[0]: []}},
        "no step to follow": {},
    }
    for says, steps in wrong.items():
        with pytest.raises(ValueError, match=says):
            trace_steps(bench, saes, PROMPT, METRIC, steps)
    with pytest.raises(ValueError, match="no SAE is given"):
        rank_layers(bench, [], PROMPT, METRIC)
    with pytest.raises(ValueError, match=f"2 SAEs at {NAMES[2]}"):
        rank_layers(bench, [*saes, saes[0]], PROMPT, METRIC)
    with pytest.raises(ValueError, match="this model has no hook point 'blocks.9.hook_resid_pre'"):
        rank_layers(bench, [random_sae("blocks.9.hook_resid_pre")], PROMPT, METRIC)
    with pytest.raises(ValueError, match="there is no SAE at blocks.1.hook_resid_pre"):
        rank_layers(bench, saes[:1], PROMPT, METRIC, progress=False)["blocks.1.hook_resid_pre"]
