"""SAELens' folder, cfg.json and sae_weights.safetensors: its SAEs and its transcoders. Ours is the same.

Version 6 keeps facts under `metadata` (its release candidates said `meta`), version 5 has them flat, older ones say `hook_point`. A
checkpoint of its training has activation_scaler.json or activation_whitening.safetensors beside it. Read in 6.54.12.

What its list of public SAEs says and the files do not is in public.py.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from workbench.sae.config import ARCHITECTURES, SAEError
from workbench.sae.formats.files import WHITENING_FILE, SAEFiles, read_tensors
from workbench.sae.formats.foreign import JSON, Foreign, Weights, Whitening, flag, number, whole

SAES = (*ARCHITECTURES, "gated", "matryoshka_batchtopk")
TRANSCODERS = {f"{kind}{skip}transcoder" for kind in ("", "jumprelu_", "topk_", "batchtopk_") for skip in ("", "skip_")}
NOT_READ = {
    "abstopk": "takes the k largest of either sign, and nothing here reads negative activations",
    "temporal": "predicts each token from those before it, so its features are not of one token's activation",
    "matching_pursuit": "picks features one after another, each by what the last ones left: it has no encoder",
}
HF_READS_MLP = "pre_feedforward_layernorm.output"  # what SAELens calls hook_mlp_in of Gemma 3, which is the stream before the norm


def saelens(weights: Weights, files: SAEFiles) -> Foreign:
    """SAELens 6 (ours is 6), 5 and older. Raises SAEError for what is no function of one token's activation."""
    cfg, path = files.cfg, files.weights
    metadata = dict(cfg.get("metadata") or cfg.get("meta") or {})
    metadata.pop("sae_lens_version", None)
    if cfg.get("architecture") == "temporal" and cfg.get("n_attn_layers") == 0:
        return without_attention(weights, cfg, path)
    architecture = _architecture(cfg, path)
    for name in ("scaling_factor", "finetuning_scaling_factor"):  # multiplies feature activations before they are decoded
        if name in weights:
            weights["W_dec"] = weights["W_dec"].float() * weights.pop(name)[:, None]
    if "topk_threshold" in weights:  # a checkpoint of BatchTopK training
        architecture, weights["threshold"] = "jumprelu", weights.pop("topk_threshold")
    kwargs = metadata.get("model_from_pretrained_kwargs") or cfg.get("model_from_pretrained_kwargs") or {}
    if kwargs == {"center_writing_weights": True}:
        metadata.pop("model_from_pretrained_kwargs", None)  # centers_input says it
    if isinstance(cfg.get("prepend_bos"), bool):  # SAELens 5 has it beside the rest
        metadata.setdefault("prepend_bos", cfg["prepend_bos"])
    takes_k = architecture.startswith(("topk", "batchtopk"))
    k = whole(cfg, "k", path) if takes_k else None
    foreign = Foreign(
        "SAELens",
        weights,
        hook_name=metadata.pop("hook_name", None) or cfg.get("hook_name") or cfg.get("hook_point"),
        model_name=metadata.pop("model_name", None) or cfg.get("model_name") or "",
        architecture=architecture,
        k=k or (whole(cfg.get("activation_fn_kwargs") or {}, "k", path) if architecture == "topk" else None),
        subtracts_b_dec=flag(cfg, "apply_b_dec_to_input", True, path),
        selects_by_norm=flag(cfg, "rescale_acts_by_decoder_norm", False, path),
        centers_input=flag(kwargs, "center_writing_weights", False, path),
        said={name: whole(cfg, name, path) for name in ("d_in", "d_sae", "d_out")},
        metadata=metadata,
    )
    foreign = _normalized(foreign, cfg.get("normalize_activations") or "none", files)
    return _transcoder(foreign, architecture, path) if architecture in TRANSCODERS else foreign


def check_architecture(cfg: JSON, path: Path) -> None:
    """Raises SAEError for SAELens' SAEs that are none here, whatever tensors they have."""
    architecture = cfg.get("architecture")
    if architecture in NOT_READ and not (architecture == "temporal" and cfg.get("n_attn_layers") == 0):
        raise SAEError(f"{path}: {'an' if architecture == 'abstopk' else 'a'} {architecture} SAE {NOT_READ[architecture]}")


