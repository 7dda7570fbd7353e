"""Conversations as prompts: the tokenizer's own chat template writes them out, once, and each token knows whose it is.

    [{"role": "user", "content": "Who are you?"}]  →  "<|user|>\\nWho are you?<|end|>\\n<|assistant|>\\n"

The text ends where the model is to speak, or goes on with what it said where the last message is the assistant's.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from workbench.model.start import start_token
from workbench.model.tokens import to_tokens

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Chat = Sequence[Mapping[str, str]]  # messages, each with a role and a content
KEYS = ("role", "content")
TEMPLATE = "template"  # the role of what the template writes around the messages


class Speaker(NamedTuple):
    """Whose a token is."""

    role: str  # the message's; "template" for what stands around messages; "" where it cannot be told
    turn: int  # the number of the message that it is in or leads to; −1 for the start token


def written(model: "TransformerBridge", prompt: Any) -> str:
    """A prompt, a string or a conversation, as text. Raises ValueError for what is neither, and for a tokenizer without a template."""
    if isinstance(prompt, str):
        return prompt if type(prompt).__module__ != "numpy" else str(prompt)  # NumPy's shows itself as np.str_('…')
    return _template(model, _checked(prompt))


def speakers(model: "TransformerBridge", prompt: Chat) -> list[Speaker]:
    """Whose each token of the conversation is, of those that `to_tokens` gives for it as text."""
    messages = _checked(prompt)
    text, n_start = _template(model, messages), len(start_token(model).ids)
    n_tokens = to_tokens(model, text).shape[1]
    spans = _spans(model, messages, text)
    if spans is None or not model.tokenizer.is_fast:
        return [Speaker("", -1)] * n_tokens
    offsets = model.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    led = [Speaker(TEMPLATE, -1)] * n_start
    own = offsets[len(offsets) + n_start - n_tokens :]  # a text that begins with the start token has one more
    return led + [_speaker((first + last) / 2, spans, messages) for first, last in own]


def _speaker(middle: float, spans: list[tuple[int, int]], messages: list[dict[str, str]]) -> Speaker:
    for turn, (first, last) in enumerate(spans):
        if middle <= last:
            return Speaker(messages[turn]["role"] if middle > first else TEMPLATE, turn)
    is_open = messages[-1]["role"] == "assistant"
    return Speaker(TEMPLATE, len(messages) - is_open)


def _spans(model: "TransformerBridge", messages: list[dict[str, str]], text: str) -> list[tuple[int, int]] | None:
    """Where each message's content stands in the text, by writing out the same conversation with marks in place of the contents; None for
    a template that makes something else of a message than to write it there."""
    marks = [f"\ue000{turn}\ue001" for turn in range(len(messages))]
    try:
        marked = _template(model, [each | {"content": mark} for each, mark in zip(messages, marks, strict=True)])
    except ValueError:
        return None
    found, at = [], 0
    for each, mark in zip(messages, marks, strict=True):
        before, there, marked = marked.partition(mark)
        if not there or not text.startswith(before, at):
            return None
        at += len(before)
        content = next((some for some in (each["content"], each["content"].strip()) if text.startswith(some, at)), None)
        if content is None:
            return None
        found.append((at, at + len(content)))
        at += len(content)
    return found if text[at:] == marked else None


def _template(model: "TransformerBridge", messages: list[dict[str, str]]) -> str:
    from jinja2 import TemplateError

    tokenizer = model.tokenizer
    if not getattr(tokenizer, "chat_template", None):
        raise ValueError("this model's tokenizer has no chat template: write the conversation out as the model was trained on it")
    is_said = messages[-1]["role"] == "assistant"
    try:
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=not is_said, continue_final_message=is_said)
    except (TemplateError, ValueError) as error:  # the second where a template writes no place to go on from
        raise ValueError(f"this model's chat template refuses the conversation: {error}") from None


def _checked(prompt: Any) -> list[dict[str, str]]:
    if isinstance(prompt, Mapping):
        raise ValueError(f"the prompt is one message; a conversation is a list of them: [{dict(prompt)!r:.80}]")
    if not isinstance(prompt, Sequence) or not all(isinstance(each, Mapping) for each in prompt):
        raise ValueError(
            f'the prompt is of type {type(prompt).__name__}; expected a string, or messages: [{{"role": "user", "content": …}}]'
        )
    if not prompt:
        raise ValueError('the conversation is empty: expected messages, [{"role": "user", "content": …}]')
    for i, each in enumerate(prompt, start=1):
        if missing := [key for key in KEYS if key not in each]:
            raise ValueError(f"message {i} lacks its {' and '.join(missing)}: a message has a role and a content")
        if unknown := [str(key) for key in each if key not in KEYS]:
            raise ValueError(f"message {i} has {', '.join(map(repr, unknown))}: a message has a role and a content, nothing else")
        if wrong := [key for key in KEYS if not isinstance(each[key], str)]:
            raise ValueError(f"the {wrong[0]} of message {i} is of type {type(each[wrong[0]]).__name__}; expected a string")
    return [{key: str(each[key]) for key in KEYS} for each in prompt]
