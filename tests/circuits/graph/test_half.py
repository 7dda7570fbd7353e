"""Circuits of models with weights of half precision are those of the same weights in float32, and say so."""

import numpy as np
import pytest
from made_circuit import PLACES, PROMPT, made_circuit_bench
from made_models import random_hf_model

from workbench.circuits.metrics import logit_diff
from workbench.model.model import load_model

METRIC = logit_diff(5, 7)


@pytest.fixture(scope="module", params=["gpt2", "llama", "gemma2"])
def benches(request, tokenizer):
    half = load_model(random_hf_model(request.param).bfloat16(), tokenizer=tokenizer)
    wide = load_model(random_hf_model(request.param).bfloat16().float(), tokenizer=tokenizer)
    return [made_circuit_bench(model) for model in (half, wide)]


def test_nodes_and_edges_of_bfloat16_weights_are_those_of_the_same_weights_in_float32(benches):
    ours, theirs = (bench.circuit(PROMPT, METRIC, "both", progress=False) for bench in benches)
    assert ours.nodes["node"].tolist() == theirs.nodes["node"].tolist()
    for column in ("activation", "attribution", "effect", "effect_mean"):
        np.testing.assert_allclose(ours.nodes[column], theirs.nodes[column], atol=1e-5 * theirs.nodes[column].abs().max())
    ours, theirs = (each.edges.set_index(["source", "target"]) for each in (ours, theirs))
    ours = ours.loc[theirs.index]
    for column in ("change", "weight", "attributed"):
        np.testing.assert_allclose(ours[column], theirs[column], atol=1e-5 * theirs[column].abs().max())


def test_what_a_circuit_measures_is_the_same_and_it_says_in_which_precision(benches):
    ours, theirs = (bench.circuit(PROMPT, METRIC, progress=False) for bench in benches)
    some = theirs.nodes.query("kind != 'logit'")["node"].tolist()[::3]
    assert ours.effect_of(some) == pytest.approx(theirs.effect_of(some), abs=1e-5)
    assert ours.clamp(some[:3]).metric == pytest.approx(theirs.clamp(some[:3]).metric, abs=1e-5)
    for column in ("alone", "floor", "without"):
        np.testing.assert_allclose(ours.faithfulness()[column], theirs.faithfulness()[column], atol=1e-5)
    assert any("bfloat16" in note for note in ours.notes) and not any("bfloat16" in note for note in theirs.notes)


def last_feature(bench, prompt: str) -> dict[str, list[int]]:
    """One that is active at the prompt's last token."""
    nodes = bench.circuit(prompt, METRIC, progress=False).nodes.query(f"kind == 'feature' and hook_name == '{PLACES[1]}'")
    return {PLACES[1]: [int(nodes.sort_values("pos")["feature"].iloc[-1])]}


def test_a_swap_is_the_same(benches):
    off, on = (last_feature(benches[1], prompt) for prompt in (PROMPT, "the dog"))
    ours, theirs = (bench.swap(PROMPT, off, on, source="the dog", wanted=" mat").table for bench in benches)
    for column in ("probability", "before", "original", "control"):
        np.testing.assert_allclose(ours[column], theirs[column], atol=1e-6)
