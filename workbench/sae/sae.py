"""A sparse autoencoder (SAE): activations → a few active features → the activations again.

    feature_acts = select(x @ W_enc + b_enc)                select: ReLU, TopK, BatchTopK or JumpReLU (architectures.py)
    x_hat        = feature_acts @ W_dec + b_dec             error = x - x_hat

Scaling Monosemanticity, "Sparse autoencoders". x is the model's raw activation: the scalar that training normalizes by is folded into
the weights, and so are the decoder norms. Rows of W_dec have norm 1, hence `feature_acts` is the paper's "feature activation",
activation · ‖decoder row‖.

On disk an SAE is SAELens' folder: cfg.json and sae_weights.safetensors. formats.py reads it, and every other library's.
"""

import json
from pathlib import Path
from typing import Any

import torch

from workbench.files import write_tensors, write_together
from workbench.sae.config import CFG_FILE, WEIGHTS_FILE, SAEConfig
from workbench.sae.dictionary import Dictionary
from workbench.sae.formats.read import read
from workbench.shapes import Activations

SAELENS_VERSION = "6.0.0"  # of the folder's format; without it SAELens takes cfg.json for its older, flat one and finds no hook_name


class SAE(Dictionary):
    """SAE on raw activations. W_enc (d_in, d_sae), b_enc (d_sae), W_dec (d_sae, d_in), b_dec (d_in); jumprelu: threshold (d_sae)."""

    def __init__(self, cfg: SAEConfig):
        super().__init__(cfg, d_out=cfg.d_in)

    def extra_repr(self) -> str:
        """What stands in the brackets of repr(sae)."""
        cfg = self.cfg
        return f"{cfg.architecture}, {cfg.d_in:,} → {self.features_in_words()} at {cfg.hook_name}{self.assumed_in_words()}"

    @property
    def reads(self) -> str:
        """The hook point that it is of."""
        return self.cfg.hook_name

    writes = reads  # x_hat stands in the place of x

    def centered(self, x: Activations) -> Activations:
        """Without the mean over d_in, where it was trained on a model whose weights were centered."""
        return x - x.mean(-1, keepdim=True) if self.cfg.centers_input else x

    @torch.no_grad()
    def fold_scale(self, scale: float) -> "SAE":
        """An SAE trained on `scale · x` becomes the same SAE on x: pre-activations, hence k and thresholds, stay as they are."""
        self.W_enc *= scale
        self.W_dec /= scale
        self.b_dec /= scale
        return self

    def save(self, folder: str | Path) -> None:
        """Write the SAELens v6 folder, whole or not at all. Raises OSError, in one sentence, where the disk does not take it."""
        weights = {name: weight.detach().contiguous().cpu() for name, weight in self.state_dict().items()}
        text = json.dumps(_to_saelens(self.cfg), indent=2) + "\n"
        write_together(folder, {WEIGHTS_FILE: lambda path: write_tensors(path, weights), CFG_FILE: lambda path: path.write_text(text)})

    @classmethod
    def load(
        cls,
        source: str | Path,
        device: str | torch.device = "cpu",
        *,
        hook_name: str | None = None,
        model_name: str | None = None,
        centers_input: bool | None = None,
        scale: float | None = None,
    ) -> "SAE":
        """Read a folder or file of any format in formats.py, or a hub id `owner/repo` or `owner/repo:subfolder`. Frozen, float32.

        hook_name, model_name, centers_input and scale (training multiplied x by it) say what a file leaves out, and win over what it says.
        A path that exists never touches the network. Raises SAEError, saying which file is wrong and how.
        """
        sae = read(cls, source, device, hook_name=hook_name, model_name=model_name, centers_input=centers_input, scale=scale)
        sae.source = str(source)
        return sae


def _to_saelens(cfg: SAEConfig) -> dict[str, Any]:
    """cfg.json as SAELens 6 writes it. Centering is said by how SAELens says it: how the model is to be loaded."""
    metadata = {**cfg.metadata, "model_name": cfg.model_name, "hook_name": cfg.hook_name, "sae_lens_version": SAELENS_VERSION}
    if cfg.centers_input:
        metadata["model_from_pretrained_kwargs"] = {"center_writing_weights": True}
    return {
        "architecture": cfg.architecture,
        "d_in": cfg.d_in,
        "d_sae": cfg.d_sae,
        **({"k": cfg.k} if cfg.k is not None else {}),
        "dtype": "float32",
        "apply_b_dec_to_input": False,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": metadata,
    }
