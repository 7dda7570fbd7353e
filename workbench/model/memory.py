"""How much memory can still be had, on the machine or on a GPU: what batches, plans and refusals are made from. And was it an error of
memory, or is something not to this model's liking?"""

import re
import warnings
from pathlib import Path

import torch


def free_memory(device: torch.device) -> int | None:
    """Bytes that can still be had on the device; None where the system does not say. Of a GPU: what torch keeps for later counts as free,
    else every batch would find less than the one before."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    meminfo = Path("/proc/meminfo")
    found = re.search(r"MemAvailable:\s+(\d+) kB", meminfo.read_text()) if meminfo.exists() else None
    return 1024 * int(found[1]) if found else None


def is_out_of_memory(error: BaseException) -> bool:
    """The CPU's allocator raises a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def objection(way: str, error: Exception) -> str:
    """What a way of computing broke off with, in a line, which is also warned of: a slower, exact way takes its place, but whether this
    model or something else is to blame, an error does not say. Out of memory says it: that is raised."""
    if is_out_of_memory(error):
        raise error
    text = f"{way}: {type(error).__name__}: {error}".rstrip(": ")
    warnings.warn(f"a slower way is taken, as exact, since a faster one broke off: {' '.join(text.split())[:300]}", stacklevel=3)
    return text
