"""The rest of a model after a hook point, as a function of what stands there.

    y = residual stream, with x[i] put at pos[i] of row[i];  for k ≥ first_block: y = blocks[k](y, **kwargs[k])
    logits = unembed(ln_final(y[:, -1]))

It knows nothing of the architecture: each block gets the keyword arguments of the clean run, and the clean run's keys and values enter
where the block expects its KV cache. Nothing here is assumed to hold for an unknown model; replay.py measures whether it does.
"""

import inspect
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.model.hooks import alone, hooked, last_logits
from workbench.shapes import LastLogits, RowIndex, Tokens

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

CACHE_NAMES = ("past_key_values", "layer_past", "past_key_value")
# Which axis of a block's other keyword arguments counts the positions it computes.
POS_AXIS = {"attention_mask": -2, "position_embeddings": -2, "position_ids": -1, "cache_position": -1}

LastResidual = Float[Tensor, "n_rows d_model"]


@dataclass(frozen=True)
class Columns:
    """Which logits to compute: those of a few tokens, then (has_mean) the mean over the vocabulary."""

    tokens: tuple[int, ...]
    has_mean: bool = False

    def of(self, logits: LastLogits) -> Float[Tensor, "batch n_columns"]:
        """The same from all logits, in float32 at least."""
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        some = logits[:, list(self.tokens)]
        return torch.cat([some, logits.mean(-1, keepdim=True)], dim=1) if self.has_mean else some


@dataclass(frozen=True)
class Perturbed:
    """Copies of the clean prompt, changed: at pos[i] of row[i] stands x[i]. A row may be changed at several positions."""

    row: RowIndex
    pos: RowIndex
    x: Float[Tensor, "n_rows d_in"]
    n_rows: int

    def put(self, value: Tensor, start: int = 0) -> Tensor:
        """`value` (n_rows, pos ≥ start, …), the activation at the hook point, with x put in."""
        value = value.clone()
        value[self.row, self.pos - start] = self.x.to(value.dtype).view(len(self.x), *value.shape[2:])
        return value


