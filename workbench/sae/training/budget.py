"""What training an SAE or a transcoder costs, in bytes and in FLOPs, before it starts.

    weights      (d_in + d_out) · d_sae · 4 bytes, for an SAE d_out = d_in (the biases are small beside them); the same again for gradients,
                 twice for Adam's means
    batch        pre_acts, feature_acts and the gradients of both: 4 · batch · d_sae · 4 bytes, in the dense step
    FLOPs        6 · batch · (d_in + d_out) · d_sae a step: three products forward and backward for each of encoder and decoder
                 ("dense-equivalent": the gradient to x, which nobody needs, is counted as everybody counts it)

Pure arithmetic; only `product_rate` looks at the machine.
"""

import time
from dataclasses import dataclass

import torch

from workbench.model.memory import Need, size_of

BYTES = 4  # of a float32


@dataclass(frozen=True)
class Budget:
    """Bytes held at the same time, FLOPs of the whole run."""

    weights: int
    gradients: int
    optimizer: int
    batch: int
    flops: float

    @property
    def kept(self) -> int:
        """Without what a batch needs, which sparse steps do without."""
        return self.weights + self.gradients + self.optimizer

    @property
    def memory(self) -> int:
        """Bytes at the peak."""
        return self.kept + self.batch

    @property
    def need(self) -> Need:
        """What is kept, as memory is asked for it; of a batch sparse steps need little."""
        parts = {"weights": self.weights, "gradients": self.gradients, "Adam": self.optimizer}
        return Need("training", parts, "fewer features, or more processes by torchrun (sharded.py)")

    def seconds(self, flops_per_second: float) -> float:
        """At this rate of floating-point operations."""
        return self.flops / flops_per_second

    def __add__(self, other: "Budget") -> "Budget":
        """Of two SAEs trained together."""
        return Budget(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))

    def __str__(self) -> str:
        parts = {"weights": self.weights, "gradients": self.gradients, "Adam": self.optimizer, "batch": self.batch}
        said = ", ".join(f"{name} {size_of(n)}" for name, n in parts.items())
        return f"{size_of(self.memory)} of memory ({said}), {self.flops:.2g} FLOPs"


def budget(d_in: int, d_sae: int, n_steps: int, batch: int, n_ranks: int = 1, *, d_out: int | None = None) -> Budget:
    """Of one SAE, or with d_out of a transcoder; with n_ranks, of each process that holds its share of the features."""
    n_features, d_out = -(-d_sae // n_ranks), d_in if d_out is None else d_out
    weights = BYTES * ((d_in + d_out) * n_features + n_features + d_out)
    activations = BYTES * batch * (4 * n_features + 3 * d_in)
    return Budget(weights, weights, 2 * weights, activations, 6.0 * (d_in + d_out) * n_features * batch * n_steps)


def product_rate(d_in: int, d_sae: int, batch: int, device: torch.device) -> float:
    """FLOPs per second of one product x @ W_enc as training makes it, cut to a few milliseconds; the fastest of three."""
    x, weights = torch.ones(min(batch, 512), d_in, device=device), torch.ones(d_in, min(d_sae, 4096), device=device)
    fastest = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        (x @ weights).sum().item()
        fastest = min(fastest, time.perf_counter() - start)
    return 2.0 * len(x) * weights.numel() / fastest
