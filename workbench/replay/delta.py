"""The delta form: a block's products of what an ablation changed only, in 16 bits, beside the clean run's products in float32.

    x @ W + b  =  (clean @ W + b)  +  (x − clean) @ W          the first known from the clean run, the second in bfloat16

All that is no product with a weight (norms, attention, activation functions, sums) stays in float32, on x itself. A bfloat16 product errs
by about 2⁻⁹ of what it is given; here that is the change, so that effects err by less than a hundredth, where a forward pass in bfloat16
errs by ten times the effects. The formula holds for any `clean`: a product that meets the wrong one is rounded worse, not wrong. How
large the error is on the prompt at hand is measured by whoever asks for this form (circuits/ranking/ablation.py).

Operations are caught as they are called, whatever the architecture. Products that are called otherwise than in the clean run (experts that
get some tokens only), or with one weight twice in a block, stay as they are.
"""

import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.overrides import TorchFunctionMode

from workbench.model.gemm import MATMULS, product_dtype, product_sentence
from workbench.model.memory import free_memory

FORMAT = torch.bfloat16
KEPT_BYTES = 2 * 2**30  # of weights in that format and of the clean run's products; and at most a quarter of the memory that is free
PART_FLOATS = 2**17  # of activations that are changed at once: what one step leaves in the cache the next one finds there
PACKED_ROWS = 1024  # for which oneDNN lays out a weight; other numbers of rows take the same layout


def nothing_to_win(device: torch.device) -> str:
    """Why products in FORMAT are no faster on this device; "" where they are."""
    return "" if product_dtype(device.type) == FORMAT else f"the delta form has nothing to win here: {product_sentence(device.type)}"


@dataclass(frozen=True)
class Operands:
    """x @ weight + bias, however it was called."""

    x: Float[Tensor, "... d_from"]
    weight: Float[Tensor, "d_from d_to"]
    bias: Float[Tensor, "d_to"] | None = None

    @property
    def key(self) -> tuple:
        """The weight's; a view of it is another object at each call."""
        return self.weight.data_ptr(), self.weight.shape, self.weight.stride()


class Noted:
    """A product of the clean run, and x @ weight for others."""

    def __init__(self, it: Operands, product: Tensor):
        base = it.weight._base
        self._owner = weakref.ref(it.weight if base is None else base)  # a float32 twin of a pass (precision.py) is not held on to
        self.clean, self.product = (each.reshape(-1, each.shape[-1]).clone() for each in (it.x, product))
        short = it.weight.T.to(FORMAT).contiguous()
        self._is_packed = (
            short.device.type == "cpu" and torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        )
        # laid out once, as oneDNN wants it: twice as fast as laying it out at each call (AMX)
        self._short = torch.ops.mkldnn._reorder_linear_weight(short, PACKED_ROWS) if self._is_packed else short

    @property
    def is_there(self) -> bool:
        """Is its weight? Where that is gone, another may have taken its place in memory, and so its key."""
        return self._owner() is not None

    def changed(self, x: Float[Tensor, "n_rows n d_from"], start: int) -> Float[Tensor, "n_rows n d_to"]:
        """What it is for x, at positions from `start` on."""
        at, (n_rows, n, _) = slice(start, start + x.shape[1]), x.shape
        change = x.new_empty(x.shape, dtype=FORMAT)
        for part in _parts(x):
            change[part] = x[part] - self.clean[at]
        product = self._times(change.view(n_rows * n, -1)).view(n_rows, n, -1)
        found = product.new_empty(product.shape, dtype=x.dtype)
        for part in _parts(product):
            found[part].copy_(product[part]).add_(self.product[at])
        return found

    def _times(self, change: Tensor) -> Tensor:
        if self._is_packed:
            return torch.ops.mkldnn._linear_pointwise(change, self._short, None, "none", [], "")
        return F.linear(change, self._short)


def _parts(x: Float[Tensor, "n_rows n d"]) -> Iterator[slice]:
    size = max(1, PART_FLOATS * torch.get_num_threads() // x[0].numel()) if x.device.type == "cpu" else len(x)
    for begin in range(0, len(x), size):
        yield slice(begin, begin + size)


class Deltas:
    """The products of one prompt's clean run. Within `noting(k)` block k's are kept, within `taking(k, …)` they are used."""

    def __init__(self, device: torch.device) -> None:
        self._noted: dict[tuple, Noted | None] = {}
        self._free_bytes = min(KEPT_BYTES, (free_memory(device) or 4 * KEPT_BYTES) // 4)
        self._n_short = self._n_exact = 0  # multiply-adds in FORMAT; as they were

    @property
    def share(self) -> float:
        """Of all multiply-adds with weights so far, those in FORMAT."""
        return self._n_short / max(1, self._n_short + self._n_exact)

    def noting(self, k: int) -> TorchFunctionMode:
        """Block k of the clean run: one row, all positions."""
        return _Products(partial(self._note, k))

    def taking(self, k: int, n_rows: int, start: int, n: int) -> TorchFunctionMode:
        """Block k of n_rows rows, at n positions from `start` on."""
        return _Products(partial(self._take, k, n_rows, start, n))

    def _note(self, k: int, call: Callable[[], Tensor], it: Operands) -> Tensor:
        product, key = call(), (k, *it.key)
        n_bytes = it.weight.numel() * FORMAT.itemsize + it.x.nbytes + product.nbytes
        if key in self._noted or n_bytes > self._free_bytes:
            self._noted[key] = None  # twice in a block: which call would be meant?
        else:
            self._noted[key] = Noted(it, product)
            self._free_bytes -= n_bytes
        return product

    def _take(self, k: int, n_rows: int, start: int, n: int, call: Callable[[], Tensor], it: Operands) -> Tensor:
        noted = self._noted.get((k, *it.key))
        n_products, n_operations = it.x.numel() // it.x.shape[-1], it.x.numel() * it.weight.shape[1]
        if noted is None or not noted.is_there or n_products != n_rows * n or len(noted.clean) < start + n:
            self._n_exact += n_operations
            return call()
        self._n_short += n_operations
        return noted.changed(it.x.reshape(n_rows, n, -1), start).view(*it.x.shape[:-1], -1)


class _Products(TorchFunctionMode):
    """Hands products of float32 activations with a frozen weight to `take`, with the call as it was."""

    def __init__(self, take: Callable[[Callable[[], Tensor], Operands], Tensor]):
        super().__init__()
        self._take = take

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        call, it = partial(func, *args, **(kwargs or {})), None
        if func is F.linear:
            it = _linear(*args, **(kwargs or {}))
        elif func is torch.addmm and not kwargs:  # transformers' Conv1D: bias + x @ weight
            it = Operands(args[1], args[2], args[0])
        elif func in MATMULS and not kwargs and args[1].ndim == 2:
            it = Operands(args[0], args[1])
        return call() if it is None or not _is_known(it) else self._take(call, it)


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Operands:
    return Operands(input, weight.T, bias)


def _is_known(it: Operands) -> bool:
    is_frozen = it.weight.ndim == 2 and it.weight.dtype == torch.float32 and not it.weight.requires_grad
    return is_frozen and it.x.ndim >= 2 and it.x.dtype == torch.float32 and (it.bias is None or it.bias.ndim == 1)
