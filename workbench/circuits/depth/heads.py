"""Which attention heads carry a feature's effect to the answer: those that read the token on which it stands.

    moved(head) = effect − effect while the head cannot read that token

effect = metric as it is − metric with the feature at 0 there (Scaling Monosemanticity, "Features as Computational Intermediates"). A head
that cannot read a token attends from all later positions as if it were not there: its score is at the lowest, before the softmax. (Setting
its attention to 0 after the softmax would leave it in the denominator.) The heads of a layer are rows of one batch.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.activations.stream import harvest
from workbench.circuits.intervene import check_features, editing
from workbench.circuits.metrics import Metric, ResolvedMetric, resolve
from workbench.given import on_prompt
from workbench.model.chat import Chat, written
from workbench.model.hooks import hooked, last_logits, seen
from workbench.model.points import check_obeyed, place_of
from workbench.model.tokens import is_start_token, to_str_tokens, to_tokens
from workbench.replay.precision import InFloat32
from workbench.shapes import Rows, Tokens

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

N_POSITIONS = 8
Patterns = Float[np.ndarray, "n_heads pos pos"]  # attention: from position, to position


@dataclass(frozen=True, repr=False, eq=False)
class HeadEffects:
    """Every head after the hook point, largest |moved| first. table: layer, head, moved, attention (the last position's to the token)."""

    table: pd.DataFrame
    patterns: Patterns  # of the table's rows
    str_tokens: list[str]
    feature: int
    pos: int
    effect: float
    label: str = ""

    def __repr__(self) -> str:
        return f"HeadEffects of feature {self.feature} at {self.str_tokens[self.pos]!r}, effect {self.effect:.3f}\n{self.table.head(10)}"

    def _repr_html_(self) -> str:
        from widgets.html.heads import heads_html

        return heads_html(self)


def head_effects(
    bench: Any, prompt: str | Chat, metric: Metric, feature: int, pos: int | None = None, *, cancel: Event | None = None
) -> HeadEffects:
    """How much of the effect of `feature` at `pos` goes through each head's reading of that token.

    pos: None for the position of its largest |effect| before the last one, among the N_POSITIONS at which it is most active. cancel: once
    set, the layers that are left are not measured. Raises ValueError for a feature that is active nowhere on the prompt and for a model
    whose attention cannot be seen or, as OPT's, GPT-J's and GPT-Neo's in TransformerLens 4.3, is seen and not obeyed.
    """
    model, sae = bench.model, bench.sae
    check_features(sae, [feature])
    resolved, tokens = resolve(model, metric), to_tokens(model, written(model, prompt))
    block, is_inner = place_of(model, sae.writes)
    layers = range(block + is_inner, model.cfg.n_layers)
    names = [f"blocks.{layer}.attn.{name}" for layer in layers for name in ("hook_pattern", "hook_attn_scores")]
    if missing := [name for name in names if name not in model.hook_dict]:
        raise ValueError(f"this model's attention cannot be seen: it has no hook point {missing[0]}")
    for layer in layers:
        check_obeyed(model, f"blocks.{layer}.attn.hook_attn_scores")
    pos = _strongest(bench, tokens, resolved, feature) if pos is None else on_prompt(pos, tokens.shape[1])
    clean = {layer: _pattern(model, tokens, layer) for layer in layers}
    effect = float(_effects(bench, tokens, resolved, {feature: 0.0}, pos)[0])
    rows, patterns = [], [np.zeros((0, tokens.shape[1], tokens.shape[1]), np.float32)]
    for layer, pattern in clean.items():
        if cancel is not None and cancel.is_set():
            break
        moved = effect - _effects(bench, tokens.expand(len(pattern), -1), resolved, {feature: 0.0}, pos, layer)
        rows += [(layer, head, value, float(pattern[head, -1, pos])) for head, value in enumerate(moved.tolist())]
        patterns.append(pattern)
    table = pd.DataFrame(rows, columns=["layer", "head", "moved", "attention"])
    order = np.argsort(-table["moved"].abs().to_numpy(), kind="stable")
    return HeadEffects(
        table=table.iloc[order].reset_index(drop=True),
        patterns=np.concatenate(patterns)[order],
        str_tokens=to_str_tokens(model, tokens[0]),
        feature=int(feature),
        pos=pos,
        effect=effect,
        label=bench.labels.get(feature, ""),
    )


@torch.no_grad()
def _effects(bench: Any, rows: Tokens, metric: ResolvedMetric, ablation: dict[int, float], pos: int, layer: int | None = None) -> Rows:
    """The feature's effect in each row; with a layer, row i's head i cannot read the token at `pos`."""
    with InFloat32(bench.model), _unread(bench.model, layer, pos) if layer is not None else nullcontext():
        clean = metric(last_logits(bench.model, rows))
        with editing(bench.model, bench.sae, ablation, pos):
            return clean - metric(last_logits(bench.model, rows))


def _unread(model: "TransformerBridge", layer: int, pos: int) -> AbstractContextManager:
    def block(scores: Tensor) -> Tensor:
        scores, heads = scores.clone(), torch.arange(len(scores), device=scores.device)
        scores[heads, heads, pos + 1 :, pos] = torch.finfo(scores.dtype).min
        return scores

    return hooked(model, f"blocks.{layer}.attn.hook_attn_scores", block)


@torch.no_grad()
def _pattern(model: "TransformerBridge", tokens: Tokens, layer: int) -> Patterns:
    """(head, from position, to position)"""
    caught: list[Tensor] = []
    hook_name = f"blocks.{layer}.attn.hook_pattern"
    with seen(model, hook_name, lambda pattern: caught.append(pattern[0].float().cpu())):
        last_logits(model, tokens)
    assert len(caught) == 1, f"{hook_name} fired {len(caught)} times in one forward pass, expected once"
    return caught[0].numpy()


def _strongest(bench: Any, tokens: Tokens, metric: ResolvedMetric, feature: int) -> int:
    """The position of the largest |effect|, start token left out; the last one, from which no head has to carry it, only if there is no
    other."""
    acts = bench.sae.encode(harvest(bench.model, tokens, bench.sae.reads).flatten(2).to(bench.sae.W_dec.dtype))[0, :, feature]
    acts = acts.masked_fill(is_start_token(bench.model, tokens)[0], 0)
    if not (acts > 0).any():
        raise ValueError(f"feature {feature} is active nowhere on this prompt: choose one that is, or give pos=")
    if not (acts[:-1] > 0).any():
        return len(acts) - 1
    positions = [pos for pos in acts[:-1].topk(min(N_POSITIONS, len(acts) - 1)).indices.tolist() if acts[pos] > 0]
    return max(positions, key=lambda pos: abs(float(_effects(bench, tokens, metric, {feature: 0.0}, pos)[0])))
