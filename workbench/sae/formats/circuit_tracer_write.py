"""Write circuit-tracer's folder (circuit_tracer.py says what is in it): a set of transcoders, one a layer, or a cross-layer one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import save_file
from torch import Tensor

from workbench.files import write_text, write_whole
from workbench.sae.config import SAEError
from workbench.sae.formats.circuit_tracer import CLT, CLT_WITH_SKIP, CONFIG, SET


def write_set(transcoders: Mapping[int, Any], folder: str | Path) -> None:
    """ReLU and JumpReLU transcoders of layers 0, 1, …, of one width, reading and writing at the same places of each block.

    Raises SAEError for what the folder cannot hold: a layer missing, TopK, several widths, places outside of their block.
    """
    folder = Path(folder)
    hooks = {_inside(transcoder, layer) for layer, transcoder in transcoders.items()}
    widths = {transcoder.cfg.d_sae for transcoder in transcoders.values()}
    kinds = {transcoder.cfg.architecture for transcoder in transcoders.values()}
    if sorted(transcoders) != list(range(len(transcoders))) or not transcoders:
        raise SAEError(f"circuit-tracer's folder needs every layer from 0 on; these are layers {sorted(transcoders)}")
    if not kinds <= {"standard", "jumprelu"}:
        raise SAEError(f"circuit-tracer's folder holds ReLU and JumpReLU transcoders, not {', '.join(sorted(kinds))}")
    if len(hooks) > 1 or len(widths) > 1:
        raise SAEError(f"circuit-tracer's folder holds one width and one pair of places; these have {sorted(widths)} and {sorted(hooks)}")
    ((hook_in, hook_out),) = hooks
    folder.mkdir(parents=True, exist_ok=True)
    for layer, transcoder in transcoders.items():
        _write(folder / f"layer_{layer}.safetensors", _layer(transcoder))
    _write_config(folder, SET, transcoders[0].cfg.model_name, hook_in, hook_out)


def write_cross_layer(clt: Any, folder: Path) -> None:
    """A folder that circuit-tracer opens: an encoder and a decoder file for each layer, config.yaml last. Raises SAEError for batchtopk."""
    if clt.cfg.architecture not in ("standard", "jumprelu"):
        raise SAEError(
            f"circuit-tracer's folder holds ReLU and JumpReLU transcoders, not {clt.cfg.architecture}: finish its training first"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for layer in range(clt.cfg.n_layers):
        encoder = {"W_enc": clt.W_enc[layer].T, "b_enc": clt.b_enc[layer], "b_dec": clt.b_dec[layer]}
        encoder |= {"threshold": clt.threshold[layer]} if clt.threshold is not None else {}
        encoder |= {"W_skip": clt.W_skip[layer]} if clt.W_skip is not None else {}
        _write(folder / f"W_enc_{layer}.safetensors", {f"{name}_{layer}": tensor for name, tensor in encoder.items()})
        _write(folder / f"W_dec_{layer}.safetensors", {f"W_dec_{layer}": clt.W_dec[layer]})
    cfg = clt.cfg
    metadata = {name: value for name, value in cfg.metadata.items() if name not in ("scan", "assumed")}
    _write_config(folder, CLT_WITH_SKIP if cfg.has_skip else CLT, cfg.model_name, cfg.hook_in, cfg.hook_out, metadata)


def _layer(transcoder: Any) -> dict[str, Tensor]:
    weights = {"W_enc": transcoder.W_enc.T, "W_dec": transcoder.W_dec, "b_enc": transcoder.b_enc, "b_dec": transcoder.b_dec}
    if transcoder.threshold is not None:
        weights["activation_function.threshold"] = transcoder.threshold
    if transcoder.W_skip is not None:
        weights["W_skip"] = transcoder.W_skip.T
    return weights


def _inside(transcoder: Any, layer: int) -> tuple[str, str]:
    """The two places as named inside their block."""
    cfg, block = transcoder.cfg, f"blocks.{layer}."
    if not (cfg.hook_name_in.startswith(block) and cfg.hook_name_out.startswith(block)):
        raise SAEError(
            f"circuit-tracer's layer {layer} reads and writes in {block}*; this one has {cfg.hook_name_in} → {cfg.hook_name_out}"
        )
    return cfg.hook_name_in.removeprefix(block), cfg.hook_name_out.removeprefix(block)


def _write(path: Path, weights: dict[str, Tensor]) -> None:
    whole = {name: weight.detach().contiguous().cpu() for name, weight in weights.items()}
    write_whole(path, lambda partial: save_file(whole, partial))


def _write_config(folder: Path, kind: str, model_name: str, hook_in: str, hook_out: str, metadata: Mapping[str, Any] | None = None) -> None:
    said: dict[str, Any] = {"model_name": model_name, "model_kind": kind, "feature_input_hook": hook_in, "feature_output_hook": hook_out}
    said |= {"scan": folder.name} | ({"metadata": dict(metadata)} if metadata else {})
    write_text(folder / CONFIG, yaml.safe_dump(said, sort_keys=False))
