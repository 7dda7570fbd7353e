"""Features dealt out over processes train as they do in one; checkpoints load on another number of them; when one dies, all stop."""

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from made_process import in_processes
from made_stream import D_SAE, Planted, PlantedPair

from workbench.sae.dictionary import Dictionary
from workbench.sae.kernels import step as kernels
from workbench.sae.sae import SAE
from workbench.sae.training.sharded import topk, train_sharded
from workbench.sae.training.sharded_checkpoint import changed_bits, export, newest, read_header
from workbench.sae.training.train import TrainConfig, train
from workbench.sae.transcoder import Transcoder

KINDS = [dict(architecture="standard"), dict(architecture="jumprelu")]
KINDS += [dict(architecture=architecture, k=2) for architecture in ("topk", "batchtopk")]
CONFIGS = {kind["architecture"]: TrainConfig(d_sae=D_SAE, n_steps=20, lr=3e-3, seed=1, is_plain=True, **kind) for kind in KINDS}


def one_rank(task: Callable, rank: int, n_ranks: int, meeting: Path, about: tuple) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=n_ranks)
    task(rank, *about)
    dist.destroy_process_group()


def in_ranks(n_ranks: int, task: Callable, folder: Path, *about: Any) -> list[int | None]:
    """Exit codes of n_ranks processes that each ran task(rank, *about)."""
    meeting = folder / f"meeting-{time.monotonic_ns()}"
    return in_processes(one_rank, [(task, rank, n_ranks, meeting, about) for rank in range(n_ranks)])


