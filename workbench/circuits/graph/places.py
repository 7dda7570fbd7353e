"""One prompt read by an SAE at every place: what a circuit's nodes are made of.

    sources at a place    its active (pos, feature) pairs, and at every pos the error: x − x_hat
    slope of a node       ∂metric/∂act = ∂metric/∂x[pos] · W_dec[feature]
    effect of a node      metric(clean) − metric(x[pos] − the node's part of x)

A metric is counted twice: answer − baseline, and answer − mean over the vocabulary, because what speaks for both (the relation that is
asked for) cancels in the first. The start token belongs to no node, as in rankings. A token's node is which token stands there: its part
of x is what it differs by from the mean over the vocabulary, at the entrance of the first block.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm.auto import tqdm

from workbench.circuits.metrics import ResolvedMetric
from workbench.model.gemm import machine_rate
from workbench.model.hooks import hooked, last_logits
from workbench.model.model import BAR_DELAY
from workbench.model.tokens import is_start_token
from workbench.replay.between import STREAM
from workbench.replay.precision import InFloat32
from workbench.replay.reading import Columns
from workbench.replay.replay import Replay
from workbench.sae.parts import active, in_parts
from workbench.sae.sae import SAE
from workbench.shapes import RowIndex, Tokens

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

ERROR = -1  # stands in the place of a feature's number
N_OTHER_TOKENS = 256  # evenly spaced over the vocabulary: what stands at the entrance without knowing the token

Logits = Float[Tensor, "n_sources 3"]  # of the answer, of the baseline (0 without one), mean over the vocabulary


@dataclass(frozen=True)
class Place:
    """What one SAE reads of the prompt. Sources are sorted by position; a feature's or ERROR.

    contribution: each source's part of x; taken away, the source is off. reads: gradients of the three logits.
    """

    sae: SAE | None  # None: the entrance, where the sources are the tokens
    hook_name: str
    clean: Float[Tensor, "pos d_in"]
    pos: RowIndex
    feature: RowIndex
    activation: Float[Tensor, "n_sources"]
    contribution: Float[Tensor, "n_sources d_in"]
    gradients: Float[Tensor, "3 pos d_in"]

    @property
    def is_feature(self) -> Tensor:
        """(n_sources) bool; the others are errors, or tokens at the entrance."""
        return self.feature >= 0

    def attribution(self) -> Logits:
        """First-order effects: contribution · gradient."""
        return torch.einsum("nd,knd->nk", self.contribution, self.gradients[:, self.pos])

    def slopes(self) -> Logits:
        """∂logit/∂act of each feature; of an error node what its whole length does."""
        return self.attribution() / self.activation[:, None]

    def keep(self, rows: RowIndex) -> "Place":
        """Some of the sources only, in their order."""
        return Place(
            self.sae,
            self.hook_name,
            self.clean,
            self.pos[rows],
            self.feature[rows],
            self.activation[rows],
            self.contribution[rows],
            self.gradients,
        )


def read_places(
    model: "TransformerBridge", saes: Mapping[str, SAE], tokens: Tokens, metric: ResolvedMetric, clean: Mapping[str, Tensor]
) -> list[Place]:
    """A Place for each SAE, in order. clean: hook name → the activation there (pos, d_in)."""
    gradients = gradients_at(model, list(saes), tokens, metric)
    is_start = is_start_token(model, tokens)[0]
    found = []
    for name, sae in saes.items():
        around = sae.beside(clean[name])
        x = around.to(sae.W_dec.dtype)
        with torch.no_grad(), machine_rate():
            pairs, acts = active(sae, x)
            x_hat = torch.cat(in_parts(sae, x, lambda first, found, sae=sae, x=x: sae.decode(found, x[first : first + len(found)])))
            error = around - x_hat
        is_text = ~is_start[pairs[:, 0]]
        (pos, feature), acts = pairs[is_text].T, acts[is_text]
        where = (~is_start).nonzero()[:, 0]
        activation = torch.cat([acts.to(error), error[where].norm(dim=-1)])
        contribution = torch.cat([acts[:, None].to(error) * sae.W_dec[feature].to(error), error[where]])
        pos, feature = torch.cat([pos, where]), torch.cat([feature, torch.full_like(where, ERROR)])
        order = pos.argsort(stable=True)
        sources = pos[order], feature[order], activation[order], contribution[order]
        found.append(Place(sae, name, around, *sources, gradients[name].to(around.dtype)))
    return found


def read_tokens(model: "TransformerBridge", tokens: Tokens, metric: ResolvedMetric, clean: Tensor) -> Place:
    """The entrance: a source a token, which is its difference from the vocabulary's mean there."""
    gradients = gradients_at(model, [STREAM], tokens, metric)[STREAM]
    pos = (~is_start_token(model, tokens)[0]).nonzero()[:, 0]
    contribution = (clean - mean_entrance(model, tokens))[pos]
    return Place(None, STREAM, clean, pos, tokens[0, pos], contribution.norm(dim=-1), contribution, gradients.to(clean.dtype))


