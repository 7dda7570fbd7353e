"""Text → tokens → the model's activations at hook points → shuffled batches, ready to train SAEs on.

Start tokens and padding are left out: the model parks large, meaningless activations there. A buffer is filled, shuffled and dealt out
in batches. The scalar by which training normalizes, E‖scale · x‖² = d_in (Scaling Monosemanticity, "Sparse autoencoders"), is estimated
on the first buffer and never changes. The same texts and seed give the same batches, and `position` / `seek` go on in the middle.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.activations.rows import Position, Rows, as_batch, like_length, padded
from workbench.activations.texts import Source, read_texts
from workbench.given import counted, whole
from workbench.model.head import Found, Head, through_bridge
from workbench.model.hooks import check_hook_name
from workbench.model.start import start_token
from workbench.model.tokens import unknown_note
from workbench.shapes import Activations, Tokens

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

__all__ = ["ActivationStream", "ActivationStreams", "harvest", "harvest_many", "padded"]
N_TOKENS = {"cpu": 2048, "cuda": 65_536}  # in a forward pass: more only needs more memory


def harvest(model: "TransformerBridge", tokens: Tokens, hook_name: str) -> Activations:
    """Activations (batch, pos, d_in) at the hook point, as the bridge computes them; the blocks after it do not run."""
    return harvest_many(model, tokens, [hook_name])[hook_name]


@torch.no_grad()
def harvest_many(model: "TransformerBridge", tokens: Tokens, hook_names: Sequence[str]) -> Found:
    """The same at several hook points in one pass."""
    return through_bridge(model, tokens, hook_names)


class ActivationStreams:
    """Iterating yields {hook_name: raw activations (batch, d_in) in float32}, of the same tokens at every hook point, while there is text.

    texts      whatever `texts.read_texts` reads: strings, a file, a folder, rows of a data set
    batch      tokens in a batch
    buffer     tokens shuffled together; held in memory in the model's dtype: buffer · d_in numbers for each hook point
    seed       of the shuffle; the same texts and seed give the same batches
    context    None: a document a row, which sees itself only. A number: packed rows of so many tokens (rows.py says what differs)

    `scale` and `d_in` are by hook name. start_token: what leads every row, "" for nothing. note: a line where many tokens are unknown.
    Raises ValueError for text shorter than a batch.
    """

    def __init__(
        self,
        model: "TransformerBridge",
        texts: Source,
        hook_names: Sequence[str],
        batch: int = 2048,
        buffer: int = 2**18,
        seed: int = 0,
        context: int | None = None,
    ):
        for hook_name in hook_names:
            check_hook_name(model, hook_name)
        batch, buffer = counted(batch, "batch", "token"), counted(buffer, "buffer", "token")
        context = None if context is None else counted(context, "context", "token")
        if whole(seed) is None:
            raise ValueError(f"seed={seed!r}: expected a whole number")
        self.model, self.hook_names, self.model_name = model, tuple(hook_names), str(model.cfg.model_name)
        self.batch, self.seed, self.n_buffer = batch, int(seed), max(1, buffer // batch) * batch
        self._head = Head(model, hook_names)
        self._rows = Rows(model, read_texts(texts), context)
        self._buffers: dict[str, Tensor] = {}
        self._n_buffers = self._n_dealt = self._n_held = 0  # buffers dealt before this one; its batches dealt; its tokens
        self._began, self.start_token = self._rows.at, start_token(model).text
        self._fill()
        self.note = unknown_note(self._rows.n_unknown, self._rows.n_read, "the texts so far")
        if self._n_held < batch:
            raise ValueError(
                f"the texts hold {self._n_held:,} tokens, fewer than one batch of {batch:,}; give more text or a smaller batch"
            )
        self.d_in = {name: held.shape[1] for name, held in self._buffers.items()}
        self.scale = {name: math.sqrt(self.d_in[name] / _mean_square(held[: self._n_held])) for name, held in self._buffers.items()}

    def __iter__(self) -> Iterator[dict[str, Float[Tensor, "batch _"]]]:
        while self._n_held >= self.batch:
            order = self._order()
            while (self._n_dealt + 1) * self.batch <= self._n_held:
                some = order[self._n_dealt * self.batch :][: self.batch]
                self._n_dealt += 1
                yield {name: held[some].float() for name, held in self._buffers.items()}
            self._n_buffers, self._n_dealt = self._n_buffers + 1, 0
            self._fill()

    def position(self) -> dict[str, int]:
        """Where the stream is, in a form that fits in a checkpoint."""
        return {"n_buffers": self._n_buffers, "n_dealt": self._n_dealt, **self._began._asdict(), **self._settings()}

    def seek(self, position: Mapping[str, int]) -> None:
        """Make a fresh stream over the same texts go on at a `position` with the same batches, to the bit. Raises ValueError where its
        settings or texts are others."""
        others = [
            f"{name} {position.get(name)} there, {mine} here" for name, mine in self._settings().items() if position.get(name) != mine
        ]
        if others:
            raise ValueError(f"this position is of another stream: {', '.join(others)}")
        began = self._checked(position)
        if began != self._began:
            self._rows.skip_to(began)
            self._fill()
        if position["n_dealt"] * self.batch > self._n_held:
            raise ValueError(f"a buffer here deals {self._n_held // self.batch:,} batches, that position is after {position['n_dealt']:,}")
        self._n_buffers, self._n_dealt = position["n_buffers"], position["n_dealt"]

    def _checked(self, position: Mapping[str, int]) -> Position:
        """Where its buffer began. Raises ValueError for what no stream gave, before any text is read."""
        numbers = {name: position.get(name) for name in ("n_buffers", "n_dealt", *Position._fields)}
        if bad := [f"{name} {value!r}" for name, value in numbers.items() if type(value) is not int or value < 0]:
            raise ValueError(f"this is no position of a stream: {', '.join(bad)}; expected whole numbers")
        began, n_buffers = Position(*(position[name] for name in Position._fields)), position["n_buffers"]
        most = 2 * n_buffers * (self.n_buffer + self._rows.length)  # a text has a token; doubled for those few that have none
        if began.n_texts > most or (n_buffers == 0) != (began == Position(0, 0, 0)):
            raise ValueError(
                f"this is no position of a stream: {n_buffers:,} buffers of {self.n_buffer:,} tokens do not hold {began.n_texts:,} texts"
            )
        if began != self._began and began[:2] < self._rows.at[:2]:
            raise ValueError("this stream is past that position: seek on a fresh stream over the same texts")
        return began

    def _settings(self) -> dict[str, int]:
        """What decides which tokens are in which batch, beside the texts."""
        return {"batch_size": self.batch, "buffer": self.n_buffer, "seed": self.seed, "context": self._rows.context or 0}

    def _order(self) -> Tensor:
        """Each buffer's own shuffle, so that none depends on those before it."""
        rng = torch.Generator().manual_seed(self.seed * 1_000_003 + self._n_buffers)
        held = next(iter(self._buffers.values()))
        return torch.randperm(self._n_held, generator=rng).to(held.device)

    @torch.inference_mode(False)  # else a buffer made in a cell of that mode could not be filled anew outside of it
    def _fill(self) -> None:
        """Rows until they hold a buffer of tokens, harvested in order of length (little padding), in place of the buffer before."""
        self._began, rows, n_tokens = self._rows.at, [], 0
        for row in self._rows:
            rows.append(row)
            n_tokens += row.n_text
            if n_tokens >= self.n_buffer:
                break
        self._n_held = 0
        for some in like_length(rows, N_TOKENS.get(torch.device(str(self.model.cfg.device)).type, 2048)):
            tokens, is_text = as_batch(self.model, some)
            found = self._head(tokens)
            n_new = int(is_text.sum())
            for name, x in found.items():
                if name not in self._buffers:
                    self._buffers[name] = x.new_empty(min(n_tokens, self.n_buffer) + self._rows.length, x.shape[-1])
                self._buffers[name][self._n_held : self._n_held + n_new] = x[is_text]
            self._n_held += n_new


