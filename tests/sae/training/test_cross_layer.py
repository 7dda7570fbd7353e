"""A cross-layer transcoder by the loop that trains SAEs: it finds what is planted across layers, and goes on where it was stopped."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from made_models import TEXT
from made_process import in_process
from made_stream import D_IN, D_OUT, N_DIRECTIONS, Planted
from torch import Tensor

from workbench.activations.stream import ActivationStreams
from workbench.sae.config import CrossLayerConfig
from workbench.sae.cross_layer import CrossLayerTranscoder
from workbench.sae.kernels.cross_layer import cross_layer_step
from workbench.sae.training.checkpoint import CHECKPOINT_FILE, read_header
from workbench.sae.training.train import TrainConfig, train_cross_layer

READS, WRITES = ([f"blocks.{n}.{end}" for n in range(2)] for end in ("mlp.hook_in", "hook_mlp_out"))


class PlantedLayers:
    """Two layers with directions of their own. What is active in the first writes into both, what is active in the second into its own."""

    model_name = "planted"
    d_in = dict.fromkeys(READS, D_IN) | dict.fromkeys(WRITES, D_OUT)

    def __init__(self, n_batches: int = 1500):
        self.layers, rng = [Planted(n_batches), Planted(n_batches)], torch.Generator().manual_seed(5)
        self.writes = torch.randn(3, N_DIRECTIONS, D_OUT, generator=rng)
        self.writes /= self.writes.norm(dim=2, keepdim=True)
        sizes = {name: value.square().sum(1).mean().item() for name, value in self.sample(0).items()}
        self.scale = {name: (self.d_in[name] / size) ** 0.5 for name, size in sizes.items()}

    def sample(self, seed: int) -> dict[str, Tensor]:
        first, second = (layer.codes(10 * seed + n) for n, layer in enumerate(self.layers))
        read = first @ self.layers[0].directions, 4 * second @ self.layers[1].directions
        written = first @ self.writes[0], first @ self.writes[1] + second @ self.writes[2]
        return dict(zip([*READS, *WRITES], [*read, *written], strict=True))

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        while self.layers[0].next < self.layers[0].n_batches:
            self.layers[0].next += 1
            yield self.sample(999 + self.layers[0].next)

    def position(self) -> dict[str, int]:
        return self.layers[0].position()

    def seek(self, position: dict[str, int]) -> None:
        self.layers[0].seek(position)


def stacked(batch: dict[str, Tensor], names: list[str]) -> Tensor:
    return torch.stack([batch[name] for name in names])


@pytest.mark.parametrize("kind", [dict(l1=1.0), dict(architecture="batchtopk", k=2), dict(architecture="jumprelu", l1=1.0)])
def test_what_is_planted_across_layers_is_found_in_raw_units(kind: dict):
    stream = PlantedLayers()
    clt = train_cross_layer(stream, TrainConfig(d_sae=24, n_steps=400, lr=1e-2, **kind), progress=False)
    assert (clt.cfg.hook_names_in, clt.cfg.hook_names_out) == (READS, WRITES) and clt.cfg.architecture != "batchtopk"
    x, y = (stacked(batch, names) for batch in [stream.sample(9)] for names in (READS, WRITES))
    scaled = torch.tensor([stream.scale[name] for name in WRITES])[:, None, None]
    fvu = ((scaled * (y - clt(x))).square().sum() / (scaled * (y - y.mean(1, keepdim=True))).square().sum()).item()
    l0 = (clt.encode(x) > 0).sum(2).float().mean().item()
    assert fvu < 0.2 and clt.cfg.metadata["fvu"] == pytest.approx(fvu, abs=0.05)
    assert clt.cfg.metadata["l0"] == pytest.approx(l0, abs=0.3)
    torch.testing.assert_close(clt.norms(), torch.ones(2, 24))
    into = [clt.W_dec[0][:, 0], clt.W_dec[0][:, 1], clt.W_dec[1][:, 0]]  # decoder rows by where they write
    for rows, planted in zip(into, stream.writes, strict=True):
        rows = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-9)
        assert ((planted @ rows.T).max(1).values > 0.9).float().mean() > 0.8


def test_the_step_is_a_hand_written_loss():
    clt, rng = CrossLayerTranscoder(CrossLayerConfig(2, 3, 2, 4, "mlp.hook_in", "hook_mlp_out", has_skip=True)), torch.Generator()
    for weight in clt.parameters():
        weight.data = torch.randn(weight.shape, generator=rng)
    x, y = torch.randn(5, 2, 3, generator=rng), torch.randn(5, 2, 2, generator=rng)
    step = cross_layer_step(clt, x, 0.5, y)
    acts = [torch.relu(x[:, n] @ clt.W_enc[n] + clt.b_enc[n]) for n in range(2)]
    first = acts[0] @ clt.W_dec[0][:, 0] + clt.b_dec[0] + x[:, 0] @ clt.W_skip[0]
    second = acts[0] @ clt.W_dec[0][:, 1] + acts[1] @ clt.W_dec[1][:, 0] + clt.b_dec[1] + x[:, 1] @ clt.W_skip[1]
    squared_error = ((y[:, 0] - first).square().sum(1) + (y[:, 1] - second).square().sum(1)).mean()
    sparsity = sum((acts[n] * clt.W_dec[n].flatten(1).norm(dim=1)).sum(1).mean() for n in range(2))
    torch.testing.assert_close(step.loss, (squared_error + 0.5 * sparsity).detach())
    assert step.n_active == sum((each > 0).sum() for each in acts) and step.fired.shape == (2, 4)
    expected = torch.autograd.grad(squared_error + 0.5 * sparsity, list(clt.parameters()))
    for weight, gradient in zip(clt.parameters(), expected, strict=True):
        torch.testing.assert_close(weight.grad, gradient)


class Deadly(PlantedLayers):
    """Kills the process, as `kill -9` does, when it is asked for one batch."""

    def sample(self, seed: int) -> dict[str, Tensor]:
        if seed == 1000 + 25:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().sample(seed)


CFG = TrainConfig(d_sae=24, n_steps=40, lr=3e-3, architecture="batchtopk", k=2, has_skip=True)


def run(stream: PlantedLayers, folder: Path) -> CrossLayerTranscoder:
    torch.set_num_threads(1)
    return train_cross_layer(stream, CFG, progress=False, folder=folder, checkpoint_every=7)


def test_a_run_that_was_killed_ends_with_the_bits_of_an_unbroken_one(tmp_path: Path):
    n_threads = torch.get_num_threads()
    unbroken = run(PlantedLayers(), tmp_path / "unbroken")
    assert in_process(run, Deadly(), tmp_path / "broken") == -signal.SIGKILL
    assert read_header(tmp_path / "broken" / CHECKPOINT_FILE).n_done == 21
    resumed = run(PlantedLayers(), tmp_path / "broken")
    assert resumed.cfg == unbroken.cfg
    assert all(torch.equal(a, b) for a, b in zip(resumed.state_dict().values(), unbroken.state_dict().values(), strict=True))
    untouched = PlantedLayers()
    again = run(untouched, tmp_path / "broken")  # done: it is read, how it was trained included
    assert untouched.layers[0].next == 0 and again.cfg.metadata["training"] == unbroken.cfg.metadata["training"]
    torch.testing.assert_close(again.W_dec[0], unbroken.W_dec[0])
    torch.set_num_threads(n_threads)


def test_dead_features_learn_what_the_living_leave_over():
    cfg = TrainConfig(d_sae=48, n_steps=300, lr=1e-2, architecture="batchtopk", k=2)
    assert train_cross_layer(PlantedLayers(), cfg, progress=False).cfg.metadata["dead"] < 0.5


def test_what_cannot_be_trained_across_layers_is_refused(model_of):
    stream, cfg = PlantedLayers(), TrainConfig(24, 3)
    with pytest.raises(ValueError, match="does not read blocks.0.hook_resid_mid"):
        train_cross_layer(stream, cfg, progress=False, hook_in="hook_resid_mid")
    with pytest.raises(ValueError, match="reads every block: give it ActivationStreams"):
        train_cross_layer(Planted(), cfg, progress=False)
    with pytest.raises(ValueError, match="as standard, jumprelu or batchtopk"):
        train_cross_layer(stream, TrainConfig(24, 3, architecture="topk", k=2), progress=False)
    model = model_of("gpt2")
    few = ActivationStreams(model, [TEXT] * 20, READS[:1] + WRITES[:1], batch=16, buffer=64)
    with pytest.raises(ValueError, match=r"does not read blocks\.1\.mlp\.hook_in"):
        train_cross_layer(few, cfg, progress=False)
