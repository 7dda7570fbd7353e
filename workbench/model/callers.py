"""Who calls the model: any number of threads and tasks may use one, and each sees its own edits only.

    our hook (`put`)      fires for the caller who put it in, be it a thread or an asyncio task, and for nobody else
    a user's hook         of run_with_hooks, run_with_cache and model.hooks: in the thread that asked for it. Of model.add_hook: in every
                          pass, as TransformerLens has it, but for what the workbench itself runs in another thread
    a pass                one at a time (`alone`): a bridge notes on its own modules what a pass is about

A caller is a context of contextvars, which a coroutine keeps over its awaits and asyncio.to_thread hands on. A thread that is started
within an edit begins without it.
"""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from itertools import count
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

Put = tuple[Callable, Callable, dict[str, Any]]  # what puts a hook in (a module's own method), the hook, options

HANDLES = threading.RLock()  # held while a hook point's list of hooks changes
NOBODY, USER = "nobody's hooks but those that are put in from now on", "a pass that a user asked for"

_WHO: ContextVar[frozenset[Any]] = ContextVar("what marks this caller: hooks that are theirs, and the words above", default=frozenset())
_THREAD, _NUMBERS = threading.local(), count()
_RLock: Any = type(threading.RLock())


class Turns(_RLock):
    """A lock, given in about the order of asking: whoever leaves it and comes back waits behind who waits. Leaving it is the C code's
    that it inherits: a Ctrl-C comes before or after."""

    def __init__(self) -> None:
        self._next = threading.Lock()

    def __enter__(self) -> bool:
        try:
            with self._next:
                return self.acquire()
        except BaseException:  # Ctrl-C when it was already ours
            if self._is_owned():
                self.release()
            raise


_TURNS: WeakKeyDictionary[Any, Turns] = WeakKeyDictionary()


def alone(model: Any) -> AbstractContextManager:
    """`with alone(model):` no other thread runs it, nor reads with it where it is a tokenizer. For as long as something computes, never
    while somebody may sit idle."""
    turns = _TURNS.setdefault(model, Turns())
    return nullcontext() if turns._is_owned() else turns


def has_turn(model: Any) -> bool:
    """Is this thread inside of `alone`?"""
    return model in _TURNS and _TURNS[model]._is_owned()


class calling:
    """`with calling(marks):` these mark the caller, in place of others."""

    def __init__(self, *marks: str):
        self._marks = frozenset(marks)

    def __enter__(self) -> None:
        self._before = _WHO.get()
        _WHO.set(self._marks)

    def __exit__(self, *error: object) -> None:
        try:
            _WHO.set(self._before)
        finally:
            _WHO.set(self._before)


def is_marked() -> bool:
    """Has this caller hooks of ours in a model, or is it marked otherwise?"""
    return bool(_WHO.get())


class Owned:
    """A hook of ours."""

    __slots__ = ("hook",)

    def __init__(self, hook: Callable):
        self.hook = hook

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.hook(*args, **kwargs) if self in _WHO.get() else None


class Users:
    """A hook of a user's. stays: until it is taken away, not to the end of a call."""

    __slots__ = ("hook", "stays", "thread")

    def __init__(self, hook: Callable, stays: bool):
        self.hook, self.stays, self.thread = hook, stays, _thread()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.hook(*args, **kwargs) if self.fires() else None

    def fires(self) -> bool:
        """Would it fire in a pass of this caller?"""
        who = _WHO.get()
        return NOBODY not in who and (self.thread == _thread() or (self.stays and USER in who))


def is_of_the_bridge(hook: Any, is_permanent: bool) -> bool:
    """TransformerLens's own, by which OPT's MLP, for one, passes its activations on."""
    return is_permanent and str(getattr(hook, "__module__", "")).startswith("transformer_lens.")


def fires(handle: Any) -> bool:
    """Would a hook point's hook (a LensHandle) fire in a pass of this caller? The bridge's own always does."""
    if isinstance(handle.user_hook, Owned):
        return handle.user_hook in _WHO.get()
    users = getattr(handle, "users", None)
    return users.fires() if isinstance(users, Users) else True


class put:
    """`with put((module.register_forward_hook, hook, {}), …):` the hooks fire for this caller.

    They are gone afterwards, whatever happened. An interrupt in the middle of taking them out finds it done once more; one just before it
    leaves that to __del__, so a hook must not know its `put`, or it would keep it alive.
    """

    def __init__(self, *puts: Put, gives: Any = None):
        self._puts, self._gives = [(register, Owned(hook), options) for register, hook, options in puts], gives
        self._is_in = False

    def __enter__(self) -> Any:
        try:
            self._is_in = True
            for register, own, options in self._puts:
                register(own, **options)
            _WHO.set(_WHO.get().union(own for _, own, _ in self._puts))
            return self._gives
        except BaseException:
            self._take_out()
            raise

    def __exit__(self, kind: type | None, *error: Any) -> None:
        try:
            self._take_out()
        finally:
            self._take_out()
        if kind is None:
            self._check()

    def _check(self) -> None:
        """Raises what the block is to be told when it ends well."""

    def __del__(self) -> None:
        if getattr(self, "_is_in", False):
            self._take_out()

    def _take_out(self) -> None:
        _WHO.set(_WHO.get().difference(own for _, own, _ in self._puts))  # first: from here on none fires
        for register, own, _ in self._puts:
            _remove(register.__self__, own)
        self._is_in = False


def _remove(module: nn.Module, own: Owned) -> None:
    """Not by its handle, which an interrupt may have kept from us. TransformerLens calls its torch hook by the repr of the one inside."""
    name = repr(own)
    for hooks in (module._forward_hooks, module._forward_pre_hooks):
        for key in [key for key, hook in list(hooks.items()) if hook is own or getattr(hook, "__name__", "") == name]:
            for places in (hooks, *(getattr(module, others) for others in OPTIONS)):
                places.pop(key, None)
    if hasattr(module, "fwd_hooks"):
        with HANDLES:
            module.fwd_hooks = [handle for handle in module.fwd_hooks if handle.user_hook is not own]  # pyright: ignore


OPTIONS = "_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_forward_pre_hooks_with_kwargs"


def _thread() -> int:
    """This thread's number, which no later one gets again."""
    if not hasattr(_THREAD, "number"):
        _THREAD.number = next(_NUMBERS)
    return _THREAD.number
