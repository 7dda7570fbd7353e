"""Finish a forward pass from a hook point on, for many perturbed rows at once. Exact: the engine under circuits/.

Row r is the clean prompt with the activation at position pos[r] replaced by x[r]. Three ways to its last logits, each equal to the one before:

    forward   the whole model, hooked, on copies of the prompt                              always right
    blocks    only what comes after the hook:  for k ≥ layer: y = blocks[k](y, **kwargs[k])  then ln_final, unembed at the last position
    prefix    the same for positions ≥ the perturbed one: earlier ones are clean, so their keys and values are the clean run's;
              in the last block queries and MLP for the last position only

`blocks` and `prefix` know nothing of the architecture: each block's keyword arguments are those of the clean run, and the clean keys and
values enter where the model expects its KV cache. Whether a way applies to this model is measured once, on one perturbed row.
"""

import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.model import check_hook_name, last_logits, unembedding
from workbench.shapes import RowIndex, Tokens

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

WAYS = ("forward", "blocks", "prefix")
CPU_TOKENS = 2048  # per batch: larger ones leave the cache and gain nothing
CALL_SECONDS, FLOPS = 1e-3, {"cpu": 2e11, "cuda": 3e14}  # one block call of Python, and what the device could do meanwhile

# Which axis of a block's keyword arguments counts the positions it computes.
POS_AXIS = {"attention_mask": -2, "position_embeddings": -2, "position_ids": -1, "cache_position": -1}
CACHE_NAMES = ("past_key_values", "layer_past", "past_key_value")


@dataclass(frozen=True)
class Columns:
    """Which logits to compute: those of a few tokens, then (has_mean) the mean over the vocabulary."""

    tokens: tuple[int, ...]
    has_mean: bool = False


