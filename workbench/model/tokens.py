"""Text ↔ tokens ↔ readable token strings: what a user typed as a prompt or an answer, checked before any compute."""

import difflib
from typing import TYPE_CHECKING

import torch
from jaxtyping import Int
from torch import Tensor

from workbench.shapes import TokenMask, Tokens

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


def to_tokens(model: "TransformerBridge", prompt: str) -> Tokens:
    """The prompt's tokens (1, pos), led by the start token where the model was trained with one. Raises on empty and over-long prompts."""
    if not isinstance(prompt, str):
        raise ValueError(f"the prompt is of type {type(prompt).__name__}; expected a string")
    if not prompt.strip():
        raise ValueError("the prompt is empty: expected some text to predict the next token of")
    tokens = model.to_tokens(prompt, truncate=False)
    if tokens.shape[1] > model.cfg.n_ctx:
        raise ValueError(f"the prompt is {tokens.shape[1]} tokens long; this model reads at most {model.cfg.n_ctx} (start token included)")
    return tokens


def to_str_tokens(model: "TransformerBridge", tokens: Int[Tensor, "*batch"]) -> list[str]:
    """One readable string per token of a single text. A token that is part of a character shows its raw form instead of `�`; one that
    only pads the vocabulary shows its number."""
    ids = tokens.reshape(-1).tolist()
    texts = model.tokenizer.batch_decode([[token] for token in ids], clean_up_tokenization_spaces=False)
    raw = model.tokenizer.convert_ids_to_tokens(ids)
    shown = [raw_text if "\ufffd" in text or not text else text for text, raw_text in zip(texts, raw, strict=True)]
    return [text if text is not None else f"<{token}>" for text, token in zip(shown, ids, strict=True)]


def is_start_token(model: "TransformerBridge", tokens: Tokens) -> TokenMask:
    """True where the start-of-sequence token stands: features fire there strongly and mean nothing."""
    start = getattr(model.tokenizer, "bos_token_id", None)
    return torch.zeros_like(tokens, dtype=torch.bool) if start is None else tokens == start


def answer_token(model: "TransformerBridge", text: str | int) -> int:
    """The id of an answer that is one token. Raises ValueError with how the text tokenizes and what to type instead."""
    if isinstance(text, int):
        if not 0 <= text < model.cfg.d_vocab:
            raise ValueError(f"token {text} is not in the vocabulary: expected 0 to {model.cfg.d_vocab - 1}")
        return text
    if not text:
        raise ValueError("the answer is empty: expected the text of one token, such as ' Paris'")
    ids = _encode(model, text)
    unknown = getattr(model.tokenizer, "unk_token_id", None)
    if not ids or (unknown is not None and unknown in ids):
        raise ValueError(f"{text!r} is not in the vocabulary{_nearest(text, model)}")
    if len(ids) > 1:
        parts = to_str_tokens(model, torch.tensor(ids))
        raise ValueError(f"{text!r} is {len(ids)} tokens, {parts}; expected one token{_instead(model, text, parts)}")
    return ids[0]


def _encode(model: "TransformerBridge", text: str) -> list[int]:
    return model.tokenizer(text, add_special_tokens=False)["input_ids"]


def _instead(model: "TransformerBridge", text: str, parts: list[str]) -> str:
    """What to type instead of an answer of several tokens: usually the leading space is missing or doubled."""
    unknown = getattr(model.tokenizer, "unk_token_id", None)
    for other in (" " + text.strip(), text.strip(), " " + text.strip().capitalize(), " " + text.strip().lower()):
        ids = _encode(model, other)
        if other != text and len(ids) == 1 and ids[0] != unknown:
            return f". Did you mean {other!r}?"
    return f". You can ask for its first token, {parts[0]!r}"


def _nearest(text: str, model: "TransformerBridge") -> str:
    vocabulary = {token.replace("Ġ", " ").replace("▁", " "): None for token in model.tokenizer.get_vocab()}
    near = difflib.get_close_matches(text, list(vocabulary), n=1, cutoff=0.5)
    return f". Did you mean {near[0]!r}?" if near else ""
