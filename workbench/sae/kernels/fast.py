"""Which form of the three products a step uses: plain torch, loops compiled for the CPU, Triton kernels on a CUDA device."""

from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from workbench.process import put_back
from workbench.sae.kernels import entries


@cache
def fast(kind: str) -> ModuleType | Any:
    """The module whose dots, add_times and transposed_times are the fastest on a kind of device: "cpu", "cuda", …"""
    if kind == "cpu":
        with put_back():
            from workbench.sae.kernels import cpu  # and with it numba, which takes a second

        return cpu
    if kind == "cuda" and find_spec("triton"):
        from workbench.sae.kernels import cuda  # which cannot be imported without triton

        return cuda
    return entries
