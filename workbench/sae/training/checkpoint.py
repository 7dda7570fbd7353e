"""A checkpoint: one safetensors file that is complete or absent, and that goes on only with the run that wrote it.

Its tensors are the learners' `state()`, named "0/W_enc", "0/exp_avg.W_enc", … for the first of several SAEs; its header says which run this
is and where the stream stood. Written to another name, flushed to disk, renamed: whatever happens meanwhile, the one before it stays.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from workbench.files import write_whole
from workbench.sae.formats.files import looks_like
from workbench.sae.training.learner import Learner
from workbench.sae.training.source import TrainingError

CHECKPOINT_FILE = "checkpoint.safetensors"


@dataclass(frozen=True)
class Header:
    """Which run a checkpoint belongs to, and how far it came."""

    run: list[dict[str, Any]]  # of each SAE the fields of TrainConfig and Source
    n_done: int  # batches read
    position: dict[str, int]  # of the stream, after these


class Checkpoint:
    """The checkpoint of one run in its folder: found, checked, gone on from, written every so many steps, removed at the end."""

    def __init__(self, folder: Path, run: list[dict[str, Any]], stream: Any, every: int):
        if not hasattr(stream, "position") or not hasattr(stream, "seek"):
            raise TrainingError(
                f"a folder= that can be resumed needs a stream with position() and seek(); {type(stream).__name__} has none"
            )
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self.run, self.stream, self.every = folder / CHECKPOINT_FILE, run, stream, every
        for half in folder.glob(f"{CHECKPOINT_FILE}*.partial"):  # of a process that was killed while it wrote
            half.unlink()

    def seek(self) -> int:
        """Set the stream to where the checkpoint was written; the batches read by then. Raises TrainingError if it is of another run."""
        if not self.path.exists():
            return 0
        header = read_header(self.path)
        check_same_run(self.path, header.run, self.run)
        self.stream.seek(header.position)
        return header.n_done

    def restore(self, learners: Sequence[Learner]) -> None:
        """Put the saved state into learners of the same recipes, in the same order."""
        tensors = load_file(self.path)
        for n, learner in enumerate(learners):
            learner.restore({name.removeprefix(f"{n}/"): value for name, value in tensors.items() if name.startswith(f"{n}/")})

    def save(self, learners: Sequence[Learner], n_done: int) -> None:
        """Raises OSError, saying what is left, where it cannot be written (a full disk)."""
        tensors = {f"{n}/{name}": value.contiguous().cpu() for n, it in enumerate(learners) for name, value in it.state().items()}
        header = json.dumps(asdict(Header(self.run, n_done, self.stream.position())))
        try:
            write_whole(self.path, lambda partial: save_file(tensors, partial, metadata={"header": header}))
        except (OSError, safetensors.SafetensorError) as error:
            left = f"the one of step {read_header(self.path).n_done:,} stays" if self.path.exists() else "there is none before it"
            size = sum(value.nbytes for value in tensors.values()) / 1e6
            raise OSError(f"{self.path}: no checkpoint of {size:,.1f} MB could be written at step {n_done:,} ({error}); {left}") from None

    def remove(self) -> None:
        """Once the SAEs are saved."""
        self.path.unlink(missing_ok=True)


def read_header(path: Path) -> Header:
    """Raises TrainingError where the file is not a checkpoint."""
    try:
        with safe_open(path, "pt") as file:
            return Header(**json.loads((file.metadata() or {})["header"]))
    except (safetensors.SafetensorError, OSError, KeyError, TypeError, json.JSONDecodeError):
        what = looks_like(path.open("rb").read(512)) or "or half of one"
        raise TrainingError(f"{path} is not a checkpoint of a training run ({what}); delete it to start anew") from None


def check_same_run(path: Path, there: Sequence[dict[str, Any]], here: Sequence[dict[str, Any]]) -> None:
    """Raises TrainingError, naming every field that differs."""
    if len(there) != len(here):
        raise TrainingError(f"{path} is of a run with {len(there)} SAEs, this one has {len(here)}; take another folder")
    differences = [
        (f"SAE {n}: " if len(here) > 1 else "") + f"{name} was {old.get(name)!r}, now it is {new.get(name)!r}"
        for n, (old, new) in enumerate(zip(there, here, strict=True))
        for name in {**old, **new}
        if old.get(name) != new.get(name)
    ]
    if differences:
        raise TrainingError(f"{path} is of another run: {'; '.join(differences)}. Take another folder, or the settings of that run")
