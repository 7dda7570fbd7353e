"""The paper's recipe: its schedules, its start, each of its steps, and that it finds a dictionary that is known."""

from dataclasses import replace
from itertools import islice

import pytest
import torch
from made_stream import D_IN, D_SAE, Planted, PlantedMany

from workbench.model.gemm import SETTING
from workbench.sae.config import SAEConfig
from workbench.sae.sae import SAE
from workbench.sae.training.learner import Learner
from workbench.sae.training.recipe import ROWS_AT_ONCE, initialize
from workbench.sae.training.source import source_of
from workbench.sae.training.train import TrainConfig, train, train_many

KINDS = [dict(architecture="standard"), dict(architecture="jumprelu")]
KINDS += [dict(architecture=architecture, k=2) for architecture in ("topk", "batchtopk")]


def learner_of(stream: Planted, cfg: TrainConfig) -> Learner:
    sae = SAE(SAEConfig(D_IN, cfg.d_sae, "", architecture=cfg.architecture, k=cfg.k))
    return Learner(source_of(stream, cfg), cfg, initialize(sae, cfg.seed))


@pytest.mark.parametrize(
    ("share", "lr", "l1"),
    [(0.0, 1.0, 0.0), (0.025, 1.0, 0.5), (0.05, 1.0, 1.0), (0.5, 1.0, 1.0), (0.8, 1.0, 1.0), (0.9, 0.5, 1.0), (1.0, 0.0, 1.0)],
)
def test_schedules_are_the_paper_s(share: float, lr: float, l1: float):
    cfg = TrainConfig(d_sae=8, n_steps=1000, lr=2e-3)
    assert cfg.lr_at(round(share * 1000)) == pytest.approx(2e-3 * lr)
    assert cfg.l1_at(round(share * 1000)) == pytest.approx(5.0 * l1)


def test_it_starts_with_short_decoder_rows_the_encoder_their_transpose():
    sae = initialize(SAE(SAEConfig(D_IN, D_SAE, "")), seed=0)
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.full((D_SAE,), 0.1))
    assert torch.equal(sae.W_enc, sae.W_dec.T) and not sae.b_enc.any() and not sae.b_dec.any()


@pytest.mark.parametrize("first", [0, 7, ROWS_AT_ONCE - 5, ROWS_AT_ONCE, ROWS_AT_ONCE + 3])
def test_a_shard_starts_as_its_part_of_the_whole(first: int):
    whole = initialize(SAE(SAEConfig(3, ROWS_AT_ONCE + 20, "")), seed=4)
    shard = initialize(SAE(SAEConfig(3, 10, "")), seed=4, first=first)
    assert torch.equal(shard.W_dec, whole.W_dec[first : first + 10]) and torch.equal(shard.W_enc, whole.W_enc[:, first : first + 10])


def test_every_step_is_adam_on_the_clipped_gradient_of_the_paper_s_loss():
    """Against the recipe written out once more, with torch's plain Adam on weights in ordinary order."""
    stream, cfg = Planted(), TrainConfig(d_sae=D_SAE, n_steps=40, is_plain=True)
    learner = learner_of(stream, cfg)
    W_enc, b_enc, W_dec, b_dec = (weight.detach().contiguous().clone().requires_grad_() for weight in learner.sae.parameters())
    adam = torch.optim.Adam([W_enc, b_enc, W_dec, b_dec], lr=1e-3, betas=(0.9, 0.999), weight_decay=0.0, foreach=False)
    for step in range(40):
        batch = stream.sample(step)
        learner.step(batch)
        x = batch * stream.scale
        feature_acts = torch.relu(x @ W_enc + b_enc)
        error = x - feature_acts @ W_dec - b_dec
        l1 = 5 * min(1, step / 2)  # warm-up: 5 % of 40 steps
        loss = (error.square().sum(1) + l1 * (feature_acts * W_dec.norm(dim=1)).sum(1)).mean()
        adam.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_([W_enc, b_enc, W_dec, b_dec], 1.0)
        assert norm > 1 and learner.metrics()["grad_norm"] == pytest.approx(norm.item(), rel=1e-4)
        adam.param_groups[0]["lr"] = 1e-3 * min(1, (40 - step) / 8)
        adam.step()
        assert learner.metrics()["loss"] == pytest.approx(loss.item(), rel=1e-4)
    for weight, expected in zip(learner.sae.parameters(), (W_enc, b_enc, W_dec, b_dec), strict=True):
        torch.testing.assert_close(weight, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind["architecture"])
def test_planted_directions_are_found_in_raw_units(kind: dict):
    stream = Planted()
    sae = train(stream, TrainConfig(d_sae=D_SAE, n_steps=500, lr=1e-2, l1=1.0, **kind), progress=False)
    best = (stream.directions @ sae.W_dec.T).max(1).values
    assert (best > 0.95).float().mean() > 0.8
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(D_SAE))
    x = stream.sample(9)
    fvu = ((x - sae(x)).square().sum() / (x - x.mean(0)).square().sum()).item()
    assert fvu < 0.2 and sae.cfg.metadata["fvu"] == pytest.approx(fvu, abs=0.05)
    assert (sae.encode(x) > 0).sum(1).float().mean().item() == pytest.approx(sae.cfg.metadata["l0"], abs=0.3)
    assert not any(weight.requires_grad for weight in sae.parameters())