class Replay:
    """The clean run of one prompt, and the rest of the model as a function of what stands at a hook point.

    way: how rows are finished, the fastest that applies here; why_not: what keeps the next faster one out ("" if nothing does).
    clean (pos, d_in): the activation at the hook point. clean_logits (1, d_vocab): the model's own, at the last position.
    """

    @torch.no_grad()
    def __init__(self, model: "TransformerBridge", hook_name: str, tokens: Tokens, way: str = WAYS[-1]):
        check_hook_name(model, hook_name)
        assert tokens.shape[0] == 1, f"one prompt at a time, got {tokens.shape[0]}"
        assert way in WAYS, f"{way!r} is none of {WAYS}"
        self.model, self.tokens, self.n_pos = model, tokens, tokens.shape[1]
        self.hook_name = model.hook_dict[hook_name].name or hook_name  # one name per hook point: aliases would fire twice
        self.first_block, self.is_inner = _place(hook_name)
        self.unembedding = unembedding(model)
        self.block_kwargs: dict[int, dict[str, Any]] = {}
        self.keys_values: dict[int, tuple[Tensor, Tensor]] = {}
        self.residual, self.clean, self.clean_logits = self._run_clean()
        self.way, self.why_not = "forward", self._why_no_tail()
        for faster in WAYS[1 : WAYS.index(way) + 1]:
            self.why_not = self.why_not or self._why_not(faster)
            self.way = self.way if self.why_not else faster

    def batches(self, pos: RowIndex) -> Iterator[RowIndex]:
        """Rows in groups for `logits`: by position, so that a group shares its clean prefix, and as many as memory takes well."""
        overhead = CALL_SECONDS * FLOPS.get(pos.device.type, 1e14) / (24 * self.model.cfg.d_model**2)  # tokens a block computes meanwhile
        group: list[Tensor] = []
        start = 0
        for position in pos.unique().tolist():
            rows = (pos == position).nonzero()[:, 0]
            if group and self.way == "prefix" and len(rows) * (position - start) > overhead:
                yield from torch.cat(group).split(self._n_rows(start))
                group = []
            start = start if group else position
            group.append(rows)
        if group:
            yield from torch.cat(group).split(self._n_rows(start))

    def _n_rows(self, start: int) -> int:
        """How many rows from position `start` on make a good batch."""
        n_tokens = CPU_TOKENS
        if self.clean.is_cuda:
            cfg = self.model.cfg
            floats = 6 * (cfg.d_mlp or 4 * cfg.d_model) + 12 * cfg.d_model + 4 * cfg.n_heads * self.n_pos  # alive at once, per token
            n_tokens = torch.cuda.mem_get_info()[0] // (2 * 4 * floats)
        return max(1, n_tokens // (self.n_pos - start if self.way == "prefix" else self.n_pos))

    @torch.no_grad()
    def logits(self, pos: RowIndex, x: Float[Tensor, "n_rows d_in"], columns: Columns) -> Float[Tensor, "n_rows n_columns"]:
        """The last logits of the prompt with the activation at pos[r] replaced by x[r], one row each. Halves the batch if memory is short."""
        try:
            return self._finish(self.way, pos, x, columns)
        except (torch.OutOfMemoryError, MemoryError) as error:
            if len(pos) == 1:
                raise
            out_of_memory = error  # leave the handler first: its traceback keeps the failed batch alive
        del out_of_memory
        half = len(pos) // 2
        return torch.cat([self.logits(pos[:half], x[:half], columns), self.logits(pos[half:], x[half:], columns)])

    def _finish(self, way: str, pos: RowIndex, x: Tensor, columns: Columns) -> Tensor:
        if way == "forward":
            with self.model.hooks(fwd_hooks=[(self.hook_name, _put(pos, x))]):
                return _columns(last_logits(self.model, self.tokens.expand(len(pos), -1)), columns)
        return self._read(self._by_blocks(pos, x) if way == "blocks" else self._by_prefix(pos, x), columns)

    def _by_blocks(self, pos: RowIndex, x: Tensor) -> Tensor:
        y = self._enter(pos, x, start=0)
        for k in range(self.first_block + self.is_inner, self.model.cfg.n_layers):
            y = self._block(k, y, start=0)
        return y[:, -1]

    def _by_prefix(self, pos: RowIndex, x: Tensor) -> Tensor:
        start, last, final_block = int(pos.min()), self.n_pos - 1, self.model.cfg.n_layers - 1
        prefixed = _Cache(lambda k, v, layer: self._after_prefix(k, v, layer, start))
        y = self._enter(pos, x, start, prefixed)
        first_whole = self.first_block + self.is_inner
        for k in range(first_whole, final_block):
            y = self._block(k, y, start, prefixed)
        if first_whole <= final_block:  # only the last query matters: stop once keys and values are known, then run that position alone
            seen: list[tuple[Tensor, Tensor]] = []

            def stop(k: Tensor, v: Tensor, layer: int):
                seen.append(self._after_prefix(k, v, layer, start))
                raise _KeysKnown

            with suppress(_KeysKnown):
                self._block(final_block, y, start, _Cache(stop))
            y = self._block(final_block, y[:, -1:], last, _Cache(lambda k, v, layer: seen[0]))
        return y[:, -1]

    def _after_prefix(self, k: Tensor, v: Tensor, layer: int, start: int) -> tuple[Tensor, Tensor]:
        """A batch's keys and values (batch, head, pos ≥ start, d_head), led by the clean run's."""
        clean_k, clean_v = (clean[:, :, :start].expand(len(k), -1, -1, -1) for clean in self.keys_values[layer])
        return torch.cat([clean_k, k], dim=2), torch.cat([clean_v, v], dim=2)

    def _enter(self, pos: RowIndex, x: Tensor, start: int, cache: "_Cache | None" = None) -> Tensor:
        """The residual stream from `start` on, perturbed, where whole blocks begin: (batch, pos ≥ start, d_model)."""
        y = self.residual[start:].expand(len(pos), -1, -1)
        put = _put(pos - start, x)
        if not self.is_inner:
            return put(y)
        with self.model.hooks(fwd_hooks=[(self.hook_name, put)]):
            return self._block(self.first_block, y, start, cache)

    def _block(self, k: int, y: Tensor, start: int, cache: "_Cache | None" = None) -> Tensor:
        """Block k on positions start, start + 1, … with the clean run's own keyword arguments."""
        kwargs = {name: _from_position(name, value, start) for name, value in self.block_kwargs[k].items() if name not in CACHE_NAMES}
        if cache is not None:
            kwargs |= {name: cache for name in CACHE_NAMES if name in self.block_kwargs[k]}
        y = self.model.blocks[k](y, **kwargs)
        return y[0] if isinstance(y, tuple) else y

    def _read(self, y: Float[Tensor, "n_rows d_model"], columns: Columns) -> Tensor:
        """ln_final and the needed columns of the unembedding, in float32 at least."""
        h = self.model.ln_final(y[:, None])[:, 0]
        h = h.to(torch.promote_types(h.dtype, torch.float32))
        weight, bias, cap = self.unembedding.weight.to(h.dtype), self.unembedding.bias.to(h.dtype), self.unembedding.softcap
        if columns.has_mean and cap is not None:  # the mean of capped logits needs them all
            return torch.cat([_columns(_softcap(rows @ weight.T + bias, cap), columns) for rows in h.split(64)])
        tokens = list(columns.tokens)
        weight, bias = (torch.cat([w[tokens], w.mean(0, keepdim=True)]) if columns.has_mean else w[tokens] for w in (weight, bias))
        return _softcap(h @ weight.T + bias, cap)

    def _run_clean(self) -> tuple[Tensor, Tensor, Tensor]:
        """One forward pass that notes what the rest of the model needs: (residual, activation at the hook, last logits)."""
        residuals: dict[int, Tensor] = {}
        found: list[Tensor] = []

        def note(k: int, args: tuple, kwargs: dict[str, Any]) -> None:
            names = inspect.signature(self.model.blocks[k].original_component.forward).parameters
            given = dict.fromkeys(set(CACHE_NAMES) & set(names)) | dict(zip(names, args, strict=False)) | kwargs
            residuals[k] = given.pop(next(iter(names)))[0]
            self.block_kwargs[k] = given

        handles = [
            block.register_forward_pre_hook(lambda _, args, kwargs, k=k: note(k, args, kwargs), with_kwargs=True)
            for k, block in enumerate(self.model.blocks)
            if self.first_block <= k
        ]
        try:
            with self.model.hooks(fwd_hooks=[(self.hook_name, lambda value, hook: found.append(value[0].flatten(1).clone()))]):
                clean_logits = last_logits(self.model, self.tokens)
        finally:
            for handle in handles:
                handle.remove()
        assert found, f"{self.hook_name} did not fire"
        return residuals.get(self.first_block, found[0]), found[0], clean_logits

    def _why_no_tail(self) -> str:
        """Why blocks cannot be run apart from the model, before trying: the hook stands outside them, or someone's hooks must be kept."""
        if self.first_block < 0:
            return f"{self.hook_name} is not inside a block"
        hooked = sorted(name for name, point in self.model.hook_dict.items() if point.has_hooks())
        return f"other hooks are installed at {', '.join(hooked)}" if hooked else ""

    def _why_not(self, way: str) -> str:
        """ "" if this way agrees with whole forward passes on one strongly perturbed row, else how it failed."""
        pos = torch.tensor([self.n_pos // 2], device=self.clean.device)
        x = self.clean[pos].flip(-1)
        columns = Columns((0, self.unembedding.weight.shape[0] - 1), has_mean=True)
        try:
            if way == "prefix":
                self._note_keys_values()
            got = self._finish(way, pos, x, columns)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever an unknown architecture objects to: the slower way is right for it
            return f"{way}: {type(error).__name__}: {error}"
        expected, clean = self._finish("forward", pos, x, columns), _columns(self.clean_logits, columns)
        noise = 4 * self.model.cfg.n_layers**0.5 * torch.finfo(self.clean.dtype).eps
        limit = 1e-3 * (expected - clean).abs().max() + noise * expected.abs().max()
        difference = (got - expected).abs().max()
        return "" if difference <= limit else f"{way}: logits differ by {difference:.2g}"

    def _note_keys_values(self) -> None:
        """The clean run's keys and values in every block after the hook."""

        def note(k: Tensor, v: Tensor, layer: int):
            self.keys_values[layer] = k, v
            return k, v

        y = self.residual[None]
        for k in range(self.first_block, self.model.cfg.n_layers):
            assert set(CACHE_NAMES) & set(self.block_kwargs[k]), f"block {k} takes no KV cache"
            y = self._block(k, y, 0, _Cache(note))
        n_noted, n_blocks = len(self.keys_values), self.model.cfg.n_layers - self.first_block
        assert n_noted == n_blocks, f"{n_noted} of {n_blocks} blocks showed their keys and values"


class _Cache:
    """Stands where a block expects its KV cache: gets the new keys and values, gives those to attend to."""

    def __init__(self, update: Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]):
        self._update = update

    def update(self, k: Tensor, v: Tensor, layer_idx: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        return self._update(k, v, layer_idx)


class _KeysKnown(Exception):
    """Leaves a block as soon as its keys and values are there."""


def _place(hook_name: str) -> tuple[int, bool]:
    """(first block to run, is the hook inside it?). (-1, False): not in a block."""
    match = re.fullmatch(r"blocks\.(\d+)\.(.+)", hook_name)
    if match is None:
        return -1, False
    layer, point = int(match[1]), match[2]
    if point in ("hook_resid_post", "hook_out"):
        return layer + 1, False
    return layer, point not in ("hook_resid_pre", "hook_in")


def _put(pos: RowIndex, x: Tensor) -> Callable[..., Tensor]:
    """A hook function: row r of the activation (batch, pos, …) gets x[r] at pos[r]."""

    def put(value: Tensor, hook: Any = None) -> Tensor:
        value = value.clone()
        value[torch.arange(len(pos), device=value.device), pos] = x.to(value.dtype).view(len(pos), *value.shape[2:])
        return value

    return put


def _from_position(name: str, value: Any, start: int) -> Any:
    """A block's keyword argument for the positions from `start` on."""
    if isinstance(value, tuple):
        return tuple(_from_position(name, part, start) for part in value)
    if start == 0 or not isinstance(value, Tensor) or (name == "attention_mask" and value.ndim < 4):
        return value
    axis = POS_AXIS[name]
    return value.narrow(axis, start, value.shape[axis] - start)


def _softcap(logits: Tensor, cap: float | None) -> Tensor:
    return logits if cap is None else cap * torch.tanh(logits / cap)


def _columns(logits: Float[Tensor, "n_rows d_vocab"], columns: Columns) -> Float[Tensor, "n_rows n_columns"]:
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    some = logits[:, list(columns.tokens)]
    return torch.cat([some, logits.mean(-1, keepdim=True)], dim=1) if columns.has_mean else some
