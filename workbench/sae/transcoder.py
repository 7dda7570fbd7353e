"""A transcoder: the activations at one place → a few active features → the activations at another, mostly what an MLP makes of its input.

    feature_acts = select(x @ W_enc + b_enc)                     select: ReLU, TopK, BatchTopK or JumpReLU (architectures.py)
    y_hat        = feature_acts @ W_dec + b_dec + x @ W_skip     W_skip only where the transcoder has an affine skip; error = y − y_hat

"Transcoders find interpretable LLM feature circuits" (Dunefsky et al., 2024), the skip from "Transcoders beat sparse autoencoders" (Paulo
et al., 2025). x and y are raw activations. Decoder rows keep the norms of their files and features their units: a graph's edges are in
them, and other tools' graphs of the same files must have the same. What is trained here has rows of norm 1.

A transcoder is no SAE: what an SAE cannot explain is x − x_hat at one place, and there is no such difference here.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from workbench.files import write_tensors, write_together
from workbench.sae.config import CFG_FILE, WEIGHTS_FILE, TranscoderConfig
from workbench.sae.dictionary import Dictionary, Outputs
from workbench.sae.formats.files import locate
from workbench.sae.formats.folding import assemble
from workbench.sae.formats.read import open_files
from workbench.sae.formats.transcoders import assemble_transcoder, read_set, read_transcoder
from workbench.sae.sae import SAE, SAELENS_VERSION
from workbench.shapes import Activations, FeatureActs

SAELENS_NAMES = {"standard": "", "jumprelu": "jumprelu_", "topk": "topk_", "batchtopk": "batchtopk_"}  # SAELens has the first two


class Transcoder(Dictionary):
    """W_enc (d_in, d_sae), b_enc (d_sae), W_dec (d_sae, d_out), b_dec (d_out); jumprelu: threshold (d_sae); with a skip, W_skip (d_in,
    d_out)."""

    def __init__(self, cfg: TranscoderConfig):
        super().__init__(cfg, cfg.d_out)
        self.W_skip = nn.Parameter(torch.zeros(cfg.d_in, cfg.d_out)) if cfg.has_skip else None

    def extra_repr(self) -> str:
        """What stands in the brackets of repr(transcoder)."""
        cfg = self.cfg
        skip = ", with a skip" if cfg.has_skip else ""
        widths = f"{cfg.d_in:,} → {self.features_in_words()} → {cfg.d_out:,}"
        return f"{cfg.architecture}{skip}, {widths}, {cfg.hook_name_in} → {cfg.hook_name_out}{self.assumed_in_words()}"

    @property
    def reads(self) -> str:
        """hook_name_in"""
        return self.cfg.hook_name_in

    @property
    def writes(self) -> str:
        """hook_name_out"""
        return self.cfg.hook_name_out

    def decode(self, feature_acts: FeatureActs, x: Activations | None = None) -> Outputs:
        """Feature activations (…, d_sae) → y_hat (…, d_out) at hook_name_out. x: what was encoded, needed where there is a skip."""
        y_hat = super().decode(feature_acts)
        if self.W_skip is None:
            return y_hat
        if x is None:
            raise ValueError("this transcoder has a skip: decode(feature_acts, x) needs the x that was encoded")
        return y_hat + x @ self.W_skip

    @torch.no_grad()
    def fold_scales(self, scale_in: float, scale_out: float) -> "Transcoder":
        """A transcoder trained on scale_in · x and scale_out · y becomes the same one on x and y; pre-activations stay as they are."""
        self.W_enc *= scale_in
        self.W_dec *= 1 / scale_out
        self.b_dec *= 1 / scale_out
        if self.W_skip is not None:
            self.W_skip *= scale_in / scale_out
        return self

    def save(self, folder: str | Path) -> None:
        """Write the folder of SAELens' transcoders, whole or not at all: SAELens opens ReLU and JumpReLU, with and without a skip,
        and says of TopK and BatchTopK that it does not know them."""
        weights = {name: weight.detach().contiguous().cpu() for name, weight in self.state_dict().items()}
        if "W_skip" in weights:
            weights["W_skip"] = weights["W_skip"].T.contiguous()  # on disk (d_out, d_in)
        text = json.dumps(_to_saelens(self.cfg), indent=2) + "\n"
        write_together(folder, {WEIGHTS_FILE: lambda path: write_tensors(path, weights), CFG_FILE: lambda path: path.write_text(text)})

    @classmethod
    def load(
        cls,
        source: str | Path,
        device: str | torch.device = "cpu",
        *,
        hook_name_in: str | None = None,
        hook_name_out: str | None = None,
        model_name: str | None = None,
    ) -> "Transcoder":
        """Read one transcoder of any format known here, from a folder, a file or a hub id. Frozen, float32.

        The names given win over what the files say. Raises SAEError, saying which file is wrong and how; an SAE is refused, too.
        """
        found = read_transcoder(cls, source, device, hook_name_in=hook_name_in, hook_name_out=hook_name_out, model_name=model_name)
        found.source = str(source)
        return found


def is_transcoder(source: str | Path) -> bool:
    """Do the files of this folder, file or hub id say that they hold a transcoder? Raises SAEError for what is neither that nor an SAE."""
    return bool(open_files(locate(source)).is_transcoder)


def load_dictionary(source: str | Path, device: str | torch.device = "cpu") -> SAE | Transcoder:
    """An SAE or a transcoder, whichever the files of this folder, file or hub id hold."""
    files = locate(source)
    foreign = open_files(files)  # once: they may hold gigabytes
    weights = files.weights
    found = assemble_transcoder(Transcoder, foreign, weights) if foreign.is_transcoder else assemble(SAE, foreign, weights)
    found.source = str(source)
    return found.to(device)


def load_transcoders(source: str | Path, device: str | torch.device = "cpu", *, model_name: str | None = None) -> dict[int, Transcoder]:
    """Layer → transcoder, from circuit-tracer's folder (or a hub id of one), or from a folder of transcoders' folders.

    Raises SAEError where a layer is missing, two are of the same layer, or they are of several models.
    """
    return read_set(Transcoder, source, device, model_name=model_name)


def _to_saelens(cfg: TranscoderConfig) -> dict[str, Any]:
    """cfg.json as SAELens 6 writes its transcoders'."""
    return {
        "architecture": f"{SAELENS_NAMES[cfg.architecture]}{'skip_' if cfg.has_skip else ''}transcoder",
        **{"d_in": cfg.d_in, "d_out": cfg.d_out, "d_sae": cfg.d_sae},
        **({"k": cfg.k} if cfg.k is not None else {}),
        **{"dtype": "float32", "apply_b_dec_to_input": False, "normalize_activations": "none", "reshape_activations": "none"},
        "metadata": {
            **cfg.metadata,
            **{"model_name": cfg.model_name, "hook_name": cfg.hook_name_in, "hook_name_out": cfg.hook_name_out},
            "sae_lens_version": SAELENS_VERSION,
        },
    }
