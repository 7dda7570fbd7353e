"""Text ↔ tokens ↔ readable token strings: what a user typed as a prompt or an answer, and what a corpus holds, checked before any compute.

A text's tokens are those that the tokenizer makes of it, led by the model's start token (start.py) unless the text begins with it. A token
is its number; its text shows its space: `▁in` is " in", of WordPiece `in` is " in" and `##in` is "in".
"""

import difflib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, SupportsIndex

import torch
from jaxtyping import Int
from torch import Tensor

from workbench.given import whole
from workbench.model.callers import alone
from workbench.model.start import n_embedded, start_token
from workbench.shapes import TokenMask, Tokens

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

SURROGATES = re.compile("[\ud800-\udfff]")  # halves of characters, which tokenizers refuse
UNKNOWN_LINE = 0.01  # share of unknown tokens from which one is told


def to_tokens(model: "TransformerBridge", prompt: str) -> Tokens:
    """The prompt's tokens (1, pos), led by the start token where the model has one. Raises on empty and over-long prompts, half characters,
    and where the tokenizer knows nothing of it."""
    if not isinstance(prompt, str):
        raise ValueError(f"the prompt is of type {type(prompt).__name__}; expected a string")
    if not prompt.strip():
        raise ValueError("the prompt is empty: expected some text to predict the next token of")
    if half := SURROGATES.search(prompt):
        raise ValueError(f"the prompt holds half of a character, {half[0]!r}, at position {half.start()}: it was cut inside of one")
    (ids,) = text_ids(model, [prompt])
    row = [*start_token(model).ids, *ids]
    if not row:
        raise ValueError(f"the tokenizer makes nothing of {prompt[:60]!r}: expected some text to predict the next token of")
    if len(row) > model.cfg.n_ctx:
        raise ValueError(f"the prompt is {len(row)} tokens long; this model reads at most {model.cfg.n_ctx} (start token included)")
    if ids and n_unknown(model, [prompt], [ids]) == len(ids):
        raise ValueError(f"the tokenizer knows nothing of {prompt[:60]!r}: all {len(ids)} tokens are {model.tokenizer.unk_token!r}")
    return torch.tensor([row], device=model.cfg.device)


def text_ids(model: "TransformerBridge", texts: Sequence[str], longest: int | None = None) -> list[list[int]]:
    """Each text's own tokens, `longest` at most, without the start token that leads them (nor one that the text begins with). Halves of
    characters are read as �. Raises ValueError for a token that the model has no embedding of."""
    if not texts:
        return []
    start, n = list(start_token(model).ids), n_embedded(model)
    options: dict[str, Any] = {} if longest is None else dict(truncation=True, max_length=longest + len(start))
    whole = [without_surrogates(str(text)) for text in texts]
    with alone(model.tokenizer):
        rows: list[list[int]] = model.tokenizer(whole, add_special_tokens=False, **options)["input_ids"]
    for text, row in zip(whole, rows, strict=True):
        if row and max(row) >= n:
            name = model.tokenizer.convert_ids_to_tokens(max(row))
            raise ValueError(f"{text[:60]!r} has the token {name!r}, number {max(row)}, but the model's embedding has {n} rows")
    rows = [row[len(start) :] if start and row[: len(start)] == start else row for row in rows]
    return rows if longest is None else [row[:longest] for row in rows]


def without_surrogates(text: str) -> str:
    """Pairs of halves become the character that they are, single ones �."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace") if SURROGATES.search(text) else text


def n_unknown(model: "TransformerBridge", texts: Sequence[str], rows: Sequence[Sequence[int]]) -> int:
    """How many tokens of these texts stand for something that the vocabulary lacks. A text that spells the unknown token out has it."""
    unknown, name = getattr(model.tokenizer, "unk_token_id", None), getattr(model.tokenizer, "unk_token", None)
    if unknown is None or not name:
        return 0
    return sum(max(0, row.count(unknown) - text.count(name)) for text, row in zip(texts, rows, strict=True) if unknown in row)


def unknown_note(n: int, n_tokens: int, what: str) -> str:
    """A line from 1 % on; else "". Raises ValueError where everything is unknown."""
    if n and n == n_tokens:
        raise ValueError(f"the tokenizer knows nothing of {what}: all {n_tokens:,} tokens are unknown; is it the model's own?")
    is_told = n > 0 and n >= UNKNOWN_LINE * n_tokens
    return f"{n / n_tokens:.1%} of the {n_tokens:,} tokens of {what} are unknown to the tokenizer" if is_told else ""


def to_str_tokens(model: "TransformerBridge", tokens: Int[Tensor, "*batch"]) -> list[str]:
    """One readable string per token of a single text, with its space. A token that is part of a character shows its raw form instead of
    `�`; one that only pads the vocabulary shows its number."""
    ids = tokens.reshape(-1).tolist()
    texts = model.tokenizer.batch_decode([[token] for token in ids], clean_up_tokenization_spaces=False)
    raw, joins = model.tokenizer.convert_ids_to_tokens(ids), _continuing(model)
    special = set(model.tokenizer.all_special_ids) if joins else set()
    return [_shown(*each, joins if each[0] not in special else "") for each in zip(ids, texts, raw, strict=True)]


def distinct_str_tokens(model: "TransformerBridge", ids: Sequence[int], taken: Sequence[str] = ()) -> list[str]:
    """The same for a list of different tokens: one that reads as another one does shows its number, too."""
    seen, found = set(taken), []
    for token, text in zip(ids, to_str_tokens(model, torch.tensor(list(ids))) if ids else [], strict=True):
        found.append(text if text not in seen else f"{text} <{token}>")
        seen.add(found[-1])
    return found


def _shown(token: int, text: str, raw: str | None, joins: str) -> str:
    if raw is None:
        return f"<{token}>"
    if joins:
        return raw.removeprefix(joins) if raw.startswith(joins) else f" {text}"
    spaced = raw.replace("▁", " ").replace("</w>", " ")
    if spaced != raw and text.strip() == spaced.strip():  # SentencePiece and older BPE: decoding a token alone loses its space
        return spaced
    return raw if "\ufffd" in text or not text else text


def _continuing(model: "TransformerBridge") -> str:
    """How WordPiece marks that a token goes on with the word before it, `##`; "" for every other tokenizer."""
    decoder = getattr(getattr(model.tokenizer, "backend_tokenizer", None), "decoder", None)
    return str(getattr(decoder, "prefix", "")) if type(decoder).__name__ == "WordPiece" else ""


def is_start_token(model: "TransformerBridge", tokens: Tokens) -> TokenMask:
    """True where the start token stands, at the beginning of a row: features fire there strongly and mean nothing. The same token inside
    of a text is one of the text's own."""
    start = torch.tensor(start_token(model).ids, device=tokens.device, dtype=tokens.dtype)
    found = torch.zeros_like(tokens, dtype=torch.bool)
    if len(start) and tokens.shape[1] >= len(start):
        found[:, : len(start)] = (tokens[:, : len(start)] == start).all(1, keepdim=True)
    return found


