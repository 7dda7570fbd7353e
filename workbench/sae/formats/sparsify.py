"""sparsify's sae.safetensors and cfg.json: TopK SAEs, and transcoders with and without a skip.

    SAE                                      x − b_dec is encoded
    transcoder (cfg.json says transcode)     x is encoded; W_skip (d_out, d_in) reads x as it is
    transcoder of November 2024 to February 2025: only config.json in the folder above says transcode; x − b_dec is encoded

The folder is named after the module: layers.3 or h.3 is a block, layers.3.mlp its MLP, which a transcoder reads and writes.
Versions 1.3.3 and the repository's history since May 2024.
"""

import json
import re
from pathlib import Path
from typing import Any

from workbench.files import write_tensors, write_together
from workbench.sae.config import SAEError
from workbench.sae.formats.files import read_json
from workbench.sae.formats.foreign import JSON, Foreign, Weights, flag, whole

WEIGHTS, CFG, RUN = "sae.safetensors", "cfg.json", "config.json"
MODULE = re.compile(r"(?:.*\.)?(?:layers|h)[._](\d+)(\.mlp)?")


def sparsify(weights: Weights, cfg: JSON, path: Path) -> Foreign:
    """sparsify's SAEs and transcoders with TopK. Raises SAEError for what it adds to them."""
    if extra := [name for name in ("embed_skip", "gram_lookup") if cfg.get(name)]:
        raise SAEError(f"{path} is no plain SAE: {', '.join(extra)} adds what feature activations do not hold")
    if flag(cfg, "signed", False, path):
        raise SAEError(f"{path}: signed, its features are the k largest of either sign; nothing here reads negative activations")
    if cfg.get("activation", "topk") != "topk" or not cfg.get("k"):
        raise SAEError(f"{path}: its cfg.json says activation {cfg.get('activation', 'topk')!r}, k {cfg.get('k')}; expected 'topk' and k")
    run = path.parent.parent / RUN
    is_early = "transcode" not in cfg and run.is_file() and flag(read_json(run), "transcode", False, run)
    has_skip = flag(cfg, "skip_connection", False, path)
    if has_skip != ("W_skip" in weights):
        raise SAEError(f"{path}: skip_connection is {has_skip} in the JSON, but W_skip is {'' if 'W_skip' in weights else 'not '}there")
    if has_skip:
        weights = weights | {"W_skip": weights["W_skip"].T}
    is_transcoder = flag(cfg, "transcode", False, path) or is_early or has_skip
    d_sae = whole(cfg, "num_latents", path) or (whole(cfg, "expansion_factor", path) or 0) * (whole(cfg, "d_in", path) or 0) or None
    module = MODULE.fullmatch(path.parent.name)
    reads, writes = _places(module, is_transcoder)
    return Foreign(
        "sparsify",
        weights,
        hook_name=reads,
        hook_name_out=writes,
        architecture="topk",
        k=whole(cfg, "k", path),
        subtracts_b_dec=not flag(cfg, "transcode", False, path),
        is_transcoder=is_transcoder,
        said={"d_in": whole(cfg, "d_in", path), "d_sae": d_sae},
        metadata={"assumed": f"its place by the folder's name, {path.parent.name}"} if reads else {},
    )


def _places(module: re.Match | None, is_transcoder: bool) -> tuple[str | None, str | None]:
    if not module:
        return None, None
    block, is_mlp = f"blocks.{module[1]}", module[2] is not None
    if is_transcoder:
        return (f"{block}.mlp.hook_in", f"{block}.mlp.hook_out") if is_mlp else (f"{block}.hook_resid_pre", f"{block}.hook_resid_post")
    return f"{block}.{'mlp.hook_out' if is_mlp else 'hook_resid_post'}", None


def folder_of(transcoder: Any) -> str:
    """The name that tells sparsify's readers where a transcoder reads and writes. Raises SAEError for places that no name says."""
    cfg = transcoder.cfg
    block = cfg.hook_name_in.split(".")[1] if cfg.hook_name_in.startswith("blocks.") else ""
    for name in (f"layers.{block}.mlp", f"layers.{block}"):
        reads, writes = _places(MODULE.fullmatch(name), is_transcoder=True)
        if cfg.hook_name_in == reads and cfg.hook_name_out in (writes, *([f"blocks.{block}.hook_mlp_out"] if name.endswith("mlp") else [])):
            return name
    raise SAEError(
        f"sparsify's folders say where a transcoder stands by their names, which know an MLP (mlp.hook_in → mlp.hook_out) and a whole "
        f"block; this one is {cfg.hook_name_in} → {cfg.hook_name_out}"
    )


def write_sparsify(transcoder: Any, folder: Path) -> None:
    """A TopK transcoder as sparsify writes it. Raises SAEError for what its folder cannot hold: ReLU, d_out other than d_in."""
    cfg = transcoder.cfg
    if cfg.architecture != "topk" or cfg.d_in != cfg.d_out:
        raise SAEError(f"sparsify's transcoders are topk and as wide at both ends; this is {cfg.architecture}, {cfg.d_in} → {cfg.d_out}")
    weights = {"encoder.weight": transcoder.W_enc.T, "encoder.bias": transcoder.b_enc, "W_dec": transcoder.W_dec, "b_dec": transcoder.b_dec}
    weights |= {"W_skip": transcoder.W_skip.T} if transcoder.W_skip is not None else {}
    whole_weights = {name: weight.detach().contiguous().cpu() for name, weight in weights.items()}
    said = {"activation": "topk", "expansion_factor": max(1, cfg.d_sae // cfg.d_in), "normalize_decoder": False, "num_latents": cfg.d_sae}
    said |= {"k": cfg.k, "multi_topk": False, "skip_connection": cfg.has_skip, "transcode": True, "d_in": cfg.d_in}
    text = json.dumps(said, indent=1) + "\n"
    write_together(folder, {WEIGHTS: lambda path: write_tensors(path, whole_weights), CFG: lambda path: path.write_text(text)})
