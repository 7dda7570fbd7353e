"""A model of half-precision weights, computed in float32: the same weights, without the rounding of what is computed from them.

An effect is a small difference of large numbers: on bfloat16 weights a forward pass in bfloat16 errs by 8 to 20 % of the largest effect, in
float16 by 1 to 3 %. Within `with InFloat32(model):` every part of the model widens its weights when its turn comes and narrows them
afterwards, a block at a time, so that the memory of one block more is needed; what is kept wide between passes is bounded.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from workbench.model.callers import alone, put

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

HALF = (torch.bfloat16, torch.float16)
KEPT_BYTES = 2 * 2**30  # of float32 weights, between one pass and the next: widening is a tenth of a small batch's time


def is_half(model: "TransformerBridge") -> bool:
    """Are its weights of half precision, all there, and none of them quantized?"""
    weights = list(model.original_model.parameters())
    is_plain = all(weight.is_floating_point() and weight.element_size() > 1 and not weight.is_meta for weight in weights)
    return is_plain and any(weight.dtype in HALF for weight in weights)


def precision_note(model: "TransformerBridge") -> str:
    """In what precision effects on this model are exact, where that is not the precision of its weights; "" for float32 and wider."""
    dtypes = {str(weight.dtype).removeprefix("torch.") for weight in model.original_model.parameters() if weight.dtype in HALF}
    if is_half(model):
        return f"The model's weights are {' and '.join(sorted(dtypes))}; what is measured here is computed from them in float32."
    return f"Some weights are {' and '.join(sorted(dtypes))} and quantized: effects carry their rounding." if dtypes else ""


def wide(x: Tensor) -> Tensor:
    """x in float32 at least."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class InFloat32:
    """`with in_float32: model(tokens)` computes in float32. A model of float32 or wider stays as it is. Enter it again for every pass."""

    def __init__(self, model: "TransformerBridge"):
        self.model, self._is_needed = model, is_half(model)
        self._units = list(_units(model.original_model)) if self._is_needed else []
        self._kept: dict[int, Tensor] = {}  # a parameter's id → its float32 twin
        self._n_kept = 0
        self._stack = ExitStack()

    def __enter__(self) -> "InFloat32":
        if self._is_needed:
            with ExitStack() as stack:
                stack.enter_context(alone(self.model))
                for unit in self._units:
                    _Widened(self, unit).enter(stack)
                self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def twin(self, weight: Tensor) -> Tensor:
        """The weight in float32."""
        kept = self._kept.get(id(weight))
        if kept is not None:
            return kept
        wide = weight.detach().float()
        wide = nn.Parameter(wide, requires_grad=False) if isinstance(weight, nn.Parameter) else wide
        n_bytes = wide.numel() * wide.element_size()
        if self._n_kept + n_bytes <= KEPT_BYTES:
            self._kept[id(weight)] = wide
            self._n_kept += n_bytes
        return wide


class _Widened:
    """One unit, whose weights are wide while it runs. Their places get other tensors: a gradient keeps hold of those it needs."""

    def __init__(self, owner: InFloat32, unit: nn.Module):
        self.owner, self.unit, self.depth = owner, unit, 0
        self.before: list[tuple[dict, str, Tensor]] = []

    def enter(self, stack: ExitStack) -> None:
        stack.callback(self.restore)
        stack.callback(self.restore)  # an interrupt in the middle of the first leaves the second
        before = self.unit.register_forward_pre_hook, lambda *_: self.widen(), {"prepend": True}
        stack.enter_context(put(before, (self.unit.register_forward_hook, lambda *_: self.narrow(), {"always_call": True})))

    def widen(self) -> None:
        self.depth += 1
        if self.depth > 1:
            return
        for module in self.unit.modules() if _is_bridged(self.unit) else [self.unit]:
            places: dict[str, Any]
            for places in (module._parameters, module._buffers):
                for name, weight in places.items():
                    if weight is not None and weight.dtype in HALF:
                        self.before.append((places, name, weight))
                        places[name] = self.owner.twin(weight)

    def narrow(self) -> None:
        self.depth -= 1
        if self.depth == 0:
            self.restore()

    def restore(self) -> None:
        for places, name, weight in self.before:
            places[name] = weight
        self.before, self.depth = [], 0


def _is_bridged(module: nn.Module) -> bool:
    return "_original_component" in module._modules


def _units(module: nn.Module) -> Iterator[nn.Module]:
    """The bridge's outermost components (they read the weights of what they wrap), and what stands between them with weights of its own."""
    if _is_bridged(module):
        yield module
        return
    if any(weight is not None for weight in (*module._parameters.values(), *module._buffers.values())):
        yield module
    for child in module.children():
        yield from _units(child)
