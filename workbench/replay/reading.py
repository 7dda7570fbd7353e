"""From the last residual stream to logits, only those that are needed.

    logits = cap · tanh(scale · (ln_final(y) @ W_U + b_U) / cap)          the needed columns of W_U, and its mean

scale is measured on the clean run (Cohere, Granite and Falcon-H1 multiply their logits), cap is Gemma 2's. Where a model does
something else (a projection, a dense layer), its own code turns y into all logits: its blocks are passed by, the last one gives y.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.model.callers import alone, put
from workbench.model.hooks import last_logits
from workbench.model.memory import objection
from workbench.replay.precision import wide
from workbench.shapes import LastLogits, Tokens

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

LastResidual = Float[Tensor, "n_rows d_model"]
FEW = 4  # columns: MKL rounds a product with so few otherwise from row to row, and an edit that changes nothing would change the last bit


@dataclass(frozen=True)
class Columns:
    """Which logits to compute: those of a few tokens (None: of all), then (has_mean) the mean over the vocabulary."""

    tokens: tuple[int, ...] | None
    has_mean: bool = False

    @property
    def chosen(self) -> slice | list[int]:
        """What to index the vocabulary with; all of it is not copied."""
        return slice(None) if self.tokens is None else list(self.tokens)

    def of(self, logits: LastLogits) -> Float[Tensor, "batch n_columns"]:
        """The same from all logits, in float32 at least."""
        logits = wide(logits)
        some = logits[:, self.chosen]
        return torch.cat([some, logits.mean(-1, keepdim=True)], dim=1) if self.has_mean else some


class Reading:
    """Logits of the last position from what leaves the last block there, `y` (row, d_model). tokens, logits: the clean run's."""

    def __init__(self, model: "TransformerBridge", tokens: Tokens, logits: LastLogits):
        self.model, self._tokens, self._logits = model, tokens, logits
        self.scale, self.is_own = 1.0, False

    def __call__(self, y: LastResidual, columns: Columns) -> Float[Tensor, "n_rows n_columns"]:
        """In float32 at least."""
        return columns.of(self._by_the_model(y)) if self.is_own else self._by_columns(y, columns)

    def logits(self, y: LastResidual) -> LastLogits:
        """All of them, in float32 at least."""
        if self.is_own:
            logits = self._by_the_model(y)
            return wide(logits)
        return _capped(
            self.scale * self._linear(self._normed(y), self.model.unembed.W_U.T, self._bias), self.model.cfg.output_logits_soft_cap
        )

    def measure(self, clean: LastResidual) -> None:
        """Find out how this model reads, from what leaves its last block in the clean run."""
        expected = self._logits.double()
        cap = self.model.cfg.output_logits_soft_cap
        linear = cap * torch.atanh((expected / cap).clamp(-1 + 1e-9, 1 - 1e-9)) if cap > 0 else expected
        try:
            ours = self._linear(self._normed(clean), self.model.unembed.W_U.T, self._bias).double()
            scale = float((ours * linear).sum() / ours.square().sum())
            self.scale = 1.0 if abs(scale - 1) < 1e-3 else scale
            found = _capped(self.scale * ours, cap)
            self.is_own = bool((found - expected).abs().max() > 1e-3 * expected.abs().max())
        except (RuntimeError, AttributeError) as error:  # no such parts, or of other widths
            objection("logits by columns", error)
            self.is_own = True

    def _by_columns(self, y: LastResidual, columns: Columns) -> Tensor:
        h, cap = self._normed(y), self.model.cfg.output_logits_soft_cap
        weight, bias = self.model.unembed.W_U.T, self._bias
        if cap > 0 and columns.has_mean:  # the mean of capped logits needs them all
            return torch.cat([columns.of(_capped(self.scale * self._linear(rows, weight, bias), cap)) for rows in h.split(64)])
        some = columns.chosen
        weight, bias = weight[some].to(h.dtype), bias[some].to(h.dtype)
        if columns.has_mean:
            weight, bias = (
                torch.cat([weight, self._mean_weight.to(h.dtype)]),
                torch.cat([bias, self._bias.to(h.dtype).mean(0, keepdim=True)]),
            )
        if len(weight) <= FEW:  # rows that are the same have the same logits
            return _capped(self.scale * (torch.stack([(h * column).sum(-1) for column in weight], dim=1) + bias), cap)
        return _capped(self.scale * (h @ weight.T + bias), cap)

    def _normed(self, y: LastResidual) -> LastResidual:
        h = self.model.ln_final(y[:, None])[:, 0]
        return wide(h)

    @staticmethod
    def _linear(h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return h @ weight.T.to(h.dtype) + bias.to(h.dtype)

    @cached_property
    def _mean_weight(self) -> Float[Tensor, "1 d_model"]:
        weight = self.model.unembed.W_U.T
        return weight.mean(0, keepdim=True, dtype=torch.promote_types(weight.dtype, torch.float32))

    @cached_property
    def _bias(self) -> Float[Tensor, "d_vocab"]:
        bias = getattr(self.model.unembed.original_component, "bias", None)
        return self.model.unembed.W_U.new_zeros(self.model.cfg.d_vocab) if bias is None else bias

    def _by_the_model(self, y: LastResidual) -> LastLogits:
        with alone(self.model), self._blocks_give(y[:, None]):
            return last_logits(self.model, self._tokens[:1, -1:].expand(len(y), -1))

    @contextmanager
    def _blocks_give(self, y: Tensor) -> Iterator[None]:
        """Inside, every block passes on what it gets, in the shape in which blocks do, and the last one gives y."""
        blocks, wrap = list(self.model.blocks), self._wrap

        def passing(block: Any) -> Any:
            def forward(*args: Any, **kwargs: Any) -> Any:
                stream = y if block is blocks[-1] else args[0] if args else kwargs["hidden_states"]
                kind, n_others = wrap.get(block, (None, 0))
                return stream if kind is None else kind([stream, *[None] * n_others])

            return forward

        try:
            for block in blocks:
                object.__setattr__(block, "forward", passing(block))
            yield
        finally:
            try:
                _forget(blocks)
            finally:  # an interrupt in the middle of the first
                _forget(blocks)

    @cached_property
    def _wrap(self) -> dict[Any, tuple[type, int]]:
        """Of the blocks that give a tuple or, as the first GPT's, a list: which of the two, and how much there is beside the stream."""
        found: dict[Any, tuple[type, int]] = {}

        def note(block: Any, args: Any, output: Any) -> None:
            if isinstance(output, tuple | list):
                found[block] = type(output), len(output) - 1

        with put(*((block.register_forward_hook, note, {}) for block in self.model.blocks)):
            last_logits(self.model, self._tokens[:, -1:])
        return found


def _forget(blocks: list[Any]) -> None:
    for block in blocks:
        vars(block).pop("forward", None)


def _capped(logits: Tensor, cap: float) -> Tensor:
    """Gemma 2's soft cap; TransformerLens writes −1 for none."""
    return cap * torch.tanh(logits / cap) if cap > 0 else logits
