"""Measured effects: each feature clamped to 0 at one position, the forward pass finished, the metric compared. Exact.

    effect[pos, i] = metric(clean) − metric(x[pos] − feature_acts[pos, i] · W_dec[i])

Scaling Monosemanticity, "Features as computational intermediates". Positive: the feature supports the answer. The edit is by difference,
so the SAE's error stays in x. Of a transcoder x is what stands where it writes. All pairs go through one Replay of the prompt in batches.

precision="delta" multiplies only what each ablation changed, in 16 bits (replay/delta.py): faster where the device multiplies 16 bits
faster, with an error that is measured in every call, on some pairs, and said. "exact" is float32 throughout.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
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

PRECISIONS = ("exact", "delta")
N_CHECKED = 12  # pairs of the largest effects in the delta form, and as many at random, that are measured exactly, too
MOST_ERROR = 0.05  # of the largest effect: beyond it the delta form is not believed
LEAST_SHARE = 0.5  # of products in 16 bits: below it the form wins little, and is told so
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
    precision: str = "exact",
) -> Rows:
    """The effect of clamping each (pos, feature) of `pairs` to 0, one at a time; by default of every active pair, by position.

    on_batch(rows, effects) is called after every batch with indices into `pairs` and what was measured for them. `cancel`, once set,
    stops before the next batch; what was not measured is NaN. With either of them early pairs come first (put the largest
    |attribution| there): chunks grow from 64 rows, so that the first effects come soon and the whole costs little more.
    precision: "exact", or "delta", which prints how far off it was on some pairs that are measured both ways.
    """
    ablations = Ablations(model, sae, tokens, metric, precision)
    effects = ablations.of(pairs, progress, cancel, on_batch)
    if ablations.note:
        tqdm.write(ablations.note)
    return effects


class Ablations:
    """One prompt, made ready once for any number of calls: `of(pairs)` is what `ablate` gives.

    note: what the last call is to be believed, where it was not exact or not as asked; else "".
    """

    @torch.no_grad()
    def __init__(self, model: "TransformerBridge", sae: Dictionary, tokens: Tokens, metric: Metric, precision: str = "exact"):
        check_dictionary(model, sae)
        self.precision, self.note = checked_precision(precision), ""
        self.sae, self.resolved, self.replay = sae, resolve(model, metric), Replay(model, sae.writes, tokens)
        self.read = read_beside(self.replay, sae)
        self.clean = sae.beside(self.replay.clean)

    @torch.no_grad()
    def of(
        self,
        pairs: Int[Tensor, "n_rows 2"] | None = None,
        progress: bool = True,
        cancel: Event | None = None,
        on_batch: Callable[[RowIndex, Rows], None] | None = None,
    ) -> Rows:
        """The effect of each of these (pos, feature); of every active pair, by position."""
        pairs, acts = active(self.sae, self.read) if pairs is None else (pairs.to(self.clean.device), None)
        _check(pairs, len(self.read), self.sae.cfg.d_sae)
        acts = acts_at(self.sae, self.read, pairs) if acts is None else acts
        is_watched = cancel is not None or on_batch is not None
        with tqdm(total=len(pairs), desc="ablating", unit="pair", disable=not progress, delay=BAR_DELAY) as bar:

            def measured(rows: RowIndex, effects: Rows) -> None:
                bar.update(len(rows))
                if on_batch is not None:
                    on_batch(rows, effects)

            def run() -> Rows:
                return self._measure(pairs, acts, is_watched, cancel, measured)

            self.note = self.replay.why_no_delta() if self.precision == "delta" else ""
            if self.precision == "exact" or self.note:
                return run()
            with self.replay.in_delta_form() as deltas:
                effects = run()
            if deltas.share < LEAST_SHARE:
                self.note = f"of this model's products only {deltas.share:.0%} could take the delta form: the rest is exact, and as slow"
            is_stopped = cancel is not None and cancel.is_set()
            rows = _both_ways(effects, is_stopped)
            if not len(rows):  # stopped before anything was measured
                return effects
            error = DeltaError.of(effects[rows], self._measure(pairs[rows], acts[rows]))
            is_believed = error.of_largest <= MOST_ERROR
            then = "" if is_believed else " That is too much." if is_stopped else " That is too much: all were measured anew, exact."
            self.note = " ".join(filter(None, (error.sentence + then, self.note)))
            return effects if is_believed or is_stopped else run()

    def _measure(
        self,
        pairs: Int[Tensor, "n_rows 2"],
        acts: Rows,
        is_watched: bool = False,
        cancel: Event | None = None,
        on_batch: Callable[[RowIndex, Rows], None] | None = None,
    ) -> Rows:
        clean, resolved, (pos, feature) = self.clean, self.resolved, pairs.unbind(1)
        effects = torch.full((len(pairs),), torch.nan, device=clean.device, dtype=torch.promote_types(clean.dtype, torch.float32))
        for rows in _in_order(self.replay, pos, is_watched):
            if cancel is not None and cancel.is_set():
                break
            p, f = pos[rows], feature[rows]
            x = clean[p] - acts[rows, None] * self.sae.W_dec[f].to(clean.dtype)
            with_clean = torch.cat([p[:1], p]), torch.cat([clean[p[:1]], x])  # row 0 is the clean prompt, rounded as the others are
            metrics = resolved.difference(self.replay.logits(*with_clean, resolved.columns))
            effects[rows] = (metrics[0] - metrics[1:]).to(effects.dtype)
            if on_batch is not None:
                on_batch(rows, effects[rows])
        return effects


@dataclass(frozen=True)
class DeltaError:
    """How far the delta form was off, on pairs that were measured both ways."""

    n_pairs: int
    largest: float  # in logits
    of_largest: float  # the same, as a share of the largest |effect|
    median: float  # of |difference| / |effect|

    @classmethod
    def of(cls, found: Rows, exact: Rows) -> "DeltaError":
        """found, exact: effects of the same pairs."""
        found, exact = found.double(), exact.double()
        difference, scale = (found - exact).abs(), exact.abs()
        tiny = torch.finfo(torch.float64).tiny
        largest = float(difference.max()) if torch.isfinite(difference).all() else float("inf")
        return cls(len(exact), largest, largest / max(float(scale.max()), tiny), float((difference / scale.clamp(min=tiny)).median()))

    @property
    def sentence(self) -> str:
        """For a person."""
        off = f"off by at most {self.largest:.2g} logits, {self.of_largest:.2%} of the largest effect (median {self.median:.2%} of its own)"
        return f"Effects are in the delta form: on {self.n_pairs} pairs that were measured exactly, too, {off}."


def checked_precision(precision: str) -> str:
    """Raises ValueError for another than PRECISIONS."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision={precision!r}: expected {' or '.join(map(repr, PRECISIONS))}")
    return precision


