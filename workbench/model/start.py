"""Which token leads every text that a model reads: one decision a model, made when it is loaded, asked by everything that makes rows.

    1  what whoever loads it says              load_model(…, start_token="<s>"), start_token=None for none
    2  what the tokenizer, as its files are,   Llama, Gemma, OPT, Cohere; GLM's tokenizer puts two tokens there
       puts in front of a text by itself
    3  the start token that its files name,    GPT-2 and GPT-Neo: their tokenizers put nothing in front, but their SAEs and everything
       where TransformerLens puts it there     that is measured with TransformerLens were made with it
       for the architecture
    4  none                                    Pythia, Qwen, Phi, Granite, BLOOM …; and whatever names no start token

TransformerLens makes one up where a tokenizer names none (its end token, else `<|endoftext|>`, an id that the model may not have): never
here. Nor does anything outside of the embedding lead a text. What the files say is read from the files: the bridge alters its tokenizer.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

GIVEN = "as asked for"
PROBES = ("a", "the", "A", "1")  # the first of them that the tokenizer reads as something shows what it puts in front
FILES = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.json", "vocab.json")  # small ones first


@dataclass(frozen=True)
class StartToken:
    """What leads every text of a model, and why that was decided."""

    ids: tuple[int, ...]  # one; none; the tokenizer may put several in front
    text: str  # "" where there is none
    why: str

    @property
    def is_given(self) -> bool:
        """Did whoever loaded the model say it?"""
        return self.why == GIVEN

    def __str__(self) -> str:
        return f"{self.text!r} leads every text: {self.why}" if self.ids else f"none: {self.why}"


_DECISIONS: WeakKeyDictionary[Any, StartToken] = WeakKeyDictionary()
_ENDS: WeakKeyDictionary[Any, int | None] = WeakKeyDictionary()


def start_token(model: "TransformerBridge") -> StartToken:
    """The decision; made now for a model that load_model has not seen."""
    return _DECISIONS[model] if model in _DECISIONS else decide(model)


def end_token(model: "TransformerBridge") -> int | None:
    """The end token that the tokenizer's files name, if the model has it: not one that the bridge made up."""
    if model not in _ENDS:
        decide(model)
    return _ENDS[model]


def decide(model: "TransformerBridge", given: str | None | EllipsisType = ..., raw: Any = None) -> StartToken:
    """Make the decision, and have the bridge's own `to_tokens` follow it. raw: the tokenizer before the bridge got it, where it has no
    files. Raises ValueError for a given start token that this model does not have."""
    raw = _from_files(model.tokenizer) if raw is None else raw
    if given is ...:
        found = _by_files(model, raw)
    elif given is None:
        found = StartToken((), "", GIVEN)
    else:
        found = _given(model, given, raw)
    end = getattr(model.tokenizer if raw is None else raw, "eos_token_id", None)
    _DECISIONS[model], _ENDS[model] = found, end if end is not None and end < n_embedded(model) else None
    model.cfg.default_prepend_bos = bool(found.ids)
    if len(found.ids) == 1 and model.tokenizer.bos_token_id != found.ids[0]:
        model.tokenizer.bos_token = found.text
        if getattr(model.tokenizer, "add_bos_token", False) and hasattr(model.tokenizer, "update_post_processor"):
            model.tokenizer.update_post_processor()
    return found


def n_embedded(model: "TransformerBridge") -> int:
    """How many tokens the model has an embedding of; the tokenizer may name more."""
    embedding = getattr(model.original_model, "get_input_embeddings", lambda: None)()
    rows = getattr(getattr(embedding, "weight", None), "shape", (model.cfg.d_vocab,))[0]
    return int(rows)


def sae_note(model: "TransformerBridge", sae: Any) -> str:
    """One sentence where the SAE's files say that it was trained with another start token than the model's; else ""."""
    known = sae.cfg.metadata.get("start_token", sae.cfg.metadata.get("prepend_bos"))
    return "" if known is None else other_note(model, known, "this SAE")


def reading_notes(model: "TransformerBridge", sae: Any) -> tuple[str, ...]:
    """What to know of all activations of an SAE on this model before believing them, a sentence each; nearly always none."""
    return tuple(filter(None, (sae_note(model, sae), sae.together_note())))


