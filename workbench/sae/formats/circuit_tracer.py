"""circuit-tracer's folder: transcoders of every layer of a model, one file a layer, and a config.yaml that says where they read and write.

    config.yaml               model_name, model_kind: transcoder_set, feature_input_hook, feature_output_hook, scan
    layer_0.safetensors …     W_enc (d_sae, d_in), W_dec (d_sae, d_out), b_enc, b_dec, activation_function.threshold, W_skip (d_out, d_in)

and for cross-layer transcoders (model_kind: cross_layer_transcoder)

    W_enc_0.safetensors …     W_enc_0 (d_sae, d_in), b_enc_0, b_dec_0, threshold_0
    W_dec_0.safetensors …     W_dec_0 (d_sae, n_layers − 0, d_out): what a feature of layer 0 writes into layers 0, 1, …

Read in version 0.5. Its hooks are named inside a block, as TransformerBridge's: `hook_resid_mid` of layer 3 is `blocks.3.hook_resid_mid`,
the same activation (checked on GPT-2, Llama and Gemma 2, whose hook_mlp_out stands after the post-norm in both).
A JumpReLU threshold below 0 lets negative activations pass there; nothing else reads them so, and it is refused.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml

from workbench.sae.config import SAEError
from workbench.sae.formats.files import CIRCUIT_TRACER_FILE as CONFIG
from workbench.sae.formats.files import SAEFiles, fetch_all, hub_id, read_tensors
from workbench.sae.formats.foreign import Foreign, Weights

SET, CLT = "transcoder_set", "cross_layer_transcoder"
CLT_WITH_SKIP = "cross_layer_transcoder_with_skip"  # ours: circuit-tracer 0.5 loses a CLT's skip on saving, so it must not open these
LAYER = re.compile(r"layer_(\d+)\.safetensors")
GEMMA_LAYER = re.compile(r"params_layer_(\d+)\.safetensors")
KINDS = {SET: "wb.load_transcoders", CLT: "wb.CrossLayerTranscoder.load", CLT_WITH_SKIP: "wb.CrossLayerTranscoder.load"}


@dataclass(frozen=True)
class Config:
    """What a config.yaml says of a folder of transcoders."""

    model_name: str
    kind: str
    hook_in: str  # inside of a block: "mlp.hook_in"
    hook_out: str
    scan: Any = None
    files: tuple[str, ...] = ()  # hf:// addresses, one a layer, where the weights are another repository's
    assumed: str = ""  # what only a repository's name told
    metadata: dict[str, Any] = field(default_factory=dict)  # ours: how it was trained; circuit-tracer reads over it

    def places(self, layer: int) -> tuple[str, str]:
        """(hook_name_in, hook_name_out) of one layer."""
        return f"blocks.{layer}.{self.hook_in}", f"blocks.{layer}.{self.hook_out}"


def is_folder(folder: Path) -> bool:
    """Does it hold a config.yaml of circuit-tracer's?"""
    path = folder / CONFIG
    return path.is_file() and "model_kind" in path.read_text(errors="replace")


def read_config(folder: Path) -> Config:
    """What config.yaml says. Raises SAEError for what is missing or of another kind."""
    path = folder / CONFIG
    try:
        said = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SAEError(f"{path} cannot be read as YAML ({str(error).splitlines()[0]})") from None
    if not isinstance(said, dict):
        raise SAEError(f"{path} holds a YAML {type(said).__name__}; expected keys such as feature_input_hook")
    if said.get("model_kind") not in KINDS:
        raise SAEError(f"{path} says model_kind {said.get('model_kind')!r}; there is {', '.join(KINDS)}")
    reads, writes = said.get("feature_input_hook"), said.get("feature_output_hook")
    if not (isinstance(reads, str) and reads and isinstance(writes, str) and writes):
        raise SAEError(f"{path} does not say where the transcoders read and write: feature_input_hook, feature_output_hook are missing")
    files = tuple(str(file) for file in said.get("transcoders") or ())
    known: Any = said.get("metadata")
    metadata = known if isinstance(known, dict) else {}
    return Config(str(said.get("model_name") or ""), said["model_kind"], reads, writes, said.get("scan"), files, metadata=metadata)


def open_folder(source: str | Path, *kinds: str) -> tuple[Path, Config]:
    """The folder of a set, fetched from the hub if need be, and its config. Raises SAEError where it is of another kind."""
    path = Path(source).expanduser()
    if not path.exists() and (repo := hub_id(source)):
        path = fetch_all(*repo, (CONFIG, "layer_*.safetensors", "W_enc_*.safetensors", "W_dec_*.safetensors"))
    if not (path / CONFIG).is_file():
        raise SAEError(f"{path} is no folder of circuit-tracer's: {CONFIG} is missing")
    config = read_config(path)
    if config.kind not in kinds:
        raise SAEError(f"{path} holds a {config.kind}: {KINDS[config.kind]} reads it")
    return path, config


