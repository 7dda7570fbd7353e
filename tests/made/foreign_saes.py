"""Small SAEs as other libraries write them, each with what that library computes from raw x, written out by hand.

`encode` gives the paper's feature activation, the library's own times ‖decoder row‖ in raw units; `decode(encode)` is not used: `forward`
goes the library's way to x_hat.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

D_IN, D_SAE, K = 8, 24, 3
HOOK = "blocks.3.hook_resid_post"
SAELENS_6 = {"dtype": "float32", "reshape_activations": "none", "normalize_activations": "none", "device": "cpu"}
META = {"metadata": {"hook_name": HOOK, "model_name": "tiny", "context_size": 128, "prepend_bos": True}}


@dataclass
class Case:
    source: Path
    encode: Callable[[Tensor], Tensor]
    forward: Callable[[Tensor], Tensor]
    given: dict[str, Any] = field(default_factory=dict)
    has_unit_rows: bool = True


class Parts:
    """Random weights, the usual pieces of every library."""

    def __init__(self, norms: float | None = None):
        rng = torch.Generator().manual_seed(4)
        self.W_enc, self.W_dec = torch.randn(D_IN, D_SAE, generator=rng), torch.randn(D_SAE, D_IN, generator=rng)
        if norms:
            self.W_dec *= norms / self.W_dec.norm(dim=1, keepdim=True)
        self.b_enc, self.b_dec = torch.randn(D_SAE, generator=rng), torch.randn(D_IN, generator=rng)
        self.threshold = torch.rand(D_SAE, generator=rng) * 2
        self.norms = self.W_dec.norm(dim=1)

    def linear(self, **more: Tensor) -> dict[str, Tensor]:
        """As torch.nn.Linear keeps them."""
        linear = {"encoder.weight": self.W_enc.T, "encoder.bias": self.b_enc, "decoder.weight": self.W_dec.T}
        return {name: weight.contiguous() for name, weight in {**linear, **more}.items()}

    def plain(self, **more: Tensor) -> dict[str, Tensor]:
        return {"W_enc": self.W_enc, "b_enc": self.b_enc, "W_dec": self.W_dec, "b_dec": self.b_dec, **more}

    def case(self, source: Path, own: Callable[[Tensor], Tensor], **said: Any) -> Case:
        """own: the library's feature activations from raw x."""
        return Case(source, lambda x: own(x) * self.norms, lambda x: own(x) @ self.W_dec + self.b_dec, **said)


def topk(pre_acts: Tensor, k: int = K) -> Tensor:
    smallest = pre_acts.sort(dim=-1, descending=True).values[:, k - 1 : k]
    return torch.where(pre_acts >= smallest, pre_acts, 0).clamp_min(0)


def jump(pre_acts: Tensor, threshold: Tensor | float) -> Tensor:
    return torch.where(pre_acts > threshold, pre_acts, 0).clamp_min(0)


def saelens(folder: Path, cfg: dict[str, Any], weights: dict[str, Tensor]) -> Path:
    folder.mkdir()
    (folder / "cfg.json").write_text(json.dumps({"d_in": D_IN, "d_sae": D_SAE, **cfg}))
    save_file(weights, folder / "sae_weights.safetensors")
    return folder


def saelens_6(folder: Path) -> Case:
    p = Parts()
    cfg = {"architecture": "standard", "apply_b_dec_to_input": False, **SAELENS_6, **META}
    return p.case(saelens(folder, cfg, p.plain()), lambda x: (x @ p.W_enc + p.b_enc).relu())


def saelens_6_subtracting_b_dec(folder: Path) -> Case:
    p = Parts()
    cfg = {"architecture": "standard", "apply_b_dec_to_input": True, **SAELENS_6, **META}
    return p.case(saelens(folder, cfg, p.plain()), lambda x: ((x - p.b_dec) @ p.W_enc + p.b_enc).relu())


def saelens_6_with_its_scaler_file(folder: Path) -> Case:
    p, s = Parts(), 1.7
    cfg = {"architecture": "jumprelu", "apply_b_dec_to_input": True, **SAELENS_6, **META}
    source = saelens(folder, cfg | {"normalize_activations": "expected_average_only_in"}, p.plain(threshold=p.threshold))
    (folder / "activation_scaler.json").write_text(json.dumps({"scaling_factor": s}))
    own = lambda x: jump((s * x - p.b_dec) @ p.W_enc + p.b_enc, p.threshold)  # noqa: E731
    return Case(source, lambda x: own(x) * p.norms / s, lambda x: (own(x) @ p.W_dec + p.b_dec) / s)


