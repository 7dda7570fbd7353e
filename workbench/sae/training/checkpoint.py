"""A checkpoint: one safetensors file that is complete or absent, and that goes on only with the run that wrote it.

Its tensors are the learners' `state()`, named "0/W_enc", "0/exp_avg.W_enc", … for the first of several SAEs; its header says which run this
is and where the stream stood; a CRC-32 of both tells a changed bit (2 GB/s). Written to another name, flushed to disk, renamed: whatever
happens meanwhile, the one before it stays.
"""

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from workbench.files import check_is_file, made_folder, parse_json, write_tensors, write_whole
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

    @classmethod
    def parsed(cls, text: str, where: str) -> "Header":
        """Raises ValueError for what no run wrote."""
        said = parse_json(text, where)
        if not isinstance(said, dict) or set(said) != {"run", "n_done", "position"}:
            raise ValueError("its header is another's")
        run, n_done, position = said["run"], said["n_done"], said["position"]
        if not isinstance(run, list) or not all(isinstance(each, dict) for each in run) or not isinstance(position, dict):
            raise ValueError("its header says neither run nor position")
        for name, value in {"n_done": n_done, **position}.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ValueError(f"its header says {name} {value!r}, expected a whole number")
        return cls(run, n_done, position)


class Checkpoint:
    """The checkpoint of one run in its folder: found, checked, gone on from, written every so many steps, removed at the end."""

    def __init__(self, folder: Path, run: list[dict[str, Any]], stream: Any, every: int):
        if not hasattr(stream, "position") or not hasattr(stream, "seek"):
            raise TrainingError(
                f"a folder= that can be resumed needs a stream with position() and seek(); {type(stream).__name__} has none"
            )
        made_folder(folder)
        self.path, self.run, self.stream, self.every = folder / CHECKPOINT_FILE, run, stream, every
        for half in folder.glob(f"{CHECKPOINT_FILE}*.partial"):  # of a process that was killed while it wrote
            half.unlink()

    def seek(self) -> int:
        """Set the stream to where the checkpoint was written; the batches read by then. Raises TrainingError if it is of another run."""
        if not self.path.exists():
            return 0
        header = read_header(self.path)
        check_same_run(self.path, header.run, self.run)
        go_on(self.stream, header, self.path)
        return header.n_done

    def restore(self, learners: Sequence[Learner]) -> None:
        """Put the saved state into learners of the same recipes, in the same order."""
        tensors, header = load_file(self.path), read_header(self.path)
        check_state(tensors, {f"{n}/": learner for n, learner in enumerate(learners)}, header.n_done, self.path)
        for n, learner in enumerate(learners):
            learner.restore({name.removeprefix(f"{n}/"): value for name, value in tensors.items() if name.startswith(f"{n}/")})

    def save(self, learners: Sequence[Learner], n_done: int) -> None:
        """Raises OSError, saying what is left, where it cannot be written (a full disk)."""
        tensors = {f"{n}/{name}": value.contiguous().cpu() for n, it in enumerate(learners) for name, value in it.state().items()}
        header = json.dumps(asdict(Header(self.run, n_done, self.stream.position())))
        about = {"header": header, "crc32": crc32(tensors, header)}
        try:
            write_whole(self.path, lambda partial: write_tensors(partial, tensors, about))
        except OSError as error:
            left = f"the one of step {read_header(self.path).n_done:,} stays" if self.path.exists() else "there is none before it"
            size = sum(value.nbytes for value in tensors.values()) / 1e6
            raise OSError(f"{self.path}: no checkpoint of {size:,.1f} MB could be written at step {n_done:,} ({error}); {left}") from None

    def remove(self) -> None:
        """Once the SAEs are saved."""
        self.path.unlink(missing_ok=True)


def read_header(path: Path) -> Header:
    """Raises TrainingError where the file is not a checkpoint."""
    try:
        check_is_file(path)
        with safe_open(path, "pt") as file:
            return Header.parsed((file.metadata() or {})["header"], "its header")
    except (safetensors.SafetensorError, OSError, KeyError, ValueError) as error:
        why = str(error) if isinstance(error, ValueError) else looks_like(path.open("rb").read(512)) or "or half of one"
        raise TrainingError(f"{path} is not a checkpoint of a training run ({why}); delete it to start anew") from None


def crc32(tensors: Mapping[str, Tensor], header: str) -> str:
    """Of the header and of every tensor's name, type, shape and bytes."""
    check = zlib.crc32(header.encode())
    for name, value in sorted(tensors.items()):
        check = zlib.crc32(f"{name} {value.dtype} {tuple(value.shape)}".encode(), check)
        check = zlib.crc32(value.contiguous().reshape(-1).view(torch.uint8).numpy().data, check)
    return f"{check:08x}"


def go_on(stream: Any, header: Header, path: Path) -> None:
    """Set the stream to where the checkpoint was written. Raises TrainingError for a run that is past its end."""
    n_steps = max((each.get("n_steps", 0) for each in header.run), default=0)
    if header.n_done > n_steps:
        raise TrainingError(f"{path} says that {header.n_done:,} of {n_steps:,} steps are done: it is damaged; delete it to start anew")
    try:
        stream.seek(header.position)
    except (KeyError, TypeError) as error:
        raise TrainingError(f"{path} is of another kind of stream: its position has no {error}; take another folder") from None


def check_state(tensors: Mapping[str, Tensor], learners: Mapping[str, Learner], n_done: int, path: Path) -> None:
    """Raises TrainingError unless these are the learners' states after n_done batches, each learner's under its prefix: nothing that is
    missing, of another shape or type, no number that training could not have reached."""
    expected = {f"{prefix}{name}": value for prefix, learner in learners.items() for name, value in learner.state().items()}
    problems = [f"it lacks {name}" for name in expected if name not in tensors]
    problems += [f"{name} is none of this run's" for name in tensors if name not in expected]
    for name, value in expected.items():
        if name not in tensors:
            continue
        there = tensors[name]
        if (there.dtype, there.shape) != (value.dtype, value.shape):
            here, found = (f"{str(each.dtype).removeprefix('torch.')} {tuple(each.shape)}" for each in (value, there))
            problems.append(f"{name} is {found}, expected {here}")
        elif not torch.isfinite(there).all():
            problems.append(f"{name} holds NaN or infinite values")
        elif ("exp_avg_sq" in name or name.endswith("since_fired")) and (there < 0).any():
            problems.append(f"{name} holds values below 0")
    if not problems:
        for prefix, learner in learners.items():
            done, n_tokens, density = tensors[f"{prefix}counts"].tolist()
            is_right = done == min(n_done, learner.cfg.n_steps) and n_tokens >= done and math.floor(n_tokens) == n_tokens
            if not is_right or not 0 <= density <= 1:
                problems.append(f"{prefix}counts are {done:g} steps of {n_done:,}, {n_tokens:g} tokens, density {density:g}")
    if not problems and (check := _kept_crc(path)) and check[0] != crc32(tensors, check[1]):
        problems.append("its CRC-32 is another, so some bits changed")
    if problems:
        raise TrainingError(f"{path} is damaged: {'; '.join(problems[:3])}. Delete it to start anew")


def _kept_crc(path: Path) -> tuple[str, str] | None:
    """(what was written, the header it is of); None for a folder, and for a file of before there was one."""
    if not path.is_file():
        return None
    with safe_open(path, "pt") as file:
        about = file.metadata() or {}
    return (about["crc32"], about["header"]) if "crc32" in about else None


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
