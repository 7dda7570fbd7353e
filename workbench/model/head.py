"""The first blocks of a model, up to the hook points that are wanted, at the machine's rate: the engine under the activation stream.

The bridge runs attention its own way and calls every hook point on the way. Here the Hugging Face modules inside it run as they were
written, on the same weights: a copy of the module tree that leaves the bridge's wrappers out. An activation is caught where its module
takes or gives it, and the last one that is wanted ends the pass. Three ways, each faster:

    bridge     the model's own forward pass, hooked, stopped after the last layer that matters: right for any model and hook point
    eager      the modules inside it
    sdpa       the same with torch's fused attention

Which of them gives this model's activations is measured on the first tokens, not assumed.
"""

import copy
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from workbench.model.callers import alone, put
from workbench.model.gemm import machine_rate
from workbench.model.hooks import accepted, check_hook_name, seen
from workbench.model.memory import objection
from workbench.model.points import check_point, installed, place_of
from workbench.shapes import Tokens

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Found = dict[str, Float[Tensor, "batch pos _"]]  # by hook name; the widths differ
WAYS = ("sdpa", "eager", "bridge")
ROUNDING = 1e-5  # float32's, relative to the median norm of an activation; seen: 1e-6 after 12 blocks
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs")


class Head:
    """`head(tokens)` → {hook_name: activations (batch, pos, d_in)}, in the model's dtype.

    way: how they are computed, the fastest that applies; known after the first call. why_not: what keeps a faster one out.
    While other hooks are installed on the model, an edit say, it is the bridge that runs: they fire.
    """

    def __init__(self, model: "TransformerBridge", hook_names: Sequence[str], way: str = WAYS[0]):
        for hook_name in hook_names:
            check_hook_name(model, hook_name)
            check_point(model, hook_name)
        self.model, self.hook_names = model, tuple(dict.fromkeys(hook_names))
        self.way, self.why_not = way, ""
        self._blocks: PlainBlocks | None = None
        self._is_known = way == "bridge"

    @torch.no_grad()
    def __call__(self, tokens: Tokens) -> Found:
        if not self._is_known and not self._is_watched():
            self._find_way(tokens[:2])
        if self._blocks is None or self._is_watched():
            return through_bridge(self.model, tokens, self.hook_names)
        with alone(self.model):  # the copy shares the weights, which a pass in float32 takes out meanwhile
            return self._blocks.run(tokens)

    def _is_watched(self) -> bool:
        return bool(installed(self.model))

    def _find_way(self, tokens: Tokens) -> None:
        expected = through_bridge(self.model, tokens, self.hook_names)
        self._is_known = True
        for way in WAYS[WAYS.index(self.way) : -1]:
            try:
                with alone(self.model):
                    blocks = PlainBlocks(self.model, self.hook_names, way)
                    why_not = _difference(blocks.run(tokens), expected, self.model.cfg.n_layers)
            except Exception as error:  # whatever an unknown architecture objects to: the bridge is right for it
                self.why_not = objection(way, error)
                continue
            if not why_not:
                self.way, self._blocks = way, blocks
                return
            self.why_not = f"{way}: {why_not}"
        self.way = "bridge"


def through_bridge(model: "TransformerBridge", tokens: Tokens, hook_names: Sequence[str]) -> Found:
    """The plain way. The blocks after the last hook point do not run."""
    caught: dict[str, list[Tensor]] = {name: [] for name in hook_names}
    with ExitStack() as stack, machine_rate():
        for name in hook_names:
            stack.enter_context(seen(model, name, lambda x, name=name: caught[name].append(x.detach())))
        model.forward(tokens, return_type=None, stop_at_layer=_stop(model, hook_names))
    for name, found in caught.items():
        assert len(found) == 1, f"{name} fired {len(found)} times in one forward pass, expected once"
        if found[0].shape[:2] != tokens.shape:
            raise ValueError(f"{name} holds {tuple(found[0].shape)}, not one activation for each of the tokens {tuple(tokens.shape)}")
    return {name: found[0].flatten(2) for name, found in caught.items()}


