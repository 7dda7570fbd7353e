"""Which attention heads carry a feature's effect to the answer: those that read the token on which it stands.

    moved(head) = effect − effect while the head cannot read that token

effect = metric as it is − metric with the feature at 0 there (method.md §5). A head that cannot read a token has attention 0 to it, from
every position; what it pays to the others stays as it is. The heads of a layer are rows of one batch.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.activations import harvest
from workbench.circuits.intervene import check_features, editing
from workbench.circuits.metrics import Metric, ResolvedMetric
from workbench.model import hooked, last_logits, to_str_tokens, to_tokens
from workbench.shapes import Rows, Tokens
from workbench.tail import place

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Patterns = Float[np.ndarray, "n_rows pos pos"]


@dataclass(frozen=True, repr=False, eq=False)
class HeadEffects:
    """Every head after the hook point. table: layer, head, moved, attention (from the last position to the feature's), largest |moved| first."""

    table: pd.DataFrame
    patterns: Patterns  # a row's attention: from position, to position
    str_tokens: list[str]
    feature: int
    pos: int
    effect: float
    label: str = ""

    def __repr__(self) -> str:
        return f"HeadEffects of feature {self.feature} at {self.str_tokens[self.pos]!r}, effect {self.effect:.3f}\n{self.table.head(10)}"

    def _repr_html_(self) -> str:
        from widgets.html_heads import heads_html

        return heads_html(self)


def head_effects(
    bench: Any, prompt: str, metric: Metric, feature: int, pos: int | None = None, *, cancel: Event | None = None
) -> HeadEffects:
    """How much of the effect of `feature` at `pos` goes through each head's reading of that token.

    pos: None for the position at which the feature is most active. cancel: once set, the layers that are left are not measured. Raises
    ValueError for a feature that is active nowhere on the prompt and for a model whose attention cannot be seen.
    """
    model, sae = bench.model, bench.sae
    check_features(sae, [feature])
    resolved, tokens = metric.resolve(model), to_tokens(model, prompt)
    block, is_inner = place(model.hook_dict[sae.cfg.hook_name].name or sae.cfg.hook_name)
    layers = range(block + is_inner, model.cfg.n_layers)
    missing = [name for name in map(_hook_name, layers) if name not in model.hook_dict]
    if missing:
        raise ValueError(f"this model's attention cannot be seen: it has no hook point {missing[0]}")
    pos = _position(bench, tokens, feature) if pos is None else _checked(pos, tokens.shape[1])
    patterns, clean = _patterns(model, tokens, layers)
    effect = float(_effects(bench, tokens, resolved, feature, pos, [])[0])
    rows, kept = [], []
    for layer in layers:
        if cancel is not None and cancel.is_set():
            break
        blocked = _effects(bench, tokens, resolved, feature, pos, [(layer, head) for head in range(clean[layer].shape[0])])
        for head, pattern in enumerate(clean[layer]):
            rows.append((layer, head, effect - float(blocked[head]), float(pattern[-1, pos])))
            kept.append(pattern)
    del patterns
    table = pd.DataFrame(rows, columns=["layer", "head", "moved", "attention"])
    order = table["moved"].abs().argsort(kind="stable")[::-1].to_numpy()
    return HeadEffects(
        table=table.iloc[order].reset_index(drop=True),
        patterns=np.stack(kept)[order] if kept else np.zeros((0, tokens.shape[1], tokens.shape[1]), np.float32),
        str_tokens=to_str_tokens(model, tokens[0]),
        feature=int(feature),
        pos=pos,
        effect=effect,
        label=bench.labels.get(feature, ""),
    )
