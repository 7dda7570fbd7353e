"""A sparse autoencoder (SAE): activations → a few active features → the activations again.

    feature_acts = ReLU(x @ W_enc + b_enc)
    x_hat        = feature_acts @ W_dec + b_dec             error = x - x_hat

Scaling Monosemanticity, "Sparse autoencoders". x is the model's raw activation: the scalar that training normalizes by is folded into
the weights, and so are the decoder norms. Rows of W_dec have norm 1, hence `feature_acts` is the paper's "feature activation",
activation · ‖decoder row‖.

On disk an SAE is SAELens' folder: cfg.json and sae_weights.safetensors.
"""

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from workbench.shapes import Activations, FeatureActs

CFG_FILE, WEIGHTS_FILE = "cfg.json", "sae_weights.safetensors"


class SAEError(ValueError):
    """An SAE that cannot be used: a missing or truncated file, wrong widths, NaN weights."""


@dataclass(frozen=True)
class SAEConfig:
    d_in: int
    d_sae: int
    hook_name: str  # where in the model x comes from, such as "blocks.3.hook_resid_pre"
    model_name: str = ""
    architecture: str = "standard"  # SAELens' name for ReLU + L1
    metadata: dict[str, Any] = field(default_factory=dict)  # whatever else is known: how it was trained, max_act, …


class SAE(nn.Module):
    """ReLU SAE on raw activations. W_enc (d_in, d_sae), b_enc (d_sae), W_dec (d_sae, d_in), b_dec (d_in)."""

    def __init__(self, cfg: SAEConfig):
        super().__init__()
        self.cfg = cfg
        self.W_enc = nn.Parameter(torch.zeros(cfg.d_in, cfg.d_sae))
        self.b_enc = nn.Parameter(torch.zeros(cfg.d_sae))
        self.W_dec = nn.Parameter(torch.zeros(cfg.d_sae, cfg.d_in))
        self.b_dec = nn.Parameter(torch.zeros(cfg.d_in))

    def encode(self, x: Activations) -> FeatureActs:
        """Raw activations (…, d_in) → feature activations (…, d_sae), ≥ 0."""
        return torch.relu(x @ self.W_enc + self.b_enc)

    def decode(self, feature_acts: FeatureActs) -> Activations:
        """Feature activations (…, d_sae) → x_hat (…, d_in), in raw units."""
        return feature_acts @ self.W_dec + self.b_dec

    def forward(self, x: Activations) -> Activations:
        return self.decode(self.encode(x))

    @torch.no_grad()
    def fold_decoder_norms(self) -> "SAE":
        """Make decoder rows unit vectors without changing x_hat: the norm moves into the encoder."""
        norms = self.W_dec.norm(dim=1).clamp_min(1e-12)
        self.W_dec /= norms[:, None]
        self.W_enc *= norms
        self.b_enc *= norms
        return self

    @torch.no_grad()
    def fold_scale(self, scale: float) -> "SAE":
        """An SAE trained on `scale · x` becomes the same SAE on x."""
        self.W_enc *= scale
        self.W_dec /= scale
        self.b_dec /= scale
        return self

    def fingerprint(self) -> str:
        """Twelve hex digits that change with any weight: ties an index to its SAE."""
        digest = hashlib.sha256()
        for name, weight in sorted(self.state_dict().items()):
            digest.update(name.encode() + weight.detach().float().cpu().numpy().tobytes())
        return digest.hexdigest()[:12]

    def save(self, folder: str | Path) -> None:
        """Write the SAELens folder; each file is complete or absent."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: weight.detach().contiguous().cpu() for name, weight in self.state_dict().items()}
        _write_whole(folder / WEIGHTS_FILE, lambda path: save_file(weights, path))
        _write_whole(folder / CFG_FILE, lambda path: path.write_text(json.dumps(_to_saelens(self.cfg), indent=2) + "\n"))

    @classmethod
    def load(cls, folder: str | Path, device: str | torch.device = "cpu") -> "SAE":
        """Read a folder that `save` or SAELens wrote. Frozen, float32. Raises SAEError, saying which file is wrong and how."""
        folder = Path(folder)
        for name in (CFG_FILE, WEIGHTS_FILE):
            if not (folder / name).is_file():
                there = ", ".join(sorted(p.name for p in folder.iterdir())) if folder.is_dir() else "no such folder"
                raise SAEError(f"{folder} is not an SAE: {name} is missing (found: {there or 'an empty folder'})")
        raw = _read_cfg(folder / CFG_FILE)
        try:
            weights = load_file(folder / WEIGHTS_FILE, device=str(device))
        except (safetensors.SafetensorError, OSError) as error:
            raise SAEError(f"{folder / WEIGHTS_FILE} is truncated or not a safetensors file ({error})") from None
        cfg = _from_saelens(raw, folder)
        sae = cls(cfg).to(device)
        _check_weights(sae, weights, folder)
        sae.load_state_dict({name: weight.float() for name, weight in weights.items()})
        return sae.requires_grad_(False).eval()


def _write_whole(path: Path, write) -> None:
    """Write beside `path`, flush to disk, rename: a reader never sees half a file."""
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".partial")
    os.close(handle)
    try:
        write(Path(partial))
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(partial, 0o644)
        os.replace(partial, path)
    finally:
        Path(partial).unlink(missing_ok=True)


def _to_saelens(cfg: SAEConfig) -> dict[str, Any]:
    return {
        "architecture": cfg.architecture,
        "d_in": cfg.d_in,
        "d_sae": cfg.d_sae,
        "dtype": "float32",
        "apply_b_dec_to_input": False,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {**cfg.metadata, "model_name": cfg.model_name, "hook_name": cfg.hook_name},
    }


def _read_cfg(path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SAEError(f"{path} is not JSON ({error})") from None
    if not isinstance(raw, dict):
        raise SAEError(f"{path} holds a JSON {type(raw).__name__}, expected an object")
    return raw


def _from_saelens(raw: dict[str, Any], folder: Path) -> SAEConfig:
    metadata = dict(raw.get("metadata") or {})
    hook_name = metadata.pop("hook_name", None) or raw.get("hook_name")
    missing = [name for name, value in {"d_in": raw.get("d_in"), "d_sae": raw.get("d_sae"), "hook_name": hook_name}.items() if not value]
    if missing:
        raise SAEError(f"{folder / CFG_FILE} lacks {', '.join(missing)}")
    unsupported = {
        "architecture": "standard",
        "apply_b_dec_to_input": False,
        "normalize_activations": "none",
        "reshape_activations": "none",
    }
    for name, expected in unsupported.items():
        if raw.get(name, expected) != expected:
            raise SAEError(f"{folder}: {name} is {raw[name]!r}; this reader knows {expected!r}")
    model_name = metadata.pop("model_name", None) or raw.get("model_name") or ""
    return SAEConfig(int(raw["d_in"]), int(raw["d_sae"]), str(hook_name), model_name, metadata=metadata)


def _check_weights(sae: SAE, weights: dict[str, torch.Tensor], folder: Path) -> None:
    expected = {name: tuple(weight.shape) for name, weight in sae.state_dict().items()}
    found = {name: tuple(weight.shape) for name, weight in weights.items()}
    if expected != found:
        raise SAEError(f"{folder / WEIGHTS_FILE} holds {found}, but {CFG_FILE} describes {expected}")
    for name, weight in weights.items():
        if not torch.isfinite(weight).all():
            raise SAEError(f"{folder / WEIGHTS_FILE}: {name} has {int((~torch.isfinite(weight)).sum())} NaN or infinite values")