def saelens_6_topk_by_norm(folder: Path) -> Case:
    p = Parts()
    cfg = {"architecture": "topk", "k": K, "rescale_acts_by_decoder_norm": True, "apply_b_dec_to_input": False, **SAELENS_6, **META}
    own = lambda x: topk((x @ p.W_enc + p.b_enc) * p.norms)  # noqa: E731
    source = saelens(folder, cfg, p.plain())
    return Case(source, own, lambda x: (own(x) / p.norms) @ p.W_dec + p.b_dec)


def saelens_6_topk_of_unequal_rows(folder: Path) -> Case:
    p = Parts()
    cfg = {"architecture": "topk", "k": K, "apply_b_dec_to_input": False, **SAELENS_6, **META}
    own = lambda x: topk(x @ p.W_enc + p.b_enc)  # noqa: E731
    return Case(saelens(folder, cfg, p.plain()), own, lambda x: own(x) @ p.W_dec + p.b_dec, has_unit_rows=False)


def saelens_batchtopk_checkpoint(folder: Path) -> Case:
    p = Parts()
    cfg = {"architecture": "batchtopk", "k": 2.5, "rescale_acts_by_decoder_norm": True, "apply_b_dec_to_input": False, **SAELENS_6, **META}
    own = lambda x: jump((x @ p.W_enc + p.b_enc) * p.norms, 0.9)  # noqa: E731
    source = saelens(folder, cfg, p.plain(topk_threshold=torch.tensor(0.9, dtype=torch.float64)))
    return Case(source, own, lambda x: (own(x) / p.norms) @ p.W_dec + p.b_dec)


def saelens_5(folder: Path) -> Case:
    """Flat; b_dec is subtracted unless it says otherwise; scaled, and the factor is nowhere."""
    p, s = Parts(), 0.4
    cfg = {"hook_name": HOOK, "hook_layer": 3, "model_name": "tiny", "activation_fn_str": "relu", "dtype": "float32", "prepend_bos": True}
    source = saelens(folder, cfg | {"normalize_activations": "expected_average_only_in"}, p.plain())
    own = lambda x: ((s * x - p.b_dec) @ p.W_enc + p.b_enc).relu()  # noqa: E731
    return Case(source, lambda x: own(x) * p.norms / s, lambda x: (own(x) @ p.W_dec + p.b_dec) / s, given={"scale": s})


def saelens_5_topk(folder: Path) -> Case:
    p = Parts(norms=0.5)
    cfg = {"hook_name": HOOK, "model_name": "tiny", "architecture": "topk", "activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}}
    return p.case(saelens(folder, cfg, p.plain()), lambda x: topk((x - p.b_dec) @ p.W_enc + p.b_enc))


def saelens_2(folder: Path) -> Case:
    p = Parts()
    f = p.threshold + 0.5
    cfg = {"hook_point": HOOK, "hook_point_layer": 3, "model_name": "tiny", "normalize_activations": False, "expansion_factor": 3}
    return p.case(saelens(folder, cfg, p.plain(scaling_factor=f)), lambda x: ((x - p.b_dec) @ p.W_enc + p.b_enc).relu() * f)


def saelens_gated(folder: Path) -> Case:
    p = Parts()
    gate, r = p.b_enc - 0.5, p.threshold - 1
    cfg = {"architecture": "gated", "apply_b_dec_to_input": True, **SAELENS_6, **META}
    weights = {"W_enc": p.W_enc, "b_gate": gate, "b_mag": p.b_enc, "r_mag": r, "W_dec": p.W_dec, "b_dec": p.b_dec}

    def own(x: Tensor) -> Tensor:
        z = (x - p.b_dec) @ p.W_enc
        return (z + gate > 0) * (z * r.exp() + p.b_enc).relu()

    return p.case(saelens(folder, cfg, weights), own)


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


EVERY = (
    *(saelens_6, saelens_6_subtracting_b_dec, saelens_6_with_its_scaler_file, saelens_6_topk_by_norm, saelens_6_topk_of_unequal_rows),
    *(saelens_batchtopk_checkpoint, saelens_5, saelens_5_topk, saelens_2, saelens_gated, gemma_scope_1, gemma_scope_2),
    *(llama_scope, llama_scope_topk, dictionary_autoencoder, dictionary_autoencoder_alone, dictionary_autoencoder_new, dictionary_topk),
    *(dictionary_batchtopk, dictionary_gated, dictionary_jumprelu, sparsify),
)
