"""How a training step is computed: plain or by active entries, here in one process; over shards of the features in sharded.py."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.model.gemm import product_dtype
from workbench.sae.dictionary import Dictionary
from workbench.sae.kernels import step as kernels
from workbench.sae.kernels.objective import Step, auxk_step, itself, plain_step
from workbench.sae.training.recipe import TrainConfig


@dataclass(frozen=True)
class Engine:
    """What a learner needs computed."""

    step: Callable[[Dictionary, Tensor, float, float, Tensor | None], Step]  # (sae, x, λ, last batch's density, y), leaving gradients
    auxk: Callable[[Dictionary, Tensor, Tensor, Tensor], Tensor]  # (sae, x, error, dead), adding to them
    smallest: Callable[[Dictionary, Tensor], Tensor]  # (sae, x) → the smallest activation that BatchTopK selects
    total: Callable[[Tensor], Tensor]  # a sum over this process's features → the sum over all features


def one_process(cfg: TrainConfig) -> Engine:
    """The fastest step that the config allows."""

    def step(sae: Dictionary, x: Tensor, l1: float, density: float, y: Tensor | None) -> Step:
        if cfg.precision == "bfloat16" and product_dtype(x.device.type) == torch.bfloat16:
            with torch.autocast(x.device.type, torch.bfloat16):
                return plain_step(sae, x, l1, y)
        return plain_step(sae, x, l1, y) if cfg.is_plain else kernels.step(sae, x, l1, density, y)

    def smallest(sae: Dictionary, x: Tensor) -> Tensor:
        feature_acts = sae.encode(x)
        return feature_acts[feature_acts > 0].min()

    return Engine(step, auxk_step, smallest, itself)