@torch.no_grad()
def mean_entrance(model: "TransformerBridge", tokens: Tokens) -> Float[Tensor, "pos d_model"]:
    """What stands at the entrance of the first block on average over the vocabulary's tokens (256 of them, evenly spaced)."""
    d_vocab = model.cfg.d_vocab
    others = torch.linspace(0, d_vocab - 1, min(N_OTHER_TOKENS, d_vocab), device=tokens.device).round().long().unique()
    total = torch.zeros(0)
    found, in_float32 = list[Tensor](), InFloat32(model)
    for some in others.split(max(1, 4096 // tokens.shape[1])):
        found.clear()
        with in_float32, hooked(model, STREAM, found.append):
            model.forward(some[:, None].expand(-1, tokens.shape[1]), return_type=None, stop_at_layer=1)
        part = found[0].sum(0, dtype=torch.float64)
        total = part if not total.numel() else total + part
    return (total / len(others)).to(found[0].dtype)


def gradients_at(
    model: "TransformerBridge", hook_names: Sequence[str], tokens: Tokens, metric: ResolvedMetric
) -> dict[str, Float[Tensor, "3 pos d_in"]]:
    """∂logit/∂x at every hook point, of the answer, of the baseline (zeros without one) and of the mean over the vocabulary: one forward
    pass and a backward pass for each of the three."""
    columns = three_columns(metric)
    found: dict[str, Tensor] = {}

    def leaf(name: str, value: Tensor) -> Tensor | None:
        assert name not in found, f"{name} fired twice in one forward pass, expected once"
        if not value.requires_grad:
            value = value.detach().clone().requires_grad_()
            found[name] = value
            return value
        value = value.clone()  # of its own in the graph: what the hook gives on
        found[name] = value
        return value

    with machine_rate(), torch.enable_grad(), InFloat32(model), ExitStack() as stack:
        for name in hook_names:
            stack.enter_context(hooked(model, name, lambda x, name=name: leaf(name, x)))
        logits = columns.of(last_logits(model, tokens))[0]
        xs = [found[name] for name in hook_names]
        n_logits = len(logits)
        parts = [torch.autograd.grad(logits[i], xs, retain_graph=i + 1 < n_logits) for i in range(n_logits)]
    gradients = {name: torch.stack([part[i][0].flatten(1) for part in parts]) for i, name in enumerate(hook_names)}
    if metric.baseline is None:
        gradients = {name: torch.stack([g[0], torch.zeros_like(g[0]), g[1]]) for name, g in gradients.items()}
    return gradients


def three_columns(metric: ResolvedMetric) -> Columns:
    """Which logits effects are measured in: answer, baseline (where there is one), mean."""
    known = (metric.answer,) if metric.baseline is None else (metric.answer, metric.baseline)
    return Columns(known, has_mean=True)


def three(logits: Tensor) -> Logits:
    """Answer, baseline, mean from the columns of `three_columns`."""
    return logits if logits.shape[1] == 3 else torch.stack([logits[:, 0], torch.zeros_like(logits[:, 0]), logits[:, 1]], dim=1)


@torch.no_grad()
def effects_at(
    replay: Replay, place: Place, metric: ResolvedMetric, bar: tqdm, cancel: Event | None = None, rows: RowIndex | None = None
) -> Logits:
    """logits(clean) − logits(without the source), each source alone; NaN where cancelled. In float64 on the CPU. rows: which sources."""
    effects = torch.full((len(place.pos), 3), torch.nan, dtype=torch.float64)
    chosen = torch.arange(len(place.pos), device=place.pos.device) if rows is None else rows
    for some in replay.batches(place.pos[chosen]):
        if cancel is not None and cancel.is_set():
            break
        mine = chosen[some]
        at, x = place.pos[mine], place.clean[place.pos[mine]] - place.contribution[mine]
        with_clean = torch.cat([at[:1], at]), torch.cat([place.clean[at[:1]], x])  # row 0 is the clean prompt, rounded as the others are
        logits = three(replay.logits(*with_clean, three_columns(metric)))
        effects[mine.cpu()] = (logits[:1] - logits[1:]).double().cpu()
        bar.update(len(mine))
    return effects


class Bar(tqdm):
    """Says how far it is to somebody else, too."""

    on_rows: Callable[[int, int], None] | None = None  # (rows done, rows in all)
    n_rows = 0

    def update(self, n: int | float | None = 1) -> Any:
        self.n_rows += int(n or 0)
        if self.on_rows is not None:
            self.on_rows(self.n_rows, int(self.total))
        return super().update(n)


def bar_of(total: int, description: str, progress: bool, on_rows: Callable[[int, int], None] | None = None) -> Bar:
    """A bar that shows itself only where it takes long."""
    bar = Bar(total=total, desc=description, unit="row", disable=not progress, delay=BAR_DELAY)
    bar.on_rows = on_rows
    return bar


def by_position(pos: RowIndex) -> Iterator[tuple[int, Int[Tensor, "n_here"]]]:
    """(position, the rows there) for sorted positions."""
    positions, counts = pos.unique_consecutive(return_counts=True)
    begin = 0
    for position, count in zip(positions.tolist(), counts.tolist(), strict=True):
        yield position, torch.arange(begin, begin + count, device=pos.device)
        begin += count
