"""The three products of entries.py as Triton kernels, for float32 on a CUDA device.

One program for each feature (to decode, for each row of the batch) keeps a whole row of d_in numbers in registers and walks over its
entries, as the loops of cpu.py do. No atomics: each sum has one owner and one order, so runs repeat to the bit.
"""

from typing import Any, no_type_check

import torch
import triton  # type: ignore[reportMissingImports]  (the extra [gpu])
import triton.language as tl  # type: ignore[reportMissingImports]
from torch import Tensor

from workbench.sae.kernels.entries import Entries, Rows, Values, Weights


def dots(entries: Entries, a: Rows, b: Weights) -> Values:
    """out[n] = a[row_n] · b[feature_n]; one program a feature."""
    out = a.new_empty(len(entries.rows))
    _run(_dots, entries.n_features, entries.starts, entries.rows, a, b, out)
    return out


def add_times(entries: Entries, values: Values, weights: Weights, out: Rows) -> None:
    """out += M @ weights, in place; one program a row, hence a stable sort of the entries by row first."""
    order = entries.rows.argsort(stable=True)
    counts = torch.bincount(entries.rows, minlength=entries.n_rows)
    starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    _run(_add_times, entries.n_rows, starts, entries.features[order], values[order], weights, out)


def transposed_times(entries: Entries, values: Values, a: Rows, scales: Tensor, weights: Weights, out: Weights) -> None:
    """out = Mᵀ @ a + scales · weights, in place; one program a feature."""
    _run(_transposed_times, entries.n_features, entries.starts, entries.rows, values, a, scales, weights, out)


def _run(kernel: Any, n_programs: int, *operands: Tensor) -> None:
    d_in, operands = operands[-2].shape[1], tuple(operand.detach() for operand in operands)
    assert all(operand.is_contiguous() for operand in operands)
    width = triton.next_power_of_2(d_in)
    kernel[(n_programs,)](*operands, d_in, WIDTH=width, num_warps=min(16, max(1, width // 256)))


@triton.jit
@no_type_check
def _dots(starts, rows, a, b, out, d_in, WIDTH: tl.constexpr):
    i = tl.program_id(0).to(tl.int64)
    q = tl.arange(0, WIDTH)
    weights = tl.load(b + i * d_in + q, q < d_in, 0.0)
    for n in range(tl.load(starts + i), tl.load(starts + i + 1)):
        row = tl.load(a + tl.load(rows + n) * d_in + q, q < d_in, 0.0)
        tl.store(out + n, tl.sum(row * weights))


@triton.jit
@no_type_check
def _add_times(starts, features, values, weights, out, d_in, WIDTH: tl.constexpr):
    i = tl.program_id(0).to(tl.int64)
    q = tl.arange(0, WIDTH)
    sums = tl.load(out + i * d_in + q, q < d_in, 0.0)
    for n in range(tl.load(starts + i), tl.load(starts + i + 1)):
        sums += tl.load(values + n) * tl.load(weights + tl.load(features + n) * d_in + q, q < d_in, 0.0)
    tl.store(out + i * d_in + q, sums, q < d_in)


@triton.jit
@no_type_check
def _transposed_times(starts, rows, values, a, scales, weights, out, d_in, WIDTH: tl.constexpr):  # noqa: PLR0913 (kernels take no objects)
    i = tl.program_id(0).to(tl.int64)
    q = tl.arange(0, WIDTH)
    sums = tl.load(scales + i) * tl.load(weights + i * d_in + q, q < d_in, 0.0)
    for n in range(tl.load(starts + i), tl.load(starts + i + 1)):
        sums += tl.load(values + n) * tl.load(a + tl.load(rows + n) * d_in + q, q < d_in, 0.0)
    tl.store(out + i * d_in + q, sums, q < d_in)