def _stop(model: "TransformerBridge", hook_names: Sequence[str]) -> int | None:
    """The first layer that need not run; None: hook points outside the blocks may come last."""
    places = [place_of(model, name) for name in hook_names]
    return None if any(first < 0 for first, _ in places) else max(first + is_inner for first, is_inner in places)


class PlainBlocks:
    """The model without its bridge, and where in it the activations are found."""

    def __init__(self, model: "TransformerBridge", hook_names: Sequence[str], attention: str):
        tree = _Tree(attention)
        self.net, self.options = tree.plain(model.original_model), accepted(model, use_cache=False)
        self.points: dict[str, tuple[nn.Module, str]] = {}
        for name in hook_names:
            path, _, end = (model.hook_dict[name].name or name).rpartition(".")
            module = tree.of(model.get_submodule(path))
            assert module is not None and end in ("hook_in", "hook_out"), f"{name} is neither what a module takes nor what it gives"
            self.points[name] = module, end

    def run(self, tokens: Tokens) -> Found:
        """The activations at every point; the blocks after the last one do not run."""
        caught: dict[str, Tensor] = {}
        with machine_rate(), ExitStack() as stack:
            for name, (module, end) in self.points.items():
                stack.enter_context(self._catching(caught, name, module, end))
            with suppress(_AllCaught):
                self.net(tokens, **self.options)
        assert len(caught) == len(self.points), f"{', '.join(set(self.points) - set(caught))} never came up"
        return caught

    def _catching(self, caught: dict[str, Tensor], name: str, module: nn.Module, end: str) -> put:
        def catch(value: Any) -> None:
            value = value[0] if isinstance(value, tuple) else value
            caught[name] = value.flatten(2)
            if len(caught) == len(self.points):
                raise _AllCaught

        if end == "hook_out":
            return put((module.register_forward_hook, lambda _, args, output: catch(output), {}))
        first = lambda _, args, kwargs: catch(args or next(iter(kwargs.values())))  # noqa: E731
        return put((module.register_forward_pre_hook, first, {"with_kwargs": True}))


def unbridged(model: "TransformerBridge") -> nn.Module:
    """The Hugging Face model inside, with the same weights and without the bridge's wrappers and hooks, which cannot be pickled."""
    return _Tree("eager").plain(model.original_model)


class _Tree:
    """A module tree without the bridge's wrappers: new modules, the same weights."""

    def __init__(self, attention: str):
        self.attention = attention
        self._copies: dict[int, nn.Module] = {}  # a module's id → its copy
        self._configs: dict[int, Any] = {}

    def plain(self, module: nn.Module) -> nn.Module:
        module = _unwrapped(module)
        if id(module) not in self._copies:
            new = copy.copy(module)
            self._copies[id(module)] = new
            vars(new).update({name: type(vars(module)[name])() for name in HOOKS})
            vars(new).pop("forward", None)  # one that was put on the object itself runs the module that is copied, not the copy
            vars(new)["_modules"] = {name: child and self.plain(child) for name, child in module._modules.items()}
            if hasattr(module, "config"):
                vars(new)["config"] = self._config(module.config)
        return self._copies[id(module)]

    def of(self, module: nn.Module) -> nn.Module | None:
        return self._copies.get(id(_unwrapped(module)))

    def _config(self, config: Any) -> Any:
        """One copy of each, so that the bridge keeps its own choice of attention."""
        if id(config) not in self._configs:
            self._configs[id(config)] = copy.copy(config)
            self._configs[id(config)]._attn_implementation = self.attention
        return self._configs[id(config)]


def _unwrapped(module: nn.Module) -> nn.Module:
    while "_original_component" in module._modules:
        module = module._modules["_original_component"]  # pyright: ignore[reportAssignmentType]
    return module


def _difference(found: Found, expected: Found, n_layers: int) -> str:
    """What is too different to be rounding; "" where nothing is. Against the median norm: start tokens are large."""
    for name, x in expected.items():
        difference = (found[name].double() - x.double()).norm(dim=-1).max() / x.double().norm(dim=-1).median()
        if not difference <= max(ROUNDING, n_layers**0.5 * torch.finfo(x.dtype).eps):
            return f"{name} differs by {difference:.2g} of its norm"
    return ""


class _AllCaught(Exception):
    """Leaves the forward pass."""
