"""One SAE or transcoder in training: a batch goes in, then gradients, clipping, Adam, counts; at the end one on raw activations comes out.

Everything that decides how training goes on is in `state()`: weights, Adam's two means, the counts. A checkpoint needs nothing else.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from workbench.sae.config import CrossLayerConfig, SAEConfig, TranscoderConfig
from workbench.sae.cross_layer import CrossLayerTranscoder
from workbench.sae.dictionary import WIDTHS
from workbench.sae.kernels.objective import Step
from workbench.sae.sae import SAE
from workbench.sae.training.copies import find_copies, merge
from workbench.sae.training.engine import Engine, across_layers, one_process
from workbench.sae.training.recipe import DECODER_NORM, OTHER, TrainConfig, initialize, initialize_cross_layer, random_rows
from workbench.sae.training.source import CrossLayerSource, Source, TrainingError, describe
from workbench.sae.transcoder import Transcoder

DEAD_TOKENS = 10_000_000  # dead: fired on none of so many tokens; in a run of fewer than ten times as many, on none of a tenth of them
MEASURED = 0.1  # share of the steps, the last ones, over which the SAE's own figures are taken
N_THRESHOLDS = 20  # batches over which a BatchTopK SAE's threshold is averaged, the last ones
SUMS = ("loss", "squared_error", "variance", "n_active", "n_tokens", "n_batches", "threshold")  # over these
ADAM_MEANS = ("exp_avg", "exp_avg_sq")
REPLICATED = ("b_dec", "W_skip")  # every shard of the features has the whole of these
THRESHOLD_PACE = 10  # times lr: thresholds are about √d_in times larger than weights, and Adam moves both by lr a step (docs/log.md)
Metrics = dict[str, int | float]


def new_sae(source: Source | CrossLayerSource, cfg: TrainConfig, device: torch.device, first: int = 0) -> Any:
    """An SAE, or a transcoder, as training starts with it, from the recipe's seed: the same on every device. first: as for `initialize`."""
    how: Any = dict(architecture=cfg.architecture, k=cfg.k, metadata=_nested(cfg))
    if isinstance(source, CrossLayerSource):
        of_all = source.n_layers, source.d_in, source.d_out, cfg.d_sae, source.hook_name, source.predict, source.model_name
        return initialize_cross_layer(CrossLayerTranscoder(CrossLayerConfig(*of_all, has_skip=cfg.has_skip, **how)), cfg.seed).to(device)
    if source.predict is None:
        return initialize(SAE(SAEConfig(source.d_in, cfg.d_sae, source.hook_name, source.model_name, **how)), cfg.seed, first).to(device)
    assert source.d_out is not None
    places = source.hook_name, source.predict, source.model_name
    of_two = TranscoderConfig(source.d_in, source.d_out, cfg.d_sae, *places, has_skip=cfg.has_skip, **how)
    return initialize(Transcoder(of_two), cfg.seed, first).to(device)


def in_memory_order(value: Tensor, weight: Tensor) -> Tensor:
    """What belongs to a weight, turned as the weight lies in memory, or back: fused Adam takes six times as long over a transposed view,
    which W_enc is."""
    return value if weight.is_contiguous() else value.T


def _nested(cfg: TrainConfig) -> dict[str, list[int]]:
    return {WIDTHS: [*cfg.widths, cfg.d_sae]} if cfg.widths else {}


