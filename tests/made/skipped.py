"""What a run of the tests left out, and what brings it: one line at its end, where pytest prints an s each."""

import re
from collections import Counter
from collections.abc import Iterable

BRINGS = {  # what a reason names → what is missing, and the command that brings it
    "chromium": ("Chromium", "sudo apt install chromium"),
    "openai": ("the clients of language models", ".venv/bin/pip install -e '.[label]'"),
    "anthropic": ("the clients of language models", ".venv/bin/pip install -e '.[label]'"),
    "ray": ("Ray", ".venv/bin/pip install -e '.[ray]'"),
    "triton": ("Triton", ".venv/bin/pip install -e '.[gpu]'"),
    "cuda": ("a CUDA device", "on a machine that has one"),
}
ELSE = ("something that this machine or model has not", "pytest -rs names it")


def in_one_line(reasons: Iterable[str]) -> str:
    """'3 tests skipped: 2 need Chromium (sudo apt install chromium), …', the most first; "" where nothing was skipped."""
    counts = Counter(next((BRINGS[word] for word in BRINGS if re.search(rf"\b{word}\b", reason, re.I)), ELSE) for reason in reasons)
    parts = [f"{n} need{'s' * (n == 1)} {what} ({command})" for (what, command), n in counts.most_common()]
    n_skipped = counts.total()
    return f"{n_skipped} test{'s' * (n_skipped != 1)} skipped: {', '.join(parts)}" if parts else ""
