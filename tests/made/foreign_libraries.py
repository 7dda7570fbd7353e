"""Small SAEs as Gemma Scope, Llama Scope, dictionary_learning and sparsify have them, as foreign_saes.py has SAELens'."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from foreign_saes import D_IN, D_SAE, HOOK, Case, K, Parts, jump, topk
from safetensors.torch import save_file
from torch import Tensor


def gemma_scope_1(folder: Path) -> Case:
    p = Parts()
    folder.mkdir()
    np.savez(folder / "params.npz", **{name: weight.numpy() for name, weight in p.plain(threshold=p.threshold).items()})
    given = {"hook_name": HOOK, "model_name": "gemma-2-2b"}
    return p.case(folder, lambda x: jump(x @ p.W_enc + p.b_enc, p.threshold), given=given)


def gemma_scope_2(folder: Path) -> Case:
    p = Parts()
    folder.mkdir()
    cfg = {"hf_hook_point_in": "model.layers.3.output", "hf_hook_point_out": "model.layers.3.output", "model_name": "google/gemma-3-1b-pt"}
    (folder / "config.json").write_text(json.dumps({**cfg, "architecture": "jump_relu", "width": D_SAE, "l0": 7, "type": "sae"}))
    weights = {"w_enc": p.W_enc, "b_enc": p.b_enc, "w_dec": p.W_dec, "b_dec": p.b_dec, "threshold": p.threshold}
    save_file(weights, folder / "params.safetensors")
    save_file({"examples": torch.zeros(3)}, folder / "examples.safetensors")
    return p.case(folder, lambda x: jump(x @ p.W_enc + p.b_enc, p.threshold))


LLAMA_CFG = {
    **{"hook_point_in": HOOK, "hook_point_out": HOOK, "d_model": D_IN, "d_sae": D_SAE, "expansion_factor": 3, "use_decoder_bias": True},
    **{"apply_decoder_bias_to_pre_encoder": False, "sparsity_include_decoder_norm": True, "norm_activation": "dataset-wise"},
    **{"dataset_average_activation_norm": {"in": 5.0, "out": 5.0}, "top_k": 50, "use_glu_encoder": False},
}


def llama_scope(folder: Path) -> Case:
    """Scale and norms go first, then the feature activations meet the threshold."""
    p, s = Parts(), D_IN**0.5 / 5.0
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "hyperparams.json").write_text(json.dumps({**LLAMA_CFG, "act_fn": "jumprelu", "jump_relu_threshold": 0.6}))
    save_file(p.linear(**{"decoder.bias": p.b_dec}), folder / "checkpoints" / "final.safetensors")
    own = lambda x: jump((x @ p.W_enc + p.b_enc / s) * p.norms, 0.6)  # noqa: E731
    return Case(folder, own, lambda x: (own(x) / p.norms) @ p.W_dec + p.b_dec / s)


def llama_scope_topk(folder: Path) -> Case:
    p, s = Parts(), D_IN**0.5 / 5.0
    folder.mkdir()
    (folder / "hyperparams.json").write_text(json.dumps({**LLAMA_CFG, "act_fn": "topk", "top_k": K}))
    save_file(p.linear(**{"decoder.bias": p.b_dec}), folder / "final.safetensors")
    own = lambda x: topk((x * s @ p.W_enc + p.b_enc) * p.norms)  # noqa: E731
    return Case(folder, lambda x: own(x) / s, lambda x: ((own(x) / p.norms) @ p.W_dec + p.b_dec) / s)


def dictionary(folder: Path, kind: str | None, weights: dict[str, Tensor], **trainer: Any) -> Path:
    folder.mkdir()
    torch.save(weights, folder / "ae.pt")
    if kind is not None:
        trainer = {"dict_class": kind, "activation_dim": D_IN, "dict_size": D_SAE, "layer": 3, "lm_name": "tiny", **trainer}
        cfg = {"trainer": {"submodule_name": "resid_post_layer_3", **trainer}, "buffer": {"ctx_len": 128}}
        (folder / "config.json").write_text(json.dumps(cfg))
    return folder


def dictionary_autoencoder(folder: Path) -> Case:
    p = Parts()
    source = dictionary(folder, "AutoEncoder", p.linear(bias=p.b_dec))
    return p.case(source, lambda x: ((x - p.b_dec) @ p.W_enc + p.b_enc).relu())


def dictionary_autoencoder_alone(folder: Path) -> Case:
    p = Parts()
    source = dictionary(folder, None, p.linear(bias=p.b_dec)) / "ae.pt"
    return p.case(source, lambda x: ((x - p.b_dec) @ p.W_enc + p.b_enc).relu(), given={"hook_name": HOOK})


def dictionary_autoencoder_new(folder: Path) -> Case:
    p = Parts()
    source = dictionary(folder, None, p.linear(**{"decoder.bias": p.b_dec}))
    return p.case(source, lambda x: (x @ p.W_enc + p.b_enc).relu(), given={"hook_name": HOOK})


def dictionary_topk(folder: Path) -> Case:
    p = Parts(norms=1.0)
    weights = p.linear(b_dec=p.b_dec, k=torch.tensor(K, dtype=torch.int), threshold=torch.tensor(5.0))
    return p.case(dictionary(folder, "AutoEncoderTopK", weights, k=K), lambda x: topk((x - p.b_dec) @ p.W_enc + p.b_enc))


def dictionary_batchtopk(folder: Path) -> Case:
    p = Parts(norms=1.0)
    weights = p.linear(b_dec=p.b_dec, k=torch.tensor(K, dtype=torch.int), threshold=torch.tensor(0.8))
    return p.case(dictionary(folder, "BatchTopKSAE", weights, k=K), lambda x: jump((x - p.b_dec) @ p.W_enc + p.b_enc, 0.8))


def dictionary_gated(folder: Path) -> Case:
    p = Parts()
    gate, r = p.b_enc - 0.5, p.threshold - 1
    more = {"decoder_bias": p.b_dec, "gate_bias": gate, "mag_bias": p.b_enc, "r_mag": r}
    weights = {name: weight for name, weight in p.linear(**more).items() if name != "encoder.bias"}

    def own(x: Tensor) -> Tensor:
        z = (x - p.b_dec) @ p.W_enc
        return (z + gate > 0) * (r.exp() * z + p.b_enc).relu()

    return p.case(dictionary(folder, "GatedAutoEncoder", weights), own)


def dictionary_jumprelu(folder: Path) -> Case:
    p = Parts()
    source = dictionary(folder, "JumpReluAutoEncoder", p.plain(threshold=p.threshold - 0.5))
    return p.case(source, lambda x: jump(x @ p.W_enc + p.b_enc, p.threshold - 0.5))


def sparsify(folder: Path) -> Case:
    p = Parts(norms=1.0)
    folder.mkdir()
    cfg = {"activation": "topk", "expansion_factor": 3, "num_latents": 0, "k": K, "multi_topk": False, "normalize_decoder": True}
    (folder / "cfg.json").write_text(json.dumps({**cfg, "skip_connection": False, "transcode": False, "d_in": D_IN}))
    weights = {"encoder.weight": p.W_enc.T.contiguous(), "encoder.bias": p.b_enc, "W_dec": p.W_dec, "b_dec": p.b_dec}
    save_file(weights, folder / "sae.safetensors")
    return p.case(folder, lambda x: topk((x - p.b_dec) @ p.W_enc + p.b_enc), given={"hook_name": HOOK})


LIBRARIES = (
    *(gemma_scope_1, gemma_scope_2, llama_scope, llama_scope_topk, dictionary_autoencoder, dictionary_autoencoder_alone),
    *(dictionary_autoencoder_new, dictionary_topk, dictionary_batchtopk, dictionary_gated, dictionary_jumprelu, sparsify),
)
