"""Other libraries' sparse autoencoders, read as ours: raw x in, raw x_hat out.

What a file has that we have not is folded into its weights:

    x − b_dec before encoding       b_enc − b_dec @ W_enc
    scale · x instead of x          W_enc · scale, W_dec / scale, b_dec / scale
    decoder rows of norm n          W_dec / n, W_enc · n, b_enc · n, threshold · n
    a gate beside the magnitude     one encoder with a threshold

A format is recognized from its tensors and its JSON, never from a name: SAELens 5 and 6 (ours is 6), Gemma Scope 1 and 2, Llama Scope,
dictionary_learning, sparsify (layouts.py). What a file does not say, mostly the hook point, the caller gives.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from workbench.sae.config import CFG_FILE, SAEConfig, SAEError
from workbench.sae.formats.files import SAEFiles, locate, read_tensors
from workbench.sae.formats.layouts import (
    Foreign,
    Weights,
    dictionary_learning,
    gemma_scope_1,
    gemma_scope_2,
    llama_scope,
    saelens,
    sparsify,
)

OUR_NAMES = {
    **{"w_enc": "W_enc", "w_dec": "W_dec", "encoder.weight": "W_enc", "decoder.weight": "W_dec"},
    **{"encoder.bias": "b_enc", "decoder.bias": "b_dec", "bias": "b_dec", "decoder_bias": "b_dec"},
    **{"gate_bias": "b_gate", "mag_bias": "b_mag"},
}
TRANSPOSED = ("encoder.weight", "decoder.weight")  # torch's Linear keeps (out, in)
UNIT = 1e-3  # decoder norms this close to 1 are 1 rounded to 16 bits: such rows stay as the file has them
COLUMNS = 65_536  # of W_enc taken to float64 at a time


def read(
    kind: Callable[[SAEConfig], Any],
    source: str | Path,
    device: str | torch.device = "cpu",
    *,
    hook_name: str | None = None,
    model_name: str | None = None,
    centers_input: bool | None = None,
    scale: float | None = None,
) -> Any:
    """The SAE in a folder, a file or a hub repository; see SAE.load. kind: the class that holds it, handed in by what stands above."""
    files = locate(source)
    given = dict(hook_name=hook_name, model_name=model_name, centers_input=centers_input, scale=scale)
    given = {name: value for name, value in given.items() if value is not None}
    return assemble(kind, replace(recognize(read_tensors(files.weights), files), **given), files.weights).to(device)


def recognize(tensors: Weights, files: SAEFiles) -> Foreign:
    """Which library wrote these tensors, told by their names and by the JSON beside them."""
    names, cfg, path = set(tensors), files.cfg, files.weights
    weights = {OUR_NAMES.get(name, name): tensor.T if name in TRANSPOSED else tensor for name, tensor in tensors.items()}
    if not {"W_enc", "W_dec"} <= set(weights):
        kind = f"; {cfg['model_type']!r} is a language model's" if "model_type" in cfg else ""
        raise SAEError(f"{path} holds no SAE known here: its tensors are {', '.join(sorted(names)[:6]) or 'none'}{kind}")
    if {"encoder.weight", "W_dec"} <= names:
        return sparsify(weights, cfg, path)
    if "hook_point_in" in cfg:
        return llama_scope(weights, cfg, path)
    if "w_enc" in names or "hf_hook_point_in" in cfg:
        return gemma_scope_2(weights, cfg, path) if path.suffix == ".safetensors" else gemma_scope_1(weights)
    if "trainer" in cfg or "encoder.weight" in names or path.suffix not in (".safetensors", ".npz"):
        return dictionary_learning(weights, cfg, names, path)
    if path.suffix == ".npz" and "d_in" not in cfg:
        return gemma_scope_1(weights)
    if not cfg:
        raise SAEError(f"{path.parent} is not an SAE: {CFG_FILE} is missing (found: {path.name})")
    return saelens(weights, cfg, files.scaler, path)


def assemble(kind: Callable[[SAEConfig], Any], foreign: Foreign, path: Path) -> Any:
    """A frozen SAE in float32 with everything folded. Raises SAEError for what is missing, contradictory or not a number."""
    if "b_gate" in foreign.weights:
        foreign = _without_gate(foreign)
    d_in, d_sae = _widths(foreign, path)
    for name, weight in foreign.weights.items():
        if not torch.isfinite(weight).all():
            raise SAEError(f"{path}: {name} has {int((~torch.isfinite(weight)).sum())} NaN or infinite values")
    for name, example in (("hook_name", "'blocks.6.hook_resid_post'"), ("scale", "the factor that training multiplied x by")):
        if not getattr(foreign, name):
            raise SAEError(f"{path} ({foreign.format}) does not say its {name}: give {name}= ({example})")
    said = {name: getattr(foreign, name) for name in ("hook_name", "model_name", "architecture", "k", "centers_input", "metadata")}
    sae = kind(SAEConfig(d_in, d_sae, **said)).requires_grad_(False).eval()
    for name, weight in _folded(foreign).items():
        sae.get_parameter(name).copy_(weight)
    if foreign.scale and foreign.scale != 1:
        sae.fold_scale(foreign.scale)
    norms = sae.W_dec.norm(dim=1)
    is_unit = ((norms - 1).abs() < UNIT) | (norms == 0)
    if not is_unit.all() and (sae.cfg.k is None or sae.has_equal_norms()):
        sae.fold_decoder_norms()  # else a TopK SAE of unequal rows: x_hat and the selection stay exact, rows keep their norms
    return sae


def _widths(foreign: Foreign, path: Path) -> tuple[int, int]:
    """(d_in, d_sae), if all tensors and the JSON agree on them."""
    found = {name: tuple(weight.shape) for name, weight in foreign.weights.items()}
    d_in, d_sae = found["W_enc"] if len(found["W_enc"]) == 2 else (0, 0)
    expected = {"W_enc": (d_in, d_sae), "b_enc": (d_sae,), "W_dec": (d_sae, d_in), "b_dec": (d_in,)}
    if foreign.architecture == "jumprelu":
        expected["threshold"] = () if found.get("threshold") == () else (d_sae,)
    if found != expected:
        raise SAEError(f"{path} ({foreign.format}, {foreign.architecture}) holds {found}; expected {expected}")
    for name, width in (("d_in", d_in), ("d_sae", d_sae)):
        if foreign.said.get(name) not in (None, width):
            raise SAEError(f"{path} holds W_enc {found['W_enc']}, but the JSON beside it says {name} {foreign.said[name]}")
    return d_in, d_sae


def _without_gate(foreign: Foreign) -> Foreign:
    """Gated → JumpReLU, exactly. With z = x @ W_enc and e = exp(r_mag), magnitude e·z + b_mag and gate z + b_gate > 0 grow with the same z:
    the gate opens where the magnitude exceeds b_mag − e·b_gate."""
    rest = dict(foreign.weights)
    gate, magnitude, e = rest.pop("b_gate"), rest.pop("b_mag"), rest.pop("r_mag").exp()
    threshold = (magnitude - e * gate).clamp_min(0)
    return replace(
        foreign, architecture="jumprelu", weights=rest | {"W_enc": rest["W_enc"] * e, "b_enc": magnitude, "threshold": threshold}
    )


def _folded(foreign: Foreign) -> Weights:
    """The weights without b_dec at the input and without norms in the selection."""
    weights = dict(foreign.weights)
    if foreign.subtracts_b_dec:  # in float64: thresholds need the digits that the difference loses
        shift = torch.cat([weights["b_dec"].double() @ columns.double() for columns in weights["W_enc"].split(COLUMNS, dim=1)])
        weights["b_enc"] = weights["b_enc"].double() - shift
    if foreign.selects_by_norm:
        norms = weights["W_dec"].float().norm(dim=1)
        safe = norms.clamp_min(1e-12)
        weights |= {"W_enc": weights["W_enc"] * norms, "b_enc": weights["b_enc"] * norms, "W_dec": weights["W_dec"] / safe[:, None]}
    if "threshold" in weights:
        weights["threshold"] = weights["threshold"].clamp_min(0)  # every library takes the ReLU as well
    return weights
