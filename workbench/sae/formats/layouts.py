"""How each library lays out a sparse autoencoder: its tensors and JSON → `Foreign`, one function a library.

formats.py tells them apart and folds what differs. Versions read in 2026: SAELens 6.54 and its predecessors, Gemma Scope 1 and 2, Llama
Scope (lm_saes), dictionary_learning 0.1, sparsify 1.3.
"""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workbench.sae.architectures import ARCHITECTURES
from workbench.sae.config import SAEError

Weights = dict[str, Tensor]
JSON = dict[str, Any]


@dataclass(frozen=True)
class Foreign:
    """An SAE as its file has it. weights: W_enc (d_in, d_sae), b_enc, W_dec (d_sae, d_in), b_dec; for jumprelu threshold (d_sae or one)."""

    format: str
    weights: Weights
    hook_name: str | None = None
    model_name: str = ""
    architecture: str = "standard"
    k: int | None = None
    subtracts_b_dec: bool = False  # encodes x − b_dec
    selects_by_norm: bool = False  # TopK and thresholds compare pre_acts · ‖decoder row‖
    scale: float | None = 1.0  # reads scale · x; None: it does, and the file does not say by how much
    centers_input: bool = False
    said: JSON = field(default_factory=dict)  # the widths that its JSON claims
    metadata: JSON = field(default_factory=dict)


def saelens(weights: Weights, cfg: JSON, scaler: JSON, path: Path) -> Foreign:
    """SAELens 6 (facts under `metadata`; its release candidates said `meta`), SAELens 5 (flat) and older (`hook_point`). Ours is 6."""
    metadata = dict(cfg.get("metadata") or cfg.get("meta") or {})
    metadata.pop("sae_lens_version", None)
    activation = cfg.get("activation_fn", cfg.get("activation_fn_str", "relu"))
    architecture = "topk" if activation == "topk" else cfg.get("architecture", "standard")
    if architecture not in (*ARCHITECTURES, "gated", "matryoshka_batchtopk") or activation not in ("relu", "topk"):
        raise SAEError(
            f"{path}: architecture {architecture!r} with {activation} is unknown here; there is {', '.join(ARCHITECTURES)}, gated"
        )
    for name in ("scaling_factor", "finetuning_scaling_factor"):  # multiplies feature activations before they are decoded
        if name in weights:
            weights["W_dec"] = weights["W_dec"] * weights.pop(name)[:, None]
    if "topk_threshold" in weights:  # a checkpoint of BatchTopK training
        architecture, weights["threshold"] = "jumprelu", weights.pop("topk_threshold")
    kwargs = metadata.get("model_from_pretrained_kwargs") or cfg.get("model_from_pretrained_kwargs") or {}
    if kwargs == {"center_writing_weights": True}:
        metadata.pop("model_from_pretrained_kwargs", None)  # centers_input says it
    k = cfg.get("k", (cfg.get("activation_fn_kwargs") or {}).get("k"))
    return Foreign(
        "SAELens",
        weights,
        hook_name=metadata.pop("hook_name", None) or cfg.get("hook_name") or cfg.get("hook_point"),
        model_name=metadata.pop("model_name", None) or cfg.get("model_name") or "",
        architecture=architecture,
        k=int(k) if architecture in ("topk", "batchtopk") and k else None,
        subtracts_b_dec=bool(cfg.get("apply_b_dec_to_input", True)),
        selects_by_norm=bool(cfg.get("rescale_acts_by_decoder_norm", False)),
        scale=_saelens_scale(cfg.get("normalize_activations") or "none", scaler, path),
        centers_input=bool(kwargs.get("center_writing_weights", False)),
        said={name: cfg.get(name) for name in ("d_in", "d_sae")},
        metadata=metadata,
    )


def _saelens_scale(how: str | bool, scaler: JSON, path: Path) -> float | None:
    if how in (True, "expected_average_only_in"):
        return scaler.get("scaling_factor")
    if how != "none":
        raise SAEError(f"{path}: normalize_activations {how!r} divides each token by its own norm, which no weights can hold")
    return 1.0


def gemma_scope_1(weights: Weights) -> Foreign:
    """params.npz, nothing else."""
    return Foreign("Gemma Scope 1", weights, architecture="jumprelu")


def gemma_scope_2(weights: Weights, cfg: JSON, path: Path) -> Foreign:
    """params.safetensors and config.json, which names the hook point as Hugging Face does."""
    if cfg.get("type", "sae") != "sae":
        raise SAEError(f"{path} is a {cfg['type']}, not an SAE: it reads one place and writes another")
    places = {
        "output": "hook_resid_post",
        "self_attn.o_proj.input": "attn.hook_z",
        "post_feedforward_layernorm.output": "hook_mlp_out",
    }
    module = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", cfg.get("hf_hook_point_in", ""))
    return Foreign(
        "Gemma Scope 2",
        weights,
        hook_name=f"blocks.{module[1]}.{places[module[2]]}" if module and module[2] in places else None,
        model_name=cfg.get("model_name", ""),
        architecture="jumprelu",
        said={"d_sae": cfg.get("width")},
    )


