"""What is checked: a model, an SAE on it, and a text of the model's own kind.

The text is what the person gives; else, of the atlas, its own, and of any other model a small English one. Where the model predicts that
no better than by guessing, it is untrained or not of English (amino acids, music, another language), and a text is drawn from the model
itself: it says nothing of how well the model does, but what is measured at its activations is measured where the model lives.
"""

import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy

from workbench.checks.neutral import PARAGRAPHS
from workbench.model.hooks import last_logits
from workbench.model.points import probe_tokens, unwatched
from workbench.model.start import n_embedded, start_token
from workbench.model.tokens import n_unknown, text_ids
from workbench.sae.dictionary import Dictionary
from workbench.shapes import Tokens

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

N_TOKENS, N_POS = 2048, 128  # read of a text: in all, and in a row
N_CHARACTERS = 4 * N_POS  # of a text, as one piece
N_DRAWN, N_DRAWN_POS = 8, 40  # rows drawn from the model, and how long each is
N_LOGITS = 2**25  # at once: 128 MB
YOURS, ENGLISH, ATLAS, DRAWN = "your texts", "a small English text", "the atlas's own texts", "text drawn from the model itself"


@dataclass(frozen=True)
class Text:
    """Texts, and the tokens of each that are read, without a start token."""

    what: str  # one of the four above
    texts: tuple[str, ...]
    rows: tuple[tuple[int, ...], ...]

    @property
    def n_tokens(self) -> int:
        """In all rows."""
        return sum(map(len, self.rows))


@dataclass(frozen=True)
class Subject:
    """What every check is given."""

    model: "TransformerBridge"
    sae: Dictionary | None  # where one was given that fits the model
    asked: Text  # given, or chosen for want of one
    text: Text  # what is measured on: `asked`, or drawn from the model
    loss: float  # of `asked`, nats a token, led by the model's start token; NaN where it has no two tokens in a row
    n_unknown: int  # tokens of `asked`
    hook_name: str  # where is looked: the SAE's, or in the middle of the model
    seconds: float  # to time for


def as_text(model: "TransformerBridge", what: str, texts: Sequence[str]) -> Text:
    """N_TOKENS tokens of texts, in rows of N_POS at most: every text's beginning first, then what follows there."""
    longest, rows, kept = min(N_POS, model.cfg.n_ctx - 1), [], []
    for piece in _pieces(texts):
        (ids,) = text_ids(model, [piece], longest)
        if ids:
            rows.append(tuple(ids))
            kept.append(piece)
        if sum(map(len, rows)) >= N_TOKENS:
            break
    return Text(what, tuple(kept), tuple(rows))


def _pieces(texts: Sequence[str]) -> Iterator[str]:
    cutter = textwrap.TextWrapper(N_CHARACTERS, expand_tabs=False, replace_whitespace=False, drop_whitespace=False)
    parts = [cutter.wrap(str(text)) for text in texts]
    return (piece for nth in zip_longest(*parts) for piece in nth if piece)


def subject(model: "TransformerBridge", sae: Dictionary | None, hook_name: str, given: Sequence[str] | None, seconds: float) -> Subject:
    """Choose the text, and read it."""
    is_atlas = str(model.cfg.model_name) == "atlas"
    if given is None and is_atlas:
        from workbench.atlas.corpus import texts

        given = texts(seed=1, n=200)
    what = ATLAS if is_atlas and given is not None else ENGLISH if given is None else YOURS
    asked = as_text(model, what, PARAGRAPHS if given is None else given)
    n, loss = n_unknown(model, asked.texts, asked.rows), mean_loss(model, asked.rows, start_token(model).ids)
    is_strange = n == asked.n_tokens or (what == ENGLISH and not loss < guessing(model))
    return Subject(model, sae, asked, drawn(model) if is_strange else asked, loss, n, hook_name, seconds)


def guessing(model: "TransformerBridge") -> float:
    """The loss of who takes every token for equally likely."""
    return math.log(n_embedded(model))


@torch.no_grad()
def mean_loss(model: "TransformerBridge", rows: Sequence[Sequence[int]], start: Sequence[int]) -> float:
    """Next-token loss, nats a token, of rows that begin with `start`. Scored are the same tokens for any start: from each row's second on.
    NaN where there are none."""
    total, n, room = 0.0, 0, model.cfg.n_ctx - len(start)
    at_once = max(1, max(256, N_LOGITS // model.cfg.d_vocab) // (N_POS + len(start)))
    rows = [row[:room] for row in rows if len(row) > 1]
    with unwatched(model):
        for some in (rows[i : i + at_once] for i in range(0, len(rows), at_once)):
            width = max(map(len, some))
            tokens = torch.tensor([[*start, *row, *[row[-1]] * (width - len(row))] for row in some], device=model.cfg.device)
            ends = torch.tensor([len(row) for row in some], device=tokens.device)
            logits, wanted = model(tokens)[:, len(start) : -1], tokens[:, len(start) + 1 :]
            is_scored = torch.arange(1, width, device=tokens.device) < ends[:, None]
            total += cross_entropy(logits[is_scored].float(), wanted[is_scored], reduction="none").double().sum().item()
            n += int(is_scored.sum())
    return total / n if n else math.nan


@torch.no_grad()
def drawn(model: "TransformerBridge") -> Text:
    """Rows that the model writes, at temperature 1, after its start token; where it has none, after any token."""
    generator, start = torch.Generator().manual_seed(0), list(start_token(model).ids)
    plain = probe_tokens(model).unique().tolist()
    tokens: Tokens = torch.tensor([start or [plain[i % len(plain)]] for i in range(N_DRAWN)], device=model.cfg.device)
    n_read = len(model.tokenizer)
    with unwatched(model):
        while tokens.shape[1] < min(N_DRAWN_POS + len(start), model.cfg.n_ctx - 1):
            p = last_logits(model, tokens).float().softmax(-1)[:, :n_read].cpu()
            tokens = torch.cat([tokens, torch.multinomial(p, 1, generator=generator).to(tokens)], dim=1)
    texts = model.tokenizer.batch_decode(tokens[:, len(start) :], skip_special_tokens=True, clean_up_tokenization_spaces=False)
    found = as_text(model, DRAWN, texts)
    return Text(DRAWN, found.texts, found.rows or tuple(tuple(row) for row in tokens[:, len(start) :].tolist()))
