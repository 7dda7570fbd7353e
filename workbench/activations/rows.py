"""Texts → rows of tokens for a model, each led by its start token; and which tokens are the texts' own.

    a document a row   ["the cat", "a dog ran"] → [start the cat] [start a dog ran]; a long one goes on in the next row
    packed             the same in rows of `context` tokens, documents end to end: [start the cat start a] [start dog ran]

A document a row is what a prompt looks like to the model: it sees itself only. In packed rows a document also sees those before it in
its row (causal attention, no mask between them), which changes its activations; every row is full, which suits long texts.
"""

import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import torch

from workbench.model.start import start_token
from workbench.model.tokens import n_unknown, text_ids, unknown_note
from workbench.shapes import TokenMask, Tokens

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

LONGEST_ROW = 1024  # tokens of a document in one row; attention to more takes memory that grows with the square
N_AHEAD = 256  # texts that are tokenized together


class Row(list[int]):
    """Token ids, and where start tokens stand among them: the same token inside of a text is the text's own."""

    def __init__(self, ids: Iterable[int], starts: Sequence[int]):
        super().__init__(ids)
        self.starts = tuple(starts)

    @property
    def n_text(self) -> int:
        """How many tokens are the texts' own."""
        return len(self) - len(self.starts)


def led(model: "TransformerBridge", ids: Sequence[int]) -> Row:
    """A text's own tokens, led by the start token."""
    start = start_token(model).ids
    return Row([*start, *ids], range(len(start)))


def padded(model: "TransformerBridge", texts: Sequence[str]) -> tuple[Tokens, TokenMask]:
    """Texts as rows of tokens, the start token first, padded with it on the right; and which tokens are the texts' own. Cut at n_ctx.
    Causal: padding changes nothing before it."""
    ids = text_ids(model, [str(text) for text in texts], model.cfg.n_ctx - len(start_token(model).ids))
    return as_batch(model, [led(model, row) for row in ids])


def as_batch(model: "TransformerBridge", rows: Sequence[Row]) -> tuple[Tokens, TokenMask]:
    """Rows padded on the right to one length; and which tokens are the texts' own: no start token, no padding."""
    start, width = start_token(model).ids, max(map(len, rows))
    fill = start[0] if start else 0
    tokens = torch.tensor([list(row) + [fill] * (width - len(row)) for row in rows], device=model.cfg.device)
    is_text = torch.arange(width, device=tokens.device) < torch.tensor([len(row) for row in rows], device=tokens.device)[:, None]
    if starts := [(i, pos) for i, row in enumerate(rows) for pos in row.starts]:
        is_text[tuple(torch.tensor(starts, device=tokens.device).T)] = False
    return tokens, is_text


class Position(NamedTuple):
    """How far a source of texts was read."""

    n_texts: int  # whole texts
    n_tokens: int  # tokens of the next
    check: int  # CRC-32 of the whole texts: another source is noticed


class Rows:
    """Rows of token ids, one after the other, from a stream of texts that is tokenized as it is read.

    context: None for a document a row; a number for packed rows of so many tokens.
    """

    def __init__(self, model: "TransformerBridge", texts: Iterable[str], context: int | None = None):
        n_ctx = model.cfg.n_ctx
        if context is not None and not 2 <= context <= n_ctx:
            raise ValueError(f"context={context}: a packed row has 2 to {n_ctx} tokens for this model, start token included")
        self.model, self.context, self._start = model, context, list(start_token(model).ids)
        self.length = context or min(n_ctx, LONGEST_ROW)
        self.at = Position(0, 0, 0)
        self._texts = iter(texts)
        self.n_read = self.n_unknown = 0  # tokens made of texts so far; those of them that stand for something the vocabulary lacks
        self._ahead: deque[tuple[str, list[int]]] = deque()  # texts that are tokenized and not used up

    def __iter__(self) -> Iterator[Row]:
        while row := self._packed() if self.context else self._document():
            yield row

    def skip_to(self, position: Position) -> None:
        """Read on, without tokenizing, to where another reader of the same texts was. Raises ValueError where they are not the same."""
        assert position[:2] >= self.at[:2], f"{self.at} is past {position}"
        while self.at.n_texts < position.n_texts:
            if (text := self._ahead.popleft()[0] if self._ahead else next(self._texts, None)) is None:
                raise ValueError(f"the texts end after {self.at.n_texts:,}, but {position.n_texts:,} had been read: these are other texts")
            self._count(text)
        if self.at.check != position.check:
            raise ValueError(f"the first {position.n_texts:,} texts are not those that were read before: these are other texts")
        if position.n_tokens and not ((self._ahead or self._read()) and position.n_tokens < len(self._ahead[0][1])):
            raise ValueError(f"text {position.n_texts:,} has no token {position.n_tokens:,}, where reading stopped: these are other texts")
        self.at = position

    def _document(self) -> Row:
        part = self._take(self.length - len(self._start))
        return led(self.model, part) if part else Row([], [])

    def _packed(self) -> Row:
        row, starts = [], []
        while len(row) + len(self._start) < self.length and (part := self._take(self.length - len(row) - len(self._start))):
            starts += range(len(row), len(row) + len(self._start))
            row += [*self._start, *part]
        return Row(row, starts)

    def _take(self, n: int) -> list[int]:
        """Up to n tokens of the text at hand; none when all texts are read."""
        while self._ahead or self._read():
            text, ids = self._ahead[0]
            first = self.at.n_tokens
            part = ids[first : first + n]
            self.at = self.at._replace(n_tokens=first + len(part))
            if first + len(part) >= len(ids):
                self._ahead.popleft()
                self._count(text)
            if part:
                return part
        return []

    def _count(self, text: str) -> None:
        check = zlib.crc32(text.encode("utf-8", "surrogatepass") + b"\0", self.at.check)
        self.at = Position(self.at.n_texts + 1, 0, check)

    def _read(self) -> bool:
        texts = [str(text) for text in islice(self._texts, N_AHEAD)]
        ids = text_ids(self.model, texts)
        self.n_read += sum(map(len, ids))
        self.n_unknown += n_unknown(self.model, texts, ids)
        unknown_note(self.n_unknown, self.n_read, "the texts")  # raises where nothing else has come yet
        self._ahead.extend(zip(texts, ids, strict=True))
        return bool(texts)


def like_length(rows: Iterable[Row], n_tokens: int) -> Iterator[list[Row]]:
    """The rows, shortest first, in groups that hold at most n_tokens when padded (one row at least)."""
    rows = list(rows)
    return ([rows[i] for i in some] for some in batches([len(row) for row in rows], n_tokens))


def batches(lengths: Sequence[int], n_tokens: int) -> list[list[int]]:
    """The same groups as indices, for rows of these lengths."""
    groups: list[list[int]] = [[]]
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        if groups[-1] and (len(groups[-1]) + 1) * lengths[i] > n_tokens:
            groups.append([])
        groups[-1].append(i)
    return groups if groups[0] else []
