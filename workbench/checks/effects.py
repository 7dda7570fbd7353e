"""Are measured effects what they are defined to be, and how fast are they measured?

    effect = metric(clean) − metric(a whole pass, hooked, with feature_acts[pos, i] · W_dec[i] taken out of x[pos])

The right side is done here as it is written, a pass of the whole model for each pair, through TransformerLens's own hooks. Where no SAE is
given, features are made of the text: how x at each position differs from the mean.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from workbench.checks.report import Finding, Verdict
from workbench.checks.subject import Subject
from workbench.circuits.metrics import Metric
from workbench.circuits.ranking.ablation import ablate
from workbench.circuits.ranking.attribution import attribute
from workbench.model.head import through_bridge
from workbench.model.hooks import last_logits, seen
from workbench.model.points import check_obeyed, unwatched
from workbench.model.start import start_token
from workbench.model.tokens import is_start_token
from workbench.replay.precision import InFloat32
from workbench.replay.reading import Columns
from workbench.replay.replay import Replay
from workbench.sae.config import SAEConfig
from workbench.sae.dictionary import Dictionary
from workbench.sae.sae import SAE
from workbench.shapes import Rows, Tokens

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

N_POS, N_PAIRS, N_ROWS = 24, 12, 48  # tokens of the prompt; pairs that are compared; rows that are timed together
EXACT, CLOSE = 1e-3, 1e-2  # of the largest effect; float32 gives 1e-5, a wrong one is off by about as much as it is large


@dataclass(frozen=True)
class Prompt:
    """The beginning of the text, and what is asked of it: the first against the second of what the model would say."""

    tokens: Tokens
    metric: Metric

    @classmethod
    @torch.no_grad()
    def of(cls, subject: Subject) -> "Prompt":
        """Of the longest row of the text."""
        start, longest = start_token(subject.model).ids, max(subject.text.rows, key=len)
        tokens = torch.tensor([[*start, *longest[: min(N_POS, subject.model.cfg.n_ctx - len(start))]]], device=subject.model.cfg.device)
        with unwatched(subject.model):
            first, second = last_logits(subject.model, tokens)[0].topk(2).indices.tolist()
        return cls(tokens, Metric(first, second))


def effects(subject: Subject) -> Finding:
    """The effects of a ranking beside the definition."""
    model, prompt = subject.model, Prompt.of(subject)
    sae = subject.sae or made_sae(model, subject.hook_name, prompt.tokens)
    whose = "" if subject.sae else " (of features made of the text, for want of an SAE)"
    found = attribute(model, sae, prompt.tokens, prompt.metric)
    pairs = found.pairs[~is_start_token(model, prompt.tokens)[0][found.pairs[:, 0]]]
    if not len(pairs):
        meaning = (
            f"No feature of the SAE is active on {prompt.tokens.shape[1]} tokens: there is nothing to rank. Does it belong to this model?"
        )
        return Finding(Verdict.warning, "nothing active", meaning)
    pairs = pairs[found.of(pairs).abs().argsort(descending=True)[:N_PAIRS]]
    measured = ablate(model, sae, prompt.tokens, prompt.metric, pairs, progress=False).double().cpu()
    defined, rounding = by_definition(model, sae, prompt, pairs)
    largest, difference = float(defined.abs().max()), float((measured - defined).abs().max())
    if largest <= rounding:
        meaning = f"No effect of {len(pairs)} pairs{whose} is larger than rounding: what stands at {sae.writes} hardly matters here."
        return Finding(Verdict.note, f"largest effect {largest:.1e}", meaning)
    by = difference / largest
    figure = f"{by:.0e} of the largest apart, over {len(pairs)} pairs{whose}" if by else f"equal, over {len(pairs)} pairs{whose}"
    if not difference <= CLOSE * largest + rounding:  # NaN too
        return Finding(Verdict.error, figure, "Measured effects are not those of the definition: do not trust a ranking of this model.")
    if difference > EXACT * largest + rounding:
        return Finding(Verdict.warning, figure, "Measured effects differ from the definition by more than rounding: mind small ones.")
    return Finding(Verdict.ok, figure, f"Effects at {sae.writes} are those of whole passes with the feature at 0, to rounding.")


@torch.no_grad()
def by_definition(model: "TransformerBridge", sae: Dictionary, prompt: Prompt, pairs: Tensor) -> tuple[Rows, float]:
    """(each pair's effect by a whole pass, in float64 from logits of float32 at least; how far rounding alone may take one of them)"""
    caught: dict[str, Tensor] = {}
    check_obeyed(model, sae.writes)

    def passed(replace: Callable[[Tensor], Tensor | None], at: str = sae.writes) -> Tensor:
        with seen(model, at, replace):
            return model(prompt.tokens)[0, -1].double()

    def note(x: Tensor, at: str) -> None:
        caught[at] = x[0].flatten(1).clone()

    def without(pos: int, part: Tensor, x: Tensor) -> Tensor:
        x = x.clone()
        x[0, pos] -= part.view(x.shape[2:]).to(x.dtype)
        return x

    with unwatched(model), InFloat32(model):
        clean = passed(partial(note, at=sae.writes))
        passed(partial(note, at=sae.reads), sae.reads)
        feature_acts = sae.encode(caught[sae.reads].to(sae.W_dec.dtype))
        wide = sae.beside(caught[sae.writes]).dtype
        edited = [passed(partial(without, pos, feature_acts[pos, i].to(wide) * sae.W_dec[i].to(wide))) for pos, i in pairs.tolist()]
    answer, baseline = (int(token or 0) for token in (prompt.metric.answer, prompt.metric.baseline))
    effects = torch.stack([(clean - logits)[answer] - (clean - logits)[baseline] for logits in edited]).cpu()
    eps = torch.finfo(torch.promote_types(caught[sae.writes].dtype, torch.float32)).eps
    return effects, float(4 * model.cfg.n_layers**0.5 * eps * clean.abs().max())


def made_sae(model: "TransformerBridge", hook_name: str, tokens: Tokens) -> SAE:
    """A feature for each position: the direction in which x there differs from the mean, active as far as it does."""
    with unwatched(model):
        x = through_bridge(model, tokens, [hook_name])[hook_name][0].float()
    mean = x.mean(0)
    directions = torch.nn.functional.normalize(x - mean, dim=1)
    sae = SAE(SAEConfig(x.shape[1], len(x), hook_name)).to(x.device)
    with torch.no_grad():
        sae.W_dec.copy_(directions)
        sae.W_enc.copy_(directions.T)
        sae.b_enc.copy_(-directions @ mean)
        sae.b_dec.copy_(mean)
    return sae.requires_grad_(False)


def speed(subject: Subject) -> Finding:
    """Which way a perturbed row takes through the rest of the model, and how many a second."""
    prompt = Prompt.of(subject)
    replay = Replay(subject.model, subject.hook_name, prompt.tokens)
    figure = replay.way
    if subject.seconds > 0:
        whole = Replay(subject.model, subject.hook_name, prompt.tokens, way="forward")
        ours, plain = (rows_per_second(each, prompt, subject.seconds / 2) for each in (replay, whole))
        figure += (
            f": {ours:,.0f} rows a second, {ours / plain:.1f} × whole passes" if replay.way != "forward" else f": {ours:,.0f} rows a second"
        )
    meaning = WAYS[replay.way].format(n=subject.model.cfg.n_layers)
    why_not = f" Not faster because: {replay.why_not}." if replay.why_not else ""
    return Finding(Verdict.ok if replay.way == "prefix" else Verdict.note, figure, f"{meaning}{why_not}")


WAYS = {
    "prefix": "An ablation runs only the blocks after the hook point, at the tokens from the changed one on.",
    "whole": "An ablation runs only the blocks after the hook point, but at every token.",
    "forward": "An ablation runs the whole model: exact, and as slow as this model is.",
}


@torch.no_grad()
def rows_per_second(replay: Replay, prompt: Prompt, seconds: float) -> float:
    """Rows with one position changed, N_ROWS of them at a time; the fastest of what fits in so many seconds, two at least."""
    pos: Any = torch.arange(N_ROWS, device=prompt.tokens.device).remainder(replay.n_pos).sort().values
    x, columns, best, end = replay.clean[pos].flip(0), Columns((0, 1)), 0.0, time.perf_counter() + seconds
    n_done = 0
    while n_done < 2 or time.perf_counter() < end:
        began = time.perf_counter()
        for rows in replay.batches(pos):
            replay.logits(pos[rows], x[rows], columns).cpu()
        best, n_done = max(best, N_ROWS / (time.perf_counter() - began)), n_done + 1
    return best
