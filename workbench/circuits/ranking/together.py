"""Prompts of one length measured together: one pass gives the attributions of all, and a batch of ablations has rows of several.

A small model's pass takes as long for sixteen prompts as for one, and a ranking is a dozen of passes. A large one gains nothing: there a
batch is full with one prompt's own rows, and each is ranked alone.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.circuits.metrics import EachMetric, Metric, resolve
from workbench.circuits.ranking.attribution import attribute_each
from workbench.circuits.ranking.measurement import Measurement
from workbench.model.chat import Chat, written
from workbench.model.gemm import machine_rate
from workbench.model.hooks import last_logits
from workbench.model.memory import free_memory, pass_bytes
from workbench.model.tokens import to_tokens
from workbench.replay.precision import InFloat32
from workbench.replay.replay import WAYS, Replay, batch_tokens
from workbench.sae.dictionary import Dictionary
from workbench.shapes import Tokens

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

MOST = 32  # prompts in a group: beyond it a pass takes longer by each
FULL = 4  # batches of one prompt's own: where there are as many, others' rows have no room in them


def groups(model: "TransformerBridge", prompts: Sequence[str | Chat]) -> list[list[int]]:
    """Which prompts to measure together, by number: those of one length, as many as a batch takes well and a pass with its gradient has
    memory for; in the order of their first."""
    by_length: dict[int, list[int]] = defaultdict(list)
    device = torch.device("cpu")
    for i, prompt in enumerate(prompts):
        tokens = to_tokens(model, written(model, prompt))
        device = tokens.device
        by_length[tokens.shape[1]].append(i)
    found, free = [], free_memory(device)
    for n_pos, some in by_length.items():
        size = max(1, min(MOST, batch_tokens(model.cfg, n_pos) // n_pos))
        while free is not None and size > 1 and pass_bytes(model.cfg, n_pos, size, is_graded=True) > free // 4:
            size //= 2
        found += [some[first : first + size] for first in range(0, len(some), size)]
    return sorted(found)


def measured_together(
    model: "TransformerBridge",
    sae: Dictionary,
    prompts: Sequence[str | Chat],
    metrics: Sequence[Metric],
    n: int | None = None,
) -> Iterator[Measurement]:
    """Each prompt as `Measurement` and its `measure(n)` give it, up to rounding, as soon as it is measured. They are of one length."""
    tokens = torch.cat([to_tokens(model, written(model, prompt)) for prompt in prompts])
    known = attribute_each(model, sae, tokens, metrics)
    is_apart = _is_apart(model, tokens, known[0].logits)
    found = [
        Measurement(model, sae, prompt, metric, n_measured=n, attributions=attributions if is_apart else None)
        for prompt, metric, attributions in zip(prompts, metrics, known, strict=True)
    ]
    replay = Replay(model, sae.writes, tokens) if is_apart else None
    most = max((each.pairs[:n, 0] for each in found), key=len)
    if replay is not None and replay.way == WAYS[-1] and sum(1 for _ in replay.batches(most)) < FULL:
        _measure(replay, sae, found, n)
        yield from found
    else:
        for each in found:
            each.measure(n, progress=False)
            yield each


@torch.no_grad()
def _is_apart(model: "TransformerBridge", tokens: Tokens, logits: Float[Tensor, "d_vocab"]) -> bool:
    """Has the first prompt beside the others the logits that it has alone? Not where a model mixes what it is given together."""
    with machine_rate(), InFloat32(model):
        alone = last_logits(model, tokens[:1])[0]
    return bool((alone - logits).abs().max() <= 1e-4 * alone.abs().max())


@torch.no_grad()
def _measure(replay: Replay, sae: Dictionary, found: Sequence[Measurement], n: int | None) -> None:
    """The effects of the n largest |attribution| of each prompt, filled in."""
    device, metric = replay.clean.device, EachMetric([resolve(replay.model, each.metric) for each in found])
    pairs = [each.pairs[:n].to(device) for each in found]
    sizes = [len(some) for some in pairs]
    pos, feature = torch.cat(pairs).T
    prompt = torch.arange(len(found), device=device).repeat_interleave(torch.tensor(sizes, device=device))
    acts = torch.cat([each.attributions.acts_of(some) for each, some in zip(found, pairs, strict=True)])
    clean = sae.beside(replay.of_each)
    effects = torch.full((len(pos),), torch.nan, dtype=torch.float64)
    for rows in replay.batches(pos):
        p, f, q = pos[rows], feature[rows], prompt[rows]
        whose, own = q.unique(return_inverse=True)  # first each prompt's clean row, rounded as the others are
        start = p.min().expand(len(whose))
        x = torch.cat([clean[whose, start], clean[q, p] - acts[rows, None] * sae.W_dec[f].to(clean.dtype)])
        copies = torch.cat([whose, q])
        metrics = metric.difference(replay.logits(torch.cat([start, p]), x, metric.columns, prompt=copies), copies)
        effects[rows.cpu()] = (metrics[: len(whose)][own] - metrics[len(whose) :]).double().cpu()
    for each, own_effects in zip(found, effects.split(sizes), strict=True):
        each.effects[: len(own_effects)] = own_effects
