"""What a run of the tests left out, and what brings it: one line at its end, where pytest prints an s each."""

import re
from collections import Counter
from collections.abc import Iterable

import pytest

BRINGS = {  # what a reason names → what is missing, and the command that brings it, or else the extra of pyproject.toml
    "chromium": ("Chromium", "sudo apt install chromium"),
    "openai": ("the clients of language models", "label"),
    "anthropic": ("the clients of language models", "label"),
    "ray": ("Ray", "ray"),
    "triton": ("Triton", "gpu"),
    "cuda": ("a CUDA device", ""),  # no command brings that
}
ELSE = ("something that this machine or model has not", "")


def in_one_line(reasons: Iterable[str]) -> str:
    """'3 tests skipped: 2 need Chromium, 1 needs Ray. To run them: sudo apt install chromium && …'; the most first, one command for all
    that a command brings; "" where nothing was skipped."""
    counts = Counter(next((BRINGS[word] for word in BRINGS if re.search(rf"\b{word}\b", reason, re.I)), ELSE) for reason in reasons)
    n_skipped = counts.total()
    parts = [f"{n} need{'s' * (n == 1)} {what}" for (what, _), n in counts.most_common()]
    said = f"{n_skipped} test{'s' * (n_skipped != 1)} skipped: {', '.join(parts)}" if parts else ""
    command = brings_all({command for _, command in counts if command})
    return f"{said}. To run them: {command}" if command else said


def brings_all(commands: set[str]) -> str:
    """One command line, its extras installed together."""
    extras = ",".join(sorted(each for each in commands if " " not in each))
    return " && ".join(
        [*sorted(each for each in commands if " " in each), *([f".venv/bin/pip install -e '.[{extras}]'"] if extras else [])]
    )


def pytest_unconfigure(config: pytest.Config) -> None:
    """After pytest's own last line. From the reports, which come from all workers; a worker has no terminal."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None and (line := in_one_line(report.longrepr[2] for report in terminal.stats.get("skipped", []))):
        terminal.write_line(line, yellow=True)