def _architecture(cfg: JSON, path: Path) -> str:
    activation = cfg.get("activation_fn", cfg.get("activation_fn_str", "relu"))
    architecture = "topk" if activation == "topk" else cfg.get("architecture", "standard")
    if architecture not in (*SAES, *TRANSCODERS) or activation not in ("relu", "topk"):
        raise SAEError(
            f"{path}: architecture {architecture!r} with {activation} is unknown here; there is {', '.join(ARCHITECTURES)}, gated"
        )
    if flag(cfg.get("activation_fn_kwargs") or {}, "signed", False, path):
        raise SAEError(f"{path}: signed, its features are the k largest of either sign; nothing here reads negative activations")
    return architecture


def _normalized(foreign: Foreign, how: Any, files: SAEFiles) -> Foreign:
    """The same with what its training did to activations first."""
    if how in (True, "expected_average_only_in"):
        return replace(foreign, scale=number(files.scaler, "scaling_factor", files.weights))
    if how == "covariance_whitening":
        file = files.weights.with_name(WHITENING_FILE)
        if not file.is_file():
            raise SAEError(f"{files.weights}: activations were whitened in training, and {WHITENING_FILE}, which says how, is not there")
        parts, _ = read_tensors(file)
        return replace(foreign, whitening=Whitening(*(parts[name].double() for name in ("mean", "matrix", "inverse_matrix"))))
    if how != "none":
        raise SAEError(f"{files.weights}: normalize_activations {how!r} divides each token by its own norm, which no weights can hold")
    return foreign


def _transcoder(foreign: Foreign, architecture: str, path: Path) -> Foreign:
    if foreign.subtracts_b_dec or foreign.scale != 1 or foreign.whitening:
        raise SAEError(f"{path}: a transcoder's input is not its output; b_dec, scales and whitening have no meaning there")
    weights, metadata = dict(foreign.weights), dict(foreign.metadata)
    is_skip = "skip_" in architecture
    if is_skip != ("W_skip" in weights):
        raise SAEError(f"{path} is a {architecture}, but W_skip is {'not ' if is_skip else ''}there")
    if is_skip:
        weights["W_skip"] = weights["W_skip"].T  # on disk (d_out, d_in)
    reads = foreign.hook_name
    if reads and reads.endswith(".hook_mlp_in") and str(metadata.get("hf_hook_name", "")).endswith(HF_READS_MLP):
        reads = f"{reads.removesuffix('hook_mlp_in')}mlp.hook_in"
    kind = architecture.removesuffix("transcoder").removesuffix("skip_").removesuffix("_") or "standard"
    return replace(
        foreign,
        weights=weights,
        hook_name=reads,
        hook_name_out=metadata.pop("hook_name_out", None),
        architecture=kind,
        metadata=metadata,
        is_transcoder=True,
    )


def without_attention(weights: Weights, cfg: JSON, path: Path) -> Foreign:
    """A temporal SAE of no attention layers, which is an SAE: relu or the k largest of (scale · x − b_dec) / (4 d_in) @ W_enc."""
    d_in = weights["W_dec"].shape[1]
    is_tied, adds_b_dec = flag(cfg, "tied_weights", True, path), flag(cfg, "apply_b_dec_to_input", True, path)
    W_enc = (weights["W_dec"].T if is_tied else weights["W_enc"]).float() / (4 * d_in)
    b_dec = weights["b_dec"] if adds_b_dec or not is_tied else torch.zeros(d_in)
    how: Any = cfg.get("normalize_activations", "none")
    if how not in ("none", "constant_scalar_rescale"):
        raise SAEError(f"{path}: normalize_activations {how!r} of a temporal SAE is not read here")
    shift = -(weights["b_dec"].double() @ W_enc.double()) if adds_b_dec else torch.zeros(W_enc.shape[1])
    k = whole(cfg, "kval_topk", path) if cfg.get("sae_diff_type", "topk") == "topk" else None
    metadata = dict(cfg.get("metadata") or {})
    return Foreign(
        "SAELens",
        {"W_enc": W_enc, "b_enc": shift, "W_dec": weights["W_dec"], "b_dec": b_dec},
        hook_name=metadata.pop("hook_name", None) or cfg.get("hook_name"),
        model_name=metadata.pop("model_name", None) or cfg.get("model_name") or "",
        architecture="topk" if k else "standard",
        k=k,
        scale=number(cfg, "activation_normalization_factor", path) if how != "none" else 1.0,
        metadata=metadata,
    )
