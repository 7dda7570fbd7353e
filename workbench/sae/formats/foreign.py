"""A dictionary as its file has it, before anything is folded: what the readers of each library's layout (saelens.py, gemma.py, …) give.

What a JSON says is taken at its word and not guessed at: `whole`, `flag` and `number` refuse "false" for a switch and 2.7 for a count.
"""

from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from torch import Tensor

from workbench.sae.config import SAEError

Weights = dict[str, Tensor]
JSON = dict[str, Any]


@dataclass(frozen=True)
class Whitening:
    """What is encoded is (x − mean) @ matrix, and what is decoded goes back by inverse: both affine, both foldable."""

    mean: Tensor  # (d_in)
    matrix: Tensor  # (d_in, d_in)
    inverse: Tensor


@dataclass(frozen=True)
class Foreign:
    """An SAE or a transcoder. weights: W_enc (d_in, d_sae), b_enc, W_dec (d_sae, d_out), b_dec; for jumprelu threshold (d_sae or one);
    with a skip W_skip (d_in, d_out)."""

    format: str
    weights: Weights
    hook_name: str | None = None  # where it reads
    model_name: str = ""
    architecture: str = "standard"
    k: int | None = None
    subtracts_b_dec: bool = False  # encodes x − b_dec
    selects_by_norm: bool = False  # TopK and thresholds compare pre_acts · ‖decoder row‖
    scale: float | None = 1.0  # reads scale · x; None: it does, and the file does not say by how much
    whitening: Whitening | None = None
    centers_input: bool = False
    said: JSON = field(default_factory=dict)  # the widths that its JSON claims
    metadata: JSON = field(default_factory=dict)
    is_transcoder: bool | None = False  # None: nothing here says which of the two it is
    hook_name_out: str | None = None  # where a transcoder's output goes
    scale_out: float | None = None  # a transcoder predicts scale_out · y; None: as the input


def whole(cfg: JSON, name: str, path: Any) -> int | None:
    """A count that the JSON may hold, or None. Raises SAEError for one that is no whole number: k = 2.7, "32", true."""
    value = cfg.get(name)
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    raise SAEError(f"{path}: the JSON says {name} {value!r}; expected a whole number")


def flag(cfg: JSON, name: str, default: bool, path: Any) -> bool:
    """A switch that the JSON may hold. Raises SAEError for what is neither true nor false: the text "false" counts as true."""
    value = cfg.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or (isinstance(value, int) and value in (0, 1)):
        return bool(value)
    raise SAEError(f"{path}: the JSON says {name} {value!r}; expected true or false")


def number(cfg: JSON, name: str, path: Any) -> float | None:
    """A finite number that the JSON may hold, or None."""
    value = cfg.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise SAEError(f"{path}: the JSON says {name} {value!r}; expected a number")
    return float(value)
