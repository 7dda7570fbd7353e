"""Activations with known features, after the published description of SynthSAEBench-16k (Chanin and Garriga-Alonso 2026, arXiv 2602.14687;
parameters as SAELens documents them), and its measures. The generator is ours: what the description leaves open is said here.

    x = Σ_i c_i d_i + b             d_i: unit vectors in R^d, pushed apart (100 Adam steps on Σ_{i≠j} (d_i · d_j)² + Σ (‖d_i‖ − 1)²)
    fires_i: F ε + √δ η > Φ⁻¹(1 − p_i)            p Zipfian from 0.4 to 0.0005, exponent ½; F of rank 25, scale 0.1: a Gaussian copula
    c_i = max(0, μ_i + σ_i · normal)              μ from 5 (frequent) to 4 (rare), σ = |normal(½, ½)|
    forest                          128 roots, 4 children each, 3 levels deep, the most frequent features on top; a child fires only with
                                    its parent, one of four at a time, and is scaled by parent's c over its mean; its p given its parent
                                    is p_child / p_parent (at most 1), which is how we compensate for the gate
    b                               a random direction of norm ½

Reduced by a factor r: r times fewer features, roots and latents, dimensions by √r; p as it is, so the number of active features falls, too.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from workbench.sae.dictionary import Dictionary

N_FEATURES, D, N_LATENTS, N_ROOTS, N_CHILDREN, DEPTH = 16_384, 768, 4_096, 128, 4, 3
RANK, CORRELATION = 25, 0.1
N_PUSHES, PUSH = 100, 3e-4


@dataclass
class World:
    """The features of one seed, and batches drawn from them: a stream that `train` reads."""

    reduced: int = 1
    batch: int = 1024
    device: str = "cpu"
    seed: int = 0
    model_name: str = "synthetic"
    hook_name: str = "blocks.0.hook_resid_pre"
    d_in: int = field(init=False)
    scale: float = field(init=False)  # x · scale has E‖x‖² = d_in

    def __post_init__(self):
        self.n, self.d_in = N_FEATURES // self.reduced, 64 * round(D / math.sqrt(self.reduced) / 64)
        self.n_latents, self.n_roots = N_LATENTS // self.reduced, N_ROOTS // self.reduced
        self.draws = torch.Generator(self.device).manual_seed(self.seed)
        self.directions = apart(self._normal(self.n, self.d_in))
        zipf = torch.arange(1, self.n + 1, device=self.device).rsqrt()
        self.p = 5e-4 + (0.4 - 5e-4) * (zipf - zipf[-1]) / (zipf[0] - zipf[-1])
        self.parent = torch.full((self.n,), -1, device=self.device)
        n_in_forest = self.n_roots * sum(N_CHILDREN**level for level in range(DEPTH + 1))
        children = torch.arange(self.n_roots, n_in_forest, device=self.device)
        self.parent[children] = (children - self.n_roots) // N_CHILDREN  # level by level, siblings side by side
        given = torch.where(self.parent >= 0, self.p / self.p[self.parent], self.p).clamp(max=1 - 1e-6)
        self.bar = torch.special.ndtri(1 - given.double()).float()
        factors = CORRELATION * self._normal(self.n, RANK)
        self.factors = factors * (0.99 / factors.square().sum(1)).sqrt().clamp(max=1)[:, None]
        self.own = (1 - self.factors.square().sum(1)).sqrt()
        self.mean = torch.linspace(5, 4, self.n, device=self.device)
        self.spread = (0.5 + 0.5 * self._normal(self.n)).abs()
        bias = self._normal(self.d_in)
        self.bias = 0.5 * bias / bias.norm()
        self.scale = math.sqrt(self.d_in / self.draw(8192)[0].square().sum(1).mean().item())

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.draws, device=self.device)

    def draw(self, n: int) -> tuple[Float[Tensor, "n d_in"], Float[Tensor, "n n_features"]]:
        """(x, c) of n samples."""
        fires = self._normal(n, RANK) @ self.factors.T + self.own * self._normal(n, self.n) > self.bar
        c = torch.where(fires, (self.mean + self.spread * self._normal(n, self.n)).clamp(min=0), 0.0)
        first, size = self.n_roots, self.n_roots * N_CHILDREN
        for _ in range(DEPTH):
            here = slice(first, first + size)
            family = c[:, here].reshape(n, -1, N_CHILDREN)
            luck = torch.rand(family.shape, generator=self.draws, device=self.device) * (family > 0)
            family = family * (luck == luck.amax(-1, keepdim=True))  # one of those that fire; zeros stay zeros
            of = self.parent[here][::N_CHILDREN]
            c[:, here] = (family * (c[:, of] / self.mean[of])[:, :, None]).reshape(n, -1)
            first, size = first + size, size * N_CHILDREN
        return c @ self.directions + self.bias, c

    def __iter__(self) -> Iterator[Tensor]:
        while True:
            yield self.draw(self.batch)[0]


@torch.enable_grad()
def apart(rows: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_in"]:
    """Unit vectors, pushed apart."""
    rows = (rows / rows.norm(dim=1, keepdim=True)).requires_grad_()
    adam = torch.optim.Adam([rows], lr=PUSH)
    for _ in range(N_PUSHES):
        products = rows @ rows.T
        loss = products.square().sum() - products.diagonal().square().sum() + (rows.norm(dim=1) - 1).square().sum()
        (rows.grad,) = torch.autograd.grad(loss, rows)
        adam.step()
    return (rows / rows.norm(dim=1, keepdim=True)).detach()


@dataclass(frozen=True)
class Score:
    """How well the latents are the features."""

    f1: float  # of each latent as a classifier for the feature nearest to its decoder row, mean over latents; 0 for a dead one
    mcc: float  # mean |cosine| of latents and features in the best one-to-one matching
    unique: float  # different nearest features over latents
    explained: float  # of the variance of x
    l0: float
    dead: float  # share of the latents


@torch.no_grad()
def score(world: World, sae: Dictionary, n: int = 20_000) -> Score:
    """On n fresh samples."""
    rows = sae.W_dec / sae.W_dec.norm(dim=1, keepdim=True).clamp(min=1e-12)
    cosine = (rows.to(world.directions) @ world.directions.T).abs().cpu()
    nearest = cosine.argmax(1).to(world.device)
    hits = fired = there = torch.zeros(len(rows), device=world.device)
    error = total = l0 = 0.0
    mean = None
    for _ in range(-(-n // world.batch)):
        x, c = world.draw(world.batch)
        acts = sae.encode(x)
        mean = x.mean(0) if mean is None else mean
        is_on, is_true = acts > 0, c[:, nearest] > 0
        hits, fired, there = hits + (is_on & is_true).sum(0), fired + is_on.sum(0), there + is_true.sum(0)
        error += float((x - sae.decode(acts)).square().sum())
        total += float((x - mean).square().sum())
        l0 += float(is_on.sum()) / world.batch
    f1 = torch.where(fired + there > 0, 2 * hits / (fired + there), 0.0)
    matched = cosine.numpy()[linear_sum_assignment(-cosine.numpy())]
    n_batches = -(-n // world.batch)
    return Score(
        float(f1.mean()),
        float(np.mean(matched)),
        len(nearest.unique()) / len(rows),
        1 - error / total,
        l0 / n_batches,
        float((fired == 0).float().mean()),
    )
