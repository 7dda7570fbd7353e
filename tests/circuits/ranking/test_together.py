"""Prompts measured together get what each gets alone: of any architecture, and of a model that mixes what is beside each other."""

import pandas as pd
import pytest
import torch
from made_bench import made_bench
from made_models import FAMILIES, random_sae

from workbench.bench import Workbench
from workbench.circuits.metrics import EachMetric, logit_diff, resolve
from workbench.circuits.ranking import together
from workbench.circuits.ranking.ablation import ablate
from workbench.circuits.ranking.attribution import attribute, attribute_each

PROMPTS = ["the cat sat on the", "the dog ran to a", "a dog sat", "a mat on the dog", "a cat ran"]
METRICS = [logit_diff(" mat"), logit_diff(" cat", " dog"), logit_diff(" dog"), logit_diff(" mat", " dog"), logit_diff(" cat")]
PAIR = ["feature", "pos"]


@pytest.fixture
def shared(monkeypatch) -> list[int]:
    """How many prompts each batch of ablations had."""
    found: list[int] = []
    whole = together._measure
    monkeypatch.setattr(together, "_measure", lambda replay, sae, each, n: (found.append(len(each)), whole(replay, sae, each, n))[1])
    return found


def same(one: pd.DataFrame, other: pd.DataFrame) -> None:
    one, other = (each.sort_values(PAIR).reset_index(drop=True) for each in (one, other))
    assert one[PAIR].equals(other[PAIR]) and one["token"].equals(other["token"]) and one["label"].equals(other["label"])
    for name in ("activation", "attribution", "effect"):
        scale = one[name].abs().max()
        assert one[name].isna().equals(other[name].isna()) and (one[name] - other[name]).abs().max() <= 1e-4 * scale, name


@pytest.mark.parametrize(
    ("family", "place"), [*((family, "blocks.1.hook_resid_pre") for family in FAMILIES), ("gpt2", "blocks.2.hook_mlp_out")]
)
def test_together_as_alone_each_with_its_own_metric(model_of, shared, family, place):
    bench = Workbench(model=model_of(family), sae=random_sae(place), labels={3: "three"})
    batch = bench.rank_many(PROMPTS, METRICS, progress=False)
    assert shared == [2, 2], "two lengths have two prompts, a third one"
    for prompt, metric, found in zip(PROMPTS, METRICS, batch.rankings, strict=True):
        alone = bench.rank(prompt, metric, progress=False)
        same(found.table, alone.table)
        assert (found.prompt, found.answer, found.baseline, found.notes) == (alone.prompt, alone.answer, alone.baseline, alone.notes)
        assert found.clean_metric == pytest.approx(alone.clean_metric, abs=1e-5)
        assert found.standing.next_tokens == pytest.approx(alone.standing.next_tokens, abs=1e-5)


def test_so_many_of_each_and_no_batch_of_pairs_depends_on_how_many_fit(model, shared, monkeypatch):
    bench = Workbench(model=model, sae=random_sae())
    found = bench.rank_many(PROMPTS, METRICS, ablate=5, progress=False)
    assert [int(each.table["effect"].notna().sum()) for each in found.rankings] == [5] * len(PROMPTS)
    monkeypatch.setattr(together.Replay, "_n_rows", lambda replay, start: 7)
    monkeypatch.setattr(together, "FULL", 10**6)
    small = bench.rank_many(PROMPTS, METRICS, ablate=5, progress=False)
    for one, other in zip(found.rankings, small.rankings, strict=True):
        same(one.table, other.table)


def test_a_prompt_that_fills_batches_of_its_own_is_measured_alone(model, shared, monkeypatch):
    monkeypatch.setattr(together, "FULL", 1)
    bench = Workbench(model=model, sae=random_sae())
    found = bench.rank_many(PROMPTS, METRICS, progress=False)
    assert not shared
    same(found.rankings[0].table, bench.rank(PROMPTS[0], METRICS[0], progress=False).table)
    first = next(together.measured_together(model, bench.sae, PROMPTS[2::2], METRICS[2::2], 3))
    assert first.prompt == PROMPTS[2] and first.effects.isfinite().sum() == 3, "what watches sees each prompt as it is done"


def test_a_group_has_the_memory_that_its_pass_takes(model, monkeypatch):
    prompts = ["a cat"] * 8 + ["the cat sat on"]
    assert [len(some) for some in together.groups(model, prompts)] == [8, 1]
    n_pos = len(model.to_tokens("a cat")[0])
    monkeypatch.setattr(together, "free_memory", lambda device: 4 * together.pass_bytes(model.cfg, n_pos, 3, is_graded=True))
    assert [len(some) for some in together.groups(model, prompts)] == [2, 2, 2, 2, 1]
    monkeypatch.setattr(together, "free_memory", lambda device: None)
    assert [len(some) for some in together.groups(model, prompts)] == [8, 1], "where the system does not say"


def test_a_model_that_mixes_rows_is_measured_one_prompt_at_a_time(folder_of, shared):
    from workbench.model.model import load_model

    model = load_model(folder_of("gpt2"))
    mixing = model.blocks[0].original_component.mlp.register_forward_hook(lambda module, args, out: out + 0.1 * out.mean(0, keepdim=True))
    try:
        bench = Workbench(model=model, sae=random_sae())
        alone = bench.rank(PROMPTS[0], METRICS[0], progress=False)
        found = bench.rank_many(PROMPTS, METRICS, progress=False)
    finally:
        mixing.remove()
    assert not shared
    same(found.rankings[0].table, alone.table)


def test_what_one_prompt_lacks_is_said_of_that_one(model):
    bench = Workbench(model=model, sae=random_sae())
    with pytest.raises(ValueError, match="prompt 1, 'the dog ran to a': answer and baseline are the same"):
        bench.rank_many(PROMPTS[:2], [METRICS[0], logit_diff(" cat", " cat")], progress=False)


def test_attributions_and_effects_of_several_are_those_of_each(model, tokens):
    bench = made_bench(model)
    other = tokens.flip(1)
    found = attribute_each(model, bench.sae, torch.cat([tokens, other]), METRICS[:2])
    for each, prompt, metric in zip(found, (tokens, other), METRICS, strict=False):
        alone = attribute(model, bench.sae, prompt, metric)
        assert each.pairs.equal(alone.pairs) and each.metric == pytest.approx(alone.metric, abs=1e-5)
        torch.testing.assert_close(each.attributions, alone.attributions, rtol=1e-4, atol=1e-6)
    replay = together.Replay(model, bench.sae.writes, torch.cat([tokens, other]))
    assert replay.way == "prefix" and replay.of_each.shape == (2, *replay.clean.shape)
    pos, feature = found[1].pairs[:3].T
    x = replay.of_each[1, pos] - found[1].acts[:3, None] * bench.sae.W_dec[feature]
    metric = EachMetric([resolve(model, each) for each in METRICS[:2]])
    of = torch.tensor([1, 1, 1, 1])
    logits = replay.logits(torch.cat([pos, pos[:1]]), torch.cat([x, replay.of_each[1, pos[:1]]]), metric.columns, prompt=of)
    metrics = metric.difference(logits, of)
    expected = ablate(model, bench.sae, other, METRICS[1], found[1].pairs[:3], progress=False)
    torch.testing.assert_close(metrics[3] - metrics[:3], expected, rtol=1e-3, atol=1e-5)
    with pytest.raises(AssertionError, match="2 prompts"):
        replay.logits(pos, x, metric.columns)
