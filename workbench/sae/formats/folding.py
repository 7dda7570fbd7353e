"""What a file has that we have not, folded into its weights, exactly:

    x − b_dec before encoding       b_enc − b_dec @ W_enc
    scale · x instead of x          W_enc · scale, W_dec / scale, b_dec / scale
    decoder rows of norm n          W_dec / n, W_enc · n, b_enc · n, threshold · n
    (x − m) @ M instead of x        M @ W_enc, b_enc − m @ M @ W_enc, W_dec @ M⁻¹, b_dec @ M⁻¹ + m
    a gate beside the magnitude     one encoder with a threshold

in float32 or better, whatever the file is in: half precision would round what is folded. Nothing leaves here that cannot be saved and read
again: weights that are no real numbers, a scale that is not above 0, NaN before or after folding are refused.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workbench.finite import n_not_finite
from workbench.sae.config import SAEConfig, SAEError
from workbench.sae.formats.foreign import Foreign, Weights

UNIT = 1e-3  # decoder norms this close to 1 are 1 rounded to 16 bits: such rows stay as the file has them
COLUMNS = 65_536  # of W_enc taken to float64 at a time
REAL = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def assemble(kind: Callable[[SAEConfig], Any], foreign: Foreign, path: Path) -> Any:
    """A frozen SAE in float32 with everything folded. Raises SAEError for what is missing, contradictory or not a number."""
    if foreign.is_transcoder:
        raise SAEError(f"{path} ({foreign.format}) is a transcoder, not an SAE{_places(foreign)}: wb.Transcoder.load reads it")
    if "b_gate" in foreign.weights:
        foreign = without_gate(foreign)
    d_in, d_sae, _ = checked_widths(foreign, path)
    check_finite(foreign.weights, path)
    for name, example in (("hook_name", "'blocks.6.hook_resid_post'"), ("scale", "the factor that training multiplied x by")):
        if not getattr(foreign, name):
            raise SAEError(f"{path} ({foreign.format}) does not say its {name}: give {name}= ({example})")
    if foreign.scale is None or not (isfinite(foreign.scale) and foreign.scale > 0):
        raise SAEError(f"{path} ({foreign.format}): activations cannot be scaled by {foreign.scale}; expected a number above 0")
    said = {name: getattr(foreign, name) for name in ("hook_name", "model_name", "architecture", "k", "centers_input", "metadata")}
    sae = kind(SAEConfig(d_in, d_sae, **said)).requires_grad_(False).eval()
    for name, weight in folded(foreign).items():
        sae.get_parameter(name).copy_(weight)
    if foreign.scale != 1:
        sae.fold_scale(foreign.scale)
    norms = sae.W_dec.norm(dim=1)
    is_unit = ((norms - 1).abs() < UNIT) | (norms == 0)
    if not is_unit.all() and (sae.cfg.k is None or sae.has_equal_norms()):
        sae.fold_decoder_norms()  # else a TopK SAE of unequal rows: x_hat and the selection stay exact, rows keep their norms
    check_finite(dict(sae.named_parameters()), path, "after folding")
    return sae


def _places(foreign: Foreign) -> str:
    if not (foreign.hook_name and foreign.hook_name_out):
        return ""
    return f" (it reads {foreign.hook_name} and writes {foreign.hook_name_out})"


def checked_widths(foreign: Foreign, path: Path) -> tuple[int, int, int]:
    """(d_in, d_sae, d_out), if all tensors and the JSON agree on them. An SAE's d_out is its d_in."""
    found = {name: tuple(weight.shape) for name, weight in foreign.weights.items()}
    is_flat = len(found["W_enc"]) == 2 and len(found["W_dec"]) == 2
    d_in, d_sae = found["W_enc"] if is_flat else (0, 0)
    d_out = found["W_dec"][-1] if is_flat and foreign.is_transcoder else d_in
    expected = {"W_enc": (d_in, d_sae), "b_enc": (d_sae,), "W_dec": (d_sae, d_out), "b_dec": (d_out,)}
    if foreign.architecture == "jumprelu":
        expected["threshold"] = () if found.get("threshold") == () else (d_sae,)
    if foreign.is_transcoder and "W_skip" in found:
        expected["W_skip"] = (d_in, d_out)
    if found != expected:
        raise SAEError(f"{path} ({foreign.format}, {foreign.architecture}) holds {found}; expected {expected}")
    for name, width in (("d_in", d_in), ("d_sae", d_sae), ("d_out", d_out)):
        if foreign.said.get(name) not in (None, width):
            raise SAEError(f"{path} holds W_enc {found['W_enc']}, but the JSON beside it says {name} {foreign.said[name]}")
    return d_in, d_sae, d_out


def check_finite(weights: Mapping[str, Tensor], path: Path, when: str = "") -> None:
    """Raises SAEError for weights that are no real numbers, or NaN or infinite."""
    for name, weight in weights.items():
        if weight.dtype not in REAL:
            raise SAEError(
                f"{path}: {name} is of {str(weight.dtype).removeprefix('torch.')}; expected float16, bfloat16, float32 or float64"
            )
        if n := n_not_finite(weight):
            raise SAEError(f"{path}: {name} has {n} NaN or infinite values {when}".rstrip())


def without_gate(foreign: Foreign) -> Foreign:
    """Gated → JumpReLU, exactly. With z = x @ W_enc and e = exp(r_mag), magnitude e·z + b_mag and gate z + b_gate > 0 grow with the same z:
    the gate opens where the magnitude exceeds b_mag − e·b_gate."""
    rest = dict(foreign.weights)
    gate, magnitude, e = (rest.pop(name).float() for name in ("b_gate", "b_mag", "r_mag"))
    e = e.exp()
    threshold = (magnitude - e * gate).clamp_min(0)
    return replace(
        foreign, architecture="jumprelu", weights=rest | {"W_enc": rest["W_enc"] * e, "b_enc": magnitude, "threshold": threshold}
    )


def folded(foreign: Foreign) -> Weights:
    """The weights without b_dec at the input and without norms in the selection."""
    weights = dict(foreign.weights)
    if foreign.subtracts_b_dec:  # in float64: thresholds need the digits that the difference loses
        shift = torch.cat([weights["b_dec"].double() @ columns.double() for columns in weights["W_enc"].split(COLUMNS, dim=1)])
        weights["b_enc"] = weights["b_enc"].double() - shift
    if foreign.selects_by_norm:
        norms = weights["W_dec"].float().norm(dim=1)
        safe = norms.clamp_min(1e-12)
        weights |= {"W_enc": weights["W_enc"] * norms, "b_enc": weights["b_enc"] * norms, "W_dec": weights["W_dec"] / safe[:, None]}
    if white := foreign.whitening:  # in float64, as its matrices are
        W_enc = white.matrix @ weights["W_enc"].double()
        weights |= {"W_enc": W_enc, "b_enc": weights["b_enc"].double() - white.mean @ W_enc}
        weights |= {"W_dec": weights["W_dec"].double() @ white.inverse, "b_dec": weights["b_dec"].double() @ white.inverse + white.mean}
    if "threshold" in weights:
        weights["threshold"] = weights["threshold"].clamp_min(0)  # every library takes the ReLU as well
    return weights