def _both_ways(effects: Rows, is_stopped: bool) -> Int[Tensor, "n_some"]:
    """Which to measure exactly, too: the largest, where an error would change a ranking, and some at random. None twice; of what was
    stopped only what was measured."""
    size = effects.abs().nan_to_num(-1.0 if is_stopped else torch.inf)
    largest = size.argsort(descending=True)[: int((size >= 0).sum())]
    drawn = torch.randperm(max(0, len(largest) - N_CHECKED), generator=torch.Generator().manual_seed(0))[:N_CHECKED]
    return torch.cat([largest[:N_CHECKED], largest[N_CHECKED:][drawn.to(largest.device)]])


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


def _check(pairs: Tensor, n_pos: int, d_sae: int) -> None:
    if len(pairs) == 0:
        raise ValueError("no feature is active on this prompt: there is nothing to ablate")
    pos, feature = pairs.unbind(1)
    if pos.min() < 0 or pos.max() >= n_pos or feature.min() < 0 or feature.max() >= d_sae:
        raise ValueError(
            f"pairs are (pos, feature) with pos below {n_pos} and feature below {d_sae}; got up to {tuple(pairs.amax(0).tolist())}"
        )


def _in_order(replay: Replay, pos: RowIndex, is_watched: bool) -> Iterator[RowIndex]:
    """Batches of rows. Unwatched: all rows grouped by position. Watched: early rows first, grouped within chunks that double."""
    begin, size = 0, FIRST_CHUNK if is_watched else len(pos)
    while begin < len(pos):
        for rows in replay.batches(pos[begin : begin + size]):
            yield rows + begin
        begin, size = begin + size, 2 * size
