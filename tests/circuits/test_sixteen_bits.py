"""An SAE of 16 bits: a feature's effect is one number, whichever way it is asked for. Its features are rounded, nothing around them is."""

import pytest
import torch
from made_bench import made_bench
from made_circuit import PLACES, PROMPT, made_circuit_bench
from made_models import random_hf_model, random_sae
from made_transcoders import made_set

from workbench.bench import Workbench
from workbench.circuits.depth.layers import trace_steps
from workbench.circuits.direct.circuit import direct_circuit
from workbench.circuits.evidence.controls import KINDS, controls
from workbench.circuits.evidence.sets import FeatureSets
from workbench.circuits.intervene import clamp
from workbench.circuits.metrics import logit_diff
from workbench.circuits.ranking.ablation import ablate
from workbench.features.changes.diff import diff
from workbench.features.survey.neurons import correlate
from workbench.model.model import load_model
from workbench.model.tokens import to_tokens
from workbench.replay.between import STREAM
from workbench.sae.evaluate import evaluate

METRIC, AT = logit_diff(5, 7), PLACES[1]


@pytest.fixture(scope="module")
def bench(model_of):
    made = made_circuit_bench(model_of("gpt2"))
    for sae in made.layers.values():
        sae.to(torch.bfloat16)
    return made


@pytest.fixture(scope="module")
def effects(bench) -> dict[tuple[int, int], float]:
    """(pos, feature) → what taking it out changes; ten of the smallest are what rounding would drown."""
    model, sae = bench.model, bench.layers[AT]
    tokens = to_tokens(model, PROMPT)
    x = model.run_with_cache(tokens, names_filter=AT)[1][AT][0]
    pairs = (sae.encode(x.to(torch.bfloat16)) > 0).nonzero()
    pairs = pairs[pairs[:, 0] > 0]
    found = ablate(model, sae, tokens, METRIC, pairs=pairs, progress=False)
    some = found.abs().argsort()[:: max(1, len(found) // 10)]
    return {(int(pos), int(feature)): float(effect) for (pos, feature), effect in zip(pairs[some], found[some], strict=True)}


def by_set(bench, pair):
    return FeatureSets(bench, PROMPT, METRIC).ablate([pair])


def by_clamp(bench, pair):
    resolved, tokens = METRIC.resolve(bench.model), to_tokens(bench.model, PROMPT)
    clean = resolved(bench.model(tokens)[:, -1])
    with clamp(bench, {pair[1]: 0.0}, pos=pair[0]):
        return float(clean - resolved(bench.model(tokens)[:, -1]))


def by_step(bench, pair):
    table = trace_steps(bench, [bench.sae], PROMPT, METRIC, {"one": {AT: [pair[1]]}}, progress=False).table
    return table.set_index("pos")["effect"][pair[0]]


@pytest.mark.parametrize("way", [by_set, by_clamp, by_step])
def test_sets_clamps_and_steps_measure_what_an_ablation_does(bench, effects, way):
    alone = made_bench(bench.model, bench.layers[AT])
    for pair, effect in effects.items():
        assert way(alone, pair) == pytest.approx(effect, abs=1e-5, rel=1e-4)


def test_controls_measure_what_an_ablation_does(bench, effects):
    table = controls(made_bench(bench.model, bench.layers[AT]), PROMPT, METRIC, n=500, progress=False).table
    found = table[table["kind"] == KINDS[0]].set_index(["pos", "feature"])["effect"]
    for pair, effect in effects.items():
        assert found[pair] == pytest.approx(effect, abs=1e-5, rel=1e-4)


def test_a_circuit_s_nodes_have_the_effects_of_ablations_one_way_and_the_other(bench, effects):
    circuit = bench.circuit(PROMPT, METRIC, progress=False)
    nodes = circuit.nodes[circuit.nodes["hook_name"] == AT].set_index(["pos", "feature"])
    for pair, effect in effects.items():
        assert nodes["effect"][pair] == pytest.approx(effect, abs=1e-5, rel=1e-4)
        assert circuit.effect_of([nodes["node"][pair]]) == pytest.approx(effect, abs=1e-5, rel=1e-4)


def test_a_transcoder_s_features_switched_off_in_a_graph_have_the_effects_of_ablations(model_of):
    model, transcoders = model_of("gpt2"), made_set("mlp.hook_in", "mlp.hook_out", False)
    for each in transcoders.values():
        each.to(torch.bfloat16)
    graph = direct_circuit(model, transcoders, PROMPT, METRIC, progress=False)
    nodes = graph.nodes[(graph.nodes["kind"] == "feature") & (graph.nodes["layer"] == 1)].iloc[::8]
    pairs = torch.tensor(nodes[["pos", "feature"]].to_numpy(dtype=int))
    found = ablate(model, transcoders[1], to_tokens(model, PROMPT), METRIC, pairs=pairs, progress=False)
    for node, effect in zip(nodes["node"], found.tolist(), strict=True):
        assert graph.effect_of([node]) == pytest.approx(effect, abs=1e-5, rel=1e-4)


def test_evaluations_survey_and_changes_are_as_of_the_same_weights_in_float32(model_of, tokenizer):
    narrow = random_sae(dtype=torch.bfloat16)
    wide, texts = random_sae(), [f"the {a} sat on {b} and the {c}" for a in "abc" for b in "abcd" for c in "ab"]
    for name, weight in narrow.named_parameters():
        wide.get_parameter(name).data = weight.data.float()
    hf_model = random_hf_model("gpt2")
    hf_model.get_parameter("transformer.h.0.mlp.c_proj.bias").data += 0.1
    model, tuned = model_of("gpt2"), load_model(hf_model, tokenizer=tokenizer)
    evaluations = [evaluate(model, sae, texts, progress=False) for sae in (narrow, wide)]
    assert evaluations[0].fvu == pytest.approx(evaluations[1].fvu, rel=1e-2)
    assert evaluations[0].losses.spliced == pytest.approx(evaluations[1].losses.spliced, rel=1e-2)
    changes = [diff(Workbench(model=model, sae=sae), tuned, texts, effects=True, progress=False) for sae in (narrow, wide)]
    assert changes[0].fvu == pytest.approx(changes[1].fvu, rel=1e-2)
    table, expected = (correlate(model, sae, texts, range(64), progress=False).table.set_index("feature") for sae in (narrow, wide))
    assert table["correlation"].abs().mean() == pytest.approx(expected["correlation"].abs().mean(), rel=2e-2)


def test_edges_from_the_entrance_on_are_measured_and_attributed(model_of):
    made = made_circuit_bench(model_of("gpt2"), (STREAM, PLACES[1]))
    wide = made.circuit(PROMPT, METRIC, "both", progress=False).edges.set_index(["source", "target"])
    for sae in made.layers.values():
        sae.to(torch.bfloat16)
    edges = made.circuit(PROMPT, METRIC, "both", progress=False).edges.set_index(["source", "target"])
    both = edges.index.intersection(wide.index)
    assert len(both) > 0.9 * len(wide) and edges["attributed"].notna().sum() > 100
    for column in ("change", "attributed"):
        assert (edges.loc[both, column] - wide.loc[both, column]).abs().median() < 0.02 * wide[column].abs().median()
