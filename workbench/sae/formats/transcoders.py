"""Transcoders of any library, alone or one a layer, and cross-layer ones. What is an SAE is refused, naming who reads it.

    read_transcoder("folder" | "file" | "owner/repo:subfolder")      → Transcoder
    read_set("circuit-tracer's folder" | "folder of folders")        → {layer: Transcoder}
    read_cross_layer("circuit-tracer's folder")                      → CrossLayerTranscoder

Scales of input and output are folded into the weights; decoder norms are not (transcoder.py says why).
"""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from workbench.sae.config import CrossLayerConfig, SAEError, TranscoderConfig
from workbench.sae.formats import circuit_tracer
from workbench.sae.formats.files import fetch_all, hub_id, locate, named_place
from workbench.sae.formats.folding import check_finite, checked_widths, folded, without_gate
from workbench.sae.formats.foreign import Foreign
from workbench.sae.formats.gemma import clt_config
from workbench.sae.formats.read import open_files

HF_FILE = re.compile(r"hf://(?P<repo>[^/]+/[^/]+)/(?:(?P<folder>.+)/)?(?P<file>[^/?]+\.(?:npz|safetensors))(?P<query>\?.*)?")
GIVE = "give hook_name_in= and hook_name_out= ('blocks.6.mlp.hook_in', 'blocks.6.hook_mlp_out')"


Kind = Callable[[TranscoderConfig], Any]  # the class that holds one, handed in by what stands above


def read_transcoder(
    kind: Kind,
    source: str | Path,
    device: str | torch.device = "cpu",
    *,
    hook_name_in: str | None = None,
    hook_name_out: str | None = None,
    model_name: str | None = None,
) -> Any:
    """The transcoder in a folder, a file or a hub repository; see Transcoder.load."""
    files = locate(source)
    foreign = open_files(files)
    if foreign.is_transcoder is None and hook_name_in and hook_name_out:
        foreign = replace(foreign, is_transcoder=True)
    given = dict(hook_name=hook_name_in, hook_name_out=hook_name_out, model_name=model_name)
    foreign = replace(foreign, **{name: value for name, value in given.items() if value is not None})
    return assemble_transcoder(kind, foreign, files.weights).to(device)


def assemble_transcoder(kind: Kind, foreign: Foreign, path: Path) -> Any:
    """A frozen transcoder in float32 with its scales folded in."""
    if foreign.is_transcoder is None:
        raise SAEError(f"{path} ({foreign.format}) may be an SAE or a transcoder, its files do not say: if it is a transcoder, {GIVE}")
    if not foreign.is_transcoder:
        raise SAEError(f"{path} ({foreign.format}) is an SAE, not a transcoder: wb.SAE.load reads it")
    if foreign.centers_input:
        raise SAEError(f"{path} ({foreign.format}) is of a model whose weights were centered: no transcoder here reads such activations")
    if "b_gate" in foreign.weights:
        foreign = without_gate(foreign)
    d_in, d_sae, d_out = checked_widths(foreign, path)
    check_finite(foreign.weights, path)
    if not (foreign.hook_name and foreign.hook_name_out):
        raise SAEError(f"{path} ({foreign.format}) does not say where it reads and writes: {GIVE}")
    weights = folded(foreign)
    said = {name: getattr(foreign, name) for name in ("model_name", "architecture", "k", "metadata")}
    has_skip = "W_skip" in weights
    cfg = TranscoderConfig(d_in, d_out, d_sae, foreign.hook_name, foreign.hook_name_out, has_skip=has_skip, **said)
    transcoder = kind(cfg).requires_grad_(False).eval()
    for name, weight in weights.items():
        transcoder.get_parameter(name).copy_(weight)
    if foreign.scale is None:
        raise SAEError(f"{path} ({foreign.format}) scales activations and does not say by how much")
    scale_out = foreign.scale if foreign.scale_out is None else foreign.scale_out
    transcoder.fold_scales(foreign.scale, scale_out)
    check_finite(dict(transcoder.named_parameters()), path)
    return transcoder


def read_set(kind: Kind, source: str | Path, device: str | torch.device = "cpu", *, model_name: str | None = None) -> dict[int, Any]:
    """Layer → transcoder, from circuit-tracer's folder (or a hub id of one), or from a folder of transcoders' folders.

    Raises SAEError where a layer is missing, two are of the same layer, or they are of several models.
    """
    folder = Path(source).expanduser()
    if folder.is_dir() and not circuit_tracer.is_folder(folder):
        found = _in_subfolders(kind, folder, device, model_name)
    else:
        folder, config = circuit_tracer.open_folder(source, circuit_tracer.SET)
        if config.files:
            found = {layer: _elsewhere(kind, file, config, layer, device) for layer, file in enumerate(config.files)}
        else:
            files = circuit_tracer.numbered(folder, circuit_tracer.LAYER)
            found = {layer: read_transcoder(kind, file, device, model_name=model_name) for layer, file in enumerate(files)}
    names = {transcoder.cfg.model_name for transcoder in found.values()}
    if len(names) > 1:
        raise SAEError(f"{folder} holds transcoders of several models: {', '.join(sorted(names))}")
    return found


def _elsewhere(kind: Kind, file: str, config: circuit_tracer.Config, layer: int, device: str | torch.device) -> Any:
    """A layer whose weights are another repository's: hf://google/gemma-scope-2b-pt-transcoders/layer_0/width_16k/average_l0_76/params.npz"""
    address = _address(file)
    if not address and not Path(file).exists():
        raise SAEError(f"{file!r} in {circuit_tracer.CONFIG} is neither a file here nor hf://owner/repo/folder/file")
    place_in, place_out = config.places(layer)
    source = f"{address['repo']}:{'/'.join(filter(None, (address['folder'], address['file'])))}" if address else file
    return read_transcoder(kind, source, device, hook_name_in=place_in, hook_name_out=place_out, model_name=config.model_name)


