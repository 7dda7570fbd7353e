"""How much of a feature's effect goes through each head: against forward passes written out, and a limit where it is known."""

from threading import Event

import numpy as np
import pytest
import torch
from made_models import D_MODEL, D_SAE, FAMILIES, random_sae

from workbench.bench import Workbench
from workbench.circuits.depth.heads import head_effects
from workbench.circuits.metrics import logit_diff
from workbench.model.hooks import hooked
from workbench.model.tokens import to_tokens
from workbench.sae.config import SAEConfig
from workbench.sae.sae import SAE

PROMPT = "the cat sat on the mat"
METRIC = logit_diff(5, 7)


def made_bench(model, hook_name: str = "blocks.1.hook_resid_pre") -> Workbench:
    return Workbench(model=model, sae=random_sae(hook_name), labels={3: "</b>a label"})


def active(bench: Workbench, pos: int = 2) -> int:
    _, cache = bench.model.run_with_cache(to_tokens(bench.model, PROMPT), names_filter=bench.sae.cfg.hook_name)
    return int(bench.sae.encode(cache[bench.sae.cfg.hook_name])[0, pos].argmax())


def metric_of(bench: Workbench, feature: int, pos: int, is_off: bool, unread: list[tuple[int, int]]) -> float:
    """One plain forward pass: the feature's part subtracted by hand, the heads' scores for the token sunk."""
    hook_name, sae = bench.sae.cfg.hook_name, bench.sae

    def subtract(x, hook):
        x = x.clone()
        x[:, pos] -= sae.encode(x[:, pos])[:, feature, None] * sae.W_dec[feature]
        return x

    def block(scores, hook):
        scores = scores.clone()
        for layer, head in unread:
            if hook.name.startswith(f"blocks.{layer}."):
                scores[:, head, pos + 1 :, pos] = -1e9
        return scores

    hooks = [(hook_name, subtract)] * is_off + [
        (f"blocks.{layer}.attn.hook_attn_scores", block) for layer in {layer for layer, _ in unread}
    ]
    logits = bench.model.run_with_hooks(to_tokens(bench.model, PROMPT), fwd_hooks=hooks)[0, -1]
    return float(logits[5] - logits[7])


@pytest.mark.parametrize("family", FAMILIES)
def test_moved_is_the_effect_that_is_gone_when_one_head_cannot_read_the_token(model_of, family):
    bench = made_bench(model_of(family))
    feature = active(bench)
    found = head_effects(bench, PROMPT, METRIC, feature, 2)
    effect = metric_of(bench, feature, 2, False, []) - metric_of(bench, feature, 2, True, [])
    assert found.effect == pytest.approx(effect, abs=1e-4) and abs(effect) > 1e-3
    assert len(found.table) == 3 * 4  # layers 1 to 3, four heads each
    for row in found.table.itertuples():
        blocked = [metric_of(bench, feature, 2, is_off, [(row.layer, row.head)]) for is_off in (False, True)]
        assert row.moved == pytest.approx(effect - (blocked[0] - blocked[1]), abs=2e-4)
    assert found.table["moved"].abs().is_monotonic_decreasing


def test_heads_before_the_hook_point_are_left_out(model):
    bench = made_bench(model, "blocks.2.hook_resid_post")
    assert set(head_effects(bench, PROMPT, METRIC, active(bench), 2).table["layer"]) == {3}


def test_where_no_head_can_read_the_token_nothing_of_it_arrives(model):
    bench = made_bench(model)
    every = [(layer, head) for layer in (1, 2, 3) for head in range(4)]
    feature = active(bench)
    on, off = (metric_of(bench, feature, 2, is_off, every) for is_off in (False, True))
    assert on == pytest.approx(off, abs=1e-5)


