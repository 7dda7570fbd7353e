"""A feature's top examples: the texts in which it is most active, with its activation at every token.

One pass over the texts serves all features of the SAE; what is kept is sparse.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import sparse

from workbench.activations import harvest, padded
from workbench.model import to_str_tokens
from workbench.sae.sae import SAE

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@dataclass(frozen=True)
class Example:
    str_tokens: list[str]
    activations: list[float]  # the feature's, one a token; the start token is left out


class Examples:
    """`examples(feature, n)` → the n texts in which the feature is most active, best first. The texts are read at the first call."""

    def __init__(self, model: "TransformerBridge", sae: SAE, texts: Sequence[str]):
        self.model, self.sae, self.texts = model, sae, texts
        self.acts: sparse.csc_matrix | None = None  # (tokens of all texts, d_sae)
        self.bounds = np.zeros(1, dtype=int)  # where each text's tokens begin and end among them
        self.str_tokens: list[list[str]] = []

    def __call__(self, feature: int, n: int = 10) -> list[Example]:
        if not 0 <= feature < self.sae.cfg.d_sae:
            raise ValueError(f"feature {feature} is out of range: this SAE has features 0 to {self.sae.cfg.d_sae - 1:,}")
        if self.acts is None:
            self._read()
        assert self.acts is not None
        column = self.acts[:, [feature]]
        text = np.searchsorted(self.bounds, column.indices, side="right") - 1
        peak = np.zeros(len(self.texts))
        np.maximum.at(peak, text, column.data)
        best = [int(i) for i in np.argsort(-peak, kind="stable")[:n] if peak[i] > 0]
        dense = column.toarray()[:, 0]
        return [Example(self.str_tokens[i], dense[self.bounds[i] : self.bounds[i + 1]].round(4).tolist()) for i in best]

    @torch.no_grad()
    def _read(self) -> None:
        parts, lengths = [], [0]
        for first in range(0, len(self.texts), 128):
            tokens, is_text = padded(self.model, self.texts[first : first + 128])
            feature_acts = self.sae.encode(harvest(self.model, tokens, self.sae.cfg.hook_name))
            parts.append(sparse.csr_matrix(feature_acts[is_text].cpu().numpy()))
            for row, own in zip(tokens, is_text, strict=True):
                lengths.append(int(own.sum()))
                self.str_tokens.append(to_str_tokens(self.model, row[own][None]))
        self.acts, self.bounds = sparse.csc_matrix(sparse.vstack(parts)), np.cumsum(lengths)
