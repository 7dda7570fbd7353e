"""What a sparse autoencoder is but for its weights: widths, place, architecture; how its files are called; what a bad one raises."""

from dataclasses import dataclass, field
from typing import Any

from workbench.sae.architectures import ARCHITECTURES

CFG_FILE, WEIGHTS_FILE = "cfg.json", "sae_weights.safetensors"  # SAELens' names


class SAEError(ValueError):
    """An SAE that cannot be used: a missing or truncated file, wrong widths, NaN weights."""


@dataclass(frozen=True)
class SAEConfig:
    d_in: int
    d_sae: int
    hook_name: str  # where in the model x comes from, such as "blocks.3.hook_resid_pre"
    model_name: str = ""
    architecture: str = "standard"  # SAELens' names: "standard" is ReLU + L1
    k: int | None = None  # topk, batchtopk: active features per token
    centers_input: bool = False  # subtract x's mean over d_in first: the SAE was trained on a model whose weights were centered
    metadata: dict[str, Any] = field(default_factory=dict)  # whatever else is known: how it was trained, max_act, …

    def __post_init__(self):
        if self.architecture not in ARCHITECTURES:
            raise SAEError(f"architecture {self.architecture!r} is unknown; there is {', '.join(ARCHITECTURES)}")
        takes_k = self.architecture in ("topk", "batchtopk")
        if takes_k and (self.k is None or not 1 <= self.k <= self.d_sae):
            raise SAEError(f"a {self.architecture} SAE of {self.d_sae:,} features needs k from 1 to {self.d_sae:,}, not {self.k}")
        if self.k is not None and not takes_k:
            raise SAEError(f"k={self.k} belongs to topk and batchtopk SAEs, this one is {self.architecture}")
