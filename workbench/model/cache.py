"""A model's KV cache, found by what it does: an object that takes keys and values and gives back all that there are so far.

    logits of (a, b) = logits of b, given the cache that a filled

Each transformers release may hand it on under another name (5.23 `past_key_values`, 5.24 `cache`, GPT-NeoX `layer_past`), and what waits
for one name does not see the other (TransformerLens 4.3 looks for `cache_params` at a gated delta rule, which 5.24 no longer says): its
cache stays empty, and a text goes on from its last token alone, without a word. So nothing here goes by a name. On two tokens it is seen
which modules are handed a cache and which of them fill it; one that is handed it and leaves it empty gets it under the name by which it
does fill it, if there is one, from then on; and then the equation is measured.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from workbench.model.callers import alone, put
from workbench.model.hooks import accepted, unembedding_last
from workbench.model.memory import is_out_of_memory
from workbench.model.points import probe_tokens, unwatched
from workbench.shapes import LastLogits, Tokens

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

SPELLINGS = ("past_key_values", "layer_past", "past_key_value", "cache", "cache_params")  # tried on attention that leaves its cache empty
UPDATES = ("update", "update_conv_state", "update_recurrent_state", "update_indexer")  # how a cache is filled
ROUNDING = 1e-4  # of the largest logit; seen in float32: 1e-6. Coarser types: 32 of their steps, and no more than
SHARE = 0.25  # of what it changes to forget the first token, which bf16's rounding would otherwise hide


@dataclass(frozen=True)
class KVCache:
    """names: block → the keyword under which it is handed its cache. why_not: why no text may be generated with one, "" if it may."""

    names: dict[int, str] = field(default_factory=dict)
    why_not: str = ""


def kv_cache(model: "TransformerBridge") -> KVCache:
    """What there is to know of this model's cache, measured once; load_model asks first."""
    if model not in _KNOWN:
        _KNOWN[model] = _measured(model)
    return _KNOWN[model]


def is_cache(value: Any) -> bool:
    """Does it behave as a KV cache of transformers?"""
    return callable(getattr(value, "update", None)) and callable(getattr(value, "get_seq_length", None))


def cached_step(model: "TransformerBridge", tokens: Tokens, cache: Any) -> tuple[LastLogits, Any]:
    """(last logits, cache): a pass over `tokens`, which follow those that `cache` holds (None: nothing yet)."""
    with alone(model), unembedding_last(model):
        logits, cache = model(tokens, return_type="logits_and_cache", past_key_values=cache, **accepted(model, use_cache=True))
    return logits[:, -1], cache


_KNOWN: WeakKeyDictionary[Any, KVCache] = WeakKeyDictionary()


@torch.no_grad()
def _measured(model: "TransformerBridge") -> KVCache:
    names: dict[int, str] = {}
    with unwatched(model):
        try:
            two = probe_tokens(model)[:1, :2]
            handed, cache = _watched(model, two[:, :1])
            blocks = {id(block): k for k, block in enumerate(model.blocks)}
            names = {blocks[id(each.module)]: each.name for each in handed if id(each.module) in blocks}
            if _mend(model, two[:, :1], [each for each in handed if not each.is_filled and not each.is_passed_on]):
                _, cache = cached_step(model, two[:, :1], None)
            return KVCache(names, _difference(model, two, cache))
        except Exception as error:  # whatever an unknown architecture objects to: the plain way is right for it
            if is_out_of_memory(error):
                raise
            return KVCache(names, f"{type(error).__name__}: {error}")


def _difference(model: "TransformerBridge", two: Tokens, cache: Any) -> str:
    """What is too different to be rounding between two tokens and the second one after a cache of the first; "" where nothing is."""
    without = accepted(model, use_cache=False)
    found, expected = cached_step(model, two[:, 1:], cache)[0].float(), model(two, **without)[:, -1].float()
    difference, scale = (found - expected).abs().max(), expected.abs().max()
    most = ROUNDING * scale
    if model.cfg.dtype != torch.float32 and difference > most:
        forgotten = (model(two[:, 1:], **without)[:, -1].float() - expected).abs().max()
        most = min(32 * torch.finfo(model.cfg.dtype).eps * scale, SHARE * forgotten)
    return "" if difference <= most else f"with a cache the logits after two tokens differ by {difference:.2g} of {scale:.2g}"


