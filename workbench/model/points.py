"""What stands at a hook point of this model, and whether the model goes on with what is put there: measured once, on a few tokens.

A bridge names hook points that never fire, that fire several times in a pass (a block run again and again), that hold several streams
instead of one vector a token, and, on OPT, GPT-J and GPT-Neo, attention that is shown and then computed once more without what was put
there. Whoever reads or intervenes asks here first; an edit that is not obeyed would count as no effect.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from workbench.model.callers import HANDLES, NOBODY, Put, alone, calling, fires, is_of_the_bridge, put
from workbench.process import quiet
from workbench.shapes import Tokens

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

N_ROWS, N_POS = 2, 5  # of the probe


class HookPointError(ValueError):
    """The hook point exists, but does not hold one vector for each token, or what is put there is not obeyed."""


@dataclass(frozen=True)
class Point:
    """What came up in one forward pass over tokens (N_ROWS, N_POS)."""

    n_fired: int
    shape: tuple[int, ...]  # at the last firing; () where nothing came up

    @property
    def width(self) -> int | None:
        """Numbers a token, or None where it does not hold one vector a token."""
        is_by_token = self.n_fired == 1 and len(self.shape) > 2 and self.shape[:2] == (N_ROWS, N_POS)
        return int(torch.Size(self.shape[2:]).numel()) if is_by_token else None


_POINTS: WeakKeyDictionary[Any, dict[str, Point]] = WeakKeyDictionary()
_OBEYED: WeakKeyDictionary[Any, dict[str, bool]] = WeakKeyDictionary()


def hook_name_of(model: "TransformerBridge", hook_name: str) -> str:
    """One name per hook point: under an alias the hook can fire twice."""
    return model.hook_dict[hook_name].name or hook_name


def placed(
    model: "TransformerBridge", hook_name: str, replace: Callable[[Tensor], Tensor | None], places: Mapping[str, Any] | None = None
) -> Put:
    """`with put(placed(…)):` the model goes on with replace(x) (None: with x itself) wherever this caller comes to the hook point with x.

    TransformerBridge's hook_resid_mid stands at the entrance of the MLP's norm: what a hook returns there reaches the MLP only. Written in
    place it is the residual stream that changes, which is what the name says and what hook_resid_pre and _post do. Our hook is permanent in
    TransformerLens's sense: a reset_hooks() of somebody else's leaves it. places: model.hook_dict, for who puts many: it is put together
    anew at each access.
    """
    is_beside_the_stream = hook_name.endswith("hook_resid_mid")
    places = model.hook_dict if places is None else places
    name = places[hook_name].name or hook_name
    where = places[name]

    def hook_fn(x: Tensor, hook: Any) -> Tensor | None:
        new = replace(x)
        return x.copy_(new) if is_beside_the_stream and new is not None else new

    model.check_hooks_to_add(where, name, hook_fn)
    return where.add_hook, hook_fn, {"is_permanent": True}


def installed(model: "TransformerBridge") -> list[str]:
    """The hook points with hooks that would fire in a pass of this caller. The bridge's own, by which OPT's MLP passes its activations on,
    are no reason to care."""
    with HANDLES:
        return sorted(name for name, place in model.hook_dict.items() if is_watched(place))


def is_watched(place: Any) -> bool:
    """Has this HookPoint a hook that would fire in a pass of this caller?"""
    handles = (*place.fwd_hooks, *place.bwd_hooks)
    return any(not is_of_the_bridge(handle.user_hook, handle.is_permanent) and fires(handle) for handle in handles)


def point(model: "TransformerBridge", hook_name: str) -> Point:
    """What stands there. The hook point must exist."""
    name = hook_name_of(model, hook_name)
    known = _POINTS.setdefault(model, {})
    if name not in known:
        shapes: list[tuple[int, ...]] = []
        try:
            _pass(model, hook_name, lambda x: shapes.append(tuple(x.shape)))
        except ValueError as error:  # a hook point that a switch of TransformerLens's has to turn on: it says which
            raise HookPointError(str(error)) from None
        known[name] = Point(len(shapes), shapes[-1] if shapes else ())
    return known[name]


def check_point(model: "TransformerBridge", hook_name: str) -> None:
    """Raises HookPointError unless one vector a token stands there, once in a pass."""
    found = point(model, hook_name)
    if found.width is not None:
        return
    if found.n_fired != 1:
        times = f"{found.n_fired} times" if found.n_fired else "never"
        what = f"{hook_name} fires {times} in one forward pass of this model, expected once"
    else:
        what = f"{hook_name} holds {found.shape} for {N_ROWS} × {N_POS} tokens of this model, not one vector for each"
    raise HookPointError(f"{what}{_instead(model, hook_name)}")


def obeyed(model: "TransformerBridge", hook_name: str) -> bool:
    """Does the model go on with what is put there? NaN must reach the logits: it does so through weights that are 0, too."""
    name = hook_name_of(model, hook_name)
    known = _OBEYED.setdefault(model, {})
    if name not in known:
        try:
            known[name] = _goes_on_with_nan(model, hook_name)
        except (RuntimeError, ValueError, IndexError):
            if not _breaks_off(model, hook_name, torch.nan) or _breaks_off(model, hook_name, None):
                raise  # not for what was put there
            known[name] = True  # something could not go on with it
    return known[name]


def _goes_on_with_nan(model: "TransformerBridge", hook_name: str) -> bool:
    return bool(_pass(model, hook_name, lambda x: torch.full_like(x, torch.nan)).isnan().any())


def _breaks_off(model: "TransformerBridge", hook_name: str, value: float | None) -> bool:
    """With this put there (None: nothing)?"""
    try:
        _pass(model, hook_name, lambda x: None if value is None else torch.full_like(x, value))
    except (RuntimeError, ValueError, IndexError):
        return True
    return False


def check_obeyed(model: "TransformerBridge", hook_name: str) -> None:
    """Raises HookPointError where an edit would be ignored."""
    if not obeyed(model, hook_name):
        raise HookPointError(
            f"this model ignores what is put at {hook_name}: its logits stay as they are, whatever stands there, so that no effect can be "
            f"measured there{_instead(model, hook_name)}"
        )


def probe_tokens(model: "TransformerBridge") -> Tokens:
    """(N_ROWS, N_POS) ordinary tokens: none that stands for an image, a sound or the end of something."""
    config = model.original_model.config
    configs = [config, *(part for part in vars(config).values() if hasattr(part, "to_dict"))]
    named = [value for some in configs for name, value in vars(some).items() if name.endswith(("token_id", "token_index"))]
    flat = [token for value in named for token in (value if isinstance(value, list) else [value])]
    special = {*flat, *(getattr(model.tokenizer, "all_special_ids", None) or ())}
    plain = [token for token in range(min(model.cfg.d_vocab, 64)) if token not in special] or [0]
    rows = [[plain[(7 * row + 3 * pos) % len(plain)] for pos in range(N_POS)] for row in range(N_ROWS)]
    return torch.tensor(rows, device=model.cfg.device)


@torch.no_grad()
def _pass(model: "TransformerBridge", hook_name: str, replace: Callable[[Tensor], Tensor | None]) -> Tensor:
    """The logits of a pass that nobody sees."""
    with unwatched(model), quiet(), put(placed(model, hook_name, replace)):
        return model(probe_tokens(model))


@contextmanager
def unwatched(model: "TransformerBridge") -> Iterator[None]:
    """Inside, nobody's hooks fire but those that are put in anew: what is measured here is no pass of theirs."""
    with alone(model), calling(NOBODY):
        yield


