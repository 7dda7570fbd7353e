"""Train an SAE by the paper's recipe, plainly.

    loss = E[ ‖x − x_hat‖² + λ Σ_i feature_acts_i ‖W_dec_i‖ ],    λ = 5, x scaled so that E‖x‖² = d_in

Scaling Monosemanticity, "Sparse autoencoders", and the April 2024 update on training: decoder rows random with norm 0.1, W_enc = W_decᵀ,
biases 0; Adam(0.9, 0.999); learning rate constant, then linear to 0 over the last fifth; λ linear from 0 over the first twentieth; gradient
norm clipped at 1; one epoch; no resampling, no constraint on the decoder.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Protocol, runtime_checkable

import torch
from tqdm.auto import tqdm

from workbench.sae.sae import SAE, SAEConfig
from workbench.shapes import Activations


@runtime_checkable
class Stream(Protocol):
    """What training reads: raw activations in shuffled batches, and where they come from (workbench.activations.ActivationStream)."""

    model_name: str
    hook_name: str
    d_in: int
    scale: float

    def __iter__(self) -> Iterator[Activations]: ...


@dataclass(frozen=True)
class TrainConfig:
    d_sae: int
    n_steps: int = 6000
    lr: float = 1e-3
    l1: float = 5.0  # λ
    l1_warmup: float = 0.05  # share of the steps
    lr_decay: float = 0.20  # share of the steps
    clip: float = 1.0  # gradient norm
    seed: int = 0

    def lr_at(self, step: int) -> float:
        """Learning rate at a step: constant, then linear to 0."""
        return self.lr * min(1.0, (self.n_steps - step) / (self.lr_decay * self.n_steps))

    def l1_at(self, step: int) -> float:
        """λ at a step: linear from 0, then constant."""
        return self.l1 * min(1.0, step / (self.l1_warmup * self.n_steps))


def train(stream: Stream, cfg: TrainConfig, progress: bool = True) -> SAE:
    """A frozen SAE on raw activations: scale and decoder norms folded in. `sae.cfg.metadata` holds the config and, over the last tenth of
    training, fvu, l0 and dead.

    Raises ValueError if the stream ends early or activations are not finite.
    """
    sae = initialize(stream, cfg)
    optimizer = torch.optim.Adam(sae.parameters(), lr=cfg.lr, betas=(0.9, 0.999), fused=True)
    measured = Measures(cfg.d_sae, next(sae.parameters()).device)
    bar = tqdm(
        islice(stream, cfg.n_steps),
        total=cfg.n_steps,
        desc=f"SAE of {cfg.d_sae:,} features",
        unit="step",
        disable=not progress,
        mininterval=2,
    )
    step = -1
    for step, batch in enumerate(bar):
        x = batch * stream.scale
        feature_acts = sae.encode(x)
        x_hat = sae.decode(feature_acts)
        squared_error = (x - x_hat).square().sum(1).mean()
        sparsity = (feature_acts.sum(0) @ sae.W_dec.norm(dim=1)) / len(x)
        loss = squared_error + cfg.l1_at(step) * sparsity
        if not torch.isfinite(loss):
            n_bad = int((~torch.isfinite(batch)).sum())
            raise ValueError(f"step {step}: the loss is {loss.item()}; activations at {stream.hook_name} hold {n_bad} non-finite values")
        optimizer.param_groups[0]["lr"] = cfg.lr_at(step)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(sae.parameters(), cfg.clip)
        optimizer.step()
        if step >= 0.9 * cfg.n_steps:
            measured.add(x, feature_acts.detach(), squared_error.item())
        if step % 50 == 0:
            fvu = squared_error.item() / x.var(0).sum().item()
            bar.set_postfix(
                loss=f"{loss.item():.2f}", l0=f"{(feature_acts > 0).sum(1).float().mean().item():.1f}", fvu=f"{fvu:.3f}", refresh=False
            )
    if step + 1 < cfg.n_steps:
        raise ValueError(f"the stream ended after {step + 1:,} of {cfg.n_steps:,} steps; give it more text or train for fewer steps")
    metadata = {"training": asdict(cfg), **measured.result()}
    sae.cfg = SAEConfig(stream.d_in, cfg.d_sae, stream.hook_name, sae.cfg.model_name, metadata=metadata)
    return sae.fold_scale(stream.scale).fold_decoder_norms().requires_grad_(False).eval()


def initialize(stream: Stream, cfg: TrainConfig) -> SAE:
    """Decoder rows in random directions with norm 0.1, the encoder its transpose, biases 0."""
    sae = SAE(SAEConfig(stream.d_in, cfg.d_sae, stream.hook_name, stream.model_name))
    rng = torch.Generator().manual_seed(cfg.seed)
    rows = torch.randn(cfg.d_sae, stream.d_in, generator=rng)
    with torch.no_grad():
        sae.W_dec.copy_(0.1 * rows / rows.norm(dim=1, keepdim=True))
        sae.W_enc.copy_(sae.W_dec.T)
    return sae


class Measures:
    """Running fvu, l0 and dead features over many batches."""

    def __init__(self, d_sae: int, device: torch.device):
        self.fired = torch.zeros(d_sae, dtype=torch.bool, device=device)
        self.squared_error = self.variance = self.active = 0.0
        self.n_batches = self.n_tokens = 0

    def add(self, x: torch.Tensor, feature_acts: torch.Tensor, squared_error: float) -> None:
        self.fired |= (feature_acts > 0).any(0)
        self.active += (feature_acts > 0).sum().item()
        self.squared_error += squared_error
        self.variance += x.var(0).sum().item()
        self.n_batches += 1
        self.n_tokens += len(x)

    def result(self) -> dict[str, float]:
        if not self.n_batches:
            return {}
        dead = 1 - self.fired.float().mean().item()
        return {
            "fvu": self.squared_error / self.variance,
            "l0": self.active / self.n_tokens,
            "dead": dead,
            "n_tokens_measured": self.n_tokens,
        }
