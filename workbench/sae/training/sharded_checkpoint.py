"""Checkpoints of SAEs and transcoders that are dealt out over ranks: they load on another number of ranks, and into one SAE.

checkpoint-1000/shard-….safetensors     each rank's features, written by torch.distributed.checkpoint
checkpoint-1000/crc32.json              of each of these files, and of the header: tells a changed bit
checkpoint-1000/header.json             which run this is and where the stream stood; it comes last, so a folder that has it is whole
"""

import json
import shutil
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import safetensors
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard

from workbench.files import made_folder, read_json, read_text, write_whole
from workbench.sae.training.checkpoint import Header, check_same_run, check_state, go_on
from workbench.sae.training.learner import REPLICATED, Learner, finish, new_sae
from workbench.sae.training.recipe import TrainConfig
from workbench.sae.training.source import Source, TrainingError

HEADER_FILE, CRC_FILE = "header.json", "crc32.json"
WHOLE = (*REPLICATED, "sums", "counts")  # all else has a row for each feature


class ShardedCheckpoint:
    """The same words as `Checkpoint`, called by every rank together. Only rank 0 has the stream."""

    def __init__(self, folder: Path, run: list[dict[str, Any]], stream: Any, every: int):
        made_folder(folder)
        self.folder, self.run, self.stream, self.every, self.rank = folder, run, stream, every, dist.get_rank()
        device_type = "cuda" if torch.cuda.is_available() else "cpu"
        self.mesh = init_device_mesh(device_type, (dist.get_world_size(),))

    def seek(self) -> int:
        """Set the stream to where the newest checkpoint was written; the batches read by then."""
        path = newest(self.folder)
        if path is None:
            return 0
        header = read_header(path)
        check_same_run(path, header.run, self.run)
        if self.stream is not None:
            go_on(self.stream, header, path)
        return header.n_done

    def restore(self, learners: Sequence[Learner]) -> None:
        """Put the newest saved state into the learner: each rank reads its own shard."""
        (learner,), path = learners, newest(self.folder)
        assert path is not None, f"{self.folder} had a checkpoint"
        self._check_bits(path)
        state = learner.state()
        with damaged(path):
            load(self._sharded(state), storage_reader=HuggingFaceStorageReader(str(path)))
        check_state(state, {"": learner}, read_header(path).n_done, path)
        learner.restore(state)

    def save(self, learners: Sequence[Learner], n_done: int) -> None:
        """Raises OSError, saying what is left, where it cannot be written."""
        (learner,), before = learners, newest(self.folder)
        path = self.folder / f"checkpoint-{n_done}"
        if path == before:
            return
        if self.rank == 0:
            shutil.rmtree(path, ignore_errors=True)  # half of one, of a run that was killed
            path.mkdir()
        dist.barrier()
        try:
            save(self._sharded(learner.state()), storage_writer=HuggingFaceStorageWriter(str(path), save_distributed=True))
        except CheckpointException as error:
            why = "; ".join(sorted({str(failure[0]) for failure in error.failures.values()}))
            raise OSError(f"{path}: no checkpoint could be written ({why}); {before or 'nothing'} stays") from None
        if self.rank == 0:
            header = json.dumps(asdict(Header(self.run, n_done, self.stream.position())))
            sums = {each.name: crc32_of(each) for each in sorted(path.iterdir())} | {HEADER_FILE: f"{zlib.crc32(header.encode()):08x}"}
            write_whole(path / CRC_FILE, lambda partial: partial.write_text(json.dumps(sums)))
            write_whole(path / HEADER_FILE, lambda partial: partial.write_text(header))
            for other in self.folder.glob("checkpoint-*"):
                if other != path:
                    shutil.rmtree(other)
        dist.barrier()

    def _check_bits(self, path: Path) -> None:
        """Each rank reads its share of the files; all raise what one finds, so that none waits for another."""
        n_ranks = dist.get_world_size()
        found: list[str] = [""] * n_ranks
        dist.all_gather_object(found, changed_bits(path, self.rank, n_ranks))
        if any(found):
            raise TrainingError(next(filter(None, found)))

    def remove(self) -> None:
        """Once the SAE is saved."""
        for path in self.folder.glob("checkpoint-*"):
            shutil.rmtree(path)

    def _sharded(self, state: dict[str, Tensor]) -> dict[str, Any]:
        """The same memory, seen as parts of the whole."""
        rows, whole = _by_rows(state), [Replicate()]
        return {
            name: DTensor.from_local(value, self.mesh, whole if name.split(".")[-1] in WHOLE else [Shard(0)], run_check=False)
            for name, value in rows.items()
        }