def assert_same(sae: Dictionary, expected: Dictionary) -> None:
    for (name, weight), other in zip(sae.named_parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(weight, other, atol=1e-5, rtol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


def train_all(rank: int, folder: Path, ways: str) -> None:
    kernels.DENSEST = 1.0 if ways == "sparse" or (ways == "one of each" and rank == 1) else 0.0
    for name, cfg in CONFIGS.items():
        train_sharded(Planted() if rank == 0 else None, replace(cfg, is_plain=ways == "dense"), folder / name, progress=False)


@pytest.mark.parametrize("ways", ["dense", "sparse", "one of each"])
def test_two_ranks_train_what_one_process_trains(tmp_path: Path, ways: str):
    """All architectures, 20 steps, features of the whole to 1e-5; the figures of the training too."""
    assert in_ranks(2, train_all, tmp_path, tmp_path, ways) == [0, 0]
    for name, cfg in CONFIGS.items():
        sae, expected = SAE.load(tmp_path / name), train(Planted(), cfg, progress=False)
        assert_same(sae, expected)
        assert sae.cfg.metadata.keys() == expected.cfg.metadata.keys() - {"copies"}, "a shard does not see the others' copies"
        for key in ("loss", "fvu", "l0", "dead"):
            assert sae.cfg.metadata[key] == pytest.approx(expected.cfg.metadata[key], rel=1e-5)
        assert not list((tmp_path / name).glob("checkpoint-*"))


def train_transcoders(rank: int, folder: Path) -> None:
    for name, cfg in CONFIGS.items():
        with_skip, stream = replace(cfg, has_skip=True, is_plain=name == "topk"), PlantedPair(has_skip=True) if rank == 0 else None
        train_sharded(stream, with_skip, folder / name, progress=False, predict=PlantedPair.written)


def test_two_ranks_train_the_transcoder_that_one_process_trains(tmp_path: Path):
    assert in_ranks(2, train_transcoders, tmp_path, tmp_path) == [0, 0]
    for name, cfg in CONFIGS.items():
        made = replace(cfg, has_skip=True, is_plain=name == "topk")
        found, expected = (
            Transcoder.load(tmp_path / name),
            train(PlantedPair(has_skip=True), made, progress=False, predict=PlantedPair.written),
        )
        assert_same(found, expected)
        assert found.cfg.metadata["fvu"] == pytest.approx(expected.cfg.metadata["fvu"], rel=1e-5)


def train_13_steps(rank: int, folder: Path) -> None:
    with pytest.raises(ValueError, match="ended after 13 of 20 steps"):
        train_sharded(Planted(n_batches=13) if rank == 0 else None, CONFIGS["topk"], folder, progress=False, checkpoint_every=5)


def train_the_rest(rank: int, folder: Path) -> None:
    train_sharded(Planted() if rank == 0 else None, CONFIGS["topk"], folder, progress=False)


def refuse_a_flipped_byte(rank: int, folder: Path, name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} is damaged: its CRC-32 is another"):
        train_sharded(Planted() if rank == 0 else None, CONFIGS["topk"], folder, progress=False)


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 4  # of a tensor's last numbers: finite before and after
    path.write_bytes(content)


def test_a_checkpoint_of_two_ranks_goes_on_with_three(tmp_path: Path):
    folder = tmp_path / "sae"
    assert in_ranks(2, train_13_steps, tmp_path, folder) == [0, 0]
    path = newest(folder)
    assert path is not None and path.name == "checkpoint-13" and len(list(path.glob("*.safetensors"))) == 2
    assert not list(folder.glob("checkpoint-10")) and not list(path.glob("*.metadata")), "no pickle"
    with pytest.raises(ValueError, match="did 13 of 20 steps"):
        export(folder)
    shard = max(path.glob("*.safetensors"))
    flip_a_byte(shard)
    assert in_ranks(2, refuse_a_flipped_byte, tmp_path, folder, shard.name) == [0, 0], "also the rank that reads the other shard"
    flip_a_byte(shard)
    assert changed_bits(path) == ""
    flip_a_byte(path / "header.json")
    with pytest.raises(ValueError, match="header.json is not the header of a checkpoint"):
        read_header(path)
    flip_a_byte(path / "header.json")

    assert in_ranks(3, train_the_rest, tmp_path, folder) == [0, 0, 0]
    assert_same(SAE.load(folder), train(Planted(), CONFIGS["topk"], progress=False))


def test_a_checkpoint_without_its_header_does_not_count(tmp_path: Path):
    (tmp_path / "checkpoint-20").mkdir()
    assert newest(tmp_path) is None
    (tmp_path / "checkpoint-7").mkdir()
    (tmp_path / "checkpoint-7/header.json").write_text("{}")
    assert newest(tmp_path) == tmp_path / "checkpoint-7"
    with pytest.raises(ValueError, match="not the header of a checkpoint"):
        read_header(tmp_path / "checkpoint-7")


def find_largest(rank: int) -> None:
    pre_acts = torch.randn(50, 12, generator=torch.Generator().manual_seed(0))
    for k, width in ((3, 6), (8, 6), (2, 11)):  # more than a rank has; one rank with a single feature
        own = pre_acts[:, :width] if rank == 0 else pre_acts[:, width:]
        least = pre_acts.topk(k).values[:, -1:]
        expected = torch.where(own >= least, own, 0).relu()
        assert torch.equal(topk(own, k), expected)


def test_the_largest_over_all_ranks_are_found_exactly(tmp_path: Path):
    assert in_ranks(2, find_largest, tmp_path) == [0, 0]


def deal_25_features(rank: int, folder: Path) -> None:
    with pytest.raises(ValueError, match="25 features cannot be dealt out evenly among 2 ranks; 24 could"):
        train_sharded(Planted() if rank == 0 else None, TrainConfig(d_sae=25, n_steps=5), folder, progress=False)


def test_features_that_cannot_be_dealt_out_evenly_are_refused(tmp_path: Path):
    assert in_ranks(2, deal_25_features, tmp_path, tmp_path / "sae") == [0, 0]


SCRIPT = """
import os, signal, sys
from pathlib import Path
import torch
from made_stream import Planted
from workbench.sae.training.sharded import join, train_sharded
from workbench.sae.training.train import TrainConfig
folder, is_deadly = Path(sys.argv[1]), sys.argv[2] == "deadly"
rank, _ = join()
if is_deadly and rank == 1:
    broadcast, calls = torch.distributed.broadcast, iter(range(1000))
    def dying(*args, **kwargs):
        if next(calls) == 2 * 12:  # two a step
            (folder / "standard/died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return broadcast(*args, **kwargs)
    torch.distributed.broadcast = dying
for kind in (dict(architecture="standard"), dict(architecture="topk", k=2)):
    cfg = TrainConfig(d_sae=24, n_steps=20, lr=3e-3, seed=1, is_plain=True, **kind)
    train_sharded(Planted() if rank == 0 else None, cfg, folder / kind["architecture"], progress=False, checkpoint_every=5)
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_under_torchrun_one_rank_dying_stops_all_and_the_next_run_goes_on(tmp_path: Path):
    (tmp_path / "script.py").write_text(
        f"import sys\nsys.path[:0] = {[str(Path(__file__).parents[n] / folder) for n, folder in ((2, 'made'), (3, '.'))]!r}\n{SCRIPT}"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", str(tmp_path / "script.py"), str(tmp_path / "out")]
    died = subprocess.run([*command, "deadly"], capture_output=True, text=True, timeout=120)
    assert died.returncode != 0 and "SIGKILL" in died.stderr
    assert newest(tmp_path / "out/standard") == tmp_path / "out/standard/checkpoint-10"
    assert read_header(tmp_path / "out/standard/checkpoint-10").n_done == 10

    subprocess.run([*command, "lively"], check=True, capture_output=True, timeout=120)
    for name in ("standard", "topk"):
        assert_same(SAE.load(tmp_path / "out" / name), train(Planted(), CONFIGS[name], progress=False))