def test_a_batchtopk_sae_comes_out_as_jumprelu_with_one_threshold_in_scaled_units():
    stream = Planted()
    sae = train(stream, TrainConfig(d_sae=D_SAE, n_steps=300, lr=3e-3, architecture="batchtopk", k=2), progress=False)
    assert sae.cfg.architecture == "jumprelu" and sae.cfg.k is None
    assert sae.threshold.std() < 1e-5 and sae.threshold.min() > 0


def test_the_auxiliary_loss_brings_dead_features_of_a_topk_sae_back():
    """Half of them start with an encoder so short that they are never among the k largest."""
    cfg = TrainConfig(d_sae=D_SAE, n_steps=200, lr=1e-2, architecture="topk", k=2)
    helped, alone = learner_of(Planted(), cfg), learner_of(Planted(), cfg)
    alone.engine = replace(alone.engine, auxk=lambda *args: torch.zeros(()))
    for learner in (helped, alone):
        learner.sae.W_enc.data[:, D_SAE // 2 :] *= 0.01
        for batch in islice(Planted(), 120):
            learner.step(batch)
    assert alone.dead.sum() == D_SAE // 2 and helped.dead.sum() <= 3


def test_the_same_seed_trains_the_same_sae():
    one, same = (train(Planted(), TrainConfig(d_sae=D_SAE, n_steps=20), progress=False) for _ in range(2))
    assert one.fingerprint() == same.fingerprint()


def test_several_saes_from_one_stream_are_those_trained_alone():
    configs = [
        TrainConfig(d_sae=D_SAE, n_steps=30),
        TrainConfig(d_sae=8, n_steps=20, lr=5e-3),
        TrainConfig(8, 30, architecture="topk", k=1),
    ]
    together = train_many(Planted(), configs, progress=False)
    alone = [train(Planted(), cfg, progress=False) for cfg in configs]
    assert [sae.fingerprint() for sae in together] == [sae.fingerprint() for sae in alone]
    assert [sae.cfg.metadata["n_tokens"] for sae in together] == [30 * 256, 20 * 256, 30 * 256]


def test_each_sae_reads_the_hook_point_of_its_config():
    first, second = PlantedMany.hook_names
    configs = [TrainConfig(d_sae=8, n_steps=10, hook_name=name) for name in (second, first)]
    doubled, plain = train_many(PlantedMany(10), configs, progress=False)
    assert (doubled.cfg.hook_name, plain.cfg.hook_name) == (second, first)
    torch.testing.assert_close(doubled.b_dec, 2 * plain.b_dec)
    with pytest.raises(ValueError, match=r"hook_name is 'blocks.7.*blocks.0.hook_resid_pre, blocks.1.hook_resid_pre"):
        train_many(PlantedMany(10), [TrainConfig(d_sae=8, hook_name="blocks.7")], progress=False)


@pytest.mark.parametrize("kind", [KINDS[0], *KINDS[2:]], ids=lambda kind: kind["architecture"])  # JumpReLU's window is dense at first
def test_the_fast_steps_train_the_sae_of_the_plain_ones(kind: dict, monkeypatch: pytest.MonkeyPatch):
    from workbench.sae.kernels import step as kernels

    n_sparse = []
    monkeypatch.setattr(kernels, "step_at", lambda *args, at=kernels.step_at: (n_sparse.append(1), at(*args))[1])
    cfg = dict(d_sae=128, n_steps=40, lr=3e-3, **kind)
    plain, fast = (train(Planted(), TrainConfig(**cfg, is_plain=is_plain), progress=False) for is_plain in (True, False))
    assert n_sparse, "no step was sparse"
    assert fast.cfg.metadata["loss"] == pytest.approx(plain.cfg.metadata["loss"], rel=1e-4)
    assert (fast.W_dec - plain.W_dec).abs().max() < 1e-3


def test_bfloat16_trains_nearly_the_same_sae(monkeypatch):
    monkeypatch.setenv(SETTING, "bfloat16")
    cfg = dict(d_sae=D_SAE, n_steps=300, lr=3e-3, l1=1.0)
    fine, coarse = (train(Planted(), TrainConfig(**cfg, precision=precision), progress=False) for precision in ("float32", "bfloat16"))
    assert coarse.fingerprint() != fine.fingerprint() and coarse.W_dec.dtype == torch.float32
    assert coarse.cfg.metadata["loss"] == pytest.approx(fine.cfg.metadata["loss"], rel=0.02)


def test_bfloat16_is_not_taken_where_the_device_is_slower_at_it_and_the_plan_says_so(monkeypatch, capsys):
    monkeypatch.setenv(SETTING, "float32")
    cfg = dict(d_sae=D_SAE, n_steps=20)
    fine, asked = (train(Planted(), TrainConfig(**cfg, precision=precision)) for precision in ("float32", "bfloat16"))
    assert asked.fingerprint() == fine.fingerprint()
    assert "products in float32, as WORKBENCH_PRODUCTS asks" in capsys.readouterr().err
