"""The same texts through two models: what one SAE's features do in each, and the activation that it reads.

    text → tokens → x_base, x_tuned (pos, d_in) at the SAE's hook point → feature_acts of each (pos, d_sae)
         → per text: the mean activation, the share of tokens with one, the mean of x_tuned − x_base

The start token is left out. Everything is kept by text, since a text is what is drawn, and its tokens are not independent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from tqdm.auto import tqdm

from workbench.activations.rows import Row, as_batch, batches
from workbench.features.search.codes import text_tokens
from workbench.model.gemm import machine_rate
from workbench.model.head import Head
from workbench.model.hooks import check_finite
from workbench.model.tokens import is_start_token
from workbench.sae.dictionary import Dictionary
from workbench.shapes import TokenMask

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

N_TOKENS = 2048  # in a forward pass


@dataclass(frozen=True, eq=False)
class Side:
    """One model's: feature by text (n_texts, d_sae), and how much of x the SAE leaves unexplained."""

    activation: sparse.csr_array  # mean over the text's tokens
    density: sparse.csr_array  # share of them with an activation above 0
    fvu: float


@dataclass(frozen=True, eq=False)
class Both:
    """Two models on the same texts."""

    base: Side
    tuned: Side
    difference: np.ndarray  # (n_texts, d_in) mean over the text's tokens of x_tuned − x_base
    distance: np.ndarray  # (n_texts) root of the mean square of x_tuned − x_base, over that of x_base − its mean
    n_tokens: int


class _Sums:
    """What the fraction of variance unexplained is made of."""

    def __init__(self):
        self.n, self.x, self.squares, self.errors = 0, 0.0, 0.0, 0.0

    def add(self, x: Tensor, x_hat: Tensor) -> None:
        x = x.double()
        self.n, self.x = self.n + len(x), self.x + x.sum(0)
        self.squares += float((x**2).sum())
        self.errors += float(((x - x_hat.double()) ** 2).sum())

    @property
    def variance(self) -> float:
        """Σ ‖x − mean‖²"""
        return self.squares - float((torch.as_tensor(self.x) ** 2).sum()) / self.n

    @property
    def fvu(self) -> float:
        return self.errors / self.variance if self.variance > 0 else float("nan")


@torch.no_grad()
def read_both(base: "TransformerBridge", tuned: "TransformerBridge", sae: Dictionary, texts: Sequence[str], progress: bool = True) -> Both:
    """Raises ValueError for an empty or over-long text, saying which one it is."""
    rows = [text_tokens(base, text, number) for number, text in enumerate(texts)]
    heads, sums = [Head(model, [sae.reads]) for model in (base, tuned)], (_Sums(), _Sums())
    groups, found = batches([len(row) for row in rows], N_TOKENS), []
    with tqdm(total=len(rows), desc="reading texts", unit="text", disable=not progress, delay=2) as bar:
        for batch in groups:
            tokens = as_batch(base, [Row(rows[i], ()) for i in batch])[0]
            lengths = torch.tensor([len(rows[i]) for i in batch], device=tokens.device)
            is_text = (torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]) & ~is_start_token(base, tokens)
            acts = [head(tokens.to(head.model.cfg.device))[sae.reads].to(sae.W_dec) for head in heads]
            for x in acts:
                check_finite(x[is_text.to(x.device)], sae.reads)
            found.append(_batch(sae, acts, is_text.to(sae.W_dec.device), sums))
            bar.update(len(batch))
    back = np.argsort([i for batch in groups for i in batch])
    in_order = [[_stacked([each.sides[side][kind] for each in found])[back] for kind in (0, 1)] for side in (0, 1)]
    sides = [Side(kinds[0], kinds[1], total.fvu) for kinds, total in zip(in_order, sums, strict=True)]
    spread = (sums[0].variance / sums[0].n) ** 0.5
    difference, distance = (np.concatenate([getattr(each, name) for each in found])[back] for name in ("difference", "distance"))
    return Both(sides[0], sides[1], difference, distance / (spread or 1.0), sums[0].n)


def _stacked(rows: list[sparse.csr_array]) -> sparse.csr_array:
    return sparse.csr_array(sparse.vstack(rows, format="csr"))


class _Batch(NamedTuple):
    """Some texts: in each model mean activation and density of the features, and what x differs by."""

    sides: list[tuple[sparse.csr_array, sparse.csr_array]]
    difference: np.ndarray
    distance: np.ndarray


def _batch(sae: Dictionary, acts: list[Tensor], is_text: TokenMask, sums: tuple[_Sums, _Sums]) -> _Batch:
    own = is_text.sum(1)
    of_text = torch.repeat_interleave(torch.arange(len(own), device=own.device), own)

    def mean(x: Tensor) -> Tensor:
        """Over each text's tokens."""
        return torch.zeros(len(own), *x.shape[1:], dtype=x.dtype, device=x.device).index_add_(0, of_text, x) / own[:, None]

    sides = []
    for x, total in zip((x[is_text] for x in acts), sums, strict=True):
        with machine_rate():
            feature_acts = sae.encode(x)
            total.add(x, sae.decode(feature_acts, x))
        pooled = (mean(each) for each in (feature_acts.float(), (feature_acts > 0).float()))
        sides.append(tuple(sparse.csr_array(each.cpu().numpy()) for each in pooled))
    d = (acts[1] - acts[0])[is_text].double()
    return _Batch(sides, mean(d).cpu().numpy(), mean(d.square().sum(1)[:, None])[:, 0].sqrt().cpu().numpy())
