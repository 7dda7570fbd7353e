"""A run that was stopped, in whatever way, goes on to the same bits; a checkpoint that cannot be gone on from says why."""

import itertools
import json
import os
import random
import shutil
import signal
from pathlib import Path

import pytest
import torch
from made_process import in_process
from made_stream import D_SAE, Planted
from safetensors.torch import save_file

from workbench.sae.sae import SAE
from workbench.sae.training.checkpoint import CHECKPOINT_FILE, read_header
from workbench.sae.training.train import TrainConfig, train, train_many

N_STEPS, EVERY = 60, 7
KINDS = [dict(architecture="standard"), dict(architecture="batchtopk", k=2), dict(architecture="jumprelu")]
CONFIGS = [TrainConfig(d_sae=D_SAE, n_steps=N_STEPS, lr=3e-3, **kind) for kind in KINDS]


class Deadly(Planted):
    """Kills the process, as `kill -9` does, when it is asked for one batch."""

    def __init__(self, last: int):
        super().__init__()
        self.last = last

    def sample(self, seed: int) -> torch.Tensor:
        if seed == 1000 + getattr(self, "last", -1):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().sample(seed)


def run(stream: Planted, folder: Path | None, configs=CONFIGS) -> list[SAE]:
    return train_many(stream, configs, progress=False, folder=folder, checkpoint_every=EVERY)


def lines(folder: Path) -> list[dict]:
    """The metrics without what depends on the clock."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "tokens_per_second"} for row in rows]


def test_a_run_killed_at_random_steps_ends_with_the_bits_of_an_unbroken_one(tmp_path: Path):
    unbroken = run(Planted(), tmp_path / "unbroken")
    steps = sorted(random.sample(range(EVERY + 1, N_STEPS), 2))
    for step in steps:
        assert in_process(run, Deadly(step), tmp_path / "broken") == -signal.SIGKILL, steps
        assert read_header(tmp_path / "broken" / CHECKPOINT_FILE).n_done == step // EVERY * EVERY, steps
    resumed = run(Planted(), tmp_path / "broken")
    assert [sae.fingerprint() for sae in resumed] == [sae.fingerprint() for sae in unbroken], steps
    assert [sae.cfg for sae in resumed] == [sae.cfg for sae in unbroken], steps
    assert lines(tmp_path / "broken") == lines(tmp_path / "unbroken"), steps


def die_while_writing(folder: Path) -> None:
    fsync, n_calls = os.fsync, itertools.count()

    def deadly_fsync(file: int) -> None:
        if next(n_calls) == 2:  # the metrics, the first checkpoint, the second
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(file)

    os.fsync = deadly_fsync
    run(Planted(), folder)


def test_a_process_killed_while_it_writes_leaves_the_checkpoint_before(tmp_path: Path):
    assert in_process(die_while_writing, tmp_path) == -signal.SIGKILL
    assert read_header(tmp_path / CHECKPOINT_FILE).n_done == EVERY and list(tmp_path.glob("*.partial"))
    run(Planted(), tmp_path)
    assert not list(tmp_path.glob("*.partial")) and not (tmp_path / CHECKPOINT_FILE).exists()


def test_ctrl_c_writes_a_checkpoint_then_raises(tmp_path: Path):
    def interrupt(metrics: dict) -> None:
        if metrics["step"] == 20:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match="after step 20"):
        train(Planted(), CONFIGS[0], progress=False, folder=tmp_path, on_metrics=interrupt)
    assert signal.getsignal(signal.SIGINT) is before
    assert read_header(tmp_path / CHECKPOINT_FILE).n_done == 20
    resumed = train(Planted(), CONFIGS[0], progress=False, folder=tmp_path)
    assert resumed.fingerprint() == train(Planted(), CONFIGS[0], progress=False).fingerprint()


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    n_calls = itertools.count()

    def full(tensors: dict, path: Path, metadata: dict) -> None:
        if next(n_calls) == 1:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        save_file(tensors, path, metadata)

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match=r"could be written at step 14 .*No space left.*the one of step 7 stays"):
        run(Planted(), tmp_path, CONFIGS[:1])
    monkeypatch.undo()
    assert read_header(tmp_path / CHECKPOINT_FILE).n_done == 7 and not list(tmp_path.glob("*.partial"))
    assert run(Planted(), tmp_path, CONFIGS[:1])[0].fingerprint() == run(Planted(), None, CONFIGS[:1])[0].fingerprint()


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """The folder of a run that the stream ended early."""
    with pytest.raises(ValueError, match="ended after 15 of 60"):
        run(Planted(n_batches=15), tmp_path, CONFIGS[:1])
    return tmp_path


def test_a_checkpoint_of_another_run_says_which_fields_differ(stopped: Path):
    other = TrainConfig(d_sae=D_SAE, n_steps=N_STEPS, lr=1e-3, seed=1)
    with pytest.raises(ValueError, match=r"lr was 0.003, now it is 0.001; seed was 0, now it is 1\. Take another folder"):
        run(Planted(), stopped, [other])
    stream = Planted()
    stream.scale *= 2
    with pytest.raises(ValueError, match="scale was "):
        run(stream, stopped, CONFIGS[:1])
    with pytest.raises(ValueError, match="of a run with 1 SAEs, this one has 3"):
        run(Planted(), stopped)


@pytest.mark.parametrize(("content", "words"), [(b"", "empty"), (b"PK\x03\x04rest", "zip archive"), (None, "half of one")])
def test_a_file_that_is_no_checkpoint_says_what_it_looks_like(stopped: Path, content: bytes | None, words: str):
    path = stopped / CHECKPOINT_FILE
    path.write_bytes(path.read_bytes()[:100] if content is None else content)
    with pytest.raises(ValueError, match=f"{CHECKPOINT_FILE} is not a checkpoint of a training run .*{words}.*delete it"):
        run(Planted(), stopped, CONFIGS[:1])


def test_more_text_lets_a_run_go_on_whose_stream_ended(stopped: Path):
    assert read_header(stopped / CHECKPOINT_FILE).n_done == 15
    assert run(Planted(), stopped, CONFIGS[:1])[0].fingerprint() == run(Planted(), None, CONFIGS[:1])[0].fingerprint()


def test_a_finished_folder_gives_its_sae_and_refuses_another_run(tmp_path: Path):
    first = run(Planted(), tmp_path, CONFIGS[:1])[0]
    untouched = Planted()
    again = run(untouched, tmp_path, CONFIGS[:1])[0]
    assert again.fingerprint() == first.fingerprint() and untouched.next == 0
    both = run(Planted(), tmp_path / "many", CONFIGS[:2])
    shutil.rmtree(tmp_path / "many" / "0")  # what is left of the other is its own, not the first one's
    assert [each.fingerprint() for each in run(Planted(), tmp_path / "many", CONFIGS[:2])] == [each.fingerprint() for each in both]
    with pytest.raises(ValueError, match="n_steps was 60, now it is 10"):
        run(Planted(), tmp_path, [TrainConfig(d_sae=D_SAE, n_steps=10, lr=3e-3)])


def test_a_stream_that_cannot_seek_is_refused_before_any_work(tmp_path: Path):
    class Blind:
        hook_name, model_name, d_in, scale = "h", "m", 4, 1.0

        def __iter__(self):
            raise AssertionError("nothing should be read")

    with pytest.raises(ValueError, match=r"needs a stream with position\(\) and seek\(\)"):
        train(Blind(), CONFIGS[0], progress=False, folder=tmp_path)
