"""What OpenMOSS's lm_saes (now llamascopium) writes: Llama Scope and its kin, SAEs and transcoders.

    Llama Scope                  hyperparams.json, checkpoints/final.safetensors (encoder.weight …), one jump_relu_threshold for all
    Llama Scope R1 distill       config.json, sae_weights.safetensors (encoder.weight …, log_jumprelu_threshold, average norms as tensors)
    2026                         config.json, sae_weights.safetensors (W_E, b_E, W_D, b_D, activation_function.log_jumprelu_threshold, …)

Activations are scaled to an average norm of √d_model, at the place read and at the place written each by its own. The first takes scale and
decoder norms out of the weights and then compares with its threshold; the others compare as they were trained. So does this.
"""

import math
from pathlib import Path

import torch

from workbench.sae.config import SAEError
from workbench.sae.formats.foreign import JSON, Foreign, Weights, flag, number, whole

NORMS = "dataset_average_activation_norm"
THRESHOLD = "log_jumprelu_threshold"
ACTIVATIONS = {"relu": "standard", "jumprelu": "jumprelu", "topk": "topk", "batchtopk": "batchtopk"}


def openmoss(weights: Weights, names: set[str], cfg: JSON, path: Path) -> Foreign:
    """names: the tensors' own, by which its versions differ."""
    _check(cfg, names, path)
    reads, writes = cfg["hook_point_in"], cfg.get("hook_point_out") or cfg["hook_point_in"]
    norms = {name.removeprefix(f"{NORMS}."): weights.pop(name) for name in [*weights] if name.startswith(NORMS)}
    d_model = weights["W_enc"].shape[0]
    scale, scale_out = (_scale(cfg, norms, (place, end, d_model), path) for place, end in ((reads, "in"), (writes, "out")))
    weights = {name.removeprefix("activation_function."): weight for name, weight in weights.items()}
    act_fn, threshold = str(cfg.get("act_fn", "relu")).lower(), number(cfg, "jump_relu_threshold", path)
    if THRESHOLD in weights:
        weights["threshold"] = weights.pop(THRESHOLD).float().exp()
    elif act_fn == "jumprelu" and not threshold:
        raise SAEError(f"{path} is a jumprelu SAE and has no threshold: neither {THRESHOLD} nor jump_relu_threshold is there")
    elif threshold:  # Llama Scope's: one for all, of raw feature activations
        act_fn, weights["threshold"] = "jumprelu", torch.tensor(threshold * scale)
    weights.setdefault("b_dec", torch.zeros(weights["W_dec"].shape[1]))
    takes_k = act_fn in ("topk", "batchtopk")
    return Foreign(
        "Llama Scope",
        weights,
        hook_name=reads,
        hook_name_out=writes if writes != reads else None,
        architecture=ACTIVATIONS[act_fn],
        k=whole(cfg, "top_k", path) if takes_k else None,
        subtracts_b_dec=flag(cfg, "apply_decoder_bias_to_pre_encoder", False, path),
        selects_by_norm=flag(cfg, "sparsity_include_decoder_norm", True, path),
        scale=scale,
        scale_out=scale_out,
        is_transcoder=writes != reads,
        said={"d_in": whole(cfg, "d_model", path), "d_sae": whole(cfg, "d_sae", path)},
    )


def _check(cfg: JSON, names: set[str], path: Path) -> None:
    """Raises SAEError for what no weights here can hold."""
    if (kind := cfg.get("sae_type", "sae")) != "sae":
        raise SAEError(f"{path} is a {kind} of lm_saes, which reads several places at once: no SAE and no transcoder of one layer")
    if flag(cfg, "use_glu_encoder", False, path) or any("glu" in name for name in names):
        raise SAEError(f"{path} has a gated linear unit as encoder (use_glu_encoder): no weights here hold a product of two encoders")
    act_fn = str(cfg.get("act_fn", "relu")).lower()
    if act_fn not in ACTIVATIONS:
        raise SAEError(f"{path}: act_fn {cfg['act_fn']!r} is unknown here; there is {', '.join(ACTIVATIONS)}")
    if act_fn == "batchtopk" and "W_E" not in names:
        raise SAEError(f"{path}: batchtopk of lm_saes before version 2 keeps k entries of a whole batch, however many tokens it has")


def _scale(cfg: JSON, norms: Weights, place: tuple[str, str, int], path: Path) -> float:
    """By what activations at a place, (hook_name, "in" or "out", d_model), were multiplied in training."""
    hook_name, end, d_model = place
    how = cfg.get("norm_activation", "dataset-wise")
    if how not in ("dataset-wise", "inference"):
        raise SAEError(f"{path}: norm_activation {how!r} divides each token by its own norm, which no weights can hold")
    if how == "inference":
        return 1.0
    norm = float(norms[hook_name]) if hook_name in norms else number(cfg.get(NORMS) or {}, end, path)
    if not norm:
        raise SAEError(f"{path}: its JSON lacks {NORMS}, by which activations were scaled in training, and no tensor of this name has it")
    return math.sqrt(d_model) / norm