INSTEAD = ("hook_resid_pre", "hook_resid_post", "hook_mlp_out", "hook_attn_out", "attn.hook_z")


def _instead(model: "TransformerBridge", hook_name: str) -> str:
    """A hook point of the same block that serves."""
    block = ".".join(hook_name.split(".")[:2])
    for name in (f"{block}.{end}" for end in INSTEAD):
        if name in model.hook_dict and point(model, name).width is not None and obeyed(model, name):
            return f"; {name} serves"
    return ""


def place(hook_name: str) -> tuple[int, bool]:
    """(first block to run, is the hook inside it?); (-1, False) for a hook outside the blocks."""
    match = re.fullmatch(r"blocks\.(\d+)\.(.+)", hook_name)
    if match is None:
        return -1, False
    layer, point = int(match[1]), match[2]
    if point in ("hook_resid_post", "hook_out"):
        return layer + 1, False
    return layer, point not in ("hook_resid_pre", "hook_in")


def place_of(model: "TransformerBridge", hook_name: str) -> tuple[int, bool]:
    """The same for this model's own hook point. Mostly hook_resid_pre is another name of what enters the block; where it is a point of its
    own (Gemma 3n picks one of four streams there), it stands inside."""
    name = hook_name_of(model, hook_name)
    layer, is_inner = place(name)
    if name.endswith("hook_resid_post"):
        return layer - 1, True
    return layer, is_inner or name.endswith("hook_resid_pre")
