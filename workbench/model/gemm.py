"""Matrix products at the machine's rate.

On a CPU torch hands fp32 products to MKL, which on AMD machines with AVX-512 reaches half of what oneDNN, also inside torch, does: 91
against 190 GFLOP/s on one Zen-5 core, at every size that matters here; bf16 products with GPT-2's layout of weights gain 10 %. Inside
`with machine_rate():` the linear layers of any model go to oneDNN. Elsewhere (GPUs, other dtypes, weights that want gradients, builds
without oneDNN, CPUs with AVX2 only, Intel's) nothing changes. Sums are rounded in another order, no more.

Which type a kind of device multiplies fastest is measured once, never guessed: a CPU without bf16 hardware emulates it, at a sixth of
float32's rate on Zen 3 (one training step under autocast: 136 s instead of 2.8), and torch says of such CPUs that they support it.
"""

import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

SMALLEST = 2_000_000  # multiply-adds: smaller products take less time than oneDNN's 15 µs of preparation
FEWEST_ROWS = 8  # of x: with fewer the product only waits for the weights

MATMULS = (torch.matmul, Tensor.matmul, Tensor.__matmul__)


def machine_rate() -> AbstractContextManager:
    """Inside `with machine_rate():` products of frozen weights, large enough to gain by it, are the faster library's. Same shapes, dtypes
    and gradients to x; only the order of sums differs."""
    return _OneDNN() if onednn_is_faster() else nullcontext()  # the mode costs 15 µs at every call of torch


def onednn_is_faster() -> bool:
    """Both libraries use AVX2 on any CPU that has no more: there MKL is 1.1 to 1.5 times as fast (Zen 3; 80 against 50 to 65 GFLOP/s). On
    Intel's own, MKL uses AVX-512, too: 1 to 1.2 times as fast, and 2.2 times where weights lie as GPT-2's (768 → 3,072; one core of a
    Xeon with AMX: 120 to 140 against 50 to 60 GFLOP/s)."""
    return torch.backends.cpu.get_cpu_capability() != "AVX2" and not (is_intel() and torch.backends.mkl.is_available())


@cache
def is_intel() -> bool:
    """Is the processor Intel's? Linux says so in a file, Windows and macOS to platform."""
    cpuinfo = Path("/proc/cpuinfo")
    told = cpuinfo.read_text(errors="replace") if cpuinfo.exists() else platform.processor()
    return "GenuineIntel" in told


class _OneDNN(TorchFunctionMode):
    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        operands = None
        if func is F.linear:
            operands = _linear_operands(*args, **(kwargs or {}))
        elif func is torch.addmm and not kwargs:  # transformers' Conv1D: bias + x @ weight
            operands = args[1], args[2].T, args[0]
        elif func in MATMULS and args[1].ndim == 2 and args[0].ndim >= 2:  # x @ weight, as an SAE encodes
            operands = args[0], args[1].T, None
        if operands is None or not _is_for_onednn(*operands):
            return func(*args, **(kwargs or {}))
        return _Product.apply(*operands) if operands[0].requires_grad and torch.is_grad_enabled() else _product(*operands)


def _linear_operands(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor | None]:
    return input, weight, bias


def _is_for_onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    given = [x, weight] if bias is None else [x, weight, bias]
    if any(t.device.type != "cpu" for t in given):
        return False
    is_known = x.dtype == torch.float32 or (x.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())
    is_plain = is_known and all(t.dtype == x.dtype and t.layout == torch.strided for t in given)
    is_frozen = weight.ndim == 2 and not weight.requires_grad and (bias is None or (bias.ndim == 1 and not bias.requires_grad))
    is_large = x.numel() >= FEWEST_ROWS * x.shape[-1] and x.numel() * weight.shape[0] >= SMALLEST
    is_dense = weight.is_contiguous() or weight.T.is_contiguous()  # gaps between rows send oneDNN into a loop, 1000 × slower
    return is_plain and is_frozen and is_large and is_dense and torch.backends.mkldnn.is_available()


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x @ weight.T + bias."""
    return torch.ops.mkldnn._linear_pointwise(x.contiguous(), weight, bias, "none", [], "")


class _Product(torch.autograd.Function):
    """The same with a gradient to x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return _product(grads[0], ctx.saved_tensors[0].T, None), None, None


SETTING = "WORKBENCH_PRODUCTS"  # an environment variable: float32 or bfloat16 instead of the measurement, as tests ask for
PRODUCT_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
MEASURED_SIZE = {"cuda": 4096}  # of square matrices; a GPU's smaller products only wait for their launch
N_MEASURED = 4  # products of which the fastest counts


def product_dtype(kind: str) -> torch.dtype:
    """bfloat16 where this kind of device multiplies it faster than float32, else float32. Raises ValueError for another setting."""
    forced = os.environ.get(SETTING)
    if forced and forced not in PRODUCT_DTYPES:
        raise ValueError(f"{SETTING}={forced} is no type of product: expected {' or '.join(PRODUCT_DTYPES)}, or none, to measure")
    return PRODUCT_DTYPES[forced] if forced else min(_seconds(kind), key=_seconds(kind).__getitem__)


def product_sentence(kind: str) -> str:
    """What `product_dtype` chose and why, for a plan."""
    chosen = str(product_dtype(kind)).removeprefix("torch.")
    if os.environ.get(SETTING):
        return f"products in {chosen}, as {SETTING} asks"
    fast, slow = sorted(_seconds(kind).values())
    return f"products in {chosen}, {slow / fast:.1f} times as fast on this {kind} as the other of {' and '.join(PRODUCT_DTYPES)}"


def product_into(out: Tensor, weights: Tensor, x: Tensor) -> None:
    """out = weights @ xᵀ, at the machine's rate."""
    if x.device.type == "cpu" and x.dtype == torch.float32:
        with machine_rate():
            out.copy_(F.linear(weights, x))
        return
    with _sums_in_float32():
        torch.mm(weights, x.T, out=out)  # the same memory for each chunk: fresh memory costs a fifth of the product's time


@contextmanager
def _sums_in_float32() -> Iterator[None]:
    """On a GPU torch lets parts of a sum in bf16 be added in bf16, unless told otherwise: the bound of a proposal would not hold."""
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_bf16_reduced_precision_reduction
    matmul.allow_bf16_reduced_precision_reduction = False
    try:
        yield
    finally:
        matmul.allow_bf16_reduced_precision_reduction = before


@cache
@torch.no_grad()
def _seconds(kind: str) -> dict[torch.dtype, float]:
    seconds, size = {}, MEASURED_SIZE.get(kind, 512)
    for dtype in PRODUCT_DTYPES.values():
        x, out = torch.ones(size, size, dtype=dtype, device=kind), torch.empty(size, size, dtype=dtype, device=kind)
        for _ in range(N_MEASURED):
            start = time.perf_counter()
            product_into(out, x, x)
            float(out[0, 0])  # waits for the device
            seconds[dtype] = min(seconds.get(dtype, float("inf")), time.perf_counter() - start)
    return seconds
