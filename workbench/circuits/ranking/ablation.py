"""Measured effects: each feature clamped to 0 at one position, the forward pass finished, the metric compared. Exact.

    effect[pos, i] = metric(clean) − metric(x[pos] − feature_acts[pos, i] · W_dec[i])

Scaling Monosemanticity, "Features as computational intermediates". Positive: the feature supports the answer. The edit is by difference,
so the SAE's error stays in x. Of a transcoder x is what stands where it writes. All pairs go through one Replay of the prompt in batches.
"""

from collections.abc import Callable, Iterator
from threading import Event
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm.auto import tqdm

from workbench.circuits.acts import read_beside
from workbench.circuits.metrics import Metric, ResolvedMetric, resolve
from workbench.model.hooks import check_dictionary
from workbench.model.model import BAR_DELAY
from workbench.replay.replay import Replay
from workbench.sae.dictionary import Dictionary
from workbench.sae.parts import active, acts_at
from workbench.shapes import RowIndex, Rows, Tokens

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

FIRST_CHUNK = 64  # rows until a watcher sees the first effects; each chunk after that is twice as long


def ablate(  # noqa: PLR0913 one call serves a notebook (progress) and a widget (cancel, on_batch)
    model: "TransformerBridge",
    sae: Dictionary,
    tokens: Tokens,
    metric: Metric,
    pairs: Int[Tensor, "n_rows 2"] | None = None,
    progress: bool = True,
    cancel: Event | None = None,
    on_batch: Callable[[RowIndex, Rows], None] | None = None,
) -> Rows:
    """The effect of clamping each (pos, feature) of `pairs` to 0, one at a time; by default of every active pair, by position.

    on_batch(rows, effects) is called after every batch with indices into `pairs` and what was measured for them. `cancel`, once set,
    stops before the next batch; what was not measured is NaN. With either of them early pairs come first (put the largest
    |attribution| there): chunks grow from 64 rows, so that the first effects come soon and the whole costs little more.
    """
    return Ablations(model, sae, tokens, metric).of(pairs, progress, cancel, on_batch)


class Ablations:
    """One prompt, made ready once for any number of calls: `of(pairs)` is what `ablate` gives."""

    @torch.no_grad()
    def __init__(self, model: "TransformerBridge", sae: Dictionary, tokens: Tokens, metric: Metric):
        check_dictionary(model, sae)
        self.sae, self.resolved, self.replay = sae, resolve(model, metric), Replay(model, sae.writes, tokens)
        self.read = read_beside(self.replay, sae)
        clean = self.replay.clean
        self.clean = clean.to(torch.promote_types(clean.dtype, sae.W_dec.dtype))  # an SAE's half precision rounds its features only

    @torch.no_grad()
    def of(
        self,
        pairs: Int[Tensor, "n_rows 2"] | None = None,
        progress: bool = True,
        cancel: Event | None = None,
        on_batch: Callable[[RowIndex, Rows], None] | None = None,
    ) -> Rows:
        """The effect of each of these (pos, feature); of every active pair, by position."""
        sae, clean, resolved = self.sae, self.clean, self.resolved
        pairs, acts = active(sae, self.read) if pairs is None else (pairs.to(clean.device), None)
        pos, feature = _checked(pairs, len(self.read), sae.cfg.d_sae)
        acts = acts_at(sae, self.read, pairs) if acts is None else acts
        effects = torch.full((len(pairs),), torch.nan, device=clean.device, dtype=torch.promote_types(clean.dtype, torch.float32))
        is_watched = cancel is not None or on_batch is not None
        with tqdm(total=len(pairs), desc="ablating", unit="pair", disable=not progress, delay=BAR_DELAY) as bar:
            for rows in _in_order(self.replay, pos, is_watched):
                if cancel is not None and cancel.is_set():
                    break
                p, f = pos[rows], feature[rows]
                x = clean[p] - acts[rows, None] * sae.W_dec[f]
                with_clean = torch.cat([p[:1], p]), torch.cat([clean[p[:1]], x])  # row 0 is the clean prompt, rounded as the others are
                metrics = resolved.difference(self.replay.logits(*with_clean, resolved.columns))
                effects[rows] = (metrics[0] - metrics[1:]).to(effects.dtype)
                bar.update(len(rows))
                if on_batch is not None:
                    on_batch(rows, effects[rows])
        return effects


@torch.no_grad()
def effects_of(replay: Replay, resolved: ResolvedMetric, pos: RowIndex, x: Float[Tensor, "n_rows d_in"]) -> Rows:
    """metric(clean) − metric(x[i] at pos[i]), whatever x is, each row alone. In float64 on the CPU."""
    effects = torch.full((len(pos),), torch.nan, dtype=torch.float64)
    for rows in replay.batches(pos):
        at, values = pos[rows], x[rows]
        with_clean = torch.cat([at[:1], at]), torch.cat([replay.clean[at[:1]].to(values), values])  # rounded as the others are
        metrics = resolved.difference(replay.logits(*with_clean, resolved.columns))
        effects[rows.cpu()] = (metrics[0] - metrics[1:]).double().cpu()
    return effects


def _checked(pairs: Tensor, n_pos: int, d_sae: int) -> tuple[RowIndex, RowIndex]:
    if len(pairs) == 0:
        raise ValueError("no feature is active on this prompt: there is nothing to ablate")
    pos, feature = pairs.unbind(1)
    if pos.min() < 0 or pos.max() >= n_pos or feature.min() < 0 or feature.max() >= d_sae:
        raise ValueError(
            f"pairs are (pos, feature) with pos below {n_pos} and feature below {d_sae}; got up to {tuple(pairs.amax(0).tolist())}"
        )
    return pos, feature


def _in_order(replay: Replay, pos: RowIndex, is_watched: bool) -> Iterator[RowIndex]:
    """Batches of rows. Unwatched: all rows grouped by position. Watched: early rows first, grouped within chunks that double."""
    begin, size = 0, FIRST_CHUNK if is_watched else len(pos)
    while begin < len(pos):
        for rows in replay.batches(pos[begin : begin + size]):
            yield rows + begin
        begin, size = begin + size, 2 * size
