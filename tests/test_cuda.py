"""What a GPU computes is what the CPU computes, of every wing in one file: a machine with a GPU is there for minutes, and runs it.

Measures, searches, steering, activations, training, an index, an evaluation. Selections are the same, numbers equal to float32's rounding,
which a GPU does in another order. The kernels: sae/kernels/test_cuda.py.
"""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from made_bench import PROMPT, made_bench, sparse_sae
from made_index import TEXTS, made_saes
from made_models import FAMILIES, random_sae

from workbench.activations.stream import ActivationStream, harvest
from workbench.circuits.depth.heads import head_effects
from workbench.circuits.depth.layers import trace_steps
from workbench.circuits.evidence.controls import controls
from workbench.circuits.evidence.sets import FeatureSets
from workbench.circuits.metrics import logit_diff
from workbench.circuits.ranking.ablation import ablate
from workbench.circuits.ranking.attribution import integrate
from workbench.circuits.ranking.ranking import rank
from workbench.circuits.steering.generation import Decoding
from workbench.circuits.steering.steering import steer
from workbench.circuits.steering.vectors import steering_vector
from workbench.features.index.index import build_index
from workbench.features.search.codes import encode
from workbench.features.search.search import Known
from workbench.features.search.ways import near
from workbench.features.survey.activity import read_activity
from workbench.features.survey.neurons import correlate
from workbench.model.head import Head
from workbench.model.memory import free_memory
from workbench.model.model import load_model
from workbench.replay.replay import Replay
from workbench.sae.config import ARCHITECTURES
from workbench.sae.evaluate import decoder_cosine, evaluate
from workbench.sae.sae import SAE
from workbench.sae.training.recipe import TrainConfig
from workbench.sae.training.train import train

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")]
GPU, METRIC, HOOK = "cuda", logit_diff(5, 7), "blocks.1.hook_resid_pre"
CLOSE = dict(rtol=1e-3, atol=1e-5)


@pytest.fixture(scope="session")
def on_gpu(folder_of):
    made = {}

    def model(family: str):
        if family not in made:
            made[family] = load_model(folder_of(family), device=GPU)
        return made[family]

    return model


@pytest.fixture
def benches(model_of, on_gpu):
    """The same of GPT-2's family on the CPU and on the GPU."""
    return made_bench(model_of("gpt2"), sparse_sae(), TEXTS), made_bench(on_gpu("gpt2"), sparse_sae().to(GPU), TEXTS)


def assert_same_table(found: pd.DataFrame, expected: pd.DataFrame, by: list[str]) -> None:
    found, expected = (table.sort_values(by, kind="stable").reset_index(drop=True) for table in (found, expected))
    pd.testing.assert_frame_equal(found, expected, check_exact=False, check_dtype=False, **CLOSE)


@pytest.mark.parametrize("family", FAMILIES)
def test_ranking(family, model_of, on_gpu):
    here, there = (rank(made_bench(model, sae), PROMPT, METRIC) for model, sae in each_side(model_of(family), on_gpu(family)))
    numbers = ["feature", "pos", "token", "activation", "attribution", "effect"]
    assert_same_table(there.table[numbers], here.table[numbers], ["pos", "feature"])


def each_side(model, gpu_model):
    return (model, sparse_sae()), (gpu_model, sparse_sae().to(GPU))


@pytest.mark.parametrize("family", FAMILIES)
def test_replay_takes_the_same_way(family, model_of, on_gpu, tokens):
    assert Replay(on_gpu(family), HOOK, tokens.to(GPU)).way == Replay(model_of(family), HOOK, tokens).way


def test_effects_where_batches_are_many(model_of, on_gpu, tokens, monkeypatch):
    expected = ablate(model_of("gpt2"), random_sae(), tokens, METRIC, progress=False)
    monkeypatch.setattr("workbench.replay.replay.CUDA_FLOATS", 2**12)
    found = ablate(on_gpu("gpt2"), random_sae().to(GPU), tokens.to(GPU), METRIC, progress=False)
    torch.testing.assert_close(found.cpu(), expected, **CLOSE)


def test_integrated_gradients(model_of, on_gpu, tokens):
    expected = integrate(model_of("gpt2"), random_sae(), tokens, METRIC)
    torch.testing.assert_close(integrate(on_gpu("gpt2"), random_sae().to(GPU), tokens.to(GPU), METRIC).cpu(), expected, **CLOSE)


def test_controls(benches):
    here, there = (controls(bench, PROMPT, METRIC, n=5, progress=False).table for bench in benches)
    assert_same_table(there, here, ["kind", "pos", "feature"])


def test_sets(benches):
    here, there = (FeatureSets(bench, PROMPT, METRIC, off="mean") for bench in benches)
    members = [tuple(pair) for pair in here.pairs[:3].tolist()]
    assert there.ablate(members) == pytest.approx(here.ablate(members), rel=1e-3, abs=1e-5)
    assert there.keep_only(members) == pytest.approx(here.keep_only(members), rel=1e-3, abs=1e-5)


def test_heads_and_layers(benches):
    feature = int(rank(benches[0], PROMPT, METRIC).table["feature"][0])
    here, there = (head_effects(bench, PROMPT, METRIC, feature).table for bench in benches)
    assert_same_table(there, here, ["layer", "head"])
    here, there = (trace_steps(bench, [bench.sae], PROMPT, METRIC, {"step": {HOOK: [feature]}}, progress=False).table for bench in benches)
    assert_same_table(there, here, ["pos"])