def llama_scope(weights: Weights, cfg: JSON, path: Path) -> Foreign:
    """hyperparams.json and final.safetensors. lm_saes takes the scale and the decoder norms out of the weights first and compares the
    feature activations that result with `jump_relu_threshold`; so does this."""
    if cfg.get("hook_point_out", cfg["hook_point_in"]) != cfg["hook_point_in"]:
        raise SAEError(f"{path} reads {cfg['hook_point_in']} and writes {cfg['hook_point_out']}: a transcoder, not an SAE")
    how, norm = cfg.get("norm_activation", "dataset-wise"), (cfg.get("dataset_average_activation_norm") or {}).get("in")
    if how == "dataset-wise" and not norm:
        raise SAEError(f"{path}: its JSON lacks dataset_average_activation_norm, by which activations were scaled in training")
    if how not in ("dataset-wise", "inference"):
        raise SAEError(f"{path}: norm_activation {how!r} divides each token by its own norm, which no weights can hold")
    d_in, d_sae = weights["W_enc"].shape
    scale = math.sqrt(d_in) / norm if norm and how == "dataset-wise" else 1.0
    threshold = float(cfg.get("jump_relu_threshold") or 0)
    architecture = "jumprelu" if threshold else {"relu": "standard"}.get(cfg.get("act_fn", "relu"), cfg.get("act_fn"))
    if architecture == "jumprelu":
        weights["threshold"] = torch.tensor(threshold * scale)
    weights.setdefault("b_dec", torch.zeros(d_in))
    return Foreign(
        "Llama Scope",
        weights,
        hook_name=cfg["hook_point_in"],
        architecture=str(architecture),
        k=cfg.get("top_k") if architecture == "topk" else None,
        subtracts_b_dec=bool(cfg.get("apply_decoder_bias_to_pre_encoder", False)),
        selects_by_norm=bool(cfg.get("sparsity_include_decoder_norm", True)),
        scale=scale,
        said={"d_in": cfg.get("d_model"), "d_sae": cfg.get("d_sae")},
    )


def dictionary_learning(weights: Weights, cfg: JSON, names: set[str], path: Path) -> Foreign:
    """ae.pt, mostly with a config.json. names: the tensors' own, by which its classes differ."""
    trainer = cfg.get("trainer") or {}
    kind = trainer.get("dict_class") or _dictionary_class(names, path)
    k, place = weights.pop("k", None), str(trainer.get("submodule_name") or "")
    weights.pop("group_sizes", None)
    if kind == "AutoEncoderTopK":
        weights.pop("threshold", None)  # tracked in training, not used by encode
    parts = {"resid_post": "hook_resid_post", "resid_out": "hook_resid_post", "mlp_out": "hook_mlp_out", "attn_out": "hook_attn_out"}
    part = next((ours for theirs, ours in parts.items() if place.startswith(theirs)), None)
    is_k_needed = kind == "AutoEncoderTopK"
    return Foreign(
        "dictionary_learning",
        weights,
        hook_name=f"blocks.{trainer['layer']}.{part}" if part and "layer" in trainer else None,
        model_name=trainer.get("lm_name") or "",
        architecture="topk" if is_k_needed else "jumprelu" if "threshold" in weights else "standard",
        k=int(k if k is not None else trainer.get("k") or 0) if is_k_needed else None,
        subtracts_b_dec=kind not in ("AutoEncoderNew", "JumpReluAutoEncoder"),
        said={"d_in": trainer.get("activation_dim"), "d_sae": trainer.get("dict_size")},
    )


def _dictionary_class(names: set[str], path: Path) -> str:
    """The class by what only it has."""
    if {"k", "threshold"} <= names:
        raise SAEError(f"{path} may be dictionary_learning's TopK or BatchTopK: its config.json, which says so, is not beside it")
    marks = {"k": "AutoEncoderTopK", "threshold": "JumpReluAutoEncoder", "gate_bias": "GatedAutoEncoder", "decoder.bias": "AutoEncoderNew"}
    return next((kind for mark, kind in marks.items() if mark in names), "AutoEncoder")


def sparsify(weights: Weights, cfg: JSON, path: Path) -> Foreign:
    """sae.safetensors and cfg.json: TopK, x − b_dec first."""
    if extra := [name for name in ("transcode", "skip_connection", "embed_skip", "gram_lookup") if cfg.get(name)]:
        raise SAEError(f"{path} is no plain SAE: {', '.join(extra)} adds what feature activations do not hold")
    if cfg.get("activation", "topk") != "topk" or not cfg.get("k"):
        raise SAEError(f"{path}: its cfg.json says activation {cfg.get('activation', 'topk')!r}, k {cfg.get('k')}; expected 'topk' and k")
    d_sae = cfg.get("num_latents") or (cfg.get("expansion_factor") or 0) * (cfg.get("d_in") or 0) or None
    said = {"d_in": cfg.get("d_in"), "d_sae": d_sae}
    return Foreign("sparsify", weights, architecture="topk", k=int(cfg["k"]), subtracts_b_dec=True, said=said)
