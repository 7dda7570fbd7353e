"""A TransformerBridge for any number of threads: one pass at a time, and every hook for its own caller (callers.py).

Its class becomes one that inherits from its own, and so do those of its hook points. A pass has to be alone because a bridge notes on its
modules, for the length of the pass, how many rows there are, at which layer to stop, what goes into the cache (TransformerLens 4.3:
`_current_batch_size`, `_stop_at_layer_idx`, `_last_hf_cache`): of two at once each would read the other's.
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import cache, wraps
from typing import TYPE_CHECKING, Any

from workbench.model.callers import HANDLES, USER, Owned, Users, alone, calling, fires, has_turn, is_marked, is_of_the_bridge

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

ENTRIES = ("forward", "run_with_hooks", "run_with_cache", "generate", "hf_generate", "diffusion_generate")  # what runs the model
STREAMS = ("generate_stream",)  # the same, a step at a time
READERS = ("to_tokens", "to_str_tokens")  # a fast tokenizer is told how to cut and to pad before it is given the text


class Shared:
    """What is added to a bridge's class."""

    @staticmethod
    def _remove_temporary_hook(hook_point: Any, direction: str, handle: Any) -> None:
        with HANDLES:
            handles = hook_point.fwd_hooks if direction == "fwd" else hook_point.bwd_hooks
            if not handle.is_permanent:
                handle.hook.remove()
                handles[:] = [existing for existing in handles if existing is not handle]


class SharedPoint:
    """What is added to the class of its hook points."""

    def add_hook(self, hook: Callable, dir: Any = "fwd", is_permanent: bool = False, level: int | None = None, **options: Any) -> Any:
        """As a HookPoint has it, for its own caller."""
        given = hook if isinstance(hook, Owned) or is_of_the_bridge(hook, is_permanent) else Users(hook, stays=level is None)
        with HANDLES:
            handle = super().add_hook(given if dir == "fwd" else hook, dir, is_permanent, level, **options)  # pyright: ignore
            handle.user_hook, handle.users = hook, given
        return handle

    def remove_hooks(self, *args: Any, **kwargs: Any) -> None:
        """As a HookPoint has it."""
        with HANDLES:
            super().remove_hooks(*args, **kwargs)  # pyright: ignore

    def _get_backward_hooks(self) -> tuple[list, list]:
        """Asked for by the forward pass: backwards, autograd's own threads fire them, which are nobody's."""
        hooks, others = super()._get_backward_hooks()  # pyright: ignore
        with HANDLES:
            hidden = {self._backward_hooks.get(handle.hook.id) for handle in self.bwd_hooks if not fires(handle)}  # pyright: ignore
        return [hook for hook in hooks if hook not in hidden], others


def share(model: "TransformerBridge") -> None:
    """From now on threads may use the model side by side. Hooks that it has already are this thread's."""
    from transformer_lens.hook_points import HookPoint

    if isinstance(model, Shared):
        return
    with HANDLES:
        for place in {*model.modules(), *model.original_model.modules()}:
            if isinstance(place, HookPoint) and not isinstance(place, SharedPoint):
                for handle in (*place.fwd_hooks, *place.bwd_hooks):
                    _take_over(place, handle)
                object.__setattr__(place, "__class__", _with(SharedPoint, type(place)))
        object.__setattr__(model, "__class__", _bridge(type(model)))


def _take_over(place: Any, handle: Any) -> None:
    if is_of_the_bridge(handle.user_hook, handle.is_permanent):
        return
    handle.users = Users(place._forward_hooks.get(handle.hook.id), stays=handle.context_level is None)
    if handle.hook.id in place._forward_hooks:
        place._forward_hooks[handle.hook.id] = handle.users


@cache
def _with(more: type, kind: type) -> type:
    return type(kind.__name__, (more, kind), {"__module__": kind.__module__, "__doc__": kind.__doc__})


@cache
def _bridge(kind: type) -> type:
    shared = _with(Shared, kind)
    for names, changed in ((ENTRIES, _at_once), (STREAMS, _by_steps), (READERS, _one_text_at_a_time)):
        for name in names:
            if hasattr(kind, name):
                setattr(shared, name, changed(getattr(kind, name)))
    return shared


def _at_once(run: Callable) -> Callable:
    """The same, while no other thread runs the model."""

    @wraps(run)
    def alone_with_it(self: Any, *args: Any, **kwargs: Any) -> Any:
        if has_turn(self):
            return run(self, *args, **kwargs)
        with alone(self), nullcontext() if is_marked() else calling(USER):
            return run(self, *args, **kwargs)

    return alone_with_it


def _one_text_at_a_time(read: Callable) -> Callable:
    @wraps(read)
    def alone_with_the_tokenizer(self: Any, *args: Any, **kwargs: Any) -> Any:
        with nullcontext() if self.tokenizer is None else alone(self.tokenizer):
            return read(self, *args, **kwargs)

    return alone_with_the_tokenizer


def _by_steps(stream: Callable) -> Callable:
    @wraps(stream)
    def one_by_one(self: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        steps = stream(self, *args, **kwargs)
        try:
            while True:
                with alone(self):
                    try:
                        step = next(steps)
                    except StopIteration:
                        return
                yield step
        finally:
            steps.close()

    return one_by_one
