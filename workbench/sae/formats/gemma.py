"""Gemma Scope 1 and 2: JumpReLU SAEs, transcoders and cross-layer transcoders of Gemma 2 and 3.

Where the files do not say what they are of, the name of the repository does, if the path or the hub id still has it:

    google/gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71          blocks.20.hook_resid_post of gemma-2-2b
    google/gemma-scope-2b-pt-transcoders/layer_5/width_16k/average_l0_30   a transcoder: same tensors, same shapes, no other sign
    google/gemma-scope-2-1b-pt/transcoder_all/layer_3_width_16k_l0_small_affine

Gemma Scope 2 names hook points as Hugging Face does; its transcoders read what the MLP's norm gives (`pre_feedforward_layernorm.output`,
TransformerBridge's mlp.hook_in) and write what is added to the stream (`post_feedforward_layernorm.output`, hook_mlp_out).
"""

import math
import re
from dataclasses import replace
from pathlib import Path

from workbench.sae.config import SAEError
from workbench.sae.formats.circuit_tracer import CLT, Config
from workbench.sae.formats.foreign import JSON, Foreign, Weights, flag

SCOPE_1 = re.compile(r"gemma-scope-(?P<size>2b|9b|27b)-(?P<tuned>pt|it)-(?P<site>res|mlp|att|transcoders)(/|$)")
SCOPE_2 = re.compile(r"gemma-scope-2-(?P<model>[\w.]+-(pt|it))/(?P<inside>.*)")
IN_BLOCK = re.compile(r"layer_(\d+)")
SITES = {"res": "hook_resid_post", "mlp": "hook_mlp_out", "att": "attn.hook_z"}
PLACES = {
    "output": "hook_resid_post",
    "self_attn.o_proj.input": "attn.hook_z",
    "post_feedforward_layernorm.output": "hook_mlp_out",
    "pre_feedforward_layernorm.output": "mlp.hook_in",
}
KINDS_2 = {  # of Gemma Scope 2, by the folder's first word → (reads, writes)
    "resid_post": ("hook_resid_post", None),
    "attn_out": ("attn.hook_z", None),
    "mlp_out": ("hook_mlp_out", None),
    "transcoder": ("mlp.hook_in", "hook_mlp_out"),
}


def gemma_scope_1(weights: Weights, place: str) -> Foreign:
    """params.npz, nothing else: what it is of stands in the repository's name, if anywhere."""
    foreign = Foreign("Gemma Scope 1", weights, architecture="jumprelu", is_transcoder=None)
    name = SCOPE_1.search(place)
    if not name:
        return foreign
    model_name = f"gemma-2-{name['size']}{'-it' if name['tuned'] == 'it' else ''}"
    layer = IN_BLOCK.search(place)
    foreign = replace(foreign, model_name=model_name, metadata={"assumed": f"by the repository's name, {name[0].rstrip('/')}"})
    if name["site"] == "transcoders":
        places = (f"blocks.{layer[1]}.ln2.hook_normalized", f"blocks.{layer[1]}.hook_mlp_out") if layer else (None, None)
        return replace(foreign, is_transcoder=True, hook_name=places[0], hook_name_out=places[1])
    if "/embedding/" in f"{place}/":
        d_in = weights["b_dec"].shape[-1]  # trained on embeddings before Gemma multiplies them by √d_model
        return replace(foreign, is_transcoder=False, hook_name="hook_embed", scale=1 / math.sqrt(d_in))
    return replace(foreign, is_transcoder=False, hook_name=f"blocks.{layer[1]}.{SITES[name['site']]}" if layer else None)


def gemma_scope_2(weights: Weights, cfg: JSON, path: Path, place: str) -> Foreign:
    """params.safetensors and mostly a config.json, which names the hook points as Hugging Face does."""
    if len(weights["W_dec"].shape) == 3:
        raise SAEError(f"{path} is a layer of a cross-layer transcoder: wb.CrossLayerTranscoder.load reads all of them, from their folder")
    weights = dict(weights)
    if "affine_skip_connection" in weights:
        weights["W_skip"] = weights.pop("affine_skip_connection")  # (d_in, d_out)
    foreign = Foreign("Gemma Scope 2", weights, architecture="jumprelu", is_transcoder=None)
    if "hf_hook_point_in" not in cfg:
        return _by_name(foreign, place)
    if cfg.get("architecture", "jump_relu") != "jump_relu":
        raise SAEError(f"{path}: architecture {cfg['architecture']!r} is unknown here; Gemma Scope 2 has jump_relu")
    reads, writes = (_place(cfg.get(name)) for name in ("hf_hook_point_in", "hf_hook_point_out"))
    kind = str(cfg.get("type") or ("transcoder" if writes not in (None, reads) else "sae"))
    if kind == "sae" and writes not in (None, reads):
        raise SAEError(f"{path} says it is an SAE, but reads {cfg['hf_hook_point_in']} and writes {cfg['hf_hook_point_out']}")
    if flag(cfg, "affine_connection", False, path) and "W_skip" not in weights:
        raise SAEError(f"{path}: its JSON says affine_connection, but no affine_skip_connection is in the file")
    return replace(
        foreign,
        hook_name=reads,
        hook_name_out=writes if kind != "sae" else None,
        is_transcoder=kind != "sae",
        model_name=cfg.get("model_name", ""),
        said={"d_sae": cfg.get("width")},
    )


def clt_config(place: str) -> Config:
    """Where Gemma Scope 2's cross-layer transcoders read and write: as its other transcoders do. Their files say nothing."""
    reads, writes = KINDS_2["transcoder"]
    name = SCOPE_2.search(f"{place}/")
    model_name = f"google/gemma-3-{name['model']}".replace("270m-pt", "270m") if name else ""
    return Config(model_name, CLT, reads, writes or "", assumed=f"{reads} → {writes}, as Gemma Scope 2's other transcoders")


def _by_name(foreign: Foreign, place: str) -> Foreign:
    """Without config.json: by the folder's name, which says resid_post, attn_out, mlp_out or transcoder."""
    name = SCOPE_2.search(place)
    is_skip = {"is_transcoder": True} if "W_skip" in foreign.weights else {}
    kind = next((kind for kind in KINDS_2 if name and kind in name["inside"]), None)
    layer = IN_BLOCK.search(name["inside"]) if name else None
    if not (name and kind and layer):
        return replace(foreign, **is_skip)
    reads, writes = KINDS_2[kind]
    return replace(
        foreign,
        hook_name=f"blocks.{layer[1]}.{reads}",
        hook_name_out=f"blocks.{layer[1]}.{writes}" if writes else None,
        is_transcoder=writes is not None,
        model_name=f"google/gemma-3-{name['model']}".replace("270m-pt", "270m"),
        metadata={"assumed": f"by the repository's name, {name[0]}"},
    )


def _place(hf_name: str | None) -> str | None:
    """model.layers.3.output → blocks.3.hook_resid_post"""
    module = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", hf_name or "")
    return f"blocks.{module[1]}.{PLACES[module[2]]}" if module and module[2] in PLACES else None
