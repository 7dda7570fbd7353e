"""Transcoders by the loop that trains SAEs: they find what is planted, go on where they were stopped, and say what does not fit."""

import os
import signal
from pathlib import Path

import pytest
import torch
from made_models import TEXT
from made_process import in_process
from made_stream import D_IN, D_OUT, D_SAE, Planted, PlantedPair

from workbench.activations.stream import ActivationStreams
from workbench.sae.training.checkpoint import CHECKPOINT_FILE, read_header
from workbench.sae.training.train import TrainConfig, train, train_many
from workbench.sae.transcoder import Transcoder

READ, WRITTEN = PlantedPair.read, PlantedPair.written
KINDS = [dict(architecture="standard"), dict(architecture="jumprelu"), dict(architecture="topk", k=2)]
KINDS += [dict(architecture="batchtopk", k=2, has_skip=True), dict(architecture="standard", has_skip=True)]
NAMES = ["standard", "jumprelu", "topk", "batchtopk with a skip", "standard with a skip"]


def unexplained(transcoder: Transcoder, batch: dict[str, torch.Tensor]) -> float:
    y = batch[WRITTEN]
    return ((y - transcoder(batch[READ])).square().sum() / (y - y.mean(0)).square().sum()).item()


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_planted_directions_are_found_in_raw_units(kind: dict):
    stream = PlantedPair(has_skip=kind.get("has_skip", False))
    transcoder = train(stream, TrainConfig(d_sae=D_SAE, n_steps=600, lr=1e-2, l1=1.0, **kind), progress=False, predict=WRITTEN)
    cfg = transcoder.cfg
    assert (cfg.hook_name_in, cfg.hook_name_out, cfg.d_in, cfg.d_out) == (READ, WRITTEN, D_IN, D_OUT)
    assert cfg.has_skip == kind.get("has_skip", False) and cfg.architecture != "batchtopk"
    torch.testing.assert_close(transcoder.W_dec.norm(dim=1), torch.ones(D_SAE))
    fvu, l0 = unexplained(transcoder, batch := stream.sample(9)), (transcoder.encode(batch[READ]) > 0).sum(1).float().mean().item()
    assert fvu < 0.2 and cfg.metadata["fvu"] == pytest.approx(fvu, abs=0.05) and cfg.metadata["l0"] == pytest.approx(l0, abs=0.3)
    if not cfg.has_skip:  # with one, what a direction writes may be told as the skip's and the rest
        assert ((stream.outputs @ transcoder.W_dec.T).max(1).values > 0.9).float().mean() > 0.8
    assert not any(weight.requires_grad for weight in transcoder.parameters())


def test_the_fast_steps_train_the_transcoder_of_the_plain_ones(monkeypatch: pytest.MonkeyPatch):
    from workbench.sae.kernels import step as kernels

    n_sparse = []
    monkeypatch.setattr(kernels, "step_at", lambda *args, at=kernels.step_at: (n_sparse.append(1), at(*args))[1])
    cfg = dict(d_sae=128, n_steps=40, lr=3e-3, architecture="topk", k=2, has_skip=True)
    plain, fast = (
        train(PlantedPair(has_skip=True), TrainConfig(**cfg, is_plain=is_plain), progress=False, predict=WRITTEN)
        for is_plain in (True, False)
    )
    assert n_sparse, "no step was sparse"
    assert fast.cfg.metadata["loss"] == pytest.approx(plain.cfg.metadata["loss"], rel=1e-4)
    assert (fast.W_dec - plain.W_dec).abs().max() < 1e-3 and (fast.W_skip - plain.W_skip).abs().max() < 1e-3


CONFIGS = [TrainConfig(d_sae=D_SAE, n_steps=40, lr=3e-3, **kind) for kind in (KINDS[3] | dict(widths=(6, 12)), KINDS[4])]


class Deadly(PlantedPair):
    """Kills the process, as `kill -9` does, when it is asked for one batch."""

    def sample(self, seed: int) -> dict[str, torch.Tensor]:
        if seed == 1000 + 25:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().sample(seed)


def run(stream: PlantedPair, folder: Path) -> list[Transcoder]:
    return train_many(stream, CONFIGS, progress=False, predict=[WRITTEN] * len(CONFIGS), folder=folder, checkpoint_every=7)