def numbered(folder: Path, pattern: re.Pattern) -> list[Path]:
    """The files of layers 0, 1, …, in order. Raises SAEError where one is missing."""
    found = {int(match[1]): path for path in folder.iterdir() if (match := pattern.fullmatch(path.name))}
    missing = sorted(set(range(max(found, default=0) + 1)) - set(found))
    if missing:
        raise SAEError(f"{folder} lacks {pattern.pattern.replace(chr(92), '').replace('(d+)', str(missing[0]))}: every layer has its own")
    return [found[layer] for layer in range(len(found))]


def is_layer_file(tensors: Weights, files: SAEFiles) -> bool:
    """One layer's file: both matrices (d_sae, d), which nobody else has, or a file of that name beside such a config.yaml."""
    if "activation_function.threshold" in tensors:
        return True
    is_ours = is_folder(files.weights.parent) and LAYER.fullmatch(files.weights.name) is not None
    parts = [tensors[name] for name in ("W_enc", "W_dec", "b_enc", "b_dec") if name in tensors]
    if len(parts) < 4 or "architecture" in files.cfg:
        return is_ours and len(parts) == 4
    W_enc, W_dec, b_enc, b_dec = parts
    d_sae, d_out = len(b_enc), len(b_dec)
    has_its_shapes = W_enc.shape[0] == d_sae and tuple(W_dec.shape) == (d_sae, d_out)
    return is_ours or (has_its_shapes and W_enc.shape != (d_out, d_sae))


def layer_file(tensors: Weights, path: Path) -> Foreign:
    """One layer's file; what its folder's config.yaml does not say, the caller gives."""
    weights = {name.removeprefix("activation_function."): tensor for name, tensor in tensors.items()}
    weights["W_enc"] = weights["W_enc"].T
    if "W_skip" in weights:
        weights["W_skip"] = weights["W_skip"].T
    _check_threshold(weights.get("threshold"), path)
    config = read_config(path.parent) if is_folder(path.parent) else None
    layer = LAYER.fullmatch(path.name)
    place_in, place_out = config.places(int(layer[1])) if config and layer else (None, None)
    return Foreign(
        "circuit-tracer",
        weights,
        hook_name=place_in,
        hook_name_out=place_out,
        model_name=config.model_name if config else "",
        architecture="jumprelu" if "threshold" in weights else "standard",
        is_transcoder=True,
        metadata={"scan": config.scan} if config and config.scan else {},
    )


def read_layers(folder: Path, config: Config) -> dict[str, list[torch.Tensor]]:
    """W_enc (d_in, d_sae), W_dec (d_sae, n_layers − layer, d_out), b_enc, b_dec, threshold, W_skip (d_in, d_out), one of each per layer."""
    encoders = numbered(folder, re.compile(r"W_enc_(\d+)\.safetensors"))
    decoders = numbered(folder, re.compile(r"W_dec_(\d+)\.safetensors"))
    if len(encoders) != len(decoders):
        raise SAEError(f"{folder} has encoders of {len(encoders)} layers and decoders of {len(decoders)}")
    found: dict[str, list[torch.Tensor]] = {}
    for layer, (encoder, decoder) in enumerate(zip(encoders, decoders, strict=True)):
        for name, tensor in (read_tensors(encoder)[0] | read_tensors(decoder)[0]).items():
            found.setdefault(name.removesuffix(f"_{layer}"), []).append(tensor.T if name.startswith("W_enc") else tensor)
        _check_threshold(found["threshold"][-1] if "threshold" in found else None, encoder)
    wanted = {"W_enc", "W_dec", "b_enc", "b_dec"} | ({"W_skip"} if config.kind == CLT_WITH_SKIP else set())
    if not wanted <= set(found) <= wanted | {"threshold"}:
        raise SAEError(f"{folder} holds {', '.join(sorted(found))} of each layer; expected {', '.join(sorted(wanted))}, maybe threshold")
    return found


def read_gemma_layers(folder: Path) -> dict[str, list[torch.Tensor]]:
    """The same of Gemma Scope 2's params_layer_0.safetensors …: w_enc (d_in, d_sae), w_dec (d_sae, n_layers, d_out), what a feature writes
    into earlier layers left out, affine_skip_connection (d_in, d_out)."""
    names = {"w_enc": "W_enc", "w_dec": "W_dec", "affine_skip_connection": "W_skip"}
    found: dict[str, list[torch.Tensor]] = {}
    for layer, file in enumerate(numbered(folder, GEMMA_LAYER)):
        for name, tensor in read_tensors(file)[0].items():
            found.setdefault(names.get(name, name), []).append(tensor[:, layer:] if name == "w_dec" else tensor)
    if not {"W_enc", "W_dec", "b_enc", "b_dec"} <= set(found) <= {"W_enc", "W_dec", "b_enc", "b_dec", "threshold", "W_skip"}:
        raise SAEError(f"{folder} holds {', '.join(sorted(found))} of each layer; expected w_enc, w_dec, b_enc, b_dec, threshold")
    return found


def _check_threshold(threshold: torch.Tensor | None, path: Path) -> None:
    if threshold is not None and (threshold < 0).any():
        n = int((threshold < 0).sum())
        raise SAEError(f"{path}: {n} thresholds are below 0, so that negative activations would pass, which no other reader lets through")