class Tail:
    """clean (pos, d_in): the activation at the hook point. clean_logits (1, d_vocab): the last position's, by the model's own forward."""

    def __init__(self, model: "TransformerBridge", hook_name: str, tokens: Tokens):
        self.model, self.hook_name, self.n_pos, self.n_layers = model, hook_name, tokens.shape[1], model.cfg.n_layers
        self.first_block, self.is_inner = place(model.hook_dict[hook_name].name or hook_name)
        self.first_whole = self.first_block + self.is_inner
        self._kwargs: dict[int, dict[str, Any]] = {}
        self._keys_values: dict[int, tuple[Tensor, Tensor]] = {}
        self.residual, self.clean, self.clean_logits = self._run_clean(tokens)

    def whole(self, rows: Perturbed) -> LastResidual:
        """The plain way: every block after the hook, at every position."""
        y = self._enter(rows, start=0)
        for k in range(self.first_whole, self.n_layers):
            y = self._block(k, y, start=0)
        return y[:, -1]

    def after_prefix(self, rows: Perturbed) -> LastResidual:
        """The same at positions from the first perturbed one on: earlier ones are clean and serve their keys and values."""
        start, last_block = int(rows.pos.min()), self.n_layers - 1
        prefixed = _Cache(lambda k, v, layer: self._prefixed(k, v, layer, start))
        y = self._enter(rows, start, prefixed)
        for k in range(self.first_whole, last_block):
            y = self._block(k, y, start, prefixed)
        if (
            self.first_whole <= last_block
        ):  # only the last query matters: leave once keys and values are known, then run that position alone
            known: list[tuple[Tensor, Tensor]] = []

            def leave(k: Tensor, v: Tensor, layer: int):
                known.append(self._prefixed(k, v, layer, start))
                raise _KeysKnown

            with suppress(_KeysKnown):
                self._block(last_block, y, start, _Cache(leave))
            y = self._block(last_block, y[:, -1:], self.n_pos - 1, _Cache(lambda k, v, layer: known[0]))
        return y[:, -1]

    def read(self, y: LastResidual, columns: Columns) -> Float[Tensor, "n_rows n_columns"]:
        """ln_final, the needed columns of the unembedding and the model's soft cap, in float32 at least."""
        h = self.model.ln_final(y[:, None])[:, 0]
        h = h.to(torch.promote_types(h.dtype, torch.float32))
        weight, bias, cap = self.model.unembed.W_U.T, self._bias, self.model.cfg.output_logits_soft_cap
        if cap > 0 and columns.has_mean:  # the mean of capped logits needs them all
            return torch.cat([columns.of(_capped(rows @ weight.T.to(h.dtype) + bias, cap)) for rows in h.split(64)])
        some = list(columns.tokens)
        weight, bias = weight[some].to(h.dtype), bias[some].to(h.dtype)
        if columns.has_mean:
            weight, bias = torch.cat([weight, self._mean_weight.to(h.dtype)]), torch.cat([bias, self._bias.mean(0, keepdim=True)])
        return _capped(h @ weight.T + bias, cap)

    @cached_property
    def _mean_weight(self) -> Float[Tensor, "1 d_model"]:
        return self.model.unembed.W_U.T.mean(0, keepdim=True, dtype=torch.promote_types(self.clean.dtype, torch.float32))

    @cached_property
    def _bias(self) -> Float[Tensor, "d_vocab"]:
        bias = getattr(self.model.unembed.original_component, "bias", None)
        return self.model.unembed.W_U.new_zeros(self.model.cfg.d_vocab) if bias is None else bias

    def note_keys_values(self) -> None:
        """Keep the clean run's keys and values, for `after_prefix`."""

        def note(k: Tensor, v: Tensor, layer: int):
            self._keys_values[layer] = k, v
            return k, v

        y = self.residual.unsqueeze(0)
        for block in range(self.first_block, self.n_layers):
            y = self._block(block, y, 0, _Cache(note))
        n_noted, n_blocks = len(self._keys_values), max(0, self.n_layers - self.first_block)
        assert n_noted == n_blocks, f"{n_noted} of {n_blocks} blocks showed their keys and values"

    def _prefixed(self, k: Tensor, v: Tensor, layer: int, start: int) -> tuple[Tensor, Tensor]:
        """A batch's keys and values (batch, head, pos ≥ start, d_head), led by the clean run's."""
        clean_k, clean_v = (clean[:, :, :start].expand(len(k), -1, -1, -1) for clean in self._keys_values[layer])
        return torch.cat([clean_k, k], dim=2), torch.cat([clean_v, v], dim=2)

    def _enter(self, rows: Perturbed, start: int, cache: "_Cache | None" = None) -> Float[Tensor, "n_rows pos d_model"]:
        """The perturbed residual stream from `start` on, where whole blocks begin. A hook inside a block is put by that block's own run."""
        y = self.residual[start:].expand(rows.n_rows, -1, -1)
        if not self.is_inner:
            return rows.put(y, start)
        with hooked(self.model, self.hook_name, lambda value: rows.put(value, start)):
            return self._block(self.first_block, y, start, cache)

    def _block(self, k: int, y: Tensor, start: int, cache: "_Cache | None" = None) -> Tensor:
        """Block k on positions start, start + 1, …"""
        kwargs = {name: from_position(name, value, start) for name, value in self._kwargs[k].items() if name not in CACHE_NAMES}
        if cache is not None:
            kwargs |= {name: cache for name in CACHE_NAMES if name in self._kwargs[k]}
        y = self.model.blocks[k](y, **kwargs)
        return y[0] if isinstance(y, tuple) else y

    def _run_clean(self, tokens: Tokens) -> tuple[Tensor, Tensor, Tensor]:
        """One forward pass that notes what the blocks need: (residual stream before first_block, activation at the hook, last logits)."""
        with alone(self.model):
            return self._noted(tokens)

    def _noted(self, tokens: Tokens) -> tuple[Tensor, Tensor, Tensor]:
        residuals: dict[int, Tensor] = {}
        found: list[Tensor] = []

        def note(k: int, block: Any, args: tuple, kwargs: dict[str, Any]) -> None:
            names = list(inspect.signature(block.original_component.forward).parameters)
            given: dict[str, Any] = dict.fromkeys(set(CACHE_NAMES) & set(names)) | dict(zip(names, args, strict=False)) | kwargs
            residuals[k] = given.pop(names[0])[0]
            self._kwargs[k] = given

        handles = [
            self.model.blocks[k].register_forward_pre_hook(partial(note, k), with_kwargs=True)
            for k in range(max(0, self.first_block), self.n_layers)
        ]
        try:
            with hooked(self.model, self.hook_name, lambda value: found.append(value[0].flatten(1).clone())):
                clean_logits = last_logits(self.model, tokens)
        finally:
            for handle in handles:
                handle.remove()
        assert len(found) == 1, f"{self.hook_name} fired {len(found)} times in one forward pass, expected once"
        return residuals.get(self.first_block, found[0]), found[0], clean_logits


def place(hook_name: str) -> tuple[int, bool]:
    """(first block to run, is the hook inside it?); (-1, False) for a hook outside the blocks."""
    match = re.fullmatch(r"blocks\.(\d+)\.(.+)", hook_name)
    if match is None:
        return -1, False
    layer, point = int(match[1]), match[2]
    if point in ("hook_resid_post", "hook_out"):
        return layer + 1, False
    return layer, point not in ("hook_resid_pre", "hook_in")


def from_position(name: str, value: Any, start: int) -> Any:
    """A block's keyword argument for the positions from `start` on. Axes of size 1 are for all positions."""
    if isinstance(value, tuple):
        return tuple(from_position(name, part, start) for part in value)
    if start == 0 or not isinstance(value, Tensor):
        return value
    axis = POS_AXIS[name]
    return value if value.shape[axis] == 1 else value.narrow(axis, start, value.shape[axis] - start)


def _capped(logits: Tensor, cap: float) -> Tensor:
    """Gemma-2's soft cap; TransformerLens writes −1 for none."""
    return cap * torch.tanh(logits / cap) if cap > 0 else logits


class _Cache:
    """Stands where a block expects its KV cache: gets the new keys and values, gives those to attend to."""

    def __init__(self, update: Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]):
        self._update = update

    def update(self, k: Tensor, v: Tensor, layer_idx: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        return self._update(k, v, layer_idx)


class _KeysKnown(Exception):
    """Leaves a block as soon as its keys and values are there."""