class ActivationStream:
    """The same at one hook point: iterating yields raw activations (batch, d_in); `scale` and `d_in` are numbers. See ActivationStreams."""

    def __init__(
        self,
        model: "TransformerBridge",
        texts: Source,
        hook_name: str,
        batch: int = 2048,
        buffer: int = 2**18,
        seed: int = 0,
        context: int | None = None,
    ):
        self._streams = ActivationStreams(model, texts, [hook_name], batch, buffer, seed, context)
        self.hook_name, self.model_name, self.batch = hook_name, self._streams.model_name, self._streams.batch
        self.d_in, self.scale = self._streams.d_in[hook_name], self._streams.scale[hook_name]
        self.start_token, self.note = self._streams.start_token, self._streams.note

    def __iter__(self) -> Iterator[Activations]:
        return (batch[self.hook_name] for batch in self._streams)

    def position(self) -> dict[str, int]:
        """Where the stream is, in a form that fits in a checkpoint."""
        return self._streams.position()

    def seek(self, position: Mapping[str, int]) -> None:
        """Make a fresh stream over the same texts go on at a `position` with the same batches, to the bit."""
        self._streams.seek(position)


def _mean_square(x: Activations) -> float:
    """E‖x‖² in float64, without a float64 copy of all of x."""
    return sum(part.double().square().sum().item() for part in x.split(8192)) / len(x)