def test_patterns_are_the_rows_of_the_table_and_sum_to_one(model):
    bench = made_bench(model)
    found = head_effects(bench, PROMPT, METRIC, active(bench), 2)
    assert found.patterns.sum(-1) == pytest.approx(np.ones(found.patterns.shape[:2]), abs=1e-5)
    assert found.patterns[:, -1, 2] == pytest.approx(found.table["attention"], abs=1e-6)
    caught = []
    row = found.table.iloc[0]
    with hooked(model, f"blocks.{int(row.layer)}.attn.hook_pattern", lambda pattern: caught.append(pattern)):
        model(to_tokens(model, PROMPT))
    torch.testing.assert_close(torch.tensor(found.patterns[0]), caught[0][0, int(row["head"])])


def test_without_a_position_it_is_the_one_of_the_largest_effect_that_heads_have_to_carry(model):
    bench = made_bench(model)
    feature = active(bench, 4)
    last = to_tokens(model, PROMPT).shape[1] - 1
    effects = [abs(metric_of(bench, feature, pos, False, []) - metric_of(bench, feature, pos, True, [])) for pos in range(1, last)]
    assert head_effects(bench, PROMPT, METRIC, feature).pos == 1 + int(np.argmax(effects))


def test_a_feature_that_is_active_at_the_last_position_only_is_measured_there(model):
    bench = made_bench(model)
    _, cache = model.run_with_cache(to_tokens(model, PROMPT), names_filter=bench.sae.cfg.hook_name)
    pre_acts = cache[bench.sae.cfg.hook_name][0] @ bench.sae.W_enc
    feature = int((pre_acts[-1] - pre_acts[1:-1].max(0).values).argmax())
    bench.sae.b_enc.data[feature] = -(pre_acts[-1, feature] + pre_acts[1:-1, feature].max()) / 2
    assert head_effects(bench, PROMPT, METRIC, feature).pos == len(pre_acts) - 1


def test_at_the_last_position_no_head_has_to_read_anything(model):
    bench = made_bench(model)
    last = to_tokens(model, PROMPT).shape[1] - 1
    found = head_effects(bench, PROMPT, METRIC, active(bench, last), last)
    assert abs(found.effect) > 1e-3 and found.table["moved"].abs().max() < 1e-5


def test_what_cannot_be_is_refused(model):
    bench = made_bench(model)
    with pytest.raises(ValueError, match="feature 64 is out of range: this SAE has features 0 to 63"):
        head_effects(bench, PROMPT, METRIC, 64)
    with pytest.raises(ValueError, match="position 99 is not on this prompt: expected 0"):
        head_effects(bench, PROMPT, METRIC, 3, 99)
    bench.sae.b_enc.data[3] = -1e6
    with pytest.raises(ValueError, match="feature 3 is active nowhere"):
        head_effects(bench, PROMPT, METRIC, 3)


def test_a_cancelled_measurement_has_the_layers_that_were_done(model):
    bench, cancel = made_bench(model), Event()
    cancel.set()
    assert len(head_effects(bench, PROMPT, METRIC, active(bench), 2, cancel=cancel).table) == 0


def test_it_shows_itself_and_nothing_hostile_runs(model):
    bench = made_bench(model)
    found = head_effects(bench, PROMPT, METRIC, 3, 2)
    assert "&lt;/b&gt;a label" in found._repr_html_() and "</b>a label" not in found._repr_html_()
    assert repr(found).startswith("HeadEffects of feature 3 at ")


def test_the_effect_of_what_batchtopk_picks_on_a_prompt_is_the_rankings(model):
    """It picks among all tokens of the prompt: a feature may be none of the k largest at its own."""
    sae = SAE(SAEConfig(D_MODEL, D_SAE, "blocks.1.hook_resid_pre", architecture="batchtopk", k=4))
    for name, weight in random_sae().named_parameters():
        sae.get_parameter(name).data = weight.data
    bench = Workbench(model=model, sae=sae.requires_grad_(False))
    table = bench.rank(PROMPT, METRIC, progress=False).table
    place = table.groupby("pos")["activation"].rank(ascending=False)
    assert (place > 4).any(), "the test needs a feature beyond the k largest of its token"
    for row in table[place > 4].itertuples():
        assert head_effects(bench, PROMPT, METRIC, row.feature, row.pos).effect == pytest.approx(row.effect, abs=1e-5)
