"""Change features while the model runs, and nothing else.

    x' = x + (edited − feature_acts) @ W_dec          at the SAE's hook point; of a transcoder where it writes

Scaling Monosemanticity, "Influence on behavior". Only the difference is added, so the SAE's error stays in x, and an edit that changes
nothing changes nothing. `edited` is any function of the feature activations; clamping to a value is the common one.
"""

from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any, SupportsIndex

import torch
from torch import Tensor

from workbench.given import whole
from workbench.model.cache import is_cache
from workbench.model.callers import put
from workbench.model.hooks import check_dictionary
from workbench.model.points import check_obeyed, placed
from workbench.sae.config import checked_feature
from workbench.sae.dictionary import Dictionary
from workbench.shapes import FeatureActs

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Edit = Callable[[FeatureActs], FeatureActs]
Value = float | Real | Tensor  # NumPy's numbers are Real


def editing(
    model: "TransformerBridge",
    sae: Dictionary,
    edit: Edit | Mapping[int, Value],
    pos: SupportsIndex | Iterable[SupportsIndex] | None = None,
) -> "Editing":
    """Inside, every call of the model by this caller sees the edit; other threads and tasks see the model as it is. The hook is gone
    afterwards, whatever happened.

    edit: {feature: value} clamps, or a function from feature_acts (batch, pos, d_sae) to edited ones. pos: the position or positions to
    edit, counted from 0 (the start token) along the whole text, also while generating with a KV cache; None: every position, generated
    ones included. Raises ValueError for a feature or position that cannot be, RuntimeError if the model never came to the hook.

    One edit inside another is applied to what the outer one left, where both stand at one place: feature_acts are those of x' there. So the
    inner value holds for a feature that both clamp, and {a: 1} around {b: 2} is {a: 1, b: 2} where b's encoder does not read a's direction.
    """
    check_dictionary(model, sae)
    if not isinstance(edit, Mapping) and not callable(edit):
        raise ValueError(f"{edit!r} is no edit: expected {{feature: value}}, such as {{574: 0.0}}")
    edit = _clamping(sae, edit) if isinstance(edit, Mapping) else edit
    positions = _checked_positions(model, pos)
    check_obeyed(model, sae.writes)
    return Editing(model, sae, edit, positions)


class Editing(put):
    """What `editing` gives: `with` it the model is edited."""

    def __init__(self, model: "TransformerBridge", sae: Dictionary, edit: Edit, positions: list[int] | None):
        self._edited = edited = _Edited(sae, edit, positions)
        begin = model.original_model.register_forward_pre_hook, edited.note_past, {"with_kwargs": True}
        read = [placed(model, sae.reads, edited.read.append)] if edited.is_elsewhere else []
        super().__init__(begin, *read, placed(model, sae.writes, edited), gives=model)

    def _check(self) -> None:
        positions, seen = self._edited.positions or [], self._edited.seen
        missed = sorted(set(positions) - seen)
        if not seen or missed:
            where = f"positions {missed}" if missed else "the hook point"
            raise RuntimeError(
                f"the edit at {self._edited.sae.writes} never happened: the model was not run here, or never came to {where}"
            )


class _Edited:
    """y → y', where the dictionary writes."""

    def __init__(self, sae: Dictionary, edit: Edit, positions: list[int] | None):
        self.sae, self.edit, self.positions, self.is_elsewhere = sae, edit, positions, sae.reads != sae.writes
        self.n_past, self.seen = 0, set[int]()  # positions that the KV cache holds already; those that were edited
        self.read: list[Tensor] = []  # what a transcoder reads, before it writes

    def note_past(self, module: Any, args: tuple, kwargs: dict[str, Any]) -> None:
        """A cached step shows its hooks the new positions only."""
        self.n_past = next((int(value.get_seq_length()) for value in kwargs.values() if is_cache(value)), 0)
        self.read.clear()

    def __call__(self, y: Tensor) -> Tensor:
        sae, first, flat = self.sae, self.n_past, y.flatten(2)
        x = (self.read.pop().flatten(2) if self.is_elsewhere else flat).to(sae.W_dec.dtype)
        here = range(first, first + y.shape[1])
        chosen = [p - first for p in (here if self.positions is None else self.positions) if p in here]
        self.seen.update(p + first for p in chosen)
        if not chosen:
            return y
        # Where all positions of this pass are compared, those that are edited are not enough.
        feature_acts = sae.encode_each(x)[:, chosen] if sae.compares_rows else sae.encode(x[:, chosen])
        change = torch.zeros_like(sae.beside(flat))
        change[:, chosen] = sae.added(self.edit(feature_acts) - feature_acts, flat[:, chosen])
        return y + change.view_as(y).to(y.dtype)


def clamp(bench: Any, values: Mapping[int, Value], pos: SupportsIndex | Iterable[SupportsIndex] | None = None) -> Editing:
    """Clamp features of a workbench's SAE: `with clamp(bench, {1234: 0.0}, pos=5): bench.model(tokens)`. A clamp inside a clamp is applied
    to what the outer one left. See `editing`."""
    return editing(bench.model, bench.sae, values, pos)


def _clamping(sae: Dictionary, values: Mapping[int, Value]) -> Edit:
    check_features(sae, values)
    for feature, value in values.items():
        if not isinstance(value, Real | Tensor) or not torch.isfinite(torch.tensor(float(value))):
            raise ValueError(f"feature {feature} cannot be clamped to {value!r}: expected a finite number")

    def edit(feature_acts: FeatureActs) -> FeatureActs:
        edited = feature_acts.clone()
        for feature, value in values.items():
            edited[..., feature] = value if isinstance(value, Tensor) else float(value)  # of NumPy's kinds torch assigns float64 only
        return edited

    return edit


def check_features(sae: Dictionary, features: Iterable[int]) -> None:
    """Raises ValueError for what is no feature, with the range that there is, and for one feature alone."""
    if isinstance(features, str) or not isinstance(features, Iterable):
        raise ValueError(f"features={features!r} is no list: expected features, such as [0]")
    for feature in features:
        checked_feature(feature, sae.cfg.d_sae)


def _checked_positions(model: "TransformerBridge", pos: SupportsIndex | Iterable[SupportsIndex] | None) -> list[int] | None:
    if pos is None:
        return None
    one = whole(pos)
    if one is None and (isinstance(pos, str) or not isinstance(pos, Iterable)):
        raise ValueError(f"pos={pos!r} is no position: expected a whole number, a list of them, or None for every position")
    given = [pos] if one is not None else list(pos)  # pyright: ignore[reportArgumentType]
    if not given:
        raise ValueError("pos is empty: an edit at no position changes nothing; None is every position")
    positions = [whole(each) for each in given]
    for position, each in zip(positions, given, strict=True):
        if position is None or not 0 <= position < model.cfg.n_ctx:
            raise ValueError(f"position {each!r} is not one of this model's, 0 to {model.cfg.n_ctx - 1}; count from the start token")
    return sorted({position for position in positions if position is not None})
