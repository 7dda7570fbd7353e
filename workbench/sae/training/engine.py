"""How a training step is computed: plain or by active entries, or across layers, here in one process; over shards in sharded.py."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from workbench.model.gemm import product_dtype
from workbench.sae.kernels import step as kernels
from workbench.sae.kernels.cross_layer import cross_layer_auxk, cross_layer_step
from workbench.sae.kernels.objective import Step, auxk_step, itself, plain_step
from workbench.sae.training.recipe import TrainConfig


@dataclass(frozen=True)
class Engine:
    """What a learner needs computed."""

    step: Callable[[Any, Tensor, float, float, Any], Step]  # (sae, x, λ, last batch's density, y), leaving gradients
    auxk: Callable[[Any, Tensor, Tensor, Tensor], Tensor]  # (sae, x, error, dead), adding to them
    smallest: Callable[[Any, Tensor], Tensor]  # (sae, x) → the smallest activation that BatchTopK selects
    total: Callable[[Tensor], Tensor]  # a sum over this process's features → the sum over all features
    is_whole: bool = True  # all features are in this process, and of one layer


def one_process(cfg: TrainConfig) -> Engine:
    """The fastest step that the config allows."""

    def step(sae: Any, x: Tensor, l1: float, density: float, y: Tensor | None) -> Step:
        if cfg.precision == "bfloat16" and product_dtype(x.device.type) == torch.bfloat16:
            with torch.autocast(x.device.type, torch.bfloat16):
                return plain_step(sae, x, l1, y)
        return plain_step(sae, x, l1, y) if cfg.is_plain else kernels.step(sae, x, l1, density, y)

    return Engine(step, auxk_step, lambda sae, x: _smallest(sae.encode(x)), itself)


def across_layers() -> Engine:
    """Of a cross-layer transcoder: plain, in one process."""

    def step(clt: Any, x: Tensor, l1: float, density: float, y: Tensor) -> Step:
        return cross_layer_step(clt, x, l1, y)

    return Engine(step, cross_layer_auxk, lambda clt, x: _smallest(clt.encode(x.transpose(0, 1))), itself, is_whole=False)


def _smallest(feature_acts: Tensor) -> Tensor:
    return feature_acts[feature_acts > 0].min()