class Learner:
    """An SAE or a transcoder, its optimizer and its counts. `sae` holds all of cfg.d_sae features or, with an engine for it, a shard
    of them."""

    def __init__(self, source: Source | CrossLayerSource, cfg: TrainConfig, sae: Any, engine: Engine | None = None):
        self.source, self.cfg, self.sae = source, cfg, sae
        self.engine = engine or (across_layers() if isinstance(source, CrossLayerSource) else one_process(cfg))
        self.rows = {name: nn.Parameter(in_memory_order(weight.detach(), weight)) for name, weight in sae.named_parameters()}
        groups = [{"params": [rows]} for rows in self.rows.values()]
        self.optimizer = torch.optim.Adam(groups, lr=cfg.lr, betas=(0.9, 0.999), fused=True)
        for rows in self.rows.values():
            means = {name: torch.zeros_like(rows) for name in ADAM_MEANS}
            self.optimizer.state[rows] = {"step": torch.zeros((), device=rows.device), **means}
        device = sae.b_dec.device
        self.n_done = self.n_tokens = 0
        self.n_copies: int | None = None  # once it is done, where one process holds all features
        self.density = 1.0  # share of active entries in the batch before
        self.since_fired = torch.zeros(sae.b_enc.shape, dtype=torch.int64, device=device)  # tokens
        self.sums = torch.zeros(len(SUMS), dtype=torch.float64, device=device)

    @property
    def n_features(self) -> int:
        """Of all shards; of a cross-layer transcoder, of all layers."""
        return self.cfg.d_sae * self.source.n_layers

    @property
    def is_done(self) -> bool:
        """Has it taken its last step?"""
        return self.n_done >= self.cfg.n_steps

    @property
    def dead_tokens(self) -> int:
        """How many tokens a feature must miss to count as dead."""
        n_all = self.cfg.n_steps * self.n_tokens / self.n_done if self.n_done else math.inf
        return round(min(DEAD_TOKENS, MEASURED * n_all))

    @property
    def dead(self) -> Tensor:
        """(d_sae) bool, of a cross-layer transcoder (n_layers, d_sae): features that no row activated for the last `dead_tokens` tokens."""
        return self.since_fired >= self.dead_tokens

    def step(self, batch: Tensor, target: Tensor | None = None) -> None:
        """Learn from one batch of raw activations (batch, d_in), across layers (batch, n_layers, d_in); target: what a transcoder predicts
        of them. Raises TrainingError, the weights unchanged, if these or the loss are not finite."""
        x, y = self.source.scaled(batch, target)
        step = self.engine.step(self.sae, x, self.cfg.l1_at(self.n_done), self.density, y)
        loss, n_active = torch.stack([step.loss.double(), step.n_active.double()]).tolist()  # the only wait for the device
        if not math.isfinite(loss):
            raise TrainingError(self._not_finite(loss, batch, target))
        dead = self.dead & ~step.fired
        if self.cfg.k is not None and self.engine.total(dead.sum()) > 0:
            self.engine.auxk(self.sae, x, step.error, dead)
        goal = x if y is None else y
        self._measure(x, goal, step)
        self._update()
        self.since_fired += len(x)
        self.since_fired[step.fired] = 0
        self.density = n_active / (len(x) * self.n_features)
        self.n_tokens += len(x)
        self.n_done += 1
        self.last = goal, step
        if self.cfg.merges_at(self.n_done):
            self._merge(x)
        if self.is_done and self.engine.is_whole:
            self.n_copies = len(find_copies(self.sae, x))

    @torch.no_grad()
    def _merge(self, x: Tensor) -> None:
        """Copies become one feature each; what is freed starts anew, as training starts, unless this was the last step."""
        sae, copies = self.sae, find_copies(self.sae, x)
        merge(sae, copies)
        freed = copies.is_copy
        if self.is_done:
            self.since_fired[freed] = self.dead_tokens  # they read nothing any more
            return
        for name in ("W_enc", "b_enc", "W_dec"):
            for mean in ADAM_MEANS:
                self.optimizer.state[self.rows[name]][mean][freed] = 0.0
        seed = self.cfg.seed + self.n_done
        sae.W_dec[freed] = DECODER_NORM * random_rows(sae.W_dec, seed)[freed]
        start = DECODER_NORM * random_rows(sae.W_enc.T, seed + OTHER)[freed] if self.source.predict else sae.W_dec[freed]
        sae.W_enc.T[freed] = start
        self.since_fired[freed] = 0

    @torch.no_grad()
    def _measure(self, x: Tensor, goal: Tensor, step: Step) -> None:
        """Add to the sums that the SAE's own figures come from, near the end."""
        n_left = self.cfg.n_steps - self.n_done
        if n_left <= max(1, MEASURED * self.cfg.n_steps):  # the last step at least
            counts = torch.tensor([len(x), 1], device=x.device)
            self.sums[:6] += torch.stack([step.loss, step.squared_error, goal.var(0).sum(), step.n_active, *counts])
        if self.cfg.architecture == "batchtopk" and n_left <= N_THRESHOLDS:
            self.sums[SUMS.index("threshold")] += self.engine.smallest(self.sae, x)

    @torch.no_grad()
    def _update(self) -> None:
        """Clip the gradients, take Adam's step, keep the weights where the architecture wants them."""
        sae, cfg = self.sae, self.cfg
        squares = {name: torch.linalg.vector_norm(weight.grad).square() for name, weight in sae.named_parameters()}
        whole = [squares.pop(name) for name in REPLICATED if name in squares]
        self.grad_norm = (self.engine.total(torch.stack(list(squares.values())).sum()) + torch.stack(whole).sum()).sqrt()
        for name, weight in sae.named_parameters():
            grad = weight.grad
            assert grad is not None and grad.stride() == weight.stride()  # fused Adam does not look
            grad *= (cfg.clip / self.grad_norm).clamp(max=1)
            self.rows[name].grad = in_memory_order(grad, weight)
        for group in self.optimizer.param_groups:
            is_threshold = group["params"][0] is self.rows.get("threshold")
            group["lr"] = cfg.lr_at(self.n_done) * (THRESHOLD_PACE if is_threshold else 1)
        self.optimizer.step()
        if cfg.k is not None:
            sae.normalize_decoder()
        if sae.threshold is not None:
            sae.threshold.clamp_(min=0)

    def metrics(self) -> Metrics:
        """The step just taken, on its batch."""
        goal, step = self.last
        squared_error = step.squared_error.item()
        return {
            "step": self.n_done,
            "tokens": self.n_tokens,
            "loss": step.loss.item(),
            "squared_error": squared_error,
            "l0": step.n_active.item() / len(goal) / self.source.n_layers,
            "fvu": squared_error / goal.var(0).sum().item(),
            "dead": self.engine.total(self.dead.sum()).item() / self.n_features,
            "lr": self.cfg.lr_at(self.n_done - 1),
            "l1": self.cfg.l1_at(self.n_done - 1),
            "grad_norm": self.grad_norm.item(),
        }

    def state(self) -> dict[str, Tensor]:
        """Everything the next step depends on, as tensors by name; those of weights are the live ones."""
        tensors = {"since_fired": self.since_fired, "sums": self.sums}
        for name, weight in self.sae.named_parameters():
            means = self.optimizer.state[self.rows[name]]
            tensors |= {name: weight.detach(), **{f"{mean}.{name}": in_memory_order(means[mean], weight) for mean in ADAM_MEANS}}
        counts = torch.tensor([self.n_done, self.n_tokens, self.density], dtype=torch.float64)
        return tensors | {"counts": counts}

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave."""
        for name, value in self.state().items():
            value.copy_(tensors[name])
        n_done, n_tokens, self.density = tensors["counts"].tolist()
        self.n_done, self.n_tokens = int(n_done), int(n_tokens)
        for rows in self.rows.values():
            self.optimizer.state[rows]["step"].fill_(self.n_done)

    def results(self) -> dict[str, Any]:
        """What the SAE says of its own training: the config and, over the last tenth of the steps, loss, fvu and l0; dead features."""
        loss, squared_error, variance, n_active, n_tokens, n_batches, _ = self.sums.tolist()
        start = self.source.start_token
        return {
            "training": describe(self.source, self.cfg),
            **_nested(self.cfg),
            **({} if start is None else {"start_token": start, "prepend_bos": bool(start)}),  # the second is SAELens' word
            "loss": loss / n_batches,
            "fvu": squared_error / variance,
            "l0": n_active / n_tokens / self.source.n_layers,
            "dead": self.engine.total(self.dead.sum()).item() / self.n_features,
            "dead_tokens": self.dead_tokens,
            **({} if self.n_copies is None else {"copies": self.n_copies}),
            "n_tokens_measured": int(n_tokens),
            "n_tokens": self.n_tokens,
        }

    def _not_finite(self, loss: float, batch: Tensor, target: Tensor | None) -> str:
        for values, place in ((batch, self.source.hook_name), (target, self.source.predict)):
            if values is not None and (n_bad := int((~torch.isfinite(values)).sum())):
                return f"batch {self.n_done:,} at {place}: {n_bad:,} of {values.numel():,} activations are NaN or infinite"
        where = f"batch {self.n_done:,} at {self.source.hook_name}"
        return f"{where}: the loss is {loss} although the activations are finite: training diverged, try an lr below {self.cfg.lr:g}"


def finish(learner: Learner, sae: Any) -> Any:
    """The trained SAE or transcoder, frozen, on raw activations: scales and decoder norms folded in. BatchTopK, whose selection needs a
    whole batch, becomes JumpReLU with one threshold: the smallest activation that was selected, averaged over the last batches.

    sae: the learner's own, or all its shards put together.
    """
    if sae.cfg.architecture == "batchtopk":
        weights, cfg = sae.state_dict(), replace(sae.cfg, architecture="jumprelu", k=None)
        threshold = learner.sums[SUMS.index("threshold")].item() / min(N_THRESHOLDS, learner.cfg.n_steps)
        sae = type(sae)(cfg).to(sae.b_dec.device)
        sae.load_state_dict(weights | {"threshold": torch.full_like(sae.b_enc, threshold)})
    sae.cfg = replace(sae.cfg, metadata=learner.results())
    scale, scale_out = learner.source.scale, learner.source.scale_out
    sae = sae.fold_scale(scale) if scale_out is None else sae.fold_scales(scale, scale_out)
    return sae.fold_decoder_norms().requires_grad_(False).eval()