def answer_token(model: "TransformerBridge", text: str | SupportsIndex) -> int:
    """The id of an answer that is one token. Raises ValueError with how the text tokenizes and what to type instead."""
    number = whole(text)
    if number is not None:
        if not 0 <= number < model.cfg.d_vocab:
            raise ValueError(f"token {number} is not in the vocabulary: expected 0 to {model.cfg.d_vocab - 1}")
        return number
    if not isinstance(text, str):
        raise ValueError(f"{text!r} is no answer: expected the text of one token, such as ' Paris', or its number")
    if not text:
        raise ValueError("the answer is empty: expected the text of one token, such as ' Paris'")
    ids, unknown = _encode(model, text), getattr(model.tokenizer, "unk_token_id", None)
    if len(ids) == 1 and ids[0] != unknown and to_str_tokens(model, torch.tensor(ids)) == [text]:
        return ids[0]  # before raw forms: `é` is the letter's token, and how a byte-level vocabulary writes the byte E9
    for spelled in (text.replace(" ", "▁"), text):  # SentencePiece puts a space before every text, and would make " in" of "in"
        token = _named(model, spelled)
        if token is not None and to_str_tokens(model, torch.tensor([token])) == [text]:
            if len(text) == 1 and len(ids) > 1 and _is_part(model, token):
                parts = to_str_tokens(model, torch.tensor(ids))
                raise ValueError(
                    f"{text!r} is {len(ids)} tokens, {parts}; expected one token: {text!r} as a part of a character is {token}"
                )
            return token
    if (len(ids) != 1 or ids[0] == unknown) and (token := _named(model, text)) is not None:
        return token  # its raw form was typed: ##s, <0x0A>
    if not ids or (unknown is not None and unknown in ids):
        raise ValueError(f"{text!r} is not in the vocabulary{_nearest(text, model)}")
    if len(ids) > 1:
        parts = to_str_tokens(model, torch.tensor(ids))
        raise ValueError(f"{text!r} is {len(ids)} tokens, {parts}; expected one token{_instead(model, text, ids, parts)}")
    return ids[0]


def _named(model: "TransformerBridge", raw: str) -> int | None:
    """The token whose raw form this is, as the vocabulary's file has it; None where there is none."""
    token = model.tokenizer.convert_tokens_to_ids(raw)
    is_here = isinstance(token, int) and 0 <= token < n_embedded(model) and token != getattr(model.tokenizer, "unk_token_id", None)
    return token if is_here else None


def _is_part(model: "TransformerBridge", token: int) -> bool:
    """Is it some bytes of a character, not a whole one?"""
    return "\ufffd" in model.tokenizer.decode([token], clean_up_tokenization_spaces=False)


def _encode(model: "TransformerBridge", text: str) -> list[int]:
    with alone(model.tokenizer):  # else it might cut as another thread has just told it to
        return model.tokenizer(without_surrogates(text), add_special_tokens=False)["input_ids"]


def _instead(model: "TransformerBridge", text: str, ids: list[int], parts: list[str]) -> str:
    """What to type instead of an answer of several tokens: usually the leading space is missing or doubled."""
    unknown = getattr(model.tokenizer, "unk_token_id", None)
    for other in (" " + text.strip(), text.strip(), " " + text.strip().capitalize(), " " + text.strip().lower()):
        others = _encode(model, other)
        if other != text and len(others) == 1 and others[0] != unknown:
            return f". Did you mean {other!r}?"
    number = f" by its number, {ids[0]}" if len(parts[0]) == 1 and _is_part(model, ids[0]) else ""
    return f". You can ask for its first token, {parts[0]!r}{number}"


def _nearest(text: str, model: "TransformerBridge") -> str:
    vocabulary = {token.replace("Ġ", " ").replace("▁", " "): None for token in model.tokenizer.get_vocab()}
    near = difflib.get_close_matches(text, list(vocabulary), n=1, cutoff=0.5)
    return f". Did you mean {near[0]!r}?" if near else ""
