"""What an SAE or a transcoder is but for its weights: widths, places, architecture; how its files are called; what a bad one raises."""

from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

ARCHITECTURES = ("standard", "topk", "batchtopk", "jumprelu")  # SAELens' names
CFG_FILE, WEIGHTS_FILE = "cfg.json", "sae_weights.safetensors"  # SAELens' names


class SAEError(ValueError):
    """An SAE that cannot be used: a missing or truncated file, wrong widths, NaN weights."""


@dataclass(frozen=True)
class SAEConfig:
    """Widths, place and architecture. Raises SAEError where k and the architecture do not fit."""

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
        check_k(self.architecture, self.k, self.d_sae, "SAE")


@dataclass(frozen=True)
class TranscoderConfig:
    """Widths, places and architecture of a transcoder. Raises SAEError where k and the architecture do not fit."""

    d_in: int
    d_out: int
    d_sae: int
    hook_name_in: str  # where x comes from, such as "blocks.3.mlp.hook_in"
    hook_name_out: str  # where y_hat goes, such as "blocks.3.hook_mlp_out"
    model_name: str = ""
    architecture: str = "standard"  # as of an SAE: "standard" is ReLU
    k: int | None = None  # topk, batchtopk: active features per token
    has_skip: bool = False  # y_hat includes x @ W_skip
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        if self.architecture not in ARCHITECTURES:
            raise SAEError(f"architecture {self.architecture!r} is unknown; there is {', '.join(ARCHITECTURES)}")
        check_k(self.architecture, self.k, self.d_sae, "transcoder")


@dataclass(frozen=True)
class CrossLayerConfig:
    """Widths, places and architecture of a cross-layer transcoder, the same at every layer."""

    n_layers: int
    d_in: int
    d_out: int
    d_sae: int  # features of each layer
    hook_in: str  # inside of a block: "hook_resid_mid"
    hook_out: str
    model_name: str = ""
    architecture: str = "standard"  # or "jumprelu"; "batchtopk" while it is trained
    has_skip: bool = False
    metadata: dict[str, Any] = field(default_factory=dict)
    k: int | None = None  # batchtopk: active features per token and layer, the layers' features competing with each other

    def __post_init__(self):
        if self.architecture not in ("standard", "jumprelu", "batchtopk"):
            raise SAEError(f"a cross-layer transcoder is standard, jumprelu or batchtopk, not {self.architecture!r}")
        check_k(self.architecture, self.k, self.d_sae, "cross-layer transcoder")

    @property
    def hook_names_in(self) -> list[str]:
        """Where each layer's features read."""
        return [f"blocks.{layer}.{self.hook_in}" for layer in range(self.n_layers)]

    @property
    def hook_names_out(self) -> list[str]:
        """Where they write; a layer's features to its own and to all later ones."""
        return [f"blocks.{layer}.{self.hook_out}" for layer in range(self.n_layers)]


def check_k(architecture: str, k: int | None, d_sae: int, what: str) -> None:
    """Raises SAEError unless k is given where the architecture takes one, and nowhere else."""
    takes_k = architecture in ("topk", "batchtopk")
    if takes_k and (k is None or not 1 <= k <= d_sae):
        raise SAEError(f"a {architecture} {what} of {d_sae:,} features needs k from 1 to {d_sae:,}, not {k}")
    if k is not None and not takes_k:
        raise SAEError(f"k={k} belongs to topk and batchtopk {what}s, this one is {architecture}")


def checked_feature(feature: Any, d_sae: int, name: str = "this SAE") -> int:
    """Raises ValueError for what is no feature, with those that there are."""
    if isinstance(feature, bool) or not isinstance(feature, Integral):
        words = "; find_by_label finds features by words" if isinstance(feature, str) else ""
        raise ValueError(f"{feature!r} is no feature: expected a whole number, 0 to {d_sae - 1:,}{words}")
    if not 0 <= int(feature) < d_sae:
        raise ValueError(f"feature {feature} is out of range: {name} has features 0 to {d_sae - 1:,}")
    return int(feature)
