"""What an SAE and a transcoder share: features, each with an encoder's weights, a decoder's row and perhaps a threshold.

feature_acts = select(x @ W_enc + b_enc)                select: ReLU, TopK, BatchTopK or JumpReLU (architectures.py)
"""

import hashlib
from dataclasses import replace
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from workbench.finite import forget_whole, version
from workbench.sae.architectures import select
from workbench.sae.config import SAEError
from workbench.shapes import Activations, FeatureActs

Outputs = Float[Tensor, "*batch d_out"]
WIDTHS = "nested_widths"  # in metadata: how many of the first features are a dictionary by themselves
MEASURED = ("loss", "fvu", "l0", "dead", "copies", "n_tokens_measured")  # in metadata: of all features together
EQUAL_NORMS = 0.01  # relative spread; norms of unit rows that were stored in 16 bits differ by a tenth of this


class Dictionary(nn.Module):
    """W_enc (d_in, d_sae), b_enc (d_sae), W_dec (d_sae, d_out), b_dec (d_out); jumprelu: threshold (d_sae).

    Each feature's encoder weights lie side by side in memory (W_enc is a transposed view): sparse steps and the encoder's product read
    whole features.
    """

    W_enc: Tensor  # parameters all
    b_enc: Tensor
    W_dec: Tensor
    b_dec: Tensor
    threshold: Tensor | None

    def __init__(self, cfg: Any, d_out: int):
        super().__init__()
        self.cfg = cfg
        self.source = ""  # the folder or hub id that it was read from
        self._print: tuple[list[tuple], str] = ([], "")  # what the weights were like, and the fingerprint that they had then
        self.W_enc = nn.Parameter(torch.zeros(cfg.d_sae, cfg.d_in).T)
        self.b_enc = nn.Parameter(torch.zeros(cfg.d_sae))
        self.W_dec = nn.Parameter(torch.zeros(cfg.d_sae, d_out))
        self.b_dec = nn.Parameter(torch.zeros(d_out))
        self.threshold = nn.Parameter(torch.zeros(cfg.d_sae)) if cfg.architecture == "jumprelu" else None

    @property
    def reads(self) -> str:
        """The hook point whose activation x it encodes."""
        raise NotImplementedError

    @property
    def writes(self) -> str:
        """The hook point to which a feature adds activation · decoder row: where it is switched off, clamped and steered by."""
        raise NotImplementedError

    @property
    def compares_rows(self) -> bool:
        """Does what is active at one row depend on the others?"""
        return self.cfg.architecture == "batchtopk"

    def centered(self, x: Activations) -> Activations:
        """x as the encoder's weights take it."""
        return x

    def encode(self, x: Activations) -> FeatureActs:
        """Raw activations (…, d_in) → feature activations (…, d_sae), ≥ 0. BatchTopK picks k · n_rows of all rows together."""
        return select(self.cfg.architecture, self.pre_acts(x), k=self.cfg.k, threshold=self.threshold)

    def encode_each(self, x: Float[Tensor, "batch pos d_in"]) -> FeatureActs:
        """The same of several texts, each by itself: what BatchTopK picks in one does not hang on which others stand beside."""
        return torch.stack([self.encode(text) for text in x]) if self.compares_rows else self.encode(x)

    def pre_acts(self, x: Activations) -> FeatureActs:
        """What the architecture selects from."""
        return self.centered(x) @ self.W_enc + self.b_enc

    def decode(self, feature_acts: FeatureActs, x: Activations | None = None) -> Outputs:
        """Feature activations (…, d_sae) → the output (…, d_out), in raw units; of an SAE that centers, of the centered x. x, what was
        encoded, is asked for by a transcoder with a skip only."""
        return feature_acts @ self.W_dec + self.b_dec

    def beside(self, x: Outputs) -> Outputs:
        """x in the type in which what features write is taken from it: 16 bits round features, not what is around them."""
        return x.to(torch.promote_types(x.dtype, self.W_dec.dtype))

    def added(self, feature_acts: FeatureActs, x: Outputs) -> Outputs:
        """What these activations (…, d_sae), nearly all 0, add to x where the dictionary writes, in the type of `beside(x)`."""
        return written(feature_acts, self.W_dec, self.beside(x).dtype)

    def forward(self, x: Activations) -> Outputs:
        return self.decode(self.encode(x), x)

    @torch.no_grad()
    def fold_decoder_norms(self) -> Self:
        """Make decoder rows unit vectors without changing the output: the norm moves into the encoder and the threshold.

        TopK and BatchTopK compare features' pre-activations, so only a norm that all rows share can move without another selection.
        Raises SAEError, with nothing changed, where the rows differ by more than 1 %.
        """
        norms = self.W_dec.norm(dim=1).clamp_min(1e-12)
        if self.cfg.k is not None:
            if not self.has_equal_norms():
                raise SAEError(
                    f"decoder norms range from {norms.min():.3g} to {norms.max():.3g}: folding them would change which features this "
                    f"{self.cfg.architecture} {type(self).__name__} selects; train it to select by pre_acts · norm, or use it unfolded"
                )
            norms = norms.mean().expand_as(norms)
        self.W_dec /= norms[:, None]
        self.W_enc *= norms
        self.b_enc *= norms
        if self.threshold is not None:
            self.threshold *= norms
        return self

    @torch.no_grad()
    def normalize_decoder(self) -> None:
        """Make decoder rows unit vectors, and the output another."""
        self.W_dec /= self.W_dec.norm(dim=1, keepdim=True)

    def fingerprint(self) -> str:
        """Twelve hex digits that change with any weight: ties an index to its dictionary. Labels and lists ask for it at every turn, and a
        wide one takes a second: it is worked out anew only where a weight has been written to."""
        weights = sorted(self.state_dict().items())
        states = [(name, weight.data_ptr(), version(weight), weight.sum().item()) for name, weight in weights]
        if self._print[0] != states:
            digest = hashlib.sha256()
            for name, weight in weights:
                digest.update(name.encode() + weight.detach().float().cpu().numpy().tobytes())
            self._print = states, digest.hexdigest()[:12]
        return self._print[1]

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        forget_whole(self)
        return super()._apply(fn, recurse)

    def has_equal_norms(self) -> bool:
        """Do all decoder rows have one norm? Then folding it keeps a TopK selection."""
        norms = self.W_dec.detach().norm(dim=1)
        return bool(norms.max() - norms.min() <= EQUAL_NORMS * norms.max())

    @property
    def widths(self) -> tuple[int, ...]:
        """How many of its first features do by themselves: several where it was trained so, at last all. Raises SAEError where its
        metadata contradict it."""
        widths = self.cfg.metadata.get(WIDTHS, [self.cfg.d_sae])
        is_right = isinstance(widths, list) and all(isinstance(n, int) and n > 0 for n in widths) and widths == sorted({*widths})
        if not is_right or widths[-1:] != [self.cfg.d_sae]:
            raise SAEError(f"{WIDTHS} is {widths!r}: expected a list of growing widths, the last one {self.cfg.d_sae}")
        return tuple(widths)

    @torch.no_grad()
    def at_width(self, n: int) -> Self:
        """The same with the first n features only. Raises ValueError unless n is one of `widths`."""
        if n not in self.widths:
            there = ", ".join(f"{width:,}" for width in self.widths)
            raise ValueError(f"at_width({n!r}): the first {n} features were not trained to stand alone; those at {there} were")
        nested = {WIDTHS: [width for width in self.widths if width <= n]} if len(self.widths) > 1 else {}
        kept = self.cfg.metadata if n == self.cfg.d_sae else {k: v for k, v in self.cfg.metadata.items() if k not in MEASURED}
        kind: Any = type(self)  # made from its config alone
        small = kind(replace(self.cfg, d_sae=n, metadata=kept | nested)).to(self.W_dec)
        for name, weight in self.named_parameters():
            part = weight.T[:n].T if name == "W_enc" else weight if name in ("b_dec", "W_skip") else weight[:n]
            small.get_parameter(name).copy_(part)
        return small.requires_grad_(False).eval()

    def together_note(self) -> str:
        """One sentence where what is active at a token depends on which others are read with it; else ""."""
        if not self.compares_rows:
            return ""
        return (
            "BatchTopK without a threshold picks among all tokens that are read together: other texts beside, or the start token, and "
            "other features are active"
        )

    def features_in_words(self) -> str:
        """For repr: how many features, and which of the first do by themselves."""
        inner = self.widths[:-1]
        nested = f" (nested: also the first {', '.join(f'{n:,}' for n in inner)})" if inner else ""
        return f"{self.cfg.d_sae:,} features{nested}"

    def assumed_in_words(self) -> str:
        """For repr: what the files did not say."""
        return f"; assumed: {self.cfg.metadata['assumed']}" if "assumed" in self.cfg.metadata else ""


def written(
    feature_acts: Float[Tensor, "*batch d_sae"], W_dec: Float[Tensor, "d_sae d_out"], dtype: torch.dtype
) -> Float[Tensor, "*batch d_out"]:
    """feature_acts @ W_dec in a type that may be wider than theirs: a copy of the active rows only, since one of all is gigabytes."""
    if dtype == W_dec.dtype:
        return feature_acts @ W_dec
    some = feature_acts.flatten(0, -2).any(0).nonzero()[:, 0]
    return feature_acts[..., some].to(dtype) @ W_dec[some].to(dtype)
