"""How much memory can still be had, on the machine or on a GPU, and does what is planned fit in? And was it an error of memory, or is
something not to this model's liking?

    need = Need("ranking", {"passes of the model": 2 * 10**9, "active pairs": 10**8}, "a shorter prompt takes less")    held at one time
    need.check(device, insist)                                                                  one sentence where it is not there

A plan is reckoned from shapes. Linux promises memory that it does not have and then swaps, or kills: what does not fit is refused before.
"""

import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

USED = 0.9  # share of what is free that may be planned for: others on the machine want some, too
GROUPS, OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
VERSION_2 = "memory.max", "memory.current", "inactive_file"  # the limit, what is in use, which part of it are files kept at hand
VERSION_1 = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
UNLIMITED = 2**60  # version 1 writes a number near 2⁶³ where there is no limit
SAID = 2e9  # bytes from which a plan is printed


class OutOfMemory(ValueError, MemoryError):
    """What was asked for needs more memory than there is: seen before it began, or met on the way. One sentence, as what is typed wrong."""


@dataclass(frozen=True)
class Need:
    """What something will hold at its peak, beyond what is held already: bytes by part. less: the ways out, in words."""

    what: str
    parts: Mapping[str, int]
    less: str

    @property
    def n_bytes(self) -> int:
        """All parts together."""
        return sum(self.parts.values())

    def __str__(self) -> str:
        parts = [f"{name} {size_of(n)}" for name, n in sorted(self.parts.items(), key=lambda part: -part[1]) if n]
        return f"{size_of(self.n_bytes)} of memory ({', '.join(parts)})"

    def check(self, device: torch.device, insist: bool | None = False, say: bool = False) -> None:
        """Raises OutOfMemory where that is not there, unless insisted on (None: it cannot be). say: print the plan, unless it is small."""
        free = free_memory(device)
        if not insist and free is not None and self.n_bytes > USED * free:
            go_on = "" if insist is None else ", or insist=True"
            raise OutOfMemory(f"{self.what} needs {self}, but {device} has {size_of(free)} left: {self.less}{go_on}")
        if say and self.n_bytes >= SAID:
            tqdm.write(f"{self.what} needs up to {self}", file=sys.stderr)


def largest(what: str, phases: Iterable[Mapping[str, int]], less: str) -> Need:
    """What is done in several phases needs what the largest of them does."""
    return max((Need(what, parts, less) for parts in phases), key=lambda need: need.n_bytes)


def pass_bytes(cfg: Any, n_pos: int, n_rows: int = 1, is_graded: bool = False) -> int:
    """Of a pass of the model over n_rows prompts, as TransformerBridge runs it: float32 attention scores (row, head, pos, pos), which it
    keeps of every block until the next pass, one block's more, masks, an MLP. is_graded: with a backward pass through all of it. Measured
    on GPT-2's blocks, with 2 and 6 layers, 1 and 4 heads, 3,000 and 5,000 tokens."""
    square, scores, tokens = 4 * n_pos**2, n_rows * cfg.n_heads * 4 * n_pos**2, n_rows * 4 * n_pos
    d_mlp = cfg.d_mlp or 4 * cfg.d_model
    forward = 1.5 * square + (cfg.n_layers + 1) * scores + tokens * (2 * d_mlp + 6 * cfg.d_model)
    backward = 0.5 * square + (cfg.n_layers + 2) * scores + cfg.n_layers * tokens * (3 * d_mlp + 8 * cfg.d_model)
    return int(max(forward, backward) if is_graded else forward)


def kept_bytes(cfg: Any, n_pos: int, n_rows: int = 1) -> int:
    """What of a pass stays with the model until its next one."""
    return cfg.n_layers * n_rows * cfg.n_heads * 4 * n_pos**2


def size_of(n_bytes: int) -> str:
    """1.2 GB, 30.0 MB."""
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:.1f} MB"


@contextmanager
def in_words(what: str, less: str) -> Iterator[None]:
    """Inside, memory that an allocator does not get is OutOfMemory, in one sentence; also a decorator."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, OutOfMemory) or not is_out_of_memory(error):
            raise
        raise OutOfMemory(f"{what} {broke_off(error)}: {less}") from None


def broke_off(error: BaseException) -> str:
    """For what an allocator said: did not get …, of … that are left."""
    device = torch.device("cuda" if isinstance(error, torch.OutOfMemoryError) else "cpu")
    asked = re.search(r"allocate ([\d.]+) ?(bytes|[KMGT]iB)", str(error))
    amount = "memory" if asked is None else size_of(int(float(asked[1]))) if asked[2] == "bytes" else f"{asked[1]} {asked[2]}"
    free = free_memory(device)
    return f"did not get {amount} that it needs" + ("" if free is None else f", {device} has {size_of(free)} left")


def free_memory(device: torch.device) -> int | None:
    """Bytes that can still be had on the device; None where the system does not say. Of a GPU: what torch keeps for later counts as free,
    else every batch would find less than the one before."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    meminfo = Path("/proc/meminfo")
    found = re.search(r"MemAvailable:\s+(\d+) kB", meminfo.read_text()) if meminfo.exists() else None
    known = [1024 * int(found[1])] if found else []
    return min([*known, *_left_of_groups()], default=None)


def _left_of_groups() -> list[int]:
    """Bytes that its control groups leave to this process: a container's or a job's limit lies below the machine's, and ends in a kill.
    Files that the system only keeps at hand count as free, as in MemAvailable."""
    left = []
    for folder, (most, used, at_hand) in _groups():
        try:
            limit = (folder / most).read_text().strip()
            kept = re.search(rf"^{at_hand} (\d+)$", (folder / "memory.stat").read_text(), re.MULTILINE)
            in_use = int((folder / used).read_text()) - (int(kept[1]) if kept else 0)
        except (OSError, ValueError):
            continue  # no such group seen from here, or not for us to read
        if limit.isdigit() and int(limit) < UNLIMITED:
            left.append(max(0, int(limit) - in_use))
    return left


def _groups() -> Iterator[tuple[Path, tuple[str, str, str]]]:
    """The groups that this process is in, up to the first: each one's folder and the files' names in it. Of versions 2 and 1."""
    for line in OWN_GROUPS.read_text().splitlines() if OWN_GROUPS.exists() else ():
        _, kinds, path = line.split(":", 2)
        if kinds and "memory" not in kinds.split(","):
            continue
        first = GROUPS / "memory" if kinds else GROUPS
        own = first / path.lstrip("/")
        for folder in (own, *own.parents):
            yield folder, VERSION_1 if kinds else VERSION_2
            if folder == first:
                break


def is_out_of_memory(error: BaseException) -> bool:
    """The CPU's allocator raises a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "allocate memory" in str(error) or "not enough memory" in str(error)


def objection(way: str, error: Exception) -> str:
    """What a way of computing broke off with, in a line, which is also warned of: a slower, exact way takes its place, but whether this
    model or something else is to blame, an error mostly does not say. Out of memory does: that is raised. So do our own assertions, a part
    that is not there, and attention that transformers has not for this model: those are not warned of."""
    if is_out_of_memory(error):
        raise error
    text = f"{way}: {type(error).__name__}: {error}".rstrip(": ")
    if isinstance(error, AssertionError | AttributeError) or "attention does not support" in text:
        return text
    warnings.warn(f"a slower way is taken, as exact, since a faster one broke off: {' '.join(text.split())[:300]}", stacklevel=3)
    return text
