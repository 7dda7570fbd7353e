"""ae.pt of dictionary_learning, and sae.pt of the BatchTopK paper's repository, both with a config.json.

dictionary_learning 0.1.0 and its history: the class, by which encoders differ, stands in config.json. Its BatchTopK of October to December
2024 has no threshold yet and takes k · n_rows of a batch.
"""

import re
from pathlib import Path

import torch

from workbench.sae.config import SAEError
from workbench.sae.formats.foreign import JSON, Foreign, Weights, flag, whole

PARTS = {"resid_post": "hook_resid_post", "resid_out": "hook_resid_post", "mlp_out": "hook_mlp_out", "attn_out": "hook_attn_out"}
BY_BATCH = ("BatchTopKSAE", "MatryoshkaBatchTopKSAE")


def dictionary_learning(weights: Weights, cfg: JSON, names: set[str], path: Path) -> Foreign:
    """names: the tensors' own, by which its classes differ."""
    trainer = cfg.get("trainer") or {}
    kind = trainer.get("dict_class") or _class(names, path)
    k, place = weights.pop("k", None), str(trainer.get("submodule_name") or "")
    weights.pop("group_sizes", None)
    if kind == "AutoEncoderTopK":
        weights.pop("threshold", None)  # tracked in training, not used by encode
    architecture = "topk" if kind == "AutoEncoderTopK" else "jumprelu" if "threshold" in weights else "standard"
    if kind in BY_BATCH and "threshold" not in weights:
        architecture = "batchtopk"
    part = next((ours for theirs, ours in PARTS.items() if place.startswith(theirs)), None)
    takes_k = architecture in ("topk", "batchtopk")
    return Foreign(
        "dictionary_learning",
        weights,
        hook_name=f"blocks.{trainer['layer']}.{part}" if part and "layer" in trainer else None,
        model_name=trainer.get("lm_name") or "",
        architecture=architecture,
        k=(int(k) if k is not None else whole(trainer, "k", path)) if takes_k else None,
        subtracts_b_dec=kind not in ("AutoEncoderNew", "JumpReluAutoEncoder"),
        said={"d_in": whole(trainer, "activation_dim", path), "d_sae": whole(trainer, "dict_size", path)},
    )


def _class(names: set[str], path: Path) -> str:
    """The class by what only it has."""
    if "k" in names:
        raise SAEError(f"{path} may be dictionary_learning's TopK or BatchTopK: its config.json, which says so, is not beside it")
    if path.suffix == ".safetensors" and {"encoder.weight", "decoder.bias"} <= names:
        raise SAEError(
            f"{path} looks like Llama Scope's weights, whose scale and threshold stand in hyperparams.json, or like dictionary_learning's: "
            "neither that nor config.json is beside it"
        )
    marks = {"threshold": "JumpReluAutoEncoder", "gate_bias": "GatedAutoEncoder", "decoder.bias": "AutoEncoderNew"}
    return next((kind for mark, kind in marks.items() if mark in names), "AutoEncoder")


def batchtopk_repository(weights: Weights, cfg: JSON, path: Path) -> Foreign:
    """sae.pt and config.json (sae_type, top_k, input_unit_norm). Only its plain ReLU SAE adds b_enc."""
    kinds = {"vanilla": "standard", "topk": "topk", "batchtopk": "batchtopk", "jumprelu": "jumprelu"}
    kind = str(cfg["sae_type"])
    if kind not in kinds:
        raise SAEError(f"{path}: sae_type {kind!r} is unknown here; there is {', '.join(kinds)}")
    if flag(cfg, "input_unit_norm", False, path):
        raise SAEError(f"{path}: input_unit_norm divides each token by its own deviation, which no weights can hold")
    if kind in ("topk", "batchtopk"):
        weights["b_enc"] = torch.zeros_like(weights["b_enc"])  # a parameter there, not used
    weights = {re.sub(r"^jumprelu\.log_threshold$", "threshold", name): weight for name, weight in weights.items()}
    if kind == "jumprelu":
        weights["threshold"] = weights["threshold"].float().exp()
    return Foreign(
        "BatchTopK repository",
        weights,
        hook_name=cfg.get("hook_point"),
        model_name=cfg.get("model_name") or "",
        architecture=kinds[kind],
        k=whole(cfg, "top_k", path) if kind in ("topk", "batchtopk") else None,
        subtracts_b_dec=kind != "jumprelu",
        said={"d_in": whole(cfg, "act_size", path), "d_sae": whole(cfg, "dict_size", path)},
    )
