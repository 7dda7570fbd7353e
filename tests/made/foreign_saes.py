"""Small SAEs as SAELens writes them, each with what it computes from raw x, written out by hand; the pieces that every library has.

`encode` gives the paper's feature activation, the library's own times ‖decoder row‖ in raw units; `decode(encode)` is not used: `forward`
goes the library's way to x_hat.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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


SAELENS = (
    *(saelens_6, saelens_6_subtracting_b_dec, saelens_6_with_its_scaler_file, saelens_6_topk_by_norm, saelens_6_topk_of_unequal_rows),
    *(saelens_batchtopk_checkpoint, saelens_5, saelens_5_topk, saelens_2, saelens_gated),
)