@pytest.mark.parametrize("decoding", [Decoding(8), Decoding(8, temperature=1.0, n_samples=3)], ids=["greedy", "sampled"])
def test_steering(decoding, benches):
    vectors = [steering_vector(bench, ["the cat", "the dog"], ["on the", "ran to"], scale=1.0) for bench in benches]
    here, there = (
        steer(bench, PROMPT, {3: [2.0, 5.0]}, decoding, vector, max_act={3: 1.0}).table.drop(columns="text")
        for bench, vector in zip(benches, vectors, strict=True)
    )
    assert_same_table(there, here, ["name", "sample"])


def test_what_features_do_on_prompts(benches):
    here, there = (encode(bench.model, bench.sae, TEXTS[:20]).acts for bench in benches)
    assert (here.indices == there.indices).all() and (here.indptr == there.indptr).all()
    np.testing.assert_allclose(there.data, here.data, **CLOSE)
    found = [near(bench.sae, 3, Known()).table["feature"].tolist() for bench in benches]
    assert found[0] == found[1]


@pytest.mark.parametrize("way", ["sdpa", "eager", "bridge"])
@pytest.mark.parametrize("family", FAMILIES)
def test_activations_every_way(family, way, model_of, on_gpu, tokens):
    here, there = Head(model_of(family), [HOOK], way), Head(on_gpu(family), [HOOK], way)
    torch.testing.assert_close(there(tokens.to(GPU))[HOOK].cpu(), here(tokens)[HOOK], **CLOSE)
    torch.testing.assert_close(there(tokens.to(GPU))[HOOK].cpu(), harvest(model_of(family), tokens, HOOK), **CLOSE)
    assert there.way == here.way, there.why_not


def test_a_stream_deals_the_same_batches(benches):
    here, there = (ActivationStream(bench.model, TEXTS, HOOK, batch=64, buffer=256) for bench in benches)
    for expected, found in zip(here, there, strict=True):
        torch.testing.assert_close(found.cpu(), expected, **CLOSE)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("is_plain", [True, False], ids=["plain", "by active entries"])
def test_training(architecture, is_plain, benches, tmp_path):
    k = 6 if "topk" in architecture else None
    cfg = TrainConfig(64, n_steps=30, architecture=architecture, k=k, is_plain=is_plain)
    here, there = (
        train(ActivationStream(bench.model, TEXTS * 3, HOOK, batch=64, buffer=256), cfg, progress=False, folder=tmp_path / str(i))
        for i, bench in enumerate(benches)
    )
    for name in ("loss", "fvu", "l0"):
        assert there.cfg.metadata[name] == pytest.approx(here.cfg.metadata[name], rel=0.02), name
    assert there.W_dec.device.type == GPU and (SAE.load(tmp_path / "1").W_dec == there.W_dec.cpu()).all()


def test_training_repeats_to_the_bit(benches):
    def trained() -> SAE:
        stream = ActivationStream(benches[1].model, TEXTS * 3, HOOK, batch=64, buffer=256)
        return train(stream, TrainConfig(64, n_steps=30, architecture="topk", k=6), progress=False)

    assert torch.equal(trained().W_dec, trained().W_dec)


def test_an_index(benches, tmp_path):
    tables, saes = [], made_saes()
    for name, bench in zip(("cpu", "gpu"), benches, strict=True):
        moved = {each: copy.deepcopy(sae).to(bench.sae.W_dec.device) for each, sae in saes.items()}
        build_index(bench.model, moved, TEXTS, tmp_path / name, progress=False)
        files = sorted((tmp_path / name).glob("features-*.parquet"))
        tables.append(pd.concat([pd.read_parquet(file, columns=["sae", "feature", "n_active", "max_act", "density"]) for file in files]))
    assert_same_table(tables[1], tables[0], ["sae", "feature"])


def test_an_evaluation(benches):
    here, there = (evaluate(bench.model, bench.sae, TEXTS, progress=False) for bench in benches)
    assert (there.l0, there.fvu) == (pytest.approx(here.l0, rel=1e-4), pytest.approx(here.fvu, rel=1e-4))
    assert there.losses.spliced == pytest.approx(here.losses.spliced, rel=1e-4)
    assert_same_table(there.table, here.table, ["feature"])
    assert decoder_cosine(benches[1].sae, benches[0].sae)["cosine"].to_numpy() == pytest.approx(1, abs=1e-5)


def test_surveys(benches):
    here, there = (read_activity(bench.model, {"sae": bench.sae}, TEXTS, progress=False)["sae"].acts for bench in benches)
    assert (here != 0).nnz == (there != 0).nnz and abs(here - there).max() < 1e-4
    sae = sparse_sae("blocks.2.hook_resid_pre")
    here, there = (
        correlate(bench.model, copy.deepcopy(sae).to(bench.sae.W_dec.device), TEXTS, range(8), progress=False).table for bench in benches
    )
    np.testing.assert_allclose(there["correlation"], here["correlation"], atol=1e-4)


def test_a_model_that_is_moved_ranks_as_one_that_was_loaded_there(folder_of, on_gpu):
    moved = load_model(load_model(folder_of("gpt2")), device=GPU)
    here, there = (rank(made_bench(model, sparse_sae().to(GPU)), PROMPT, METRIC).table for model in (on_gpu("gpt2"), moved))
    assert_same_table(there, here, ["pos", "feature"])


def test_memory_that_torch_keeps_counts_as_free():
    device = torch.device(GPU, 0)
    before = free_memory(device)
    kept = torch.empty(2**26, device=device)
    del kept
    assert free_memory(device) >= before - 2**25