def other_note(model: "TransformerBridge", made_with: str | bool, what: str) -> str:
    """One sentence where `what` (an SAE, an index) was made with another start token than the model's; else "". made_with: its text, ""
    for none; True or False where it is only known whether there was one."""
    here = start_token(model)
    if (made_with is True and here.ids) or (made_with or "") == here.text:
        return ""
    theirs = "a start token" if made_with is True else f"the start token {made_with!r}" if made_with else "no start token"
    ours = f"with {here.text!r}" if here.ids else "without one"
    said = "its text" if made_with is True else repr(made_with) if made_with else None
    return f"{what} was made with {theirs}, texts are read {ours} here ({here.why}): start_token={said} when loading reads them as it did"


def _by_files(model: "TransformerBridge", raw: Any) -> StartToken:
    n, family = n_embedded(model), type(model.original_model).__name__
    if raw is None:
        tokenizer, does_prepend = model.tokenizer, getattr(model.cfg, "default_prepend_bos", True)
        bos = tokenizer.bos_token_id
        if does_prepend and bos is not None and bos < n:
            return StartToken((bos,), tokenizer.bos_token, "TransformerBridge puts it there (the tokenizer's files are not here)")
        return StartToken((), "", "TransformerBridge puts none there (the tokenizer's files are not here)")
    own = _own_prefix(raw)
    if own:
        text = "".join(raw.convert_ids_to_tokens(list(own)))
        if max(own) < n:
            return StartToken(own, text, "the tokenizer puts it there")
        return StartToken((), "", f"the tokenizer would put {text!r} there, number {max(own)}, but the embedding has {n} rows")
    bos, text = getattr(raw, "bos_token_id", None), getattr(raw, "bos_token", None)
    if bos is None or text is None or not _is_in_files(raw, text):
        return StartToken((), "", "the tokenizer's files name none")
    if bos >= n:
        return StartToken((), "", f"the tokenizer names {text!r}, number {bos}, but the embedding has {n} rows")
    if getattr(model.cfg, "default_prepend_bos", True):
        return StartToken((bos,), text, f"the tokenizer names it, and TransformerLens puts it there for {family}")
    return StartToken((), "", f"the tokenizer names {text!r}, but neither it nor TransformerLens, for {family}, puts it there")


def _given(model: "TransformerBridge", text: str, raw: Any) -> StartToken:
    tokenizer = model.tokenizer
    token = tokenizer.convert_tokens_to_ids(text) if text else None
    ids = (token,) if token is not None and tokenizer.convert_ids_to_tokens(token) == text else ()
    if not ids and text:
        own = _own_prefix(tokenizer if raw is None else raw)
        ids = own if own and "".join(tokenizer.convert_ids_to_tokens(list(own))) == text else ()
    if not ids:
        named = ", ".join(map(repr, (tokenizer if raw is None else raw).all_special_tokens[:8])) or "none"
        raise ValueError(
            f"start_token={text!r} is no token of this model: expected the text of one, None for no start token (special tokens: {named})"
        )
    if max(ids) >= n_embedded(model):
        raise ValueError(f"start_token={text!r} is token {max(ids)}, but the model's embedding has {n_embedded(model)} rows")
    return StartToken(tuple(ids), text, GIVEN)


def _own_prefix(tokenizer: Any) -> tuple[int, ...]:
    """What the tokenizer puts in front of a text by itself."""
    for probe in PROBES:
        plain, whole = (tokenizer(probe, add_special_tokens=is_whole)["input_ids"] for is_whole in (False, True))
        if plain:
            starts = [at for at in range(len(whole) - len(plain) + 1) if whole[at : at + len(plain)] == plain]
            return tuple(whole[: starts[0]]) if starts else ()
    return ()


def _from_files(tokenizer: Any) -> Any:
    """The tokenizer as its files have it; None where they are not here."""
    from transformers import AutoTokenizer

    name = getattr(tokenizer, "name_or_path", "") or ""
    if not name or (Path(name).is_absolute() and not Path(name).is_dir()):
        return None
    try:
        return AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError, KeyError):  # whichever of them a tokenizer of another kind raises: the bridge has one that loaded
        return None


def _is_in_files(raw: Any, text: str) -> bool:
    """Some tokenizer classes have a start token by default, and add it to a vocabulary that lacks it."""
    from transformers.utils.hub import cached_file

    name = raw.name_or_path or ""
    if not name or raw.bos_token_id < raw.vocab_size:  # made in memory; or a token of the vocabulary itself
        return True
    spelled = [json.dumps(text, ensure_ascii=is_ascii) for is_ascii in (True, False)]
    for file in FILES:
        path = cached_file(name, file, _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False)
        if path and any(word in Path(path).read_text(encoding="utf-8") for word in spelled):
            return True
    return False
