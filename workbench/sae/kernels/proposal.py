"""Which entries of feature_acts may be active: a product in bf16 proposes, so that float32 has to look at few. Where float32 is the
faster type (gemm.py measures), it proposes itself: it changes no bit of the result.

What is proposed contains every entry that float32 would select, so nothing is approximate. Rounding moves each number by at most a share
u of itself, hence

    |rounded(w) · rounded(x) − w · x| ≤ (2u + u²) Σ|w_q x_q| ≤ (2u + u²) ‖w‖ ‖x‖,        u = 2⁻⁸ for bf16

plus what summing in float32 loses. This bound and the bias ride along as four more columns,

    upper = [w, b₁, b₂, b₃, ‖w‖] · [x, 1, 1, 1, bound·‖x‖],        b₁ + b₂ + b₃ = b_enc to 24 bits

so that the product itself is an upper bound of the pre-activation, and to propose is to look at its sign. For the k largest it is to
compare with the k-th largest lower bound, upper − 2 · bound · ‖x‖ ‖w‖.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.model.gemm import product_dtype, product_into
from workbench.sae.architectures import BANDWIDTH
from workbench.sae.dictionary import Dictionary
from workbench.sae.kernels.entries import Entries, Rows, Weights

CHUNK = {"cpu": 2**21, "cuda": 2**28}  # entries of the product at a time; on a CPU they stay in the caches
N_GROUPS = 8  # for each of the k largest: what finding them costs, against how many entries too many are proposed (6 %)
BITS = {torch.bfloat16: torch.int16, torch.float32: torch.int32}  # as integers floats keep their order above 0, and those below stay below


@torch.no_grad()
def propose(sae: Dictionary, x: Rows) -> Entries:
    """Every entry that the architecture may select (for JumpReLU also those in the window around the threshold), and few others."""
    d_sae, n_rows, device = sae.cfg.d_sae, len(x), x.device
    dtype = product_dtype(device.type)
    weights, bias = sae.W_enc.T, sae.b_enc - _floor(sae)
    x_wide = _widened_x(x, dtype)
    largest = _Largest(sae, x_wide)
    size = max(1, min(d_sae, CHUNK.get(device.type, 2**21) // n_rows))
    w_wide = torch.empty(size, x_wide.shape[1], dtype=dtype, device=device)
    upper = torch.empty(size, n_rows, dtype=dtype, device=device)  # (features, batch): the entries come out ordered by feature
    found = []
    for first in range(0, d_sae, size):
        n = min(size, d_sae - first)
        _widen_weights(weights[first : first + n], bias[first : first + n], w_wide[:n])
        product_into(upper[:n], w_wide[:n], x_wide)
        bits = upper[:n].view(BITS[dtype])
        largest.look(bits, w_wide[:n, -1])
        flat = _nonzero(bits, largest.bits)
        features = flat // n_rows
        found.append((flat - features * n_rows, features + first, bits.flatten()[flat] if largest.k else flat))
    rows, features, bits = (torch.cat(parts) for parts in zip(*found, strict=True))
    entries = Entries(rows, features, n_rows, d_sae)
    return entries.at(bits >= largest.bits[rows]) if largest.k else entries  # the last chunk knew better than the first what is too small


def _floor(sae: Dictionary) -> Float[Tensor, "d_sae"] | float:
    """What a pre-activation must exceed to matter."""
    return sae.threshold - BANDWIDTH / 2 if sae.threshold is not None else 0.0


def _widened_x(x: Rows, dtype: torch.dtype) -> Tensor:
    u, d_in = torch.finfo(dtype).eps / 2, x.shape[1]
    bound = 2 * u + u**2 + d_in * 2**-23  # float32's sum: less than its eps for each term, in any order
    return torch.cat([x, torch.ones_like(x[:, :1]).expand(-1, 3), bound * _enlarged(x.norm(dim=1, keepdim=True), dtype)], 1).to(dtype)


def _widen_weights(weights: Weights, bias: Float[Tensor, "d_sae"], out: Tensor) -> None:
    d_in = weights.shape[1]
    out[:, :d_in] = weights
    for column in range(d_in, d_in + 3):  # three times bf16's 8 bits are float32's 24: what each column's rounding left goes to the next
        out[:, column] = bias
        bias = bias - out[:, column]
    out[:, -1] = _enlarged(weights.norm(dim=1), out.dtype)


def _enlarged(positive: Tensor, dtype: torch.dtype) -> Tensor:
    """At least as large also when rounded to dtype."""
    return positive * (1 + torch.finfo(dtype).eps)


class _Largest:
    """A bound that the k largest of each row, or the k · n_rows largest of the batch, all reach: `bits`, one integer per row, which grows
    as chunks are looked at; 0 where the architecture has no k.

    Of all lower bounds seen only the largest of each group of features are compared: any k of them are k entries, and there are far fewer.
    """

    def __init__(self, sae: Dictionary, x_wide: Tensor):
        n_rows, self.dtype, self.margins = len(x_wide), x_wide.dtype, x_wide[:, -1].float()
        self.bits = torch.zeros(n_rows, dtype=BITS[self.dtype], device=x_wide.device)
        self.k = (sae.cfg.k or 0) * (n_rows if sae.cfg.architecture == "batchtopk" else 1)
        self.found = self.margins.new_zeros(1 if sae.cfg.architecture == "batchtopk" else n_rows, self.k)
        self.group = max(1, sae.cfg.d_sae // (N_GROUPS * (sae.cfg.k or 1)))

    def look(self, bits: Int[Tensor, "features batch"], norms: Float[Tensor, "features"]) -> None:
        n = len(bits) // self.group * self.group
        if not self.k or not n:
            return
        upper = bits[:n].view(-1, self.group, bits.shape[1]).amax(1).view(self.dtype).float()
        # the entry of a group's largest upper bound has at most its largest norm: `lower` is at most that entry's own
        norms = norms[:n].view(-1, self.group).amax(1).float()
        lower = upper * (1 - torch.finfo(self.dtype).eps) - 2 * norms[:, None] * self.margins
        self.found = _k_largest(torch.cat([self.found, lower.T.reshape(len(self.found), -1)], 1), self.k)
        self.bits = self.found.amin(1).to(self.dtype).expand(len(self.bits)).contiguous().view(self.bits.dtype)


def _k_largest(values: Float[Tensor, "sets n"], k: int) -> Float[Tensor, "sets k"]:
    if values.device.type == "cpu":  # numpy's partition takes a sixth of the time
        return torch.from_numpy(np.partition(values.numpy(), -k)[:, -k:])
    return values.topk(k, sorted=False).values


def _nonzero(bits: Int[Tensor, "features batch"], least: Int[Tensor, "batch"]) -> Int[Tensor, "n"]:
    """Flat places where bits ≥ least."""
    if bits.device.type == "cpu":  # a sixth of the time
        return torch.from_numpy(np.flatnonzero(bits.numpy() >= least.numpy()))
    return (bits >= least).flatten().nonzero()[:, 0]