def _address(file: str) -> re.Match[str] | None:
    """The parts of an hf:// address. Raises SAEError where it asks for a revision: the newest would be read in its place."""
    address = HF_FILE.fullmatch(file)
    if address and address["query"]:
        raise SAEError(
            f"{file!r} in {circuit_tracer.CONFIG} asks for {address['query'][1:]}: download that revision and name its files here"
        )
    return address


def _in_subfolders(kind: Kind, folder: Path, device: str | torch.device, model_name: str | None) -> dict[int, Any]:
    found: dict[int, Any] = {}
    for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
        transcoder = read_transcoder(kind, inner, device, model_name=model_name)
        block = re.match(r"blocks\.(\d+)\.", transcoder.cfg.hook_name_in)
        if not block:
            raise SAEError(f"{inner} reads {transcoder.cfg.hook_name_in}, which is in no block: a set has one transcoder a layer")
        if int(block[1]) in found:
            raise SAEError(f"{folder} holds two transcoders of layer {block[1]}; a set has one a layer")
        found[int(block[1])] = transcoder
    if not found:
        raise SAEError(f"{folder} holds no set of transcoders: neither {circuit_tracer.CONFIG} nor folders of transcoders are there")
    return dict(sorted(found.items()))


def read_cross_layer(
    kind: Callable[[CrossLayerConfig], Any],
    source: str | Path,
    device: str | torch.device = "cpu",
    *,
    hook_in: str | None = None,
    hook_out: str | None = None,
    model_name: str | None = None,
) -> Any:
    """circuit-tracer's folder of a cross-layer transcoder, or Gemma Scope 2's; see CrossLayerTranscoder.load."""
    config, found, folder = _cross_layer_parts(source)
    config = replace(config, hook_in=hook_in or config.hook_in, hook_out=hook_out or config.hook_out)
    n, (d_in, d_sae), d_out = len(found["W_enc"]), found["W_enc"][0].shape, found["b_dec"][0].shape[-1]
    shapes = {"W_enc": (d_in, d_sae), "b_enc": (d_sae,), "b_dec": (d_out,), "threshold": (d_sae,), "W_skip": (d_in, d_out)}
    for name, tensors in found.items():
        for layer, tensor in enumerate(tensors):
            expected = (d_sae, n - layer, d_out) if name == "W_dec" else shapes[name]
            if tuple(tensor.shape) != expected:
                raise SAEError(f"{folder}: {name} of layer {layer} is {tuple(tensor.shape)}; expected {expected} for {n} layers")
        if len(tensors) != n:
            raise SAEError(f"{folder}: {len(tensors)} of {n} layers have a {name}")
        check_finite({f"{name}_{layer}": tensor for layer, tensor in enumerate(tensors)}, folder)
    architecture = "jumprelu" if "threshold" in found else "standard"
    cfg = CrossLayerConfig(n, d_in, d_out, d_sae, config.hook_in, config.hook_out, model_name or config.model_name)
    metadata = {name: value for name, value in (("scan", config.scan), ("assumed", config.assumed)) if value} | config.metadata
    clt = kind(replace(cfg, architecture=architecture, has_skip="W_skip" in found, metadata=metadata)).requires_grad_(False).eval()
    for name, tensors in found.items():
        for own, tensor in zip(getattr(clt, name), tensors, strict=True):
            own.copy_(tensor)
    return clt.to(device)


def is_cross_layer(source: str | Path) -> bool:
    """Does this folder or hub id hold a cross-layer transcoder (circuit-tracer's, Gemma Scope 2's)?"""
    folder = Path(source).expanduser()
    if not folder.exists() and (address := hub_id(source)):
        if "gemma-scope-2" in address[0]:
            return "clt" in (address[1] or "")
        folder = fetch_all(*address, (circuit_tracer.CONFIG,))
    if circuit_tracer.is_folder(folder):
        return circuit_tracer.read_config(folder).kind != circuit_tracer.SET
    return folder.is_dir() and any(circuit_tracer.GEMMA_LAYER.fullmatch(path.name) for path in folder.iterdir())


def _cross_layer_parts(source: str | Path) -> tuple[circuit_tracer.Config, dict[str, list[torch.Tensor]], Path]:
    """(what is said of it, its weights by layer, its folder)"""
    folder = Path(source).expanduser()
    if not folder.exists() and (address := hub_id(source)) and "gemma-scope-2" in address[0]:
        folder = fetch_all(*address, ("params_layer_*.safetensors",))
    if folder.is_dir() and any(circuit_tracer.GEMMA_LAYER.fullmatch(path.name) for path in folder.iterdir()):
        return clt_config(named_place(folder)), circuit_tracer.read_gemma_layers(folder), folder
    folder, config = circuit_tracer.open_folder(source, circuit_tracer.CLT, circuit_tracer.CLT_WITH_SKIP)
    if not config.files:
        return config, circuit_tracer.read_layers(folder, config), folder
    places = {(match["repo"], match["folder"] or "") if (match := _address(file)) else None for file in config.files}
    if None in places or len(places) > 1:
        raise SAEError(f"{folder}: the layers named in {circuit_tracer.CONFIG} are not files of one folder, hf://owner/repo/folder/file")
    ((repo, inside),) = (place for place in places if place)
    there = fetch_all(repo, inside, ("params_layer_*.safetensors",))
    return config, circuit_tracer.read_gemma_layers(there), there
