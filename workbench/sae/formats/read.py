"""Other libraries' sparse autoencoders, read as ours: raw x in, raw x_hat out.

A format is recognized from its tensors and its JSON, never from a name: SAELens 5 and 6 (ours is 6), Gemma Scope 1 and 2, OpenMOSS's Llama
Scopes, dictionary_learning, the BatchTopK repository, sparsify, circuit-tracer, OpenAI, Goodfire, Qwen Scope. What the files leave out and
only the name of a public repository tells (public.py, gemma.py) is taken from it and said: `sae.cfg.metadata["assumed"]`. The rest, mostly
the hook point, the caller gives. What cannot be known is refused, saying what it looks like.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from workbench.sae.config import CFG_FILE, SAEConfig, SAEError
from workbench.sae.formats.circuit_tracer import is_layer_file, layer_file
from workbench.sae.formats.dictionaries import batchtopk_repository, dictionary_learning
from workbench.sae.formats.files import SAEFiles, locate, read_tensors
from workbench.sae.formats.folding import assemble
from workbench.sae.formats.foreign import Foreign, Weights
from workbench.sae.formats.gemma import gemma_scope_1, gemma_scope_2
from workbench.sae.formats.openmoss import openmoss
from workbench.sae.formats.public import connor_rob, openai, qwen_scope, with_known
from workbench.sae.formats.saelens import check_architecture, saelens
from workbench.sae.formats.sparsify import sparsify

OUR_NAMES = {
    **{"w_enc": "W_enc", "w_dec": "W_dec", "encoder.weight": "W_enc", "decoder.weight": "W_dec", "decoder.linear.weight": "W_dec"},
    **{"encoder.bias": "b_enc", "decoder.bias": "b_dec", "bias": "b_dec", "decoder_bias": "b_dec"},
    **{"gate_bias": "b_gate", "mag_bias": "b_mag", "latent_bias": "b_enc", "pre_bias": "b_dec"},
    **{"W_E": "W_enc", "b_E": "b_enc", "W_D": "W_dec", "b_D": "b_dec"},
    **{"encoder_linear.weight": "W_enc", "encoder_linear.bias": "b_enc", "decoder_linear.weight": "W_dec", "decoder_linear.bias": "b_dec"},
}
TRANSPOSED = ("encoder.weight", "decoder.weight", "encoder_linear.weight", "decoder_linear.weight")  # torch's Linear keeps (out, in)


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
    return assemble(kind, replace(open_files(files), **given), files.weights).to(device)


def open_files(files: SAEFiles) -> Foreign:
    """The dictionary in these files, an SAE or a transcoder, with what its repository's name tells."""
    tensors, said = read_tensors(files.weights)
    return with_known(recognize(tensors, replace(files, cfg=said | files.cfg)), files.place)


def recognize(tensors: Weights, files: SAEFiles) -> Foreign:
    """Which library wrote these tensors, told by their names and by the JSON beside them."""
    names, cfg, path = set(tensors), files.cfg, files.weights
    weights = {OUR_NAMES.get(name, name): tensor.T if name in TRANSPOSED else tensor for name, tensor in tensors.items()}
    check_architecture(cfg, path)
    if not {"W_enc", "W_dec"} <= set(weights) and cfg.get("architecture") != "temporal":
        raise SAEError(_nothing_known(names, cfg, path))
    if max(weights["W_dec"].dim(), weights.get("W_enc", weights["W_dec"]).dim()) > 2 and "w_dec" not in names:
        raise SAEError(
            f"{path} reads or writes several places at once (W_dec is {tuple(weights['W_dec'].shape)}): a crosscoder, not an SAE"
        )
    if is_layer_file(tensors, files):
        return layer_file(tensors, path)
    if {"encoder.weight", "W_dec"} <= names:
        return sparsify(weights, cfg, path)
    if "hook_point_in" in cfg:
        return openmoss(weights, names, cfg, path)
    if "w_enc" in names or "hf_hook_point_in" in cfg:
        of_2 = path.suffix == ".safetensors"
        return gemma_scope_2(weights, cfg, path, files.place) if of_2 else gemma_scope_1(weights, files.place)
    if "latent_bias" in names:
        return openai(weights, cfg, path)
    if "encoder_linear.weight" in names:
        return Foreign("Goodfire", weights)
    if "sae_type" in cfg and "act_size" in cfg:
        return batchtopk_repository(weights, cfg, path)
    if "act_name" in cfg:
        return connor_rob(weights, cfg, path)
    if _is_transposed(weights):
        return qwen_scope(weights, path, files.place)
    if "trainer" in cfg or "encoder.weight" in names or path.suffix not in (".safetensors", ".npz"):
        return dictionary_learning(weights, cfg, names, path)
    if path.suffix == ".npz" and "d_in" not in cfg:
        return gemma_scope_1(weights, files.place)
    if not cfg:
        raise SAEError(f"{path.parent} is not an SAE: {CFG_FILE} is missing (found: {path.name})")
    return saelens(weights, files)


def _is_transposed(weights: Weights) -> bool:
    """W_enc (d_sae, d_in) and W_dec (d_in, d_sae), told by the biases' widths."""
    if not {"b_enc", "b_dec"} <= set(weights):
        return False
    d_sae, d_in = len(weights["b_enc"]), len(weights["b_dec"])
    return d_in != d_sae and tuple(weights["W_enc"].shape) == (d_sae, d_in) and tuple(weights["W_dec"].shape) == (d_in, d_sae)


def _nothing_known(names: set[str], cfg: dict, path: Path) -> str:
    found = f"its tensors are {', '.join(sorted(names)[:6]) or 'none'}"
    if {"D", "b"} <= names:
        return f"{path} is a temporal SAE: it predicts each token from those before it, so its features are not of one token's activation"
    if any(name.startswith(("W_enc_", "W_dec_")) for name in names):
        return f"{path} is one layer of a cross-layer transcoder: wb.CrossLayerTranscoder.load reads all of them, from their folder"
    kind = f"; {cfg['model_type']!r} is a language model's" if "model_type" in cfg else ""
    return f"{path} holds no SAE known here: {found}{kind}"
