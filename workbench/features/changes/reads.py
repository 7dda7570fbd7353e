"""The same texts through two models: what one SAE's features do in each, and the activation that it reads.

    text → tokens → x_base, x_tuned (pos, d_in) at the SAE's hook point → feature_acts of each (pos, d_sae)
         → per text: the mean activation, the share of tokens with one, the mean of x_tuned − x_base

Of a transcoder the mean difference, and the share of variance that it explains, are of y, where it writes: there its decoder rows point.
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
from workbench.replay.precision import wide
from workbench.sae.dictionary import Dictionary
from workbench.shapes import FeatureActs, TokenMask

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

N_TOKENS = 2048  # in a forward pass


@dataclass(frozen=True, eq=False)
class Side:
    """One model's: feature by text (n_texts, d_sae), and how much of x the SAE leaves unexplained."""

    activation: sparse.csr_array  # mean over the text's tokens
    density: sparse.csr_array  # share of them with an activation above 0
    fvu: float  # of x, where an SAE centers without its mean over d_in; of a transcoder of y


@dataclass(frozen=True, eq=False)
class Both:
    """Two models on the same texts."""

    base: Side
    tuned: Side
    difference: np.ndarray  # (n_texts, d_in) mean over the text's tokens of x_tuned − x_base; of a transcoder (n_texts, d_out) of y
    distance: np.ndarray  # (n_texts) root of the mean square of x_tuned − x_base, over that of x_base − its mean
    n_tokens: int


class Spread:
    """Σ ‖x − mean of x‖² of vectors that come a batch at a time, in float64."""

    def __init__(self):
        self.n, self.total, self.squares = 0, torch.zeros(()), 0.0

    def add(self, x: Tensor) -> None:
        """Some more of them."""
        x = x.double()
        self.n, self.total = self.n + len(x), self.total.to(x) + x.sum(0)
        self.squares += float(x.square().sum())

    @property
    def variance(self) -> float:
        """Of all so far."""
        return self.squares - float(self.total.square().sum()) / self.n if self.n else 0.0


class _Sums:
    """Of one model: how far what is read spreads, and what the fraction of variance unexplained is made of."""

    def __init__(self, sae: Dictionary):
        self.sae, self.x, self.goal, self.errors = sae, Spread(), Spread(), 0.0

    def add(self, x: Tensor, y: Tensor, feature_acts: FeatureActs) -> None:
        goal = self.sae.centered(y)  # as the dictionary gives it; a transcoder centers nothing
        self.x.add(x)
        self.goal.add(goal)
        self.errors += float((goal.double() - self.sae.decode(feature_acts, x.to(feature_acts.dtype)).double()).square().sum())

    @property
    def fvu(self) -> float:
        return self.errors / self.goal.variance if self.goal.variance > 0 else float("nan")


@torch.no_grad()
def read_both(base: "TransformerBridge", tuned: "TransformerBridge", sae: Dictionary, texts: Sequence[str], progress: bool = True) -> Both:
    """Raises ValueError for an empty or over-long text, saying which one it is."""
    rows = [text_tokens(base, text, number) for number, text in enumerate(texts)]
    heads, sums = [Head(model, [sae.reads, sae.writes]) for model in (base, tuned)], (_Sums(sae), _Sums(sae))
    groups, found = batches([len(row) for row in rows], N_TOKENS), []
    with tqdm(total=len(rows), desc="reading texts", unit="text", disable=not progress, delay=2) as bar:
        for batch in groups:
            tokens = as_batch(base, [Row(rows[i], ()) for i in batch])[0]
            lengths = torch.tensor([len(rows[i]) for i in batch], device=tokens.device)
            is_text = (torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]) & ~is_start_token(base, tokens)
            read = [head(tokens.to(head.model.cfg.device)) for head in heads]
            # In float32: two models are subtracted, and 16 bits would round away what tuning changed.
            both = {name: [wide(acts[name].to(sae.W_dec.device)) for acts in read] for name in (sae.reads, sae.writes)}
            for name, some in both.items():
                for x in some:
                    check_finite(x[is_text.to(x.device)], name)
            found.append(_batch(both[sae.reads], both[sae.writes], is_text.to(sae.W_dec.device), sums))
            bar.update(len(batch))
    back = np.argsort([i for batch in groups for i in batch])
    in_order = [[_stacked([each.sides[side][kind] for each in found])[back] for kind in (0, 1)] for side in (0, 1)]
    sides = [Side(kinds[0], kinds[1], total.fvu) for kinds, total in zip(in_order, sums, strict=True)]
    spread = (sums[0].x.variance / sums[0].x.n) ** 0.5
    difference, distance = (np.concatenate([getattr(each, name) for each in found])[back] for name in ("difference", "distance"))
    return Both(sides[0], sides[1], difference, distance / (spread or 1.0), sums[0].x.n)


def _stacked(rows: list[sparse.csr_array]) -> sparse.csr_array:
    return sparse.csr_array(sparse.vstack(rows, format="csr"))


class _Batch(NamedTuple):
    """Some texts: in each model mean activation and density of the features, and what x and y differ by."""

    sides: list[tuple[sparse.csr_array, sparse.csr_array]]
    difference: np.ndarray
    distance: np.ndarray


def _batch(xs: list[Tensor], ys: list[Tensor], is_text: TokenMask, sums: tuple[_Sums, _Sums]) -> _Batch:
    """xs, ys: what stands in each model where the dictionary reads and where it writes."""
    own = is_text.sum(1)
    of_text = torch.repeat_interleave(torch.arange(len(own), device=own.device), own)

    def mean(x: Tensor) -> Tensor:
        """Over each text's tokens."""
        return torch.zeros(len(own), *x.shape[1:], dtype=x.dtype, device=x.device).index_add_(0, of_text, x) / own[:, None]

    sides = []
    for x, y, total in zip((x[is_text] for x in xs), (y[is_text] for y in ys), sums, strict=True):
        with machine_rate():
            feature_acts = total.sae.encode(x.to(total.sae.W_dec.dtype))
            total.add(x, y, feature_acts)
        pooled = (mean(each) for each in (feature_acts.float(), (feature_acts > 0).float()))
        sides.append(tuple(sparse.csr_array(each.cpu().numpy()) for each in pooled))
    far, d = ((some[1] - some[0])[is_text].double() for some in (xs, ys))
    return _Batch(sides, mean(d).cpu().numpy(), mean(far.square().sum(1)[:, None])[:, 0].sqrt().cpu().numpy())
