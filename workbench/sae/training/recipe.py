"""The paper's recipe in numbers: what a training run is asked to do, and where it starts.

    loss = E[ ‖x − x_hat‖² + λ Σ_i feature_acts_i ‖W_dec_i‖ ],    λ = 5, x scaled so that E‖x‖² = d_in; of a transcoder ‖y − y_hat‖²

Scaling Monosemanticity, "Sparse autoencoders", and the April 2024 update on training: decoder rows random with norm 0.1, W_enc = W_decᵀ,
biases 0; Adam(0.9, 0.999); learning rate constant, then linear to 0 over the last fifth; λ linear from 0 over the first twentieth; gradient
norm clipped at 1; one epoch; no resampling, no constraint on the decoder. With `merge_copies` (not the paper's) features that are copies
of others become one several times on the way, and what that frees starts anew (copies.py).

A transcoder reads one place and writes another, so its encoder starts in random directions of its own, as long as the decoder's; its skip
starts at 0 ("Transcoders beat sparse autoencoders").

Where the other architectures differ: TopK and BatchTopK keep decoder rows at norm 1 ("Scaling and evaluating sparse autoencoders",
appendix A.2), else a feature's norm would decide whether it is selected; JumpReLU's thresholds start at 0.1.
"""

from dataclasses import dataclass
from math import inf, isfinite
from numbers import Real

import torch
from torch import Tensor

from workbench.given import counted, whole
from workbench.sae.config import SAEConfig
from workbench.sae.cross_layer import CrossLayerTranscoder
from workbench.sae.dictionary import Dictionary
from workbench.sae.transcoder import Transcoder

DECODER_NORM = 0.1
NAMES = {"d_sae": "feature", "n_steps": "step", "k": "active feature"}  # what is counted
THRESHOLD = 0.1
MERGES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)  # shares of the steps after which copies are merged; and after the last, where nothing starts anew
ROWS_AT_ONCE = 4096  # random rows drawn together
OTHER = 2**32  # added to the seed of a transcoder's encoder: other directions than any decoder's
AGAIN = 2**40  # added to the seed of features that start a second time
NEXT_LAYER = 2**33  # added to both for each layer of a cross-layer transcoder


@dataclass(frozen=True)
class TrainConfig:
    """How an SAE or a transcoder is trained. Raises ValueError where options do not fit together."""

    d_sae: int
    n_steps: int = 6000
    lr: float = 1e-3
    l1: float = 5.0  # λ; jumprelu: the price of an active feature; topk and batchtopk: without effect
    l1_warmup: float = 0.05  # share of the steps
    lr_decay: float = 0.20  # share of the steps
    clip: float = 1.0  # gradient norm
    seed: int = 0
    architecture: str = "standard"  # ReLU + L1; or "topk", "batchtopk", "jumprelu"
    k: int | None = None  # topk, batchtopk: active features per token
    hook_name: str = ""  # which of the stream's hook points is read, where it has several
    precision: str = "float32"  # or "bfloat16", where the device multiplies it faster: the plain step under autocast; weights stay float32
    is_plain: bool = False  # dense autograd in every step, also where the sparse step would be faster
    has_skip: bool = False  # a transcoder's: y_hat includes x @ W_skip
    merge_copies: bool = False  # standard: features that are copies of others become one, and what is freed starts anew
    widths: tuple[int, ...] = ()  # batchtopk: the first so many features shall also do by themselves (Matryoshka); growing, below d_sae

    def __post_init__(self):
        for name in ("d_sae", "n_steps", *(["k"] if self.k is not None else [])):  # NumPy's of a sweep become Python's, which JSON takes
            object.__setattr__(self, name, counted(getattr(self, name), name, NAMES[name]))
        if (seed := whole(self.seed)) is None:
            raise ValueError(f"seed={self.seed!r}: expected a whole number")
        object.__setattr__(self, "seed", seed)
        for name in ("lr", "clip", "l1", "l1_warmup", "lr_decay"):
            if isinstance(getattr(self, name), bool) or not isinstance(getattr(self, name), Real):
                raise ValueError(f"{name}={getattr(self, name)!r}: expected a number")
            object.__setattr__(self, name, float(getattr(self, name)))
        SAEConfig(1, self.d_sae, self.hook_name, architecture=self.architecture, k=self.k)  # raises if these do not fit together
        for name in ("lr", "clip"):
            if not (getattr(self, name) > 0 and isfinite(getattr(self, name))):
                raise ValueError(f"{name} is {getattr(self, name)}, expected a positive number")
        for name, most in (("l1", inf), ("l1_warmup", 1.0), ("lr_decay", 1.0)):
            if not (0 <= getattr(self, name) <= most and isfinite(getattr(self, name))):
                raise ValueError(f"{name} is {getattr(self, name)}, expected a number from 0 {'on' if most == inf else 'to 1'}")
        object.__setattr__(self, "widths", tuple(counted(n, "widths", "feature") for n in self.widths))
        if self.widths and self.architecture != "batchtopk":
            raise ValueError(f"widths={self.widths} are of nested batchtopk dictionaries, this one is {self.architecture}")
        if list(self.widths) != sorted({*self.widths}) or any(not 0 < n < self.d_sae for n in self.widths):
            raise ValueError(f"widths is {self.widths}; expected growing numbers above 0 and below d_sae, {self.d_sae}")
        if self.merge_copies and self.architecture != "standard":
            raise ValueError(f"merge_copies is for architecture 'standard', whose price of a copy is 0; this one is {self.architecture}")
        if self.precision not in ("float32", "bfloat16"):
            raise ValueError(f"precision {self.precision!r} is unknown; there is float32, bfloat16")

    def lr_at(self, step: int) -> float:
        """Learning rate at a step: constant, then linear to 0."""
        return self.lr * min(1.0, (self.n_steps - step) / (self.lr_decay * self.n_steps)) if self.lr_decay else self.lr

    def merges_at(self, step: int) -> bool:
        """Are copies merged after so many steps?"""
        return self.merge_copies and step in {self.n_steps, *(round(share * self.n_steps) for share in MERGES)}

    def l1_at(self, step: int) -> float:
        """λ at a step: linear from 0, then constant."""
        return self.l1 * min(1.0, step / (self.l1_warmup * self.n_steps)) if self.l1_warmup else self.l1


