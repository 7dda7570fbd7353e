"""Options that several commands have in common, and what they become: the start token, an index, a conversation from a file."""

import json
import re
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.files import read_json

if TYPE_CHECKING:
    from workbench.bench import Workbench

StartToken = Annotated[
    str | None, typer.Option(help='What leads every text, such as "<s>"; "" for nothing. [default: what the model\'s files say]')
]
Index = Annotated[Path | None, typer.Option(help="An index of the SAE: labels, largest activations. [atlas: its own]")]
Insist = Annotated[bool, typer.Option("--insist", help="Go ahead even where the memory that it takes is not there.")]
ChatFile = Annotated[
    Path | None, typer.Option(help='Instead of a prompt: JSON messages, [{"role": "user", "content": "…"}], written by the chat template.')
]


def start_of(typed: str | None) -> str | None | EllipsisType:
    """--start-token as `load_model` takes it."""
    return ... if typed is None else typed or None


def with_index(bench: "Workbench", folder: Path | None) -> "Workbench":
    """The bench with an index of its SAE, and the labels in it."""
    if folder is None:
        return bench
    from workbench.features.index.index import FeatureIndex

    known = FeatureIndex.open(folder).of(bench.model, bench.sae)
    return replace(bench, index=known, labels=known.label_texts() or bench.labels)


def prompt_or_chat(prompt: str | None, chat: Path | None) -> Any:
    """What the model reads: a text or messages. Raises ValueError unless one of the two is given."""
    if (prompt is None) == (chat is None):
        raise ValueError("what does the model read? Give a prompt, or --chat FILE with a conversation: one of the two")
    if chat is None:
        return prompt
    try:
        messages = read_json(chat)
    except ValueError as error:
        raise ValueError(f'--chat {error}; expected messages, [{{"role": "user", "content": …}}]') from None
    if not isinstance(messages, list) or not all(isinstance(each, dict) for each in messages):
        raise ValueError(f"--chat {chat} holds {json.dumps(messages)[:40]}; expected a list of messages, each with role and content")
    return messages


def shell_words(message: str, names: Collection[str]) -> str:
    """What a message calls as Python does, `max_act={3: …}`, as the shell does: `--max-act 3=…`. names: the command's options."""

    def said(found: re.Match) -> str:
        name, value = found["name"], found["value"]
        if name not in names:
            return found[0]
        if value == "True":
            return f"--{name.replace('_', '-')}"
        value = re.sub(r"^\{(\d+): (.*)\}$", r"\1=\2", value).replace("None", '""')
        return f"--{name.replace('_', '-')} {value}".rstrip()

    return re.sub(r"(?<![\w-])(?P<name>[a-z]\w*)=(?P<value>\{[^}]*\}|'[^']*'|\"[^\"]*\"|[\w.…-]*\w|…|)", said, message)
