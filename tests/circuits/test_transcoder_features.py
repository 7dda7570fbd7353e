"""Features of a transcoder, read at one place and written at another: ranked, switched off, clamped, found, indexed, steered by."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from made_index import TEXTS
from made_models import FAMILIES, N_LAYERS, random_hf_model
from made_transcoders import made_set

from workbench.bench import Workbench
from workbench.benches import load
from workbench.checks.check import check
from workbench.circuits.evidence.controls import controls
from workbench.circuits.evidence.sets import ablate_set, keep_only
from workbench.circuits.intervene import clamp
from workbench.circuits.metrics import logit_diff
from workbench.circuits.ranking.ablation import ablate
from workbench.circuits.ranking.attribution import attribute, integrate
from workbench.circuits.steering.generation import Decoding, generate
from workbench.features.index.index import build_index
from workbench.model.hooks import hooked, last_logits
from workbench.model.model import load_model
from workbench.model.tokens import to_tokens
from workbench.sae.transcoder import Transcoder

READS, WRITES, LAYER = "ln2.hook_out", "hook_mlp_out", 1
PROMPT, METRIC = "the cat sat on the mat and", logit_diff(5, 7)


def made_bench(model, has_skip: bool = False) -> Workbench:
    made = made_set(READS, WRITES, has_skip)
    for transcoder in made.values():
        transcoder.b_enc.data -= 0.3  # of the features a few stay silent
    return Workbench(model, transcoders=made, name="tiny").with_transcoder(LAYER)


def read_and_written(model, transcoder: Transcoder, tokens) -> tuple[torch.Tensor, torch.Tensor]:
    """(feature activations (pos, d_sae), y (pos, d_out)) of the clean run, by the bridge's own cache."""
    cache = model.run_with_cache(tokens)[1]
    return transcoder.encode(cache[transcoder.cfg.hook_name_in][0]), cache[transcoder.cfg.hook_name_out][0]


def metric_with(model, tokens, y: torch.Tensor) -> float:
    """The slow way: y (pos, d_out) put where a transcoder of LAYER writes."""
    with hooked(model, f"blocks.{LAYER}.{WRITES}", lambda value: y.view_as(value)):
        return float(METRIC.resolve(model)(last_logits(model, tokens)))