@pytest.fixture
def one_thread():
    """Products of a forked process on two threads round other than those of the one that it is compared with (torch 2.13, MKL)."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.mark.usefixtures("one_thread")
def test_a_run_that_was_killed_ends_with_the_bits_of_an_unbroken_one(tmp_path: Path):
    unbroken = run(PlantedPair(), tmp_path / "unbroken")
    assert in_process(run, Deadly(), tmp_path / "broken") == -signal.SIGKILL
    assert read_header(tmp_path / "broken" / CHECKPOINT_FILE).n_done == 21
    resumed = run(PlantedPair(), tmp_path / "broken")
    for one, other in zip(resumed, unbroken, strict=True):
        assert one.cfg == other.cfg
        assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))
    untouched = PlantedPair()
    again = run(untouched, tmp_path / "broken")  # done: they are read
    assert untouched.one.next == 0 and torch.equal(again[0].W_skip, unbroken[0].W_skip) and again[0].cfg == unbroken[0].cfg


def test_a_folder_goes_on_with_the_same_places_only(tmp_path: Path):
    def interrupt(metrics: dict) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    cfg = TrainConfig(d_sae=D_SAE, n_steps=40)
    with pytest.raises(KeyboardInterrupt, match="after step 10"):
        train(PlantedPair(), cfg, progress=False, predict=WRITTEN, folder=tmp_path, on_metrics=interrupt)
    with pytest.raises(ValueError, match=r"predict was 'blocks.0.hook_mlp_out', now it is 'blocks.0.mlp.hook_in'"):
        train(PlantedPair(), cfg, progress=False, predict=READ, folder=tmp_path)
    with pytest.raises(ValueError, match=r"predict was 'blocks.0.hook_mlp_out', now it is None"):
        train(PlantedPair(), TrainConfig(d_sae=D_SAE, n_steps=40, hook_name=READ), progress=False, folder=tmp_path)
    train(PlantedPair(), cfg, progress=False, predict=WRITTEN, folder=tmp_path)
    with pytest.raises(ValueError, match="is a transcoder, not an SAE"):
        train(PlantedPair(), TrainConfig(d_sae=D_SAE, n_steps=40, hook_name=READ), progress=False, folder=tmp_path)


def test_an_sae_says_nothing_of_predicting():
    assert not {"predict", "d_out", "scale_out", "has_skip"} & set(
        train(Planted(), TrainConfig(8, 3), progress=False).cfg.metadata["training"]
    )


RESID = "blocks.0.hook_resid_pre"
WRONG = [
    (PlantedPair, {}, WRITTEN + "t", f"predict is '{WRITTEN}t'; the stream reads .*mean '{WRITTEN}'"),
    (PlantedPair, dict(hook_name="blocks.0.mlp.hook_out"), WRITTEN, f"hook_name is 'blocks.0.mlp.hook_out'.* mean '{READ}'"),
    (PlantedPair, dict(hook_name=WRITTEN), WRITTEN, "the place that is read: leave predict out to train an SAE"),
    (Planted, {}, WRITTEN, rf"reads {RESID} alone; .*ActivationStreams\(model, texts, \['{RESID}', '{WRITTEN}'\]"),
    (Planted, dict(has_skip=True), None, "has_skip is a transcoder's: say what it predicts"),
]


@pytest.mark.parametrize(("stream", "cfg", "predict", "words"), WRONG)
def test_places_that_do_not_fit_are_said_before_anything_is_read(stream: type, cfg: dict, predict: str | None, words: str):
    with pytest.raises(ValueError, match=words):
        train(stream(), TrainConfig(d_sae=8, n_steps=3, **cfg), progress=False, predict=predict)


def test_one_place_to_predict_for_each_config():
    with pytest.raises(ValueError, match="of 2 configs: expected a list with a hook point for each"):
        train_many(PlantedPair(), CONFIGS, progress=False, predict=[WRITTEN])


def test_both_places_are_of_the_same_tokens_and_a_set_is_trained_in_one_pass(model):
    places = [f"blocks.{layer}.{end}" for layer in (1, 2) for end in ("mlp.hook_in", "hook_mlp_out")]
    stream = ActivationStreams(model, [TEXT] * 40, places, batch=32, buffer=128)
    batch = next(iter(stream))
    for layer in (1, 2):
        with torch.no_grad():
            expected = model.blocks[layer].mlp(batch[f"blocks.{layer}.mlp.hook_in"])
        torch.testing.assert_close(batch[f"blocks.{layer}.hook_mlp_out"], expected, rtol=1e-4, atol=1e-4)
    configs = [TrainConfig(d_sae=16, n_steps=5, hook_name=place) for place in places[::2]]
    found = train_many(stream, configs, progress=False, predict=places[1::2])
    assert [(it.cfg.hook_name_in, it.cfg.hook_name_out) for it in found] == [tuple(places[:2]), tuple(places[2:])]
