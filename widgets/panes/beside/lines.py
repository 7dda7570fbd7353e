"""Several questions as a person types or pastes them: one a line, with its answer and baseline behind it, or without.

    the cat sat on the | mat | dog               or with tabs between, as spreadsheets copy; a prompt with | in it needs tabs
    the dog ran to the                           asks for what all lines share, or else for the model's own first answer
    def f(x):⏎    return | " x"                  ⏎ is a new line; a token in quotes is taken as it stands

A word gets the leading space with which it follows a prompt, where that is one token.
"""

import re
from typing import Any, NamedTuple

from workbench.model.tokens import answer_token, to_tokens

MOST = 1_000  # prompts on the screen; bench.rank_many in a cell takes any number
N_SHOWN = 40  # letters of a line in a sentence


class Line(NamedTuple):
    """One question, as it was typed."""

    number: int  # of the line, counted from 1
    prompt: str
    answer: str  # one token; "": the model's own first
    baseline: str  # one token; "": the mean logit


def split_lines(text: str) -> list[str]:
    """What a text box calls lines: no other separators."""
    return re.split(r"\r\n|\r|\n", text)


def n_questions(text: str) -> int:
    """Lines that hold something."""
    return sum(bool(line.strip()) for line in split_lines(text))


def read_lines(model: Any, text: str, answer: str = "", baseline: str = "") -> list[Line]:
    """Every question of the text; empty lines are none. answer, baseline: of the lines that name none.

    Raises ValueError, in one sentence that names the first line that cannot be asked and says how many more there are.
    """
    found, wrong = [], []
    lines = [(number, line) for number, line in enumerate(split_lines(text), 1) if line.strip()]
    if not lines:
        raise ValueError("there is no prompt: expected some, one a line")
    if len(lines) > MOST:
        raise ValueError(f"{len(lines):,} prompts are more than {MOST:,}: rank them in a cell, bench.rank_many(prompts, metric)")
    shared = {"answer": answer, "baseline": baseline}
    for name, token in shared.items():
        try:
            shared[name] = as_token(model, token)
        except ValueError as error:
            raise ValueError(f"the {name} of all lines: {error}") from None
    for number, line in lines:
        try:
            found.append(_read(model, number, line, **shared))
        except ValueError as error:
            wrong.append(f"line {number}: {error}")
    if wrong:
        more = f" ({len(wrong) - 1:,} more of {len(lines):,} lines cannot be asked either)" if len(wrong) > 1 else ""
        raise ValueError(f"{wrong[0]}{more}")
    return found


def _read(model: Any, number: int, line: str, answer: str, baseline: str) -> Line:
    parts = line.split("\t") if "\t" in line else line.split("|")
    while len(parts) > 1 and not parts[-1].strip():
        parts.pop()
    if len(parts) > 3:
        raise ValueError(
            f"“{line.strip()[:N_SHOWN]}” has {len(parts)} parts; expected prompt | answer | baseline, with tabs if a prompt has |"
        )
    prompt, *tokens = (part.strip() for part in parts)
    prompt = prompt.replace("⏎", "\n")
    if not prompt.strip():
        raise ValueError("the prompt is empty: expected some text to predict the next token of")
    to_tokens(model, prompt)
    own = [as_token(model, token) for token in tokens]
    asked = Line(number, prompt, own[0] if own and own[0] else answer, own[1] if len(own) > 1 else baseline)
    if asked.answer and asked.answer == asked.baseline:
        raise ValueError(f"the answer {asked.answer!r} is its own baseline: the difference is always 0")
    return asked


def as_token(model: Any, typed: str) -> str:
    """One token as text; "" for nothing. Raises ValueError that says how the text tokenizes."""
    typed = typed.strip()
    if len(typed) > 2 and typed[0] == typed[-1] and typed[0] in "'\"":
        answer_token(model, typed[1:-1])
        return typed[1:-1]
    if not typed:
        return ""
    spellings = [f" {typed}", typed] if typed[0].isalnum() else [typed, f" {typed}"]
    for spelling in spellings:
        try:
            answer_token(model, spelling)
            return spelling
        except ValueError:
            continue
    answer_token(model, typed)  # which says what is wrong
    return typed
