"""How a training step is computed: plain or by active entries, here in one process; over shards of the features in sharded.py."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.model.gemm import product_dtype
from workbench.sae.kernels import step as kernels
from workbench.sae.kernels.objective import Step, auxk_step, itself, plain_step
from workbench.sae.sae import SAE
from workbench.sae.training.recipe import TrainConfig


@dataclass(frozen=True)
class Engine:
    """What a learner needs computed."""

    step: Callable[[SAE, Tensor, float, float], Step]  # (sae, x, λ, density of the batch before), leaving gradients
    auxk: Callable[[SAE, Tensor, Tensor, Tensor], Tensor]  # (sae, x, error, dead), adding to them
    smallest: Callable[[SAE, Tensor], Tensor]  # (sae, x) → the smallest activation that BatchTopK selects
    total: Callable[[Tensor], Tensor]  # a sum over this process's features → the sum over all features


def one_process(cfg: TrainConfig) -> Engine:
    """The fastest step that the config allows."""

    def step(sae: SAE, x: Tensor, l1: float, density: float) -> Step:
        if cfg.precision == "bfloat16" and product_dtype(x.device.type) == torch.bfloat16:
            with torch.autocast(x.device.type, torch.bfloat16):
                return plain_step(sae, x, l1)
        return plain_step(sae, x, l1) if cfg.is_plain else kernels.step(sae, x, l1, density)

    def smallest(sae: SAE, x: Tensor) -> Tensor:
        feature_acts = sae.encode(x)
        return feature_acts[feature_acts > 0].min()

    return Engine(step, auxk_step, smallest, itself)