def export(folder: str | Path) -> Any:
    """The SAE or transcoder of a run that is done with its steps, from its checkpoint, in one process, without the ranks that wrote it."""
    path = newest(Path(folder))
    if path is None:
        raise TrainingError(f"{folder} holds no whole checkpoint of a sharded run")
    header = read_header(path)
    run = header.run[0]
    cfg = TrainConfig(**{field.name: run[field.name] for field in fields(TrainConfig) if field.name in run})
    source = Source(**{field.name: run[field.name] for field in fields(Source) if field.name in run})
    if header.n_done < cfg.n_steps:
        raise TrainingError(f"{path} is of a run that did {header.n_done:,} of {cfg.n_steps:,} steps; train it to its end first")
    if said := changed_bits(path):
        raise TrainingError(said)
    learner = Learner(source, cfg, new_sae(source, cfg, torch.device("cpu")))
    state = learner.state()
    with warnings.catch_warnings(action="ignore"), damaged(path):  # one warns that this is a single process, which is meant
        load(_by_rows(state), storage_reader=HuggingFaceStorageReader(str(path)), no_dist=True)
    check_state(state, {"": learner}, header.n_done, path)
    learner.restore(state)
    return finish(learner, learner.sae)


def newest(folder: Path) -> Path | None:
    """The checkpoint that came farthest, of those that are whole."""
    whole = [path.parent for path in folder.glob(f"checkpoint-*/{HEADER_FILE}") if path.parent.name.split("-")[1].isdigit()]
    return max(whole, key=lambda path: int(path.name.split("-")[1]), default=None)


def changed_bits(path: Path, first: int = 0, step: int = 1) -> str:
    """Which file of a checkpoint is not as it was written, in one sentence; "" where all are, and for one of before there were sums. first,
    step: of some of its files only."""
    if not (path / CRC_FILE).is_file():
        return ""
    sums = read_json(path / CRC_FILE, TrainingError)
    if not isinstance(sums, dict):
        return f"{path / CRC_FILE} is damaged: it holds no sums. Delete {path} to start anew"
    for name in sorted(sums)[first::step]:
        file = path / Path(name).name
        if not file.is_file() or crc32_of(file) != sums.get(name):
            what = "its CRC-32 is another, so some bits changed" if file.is_file() else "it is gone"
            return f"{file} is damaged: {what}. Delete {path} to start anew"
    return ""


def crc32_of(path: Path) -> str:
    """Of a file's bytes."""
    check = 0
    with path.open("rb") as file:
        while block := file.read(2**24):
            check = zlib.crc32(block, check)
    return f"{check:08x}"


def read_header(path: Path) -> Header:
    """What a checkpoint says of itself. Raises TrainingError for a file that is none."""
    try:
        text = read_text(path / HEADER_FILE)
        sums = read_json(path / CRC_FILE) if (path / CRC_FILE).is_file() else {}
        known = f"{zlib.crc32(text.encode()):08x}"
        if not isinstance(sums, dict) or sums.get(HEADER_FILE, known) != known:
            raise ValueError("some bits changed")
        return Header.parsed(text, str(path / HEADER_FILE))
    except ValueError:
        raise TrainingError(f"{path / HEADER_FILE} is not the header of a checkpoint; delete {path} to start anew") from None


@contextmanager
def damaged(path: Path) -> Iterator[None]:
    """What torch says of shards that are none becomes one sentence."""
    try:
        yield
    except (CheckpointException, safetensors.SafetensorError, OSError, RuntimeError, LookupError, ValueError) as error:
        why = next((str(failure[0]) for failure in getattr(error, "failures", {}).values()), str(error)).splitlines()[:1]
        raise TrainingError(f"{path} is damaged: {''.join(why)[:200]}. Delete it to start anew") from None


def _by_rows(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A row for each feature in every tensor: W_enc and its means transposed, in the same memory."""
    return {name: value.T if name.endswith("W_enc") else value for name, value in state.items()}