@dataclass(eq=False)
class _Handed:
    """A module that was handed a cache: under which name, did it pass it on to one inside of it, was it filled meanwhile."""

    module: nn.Module
    name: str
    n_before: int
    is_passed_on: bool = False
    is_filled: bool = False


def _mend(model: "TransformerBridge", tokens: Tokens, empty: Sequence[_Handed]) -> bool:
    """Rename the cache for those of the modules that then fill it, for good; for the others nothing changes. Was there one?"""
    for spelling in SPELLINGS if empty else ():
        waiting = {id(each.module): each for each in empty if not each.is_filled and each.name != spelling}
        handles = {key: _renaming(each, spelling) for key, each in waiting.items()}
        filled: set[int] = set()
        try:
            filled = {id(each.module) for each in _watched(model, tokens)[0] if each.is_filled}
        except Exception as error:  # a module that knows no such argument says so in its own way
            if is_out_of_memory(error):
                raise
        for key, each in waiting.items():
            each.is_filled = key in filled
            if not each.is_filled:
                handles[key].remove()
    return any(each.is_filled for each in empty)


def _renaming(each: _Handed, spelling: str) -> RemovableHandle:
    return each.module.register_forward_pre_hook(partial(_renamed, each.name, spelling), with_kwargs=True)


def _renamed(old: str, new: str, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    return args, {new if name == old else name: value for name, value in kwargs.items()}


def _watched(model: "TransformerBridge", tokens: Tokens) -> tuple[list[_Handed], Any]:
    """One pass with a new cache: (every module inside the blocks that was handed it, in the order of the calls, the cache)."""
    watch = _Watch()
    modules = list({id(module): module for block in model.blocks for module in block.modules()}.values())
    with_kwargs = {"with_kwargs": True}
    entering = [(module.register_forward_pre_hook, watch.enter, with_kwargs) for module in modules]
    with put(*entering, *((module.register_forward_hook, watch.leave, with_kwargs) for module in modules)), watch.counters:
        _, cache = cached_step(model, tokens, None)
    return watch.handed, cache


def _by_name(module: nn.Module, args: tuple) -> dict[str, Any]:
    """Arguments by position, where a cache is among them, by the names that the wrapped module's own forward gives them."""
    if not any(is_cache(value) for value in args):
        return {}
    forward = getattr(module, "original_component", module).forward
    return dict(zip(inspect.signature(forward).parameters, args, strict=False))


class _Watch:
    def __init__(self):
        self.handed: list[_Handed] = []
        self.n_updates, self.counters = 0, ExitStack()
        self._counted: set[int] = set()
        self._open: list[_Handed] = []

    def enter(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        for name, value in (_by_name(module, args) | kwargs).items():
            if is_cache(value):
                if id(value) not in self._counted:
                    self._counted.add(id(value))
                    self.counters.enter_context(self._counting(value))
                if self._open:
                    self._open[-1].is_passed_on = True
                self._open.append(_Handed(module, name, self.n_updates))
                self.handed.append(self._open[-1])
                return

    def leave(self, module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
        if self._open and self._open[-1].module is module:
            each = self._open.pop()
            each.is_filled = self.n_updates > each.n_before

    @contextmanager
    def _counting(self, cache: Any) -> Iterator[None]:
        def counted(update: Callable[..., Any]) -> Callable[..., Any]:
            def counting(*args: Any, **kwargs: Any) -> Any:
                self.n_updates += 1
                return update(*args, **kwargs)

            return counting

        ways = [name for name in UPDATES if callable(getattr(cache, name, None))]
        for name in ways:
            setattr(cache, name, counted(getattr(cache, name)))
        try:
            yield
        finally:
            for name in ways:
                delattr(cache, name)
