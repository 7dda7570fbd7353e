"""Change features while the model runs, and nothing else.

    x' = x + (edited − feature_acts) @ W_dec          at the SAE's hook point; of a transcoder where it writes

Scaling Monosemanticity, "Influence on behavior". Only the difference is added, so the SAE's error stays in x, and an edit that changes
nothing changes nothing. `edited` is any function of the feature activations; clamping to a value is the common one.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Real
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from workbench.circuits.acts import reading
from workbench.model.cache import is_cache
from workbench.model.hooks import check_dictionary, hooked
from workbench.sae.dictionary import Dictionary
from workbench.sae.sae import checked_feature
from workbench.shapes import FeatureActs

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Edit = Callable[[FeatureActs], FeatureActs]


@contextmanager
def editing(
    model: "TransformerBridge", sae: Dictionary, edit: Edit | Mapping[int, float], pos: int | list[int] | None = None
) -> Iterator["TransformerBridge"]:
    """Every call of the model inside sees the edit; the hook is gone afterwards, whatever happened.

    edit: {feature: value} clamps, or a function from feature_acts (batch, pos, d_sae) to edited ones. pos: the position or positions to
    edit, counted from 0 (the start token) along the whole text, also while generating with a KV cache; None: every position, generated
    ones included. Raises ValueError for a feature or position that cannot be, RuntimeError if the model never came to the hook.
    """
    check_dictionary(model, sae)
    if not isinstance(edit, Mapping) and not callable(edit):
        raise ValueError(f"{edit!r} is no edit: expected {{feature: value}}, such as {{574: 0.0}}")
    edit = _clamping(sae, edit) if isinstance(edit, Mapping) else edit
    positions = _checked_positions(model, pos)
    n_past, is_elsewhere = _CachedPositions(), sae.reads != sae.writes
    seen: set[int] = set()
    caught: list[Tensor] = []  # what a transcoder reads, before it writes

    def edited(y: Tensor) -> Tensor:
        first, flat = n_past.count, y.flatten(2).to(sae.W_dec.dtype)
        x = caught.pop().flatten(2).to(flat) if is_elsewhere else flat
        chosen = [p - first for p in positions if first <= p < first + y.shape[1]] if positions is not None else list(range(y.shape[1]))
        seen.update(p + first for p in chosen)
        if not chosen:
            return y
        feature_acts = sae.encode(x[:, chosen])
        change = torch.zeros_like(flat)
        change[:, chosen] = (edit(feature_acts) - feature_acts) @ sae.W_dec
        return y + change.view_as(y).to(y.dtype)

    handle = model.original_model.register_forward_pre_hook(n_past.note, with_kwargs=True)
    try:
        with reading(model, sae, caught, is_needed=is_elsewhere), hooked(model, sae.writes, edited):
            yield model
    finally:
        handle.remove()
    missed = sorted(set(positions or []) - seen)
    if not seen or missed:
        where = f"positions {missed}" if missed else "the hook point"
        raise RuntimeError(f"the edit at {sae.writes} never happened: the model was not run, or never came to {where}")


def clamp(bench: Any, values: Mapping[int, float], pos: int | list[int] | None = None):
    """Clamp features of a workbench's SAE: `with clamp(bench, {1234: 0.0}, pos=5): bench.model(tokens)`. See `editing`."""
    return editing(bench.model, bench.sae, values, pos)


def _clamping(sae: Dictionary, values: Mapping[int, float]) -> Edit:
    check_features(sae, values)
    for feature, value in values.items():
        if not isinstance(value, Real | Tensor) or not torch.isfinite(torch.tensor(float(value))):
            raise ValueError(f"feature {feature} cannot be clamped to {value!r}: expected a finite number")

    def edit(feature_acts: FeatureActs) -> FeatureActs:
        edited = feature_acts.clone()
        for feature, value in values.items():
            edited[..., feature] = value
        return edited

    return edit


def check_features(sae: Dictionary, features: Iterable[int]) -> None:
    """Raises ValueError for what is no feature, with the range that there is."""
    for feature in features:
        checked_feature(feature, sae.cfg.d_sae)


def _checked_positions(model: "TransformerBridge", pos: int | list[int] | None) -> list[int] | None:
    if pos is None:
        return None
    positions = [pos] if isinstance(pos, int) else sorted(set(pos))
    for position in positions:
        if not 0 <= position < model.cfg.n_ctx:
            raise ValueError(f"position {position} is not one of this model's, 0 to {model.cfg.n_ctx - 1}; count from the start token")
    return positions


class _CachedPositions:
    """How many positions the model's KV cache holds already: a cached step shows its hooks the new positions only."""

    count = 0

    def note(self, module: Any, args: tuple, kwargs: dict[str, Any]) -> None:
        self.count = next((int(value.get_seq_length()) for value in kwargs.values() if is_cache(value)), 0)
