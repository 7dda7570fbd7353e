"""A sparse autoencoder (SAE): activations → a few active features → the activations again.

    feature_acts = select(x @ W_enc + b_enc)                select: ReLU, TopK, BatchTopK or JumpReLU (architectures.py)
    x_hat        = feature_acts @ W_dec + b_dec             error = x - x_hat

Scaling Monosemanticity, "Sparse autoencoders". x is the model's raw activation: the scalar that training normalizes by is folded into
the weights, and so are the decoder norms. Rows of W_dec have norm 1, hence `feature_acts` is the paper's "feature activation",
activation · ‖decoder row‖.

On disk an SAE is SAELens' folder: cfg.json and sae_weights.safetensors. formats.py reads it, and every other library's.
"""

import hashlib
import json
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from workbench.files import write_whole
from workbench.sae.architectures import select
from workbench.sae.config import CFG_FILE, WEIGHTS_FILE, SAEConfig, SAEError
from workbench.sae.formats.read import read
from workbench.shapes import Activations, FeatureActs

SAELENS_VERSION = "6.0.0"  # of the folder's format; without it SAELens takes cfg.json for its older, flat one and finds no hook_name
WIDTHS = "nested_widths"  # in metadata: how many of the first features are one by themselves
EQUAL_NORMS = 0.01  # relative spread; norms of unit rows that were stored in 16 bits differ by a tenth of this