@torch.no_grad()
def initialize(sae: Dictionary, seed: int, first: int = 0) -> Dictionary:
    """Decoder rows in random directions, the encoder their transpose (a transcoder's: others), biases 0.

    first: the number of the SAE's first feature, where it is a shard of a larger SAE: every feature starts as it would in the whole.
    """
    norm = 1.0 if sae.cfg.k else DECODER_NORM
    _fill(sae.W_dec, norm, seed, first)
    if isinstance(sae, Transcoder):
        _fill(sae.W_enc.T, norm, seed + OTHER, first)
    else:
        sae.W_enc.copy_(sae.W_dec.T)
    if sae.threshold is not None:
        sae.threshold.fill_(THRESHOLD)
    return sae


@torch.no_grad()
def initialize_cross_layer(clt: CrossLayerTranscoder, seed: int) -> CrossLayerTranscoder:
    """As `initialize` does a transcoder, layer by layer; a decoder row is all that a feature writes."""
    norm = 1.0 if clt.cfg.k else DECODER_NORM
    for layer in range(clt.cfg.n_layers):
        _fill(clt.W_dec[layer].view(clt.cfg.d_sae, -1), norm, seed + layer * NEXT_LAYER, 0)
        _fill(clt.W_enc[layer].T, norm, seed + layer * NEXT_LAYER + OTHER, 0)
    if clt.threshold is not None:
        clt.threshold.fill_(THRESHOLD)
    return clt


def random_rows(like: Tensor, seed: int) -> Tensor:
    """As many rows of norm 1 in random directions, of another seed than training starts with."""
    rows = torch.empty_like(like)
    _fill(rows, 1.0, seed + AGAIN, 0)
    return rows


def _fill(weights: Tensor, norm: float, seed: int, first: int) -> None:
    """Rows in random directions, those of the features from `first` on."""
    rng, end = torch.Generator().manual_seed(seed), first + len(weights)
    for start in range(0, end, ROWS_AT_ONCE):  # whole pieces, also where only a part is used: a row's numbers depend on nothing else
        rows = torch.randn(ROWS_AT_ONCE, weights.shape[1], generator=rng)[max(0, first - start) : end - start]
        begin = max(0, start - first)
        weights[begin : begin + len(rows)] = (norm * rows / rows.norm(dim=1, keepdim=True)).to(weights.device)
