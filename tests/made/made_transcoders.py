"""Random transcoders, and circuit-tracer's folders of them written out by hand from its documentation."""

from pathlib import Path

import torch
from made_models import D_MODEL, D_SAE, N_LAYERS
from safetensors.torch import save_file
from torch import Tensor

from workbench.sae.config import CrossLayerConfig, TranscoderConfig
from workbench.sae.cross_layer import CrossLayerTranscoder
from workbench.sae.transcoder import Transcoder

D_IN, D_OUT, D_FEATURES = 8, 6, 24


def random_transcoder(
    architecture: str = "standard", *, has_skip: bool = False, d_out: int = D_OUT, layer: int = 1, seed: int = 3
) -> Transcoder:
    k = 4 if architecture in ("topk", "batchtopk") else None
    places = (f"blocks.{layer}.mlp.hook_in", f"blocks.{layer}.hook_mlp_out")
    cfg = TranscoderConfig(D_IN, d_out, D_FEATURES, *places, model_name="tiny", architecture=architecture, k=k, has_skip=has_skip)
    transcoder, rng = Transcoder(cfg), torch.Generator().manual_seed(seed + layer)
    for weight in transcoder.parameters():
        weight.data = 0.5 * torch.randn(weight.shape, generator=rng)
    if transcoder.threshold is not None:
        transcoder.threshold.data.abs_()
    return transcoder.requires_grad_(False).eval()


def random_cross_layer(architecture: str = "standard", *, has_skip: bool = False, n_layers: int = 3) -> CrossLayerTranscoder:
    cfg = CrossLayerConfig(n_layers, D_IN, D_IN, D_FEATURES, "hook_resid_mid", "hook_mlp_out", "tiny", architecture, has_skip)
    clt, rng = CrossLayerTranscoder(cfg), torch.Generator().manual_seed(8)
    for weight in clt.parameters():
        weight.data = 0.5 * torch.randn(weight.shape, generator=rng)
    if clt.threshold is not None:
        clt.threshold.data.abs_()
    return clt.requires_grad_(False).eval()


def layer_tensors(seed: int, *, has_threshold: bool = False, has_skip: bool = False) -> dict[str, Tensor]:
    """One layer_N.safetensors: both matrices (features, d)."""
    rng = torch.Generator().manual_seed(seed)
    shapes = {"W_enc": (D_FEATURES, D_IN), "W_dec": (D_FEATURES, D_IN), "b_enc": (D_FEATURES,), "b_dec": (D_IN,)}
    shapes |= {"W_skip": (D_IN, D_IN)} if has_skip else {}
    shapes |= {"activation_function.threshold": (D_FEATURES,)} if has_threshold else {}
    tensors = {name: torch.randn(shape, generator=rng) for name, shape in shapes.items()}
    return {name: tensor.abs() if "threshold" in name else tensor for name, tensor in tensors.items()}


def circuit_tracer_folder(folder: Path, n_layers: int = 3, kind: str = "transcoder_set", **tensors: bool) -> Path:
    folder.mkdir()
    hooks = "feature_input_hook: ln2.hook_normalized\nfeature_output_hook: hook_mlp_out\n"
    (folder / "config.yaml").write_text(f"model_name: tiny\nmodel_kind: {kind}\n{hooks}scan: made\n")
    for layer in range(n_layers):
        save_file(layer_tensors(layer, **tensors), folder / f"layer_{layer}.safetensors")
    return folder


def made_set(reads: str, writes: str, has_skip: bool) -> dict[int, Transcoder]:
    """A transcoder for each layer of the models of tests, with random weights that many features fire with."""
    torch.manual_seed(3)
    made = {}
    for layer in range(N_LAYERS):
        names = f"blocks.{layer}.{reads}", f"blocks.{layer}.{writes}"
        made[layer] = Transcoder(TranscoderConfig(D_MODEL, D_MODEL, D_SAE, *names, has_skip=has_skip))
        for weight in made[layer].parameters():
            weight.data = 0.1 * torch.randn_like(weight)
        made[layer].requires_grad_(False)
    return made


def made_cross_layer(reads: str, writes: str, has_skip: bool) -> CrossLayerTranscoder:
    """The same across layers."""
    torch.manual_seed(3)
    clt = CrossLayerTranscoder(CrossLayerConfig(N_LAYERS, D_MODEL, D_MODEL, D_SAE, reads, writes, has_skip=has_skip))
    for weight in clt.parameters():
        weight.data = 0.1 * torch.randn_like(weight)
    return clt.requires_grad_(False)