class SAE(nn.Module):
    """SAE on raw activations. W_enc (d_in, d_sae), b_enc (d_sae), W_dec (d_sae, d_in), b_dec (d_in); jumprelu: threshold (d_sae).

    Each feature's encoder weights lie side by side in memory (W_enc is a transposed view): sparse steps and the encoder's product read
    whole features.
    """

    def __init__(self, cfg: SAEConfig):
        super().__init__()
        self.cfg = cfg
        self.source = ""  # the folder or hub id that it was read from
        self.W_enc = nn.Parameter(torch.zeros(cfg.d_sae, cfg.d_in).T)
        self.b_enc = nn.Parameter(torch.zeros(cfg.d_sae))
        self.W_dec = nn.Parameter(torch.zeros(cfg.d_sae, cfg.d_in))
        self.b_dec = nn.Parameter(torch.zeros(cfg.d_in))
        self.threshold = nn.Parameter(torch.zeros(cfg.d_sae)) if cfg.architecture == "jumprelu" else None

    def extra_repr(self) -> str:
        """What stands in the brackets of repr(sae)."""
        assumed = f"; assumed: {self.cfg.metadata['assumed']}" if "assumed" in self.cfg.metadata else ""
        return f"{self.cfg.architecture}, {self.cfg.d_in:,} → {self.cfg.d_sae:,} features{nested(self)} at {self.cfg.hook_name}{assumed}"

    def encode(self, x: Activations) -> FeatureActs:
        """Raw activations (…, d_in) → feature activations (…, d_sae), ≥ 0. BatchTopK picks k · n_rows of all rows together."""
        return select(self.cfg.architecture, self.pre_acts(x), k=self.cfg.k, threshold=self.threshold)

    def pre_acts(self, x: Activations) -> FeatureActs:
        """What the architecture selects from."""
        if self.cfg.centers_input:
            x = x - x.mean(-1, keepdim=True)
        return x @ self.W_enc + self.b_enc

    def decode(self, feature_acts: FeatureActs) -> Activations:
        """Feature activations (…, d_sae) → x_hat (…, d_in), in raw units (of the centered x where the SAE centers)."""
        return feature_acts @ self.W_dec + self.b_dec

    def forward(self, x: Activations) -> Activations:
        return self.decode(self.encode(x))

    @torch.no_grad()
    def fold_decoder_norms(self) -> "SAE":
        """Make decoder rows unit vectors without changing x_hat: the norm moves into the encoder and the threshold.

        TopK and BatchTopK compare features' pre-activations, so only a norm that all rows share can move without another selection.
        Raises SAEError, with nothing changed, where the rows differ by more than 1 %.
        """
        fold_norms(self)
        return self

    def has_equal_norms(self) -> bool:
        """Do all decoder rows have one norm? Then folding it keeps a TopK selection."""
        return _are_equal(self.W_dec.detach().norm(dim=1))

    @torch.no_grad()
    def fold_scale(self, scale: float) -> "SAE":
        """An SAE trained on `scale · x` becomes the same SAE on x: pre-activations, hence k and thresholds, stay as they are."""
        self.W_enc *= scale
        self.W_dec /= scale
        self.b_dec /= scale
        return self

    @property
    def widths(self) -> tuple[int, ...]:
        """How many of its first features are an SAE by themselves: several where it was trained so, at last all."""
        return nested_widths(self.cfg)

    def at_width(self, n: int) -> "SAE":
        """The SAE of the first n features. Raises ValueError unless n is one of `widths`."""
        return first_features(self, n)

    def fingerprint(self) -> str:
        """Twelve hex digits that change with any weight: ties an index to its SAE."""
        digest = hashlib.sha256()
        for name, weight in sorted(self.state_dict().items()):
            digest.update(name.encode() + weight.detach().float().cpu().numpy().tobytes())
        return digest.hexdigest()[:12]

    def save(self, folder: str | Path) -> None:
        """Write the SAELens v6 folder; each file is complete or absent."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: weight.detach().contiguous().cpu() for name, weight in self.state_dict().items()}
        write_whole(folder / WEIGHTS_FILE, lambda path: save_file(weights, path))
        write_whole(folder / CFG_FILE, lambda path: path.write_text(json.dumps(_to_saelens(self.cfg), indent=2) + "\n"))

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


def nested_widths(cfg: Any) -> tuple[int, ...]:
    """Of an SAE's or a transcoder's config. Raises SAEError where its metadata contradict it."""
    widths = cfg.metadata.get(WIDTHS, [cfg.d_sae])
    is_right = isinstance(widths, list) and all(isinstance(n, int) and n > 0 for n in widths) and widths == sorted({*widths})
    if not is_right or widths[-1:] != [cfg.d_sae]:
        raise SAEError(f"{WIDTHS} is {widths!r}: expected a list of growing widths, the last one {cfg.d_sae}")
    return tuple(widths)


def nested(dictionary: Any) -> str:
    """A word on its widths in repr, where it has several."""
    inner = dictionary.widths[:-1]
    return f" (nested: also the first {', '.join(f'{n:,}' for n in inner)})" if inner else ""


@torch.no_grad()
def first_features(dictionary: Any, n: int) -> Any:
    """`at_width`, of an SAE or a transcoder."""
    cfg, widths = dictionary.cfg, dictionary.widths
    if n not in widths:
        there = ", ".join(f"{width:,}" for width in widths)
        raise ValueError(f"at_width({n!r}): the first {n} features were not trained to stand alone; those at {there} were")
    metadata = cfg.metadata | ({WIDTHS: [width for width in widths if width <= n]} if len(widths) > 1 else {})
    small = type(dictionary)(replace(cfg, d_sae=n, metadata=metadata)).to(dictionary.W_dec.device)
    for name, weight in dictionary.named_parameters():
        part = weight.T[:n].T if name == "W_enc" else weight if name in ("b_dec", "W_skip") else weight[:n]
        small.get_parameter(name).copy_(part)
    return small.requires_grad_(False).eval()


@torch.no_grad()
def fold_norms(dictionary: Any) -> None:
    """`fold_decoder_norms`, of an SAE or a transcoder."""
    norms, cfg = dictionary.W_dec.norm(dim=1).clamp_min(1e-12), dictionary.cfg
    if cfg.k is not None:
        if not _are_equal(norms):
            raise SAEError(
                f"decoder norms range from {norms.min():.3g} to {norms.max():.3g}: folding them would change which features this "
                f"{cfg.architecture} {type(dictionary).__name__} selects; train it to select by pre_acts · norm, or use it unfolded"
            )
        norms = norms.mean().expand_as(norms)
    dictionary.W_dec /= norms[:, None]
    dictionary.W_enc *= norms
    dictionary.b_enc *= norms
    if dictionary.threshold is not None:
        dictionary.threshold *= norms


def _are_equal(norms: Tensor) -> bool:
    return bool(norms.max() - norms.min() <= EQUAL_NORMS * norms.max())


def checked_feature(feature: Any, d_sae: int, name: str = "this SAE") -> int:
    """Raises ValueError for what is no feature, with those that there are."""
    if isinstance(feature, bool) or not isinstance(feature, Integral):
        words = "; find_by_label finds features by words" if isinstance(feature, str) else ""
        raise ValueError(f"{feature!r} is no feature: expected a whole number, 0 to {d_sae - 1:,}{words}")
    if not 0 <= int(feature) < d_sae:
        raise ValueError(f"feature {feature} is out of range: {name} has features 0 to {d_sae - 1:,}")
    return int(feature)


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