@pytest.mark.parametrize("family", FAMILIES)
def test_effects_and_attributions_are_those_of_what_a_feature_adds_where_it_is_written(model_of, family):
    model = model_of(family)
    bench, tokens = made_bench(model), to_tokens(model, PROMPT)
    acts, y = read_and_written(model, bench.sae, tokens)
    found = attribute(model, bench.sae, tokens, METRIC)
    torch.testing.assert_close(found.feature_acts, acts, rtol=0, atol=1e-5)
    pairs = found.pairs[:: max(1, len(found.pairs) // 15)]
    effects = ablate(model, bench.sae, tokens, METRIC, pairs, progress=False)
    clean = metric_with(model, tokens, y)
    for (pos, feature), effect, attribution in zip(pairs.tolist(), effects.tolist(), found.of(pairs).tolist(), strict=True):
        part = acts[pos, feature] * bench.sae.W_dec[feature]
        without, barely = y.clone(), y.clone()
        without[pos] -= part
        barely[pos] -= 1e-2 * part
        assert effect == pytest.approx(clean - metric_with(model, tokens, without), abs=1e-4 * float(effects.abs().max()))
        slope = (clean - metric_with(model, tokens, barely)) / 1e-2
        assert attribution == pytest.approx(slope, abs=0.05 * float(found.attribution.abs().max()))


def test_a_ranking_says_where_the_features_stand_and_sets_and_controls_agree_with_it(model):
    bench, tokens = made_bench(model, has_skip=True), to_tokens(model, PROMPT)
    ranking = bench.rank(PROMPT, METRIC, progress=False)
    assert ranking.hook_name == f"blocks.{LAYER}.{WRITES}" and ranking.table["effect"].notna().all()
    best = ranking.table.iloc[0]
    assert ablate_set(bench, PROMPT, METRIC, [(int(best["pos"]), int(best["feature"]))]) == pytest.approx(best["effect"], abs=1e-5)
    acts, y = read_and_written(model, bench.sae, tokens)
    start, kept = int(tokens[0, 0] == model.tokenizer.bos_token_id), acts[:, [best["feature"]]] @ bench.sae.W_dec[[best["feature"]]]
    x = model.run_with_cache(tokens)[1][bench.sae.cfg.hook_name_in][0]
    alone = torch.cat([y[:start], (kept + bench.sae.b_dec + x @ bench.sae.W_skip)[start:]])  # no error, no other feature
    assert keep_only(bench, PROMPT, METRIC, [int(best["feature"])]) == pytest.approx(metric_with(model, tokens, alone), abs=1e-4)
    table = controls(bench, PROMPT, METRIC, n=4, other="the dog ran to the cat on", progress=False).table
    error = table[(table["kind"] == "error") & (table["pos"] == 3)]
    without = y.clone()
    without[3] = bench.sae(x)[3]
    assert float(error["effect"].iloc[0]) == pytest.approx(metric_with(model, tokens, y) - metric_with(model, tokens, without), abs=1e-4)


def test_integrated_gradients_sum_to_what_all_features_do(model):
    bench, tokens = made_bench(model), to_tokens(model, PROMPT)
    acts, y = read_and_written(model, bench.sae, tokens)
    start = int(tokens[0, 0] == model.tokenizer.bos_token_id)
    without = torch.cat([y[:start], (y - acts @ bench.sae.W_dec)[start:]])
    expected = metric_with(model, tokens, y) - metric_with(model, tokens, without)
    assert float(integrate(model, bench.sae, tokens, METRIC, n_steps=64).sum()) == pytest.approx(expected, abs=0.02 * abs(expected) + 1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_clamp_adds_the_difference_where_it_is_written_with_and_without_a_cache(model_of, family):
    model = model_of(family)
    bench, tokens = made_bench(model), to_tokens(model, PROMPT)
    acts, y = read_and_written(model, bench.sae, tokens)
    feature = int(acts.sum(0).argmax())
    with clamp(bench, {feature: 2.0}, pos=4):
        found = float(METRIC.resolve(model)(last_logits(model, tokens)))
    changed = y.clone()
    changed[4] += (2.0 - acts[4, feature]) * bench.sae.W_dec[feature]
    assert found == pytest.approx(metric_with(model, tokens, changed), abs=1e-4)
    with clamp(bench, {feature: 20.0}):
        texts = [generate(model, tokens, Decoding(6, progress=False), use_cache=is_cached).tokens.tolist() for is_cached in (True, False)]
    assert texts[0] == texts[1]
    steering = bench.steer(PROMPT, {feature: [0.0, 8.0]}, 5, max_act={feature: 2.0}, progress=False)
    assert steering.hook_name == f"blocks.{LAYER}.{WRITES}" and len(steering.continuations) == 3
    stream = model.run_with_cache(tokens)[1][f"blocks.{LAYER}.hook_resid_post"][0]
    assert steering.x_norm == pytest.approx(float(stream[tokens_before(model) :].norm(dim=1).median()), rel=1e-4), "what it is added to"


def test_a_gradient_goes_through_a_clamp_to_what_the_transcoder_reads(model):
    """What is taken away, act(x) · W_dec, changes with x: its slope belongs to the gradient."""
    bench, tokens, at = made_bench(model), to_tokens(model, PROMPT), f"blocks.{LAYER}.hook_resid_pre"
    off = dict.fromkeys(range(bench.sae.cfg.d_sae), 0.0)
    x = model.run_with_cache(tokens)[1][at].detach()
    step = 1e-3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))

    def metric_at(value: torch.Tensor) -> torch.Tensor:
        with clamp(bench, off), hooked(model, at, lambda _: value):
            return METRIC.resolve(model)(last_logits(model, tokens))[0]

    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(metric_at(leaf), leaf)
    with torch.no_grad():
        slopes = [float(metric_at(x + sign * step)) for sign in (1, -1)]
    assert float((gradient * step).sum()) == pytest.approx((slopes[0] - slopes[1]) / 2, rel=0.02, abs=1e-5)


def test_an_index_of_transcoders_and_an_sae_has_the_activations_that_a_ranking_has(model, sae, tmp_path: Path):
    bench = made_bench(model)
    both = {"mlp": bench.sae, "stream": sae}
    index = build_index(model, both, [PROMPT, *TEXTS[:5]], tmp_path / "index", progress=False)
    seen = replace(bench, index=index)
    ranking = seen.rank(PROMPT, METRIC, ablate=1, progress=False).by_feature()
    acts = read_and_written(model, bench.sae, to_tokens(model, PROMPT))[0]
    for feature in ranking["feature"].head(5):
        page = seen.feature(int(feature))
        assert page.max_act >= acts[:, feature].max() - 1e-5
        assert page.hook_name == f"blocks.{LAYER}.{READS}" and page.promoted
        with_prompt = [example for example in index.with_sae("mlp").examples(int(feature), 20) if example.text == 0]
        peak = acts[int(tokens_before(model)) :, feature].max()
        assert not with_prompt or max(max(each.activations) for each in with_prompt) == pytest.approx(float(peak), abs=1e-4)
    found = seen.find([PROMPT, "the cat sat on"], ["and the dog ran"])
    assert set(found.table["feature"]) <= set(range(bench.sae.cfg.d_sae))
    near = seen.find_near(3).table
    assert 3 not in near["feature"].tolist()
    again = build_index(model, both, [PROMPT, *TEXTS[:5]], tmp_path / "index", progress=False)
    assert again.manifest == index.manifest, "the second call finds it done"


def tokens_before(model) -> int:
    return int(to_tokens(model, PROMPT)[0, 0] == model.tokenizer.bos_token_id)


def test_a_bench_looks_through_one_transcoder_of_a_set_or_of_a_folder(model, tmp_path: Path):
    bench = made_bench(model)
    assert f"transcoder  64 features blocks.{LAYER}.{READS} → blocks.{LAYER}.{WRITES}" in repr(bench)
    with pytest.raises(ValueError, match=f"no transcoder of layer 9; there are those of layers {', '.join(map(str, range(N_LAYERS)))}"):
        bench.with_transcoder(9)
    bench.sae.save(tmp_path / "saved")
    loaded = load(model, sae=tmp_path / "saved")
    effects = [torch.tensor(each.rank(PROMPT, METRIC, ablate=5, progress=False).table["effect"].to_numpy()) for each in (loaded, bench)]
    torch.testing.assert_close(*effects, equal_nan=True)
    plain = Workbench(model, transcoders=bench.transcoders)
    with pytest.raises(ValueError, match="bench.with_transcoder.layer. looks through one of them"):
        plain.rank(PROMPT, METRIC)


def test_weights_of_half_precision_are_computed_in_float32(tokenizer):
    model = load_model(random_hf_model("llama").bfloat16(), tokenizer=tokenizer)
    exact = load_model(random_hf_model("llama").bfloat16().double(), tokenizer=tokenizer)
    tokens = to_tokens(model, PROMPT)
    bench = made_bench(model)
    wide = {layer: transcoder.double() for layer, transcoder in made_bench(exact).transcoders.items()}
    pairs = attribute(model, bench.sae, tokens, METRIC).pairs[::7]
    expected = ablate(exact, wide[LAYER], tokens, METRIC, pairs, progress=False)
    found = ablate(model, bench.sae, tokens, METRIC, pairs, progress=False)
    torch.testing.assert_close(found.double(), expected.double(), rtol=0, atol=1e-3 * float(expected.abs().max()))


def test_the_check_of_a_model_takes_a_transcoder(model, tmp_path: Path):
    made_bench(model).sae.save(tmp_path / "saved")
    report = check(model, tmp_path / "saved", TEXTS[:20], seconds=0.0, progress=False).table.set_index("check")
    assert "→" in report.loc["SAE fits", "figure"] and report.loc["SAE fits", "verdict"] == "ok"
    assert report.loc["effects", "verdict"] == "ok" and WRITES in report.loc["effects", "meaning"]
    assert "fvu" in report.loc["SAE explains", "figure"]
