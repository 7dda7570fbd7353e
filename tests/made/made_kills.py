"""A process that dies while it writes: this one, where from one call on nothing reaches the disk any more, and real ones. It imports
little: a process of its own imports this file anew."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from workbench.files import Busy, write_whole

CALLS = ("open", "fsync", "replace", "rename", "rmdir", "unlink", "mkdir", "chmod")  # os.close always works: the dead keep no lock


class Killed(BaseException):
    """Raised by the call at which the process would have died, and by every later one."""


class Count:
    """Of the calls that were made."""

    n = 0


@contextmanager
def killed_at(at_call: int) -> Iterator[Count]:
    """Inside, the process dies at so many calls that change files (0: never). What would clean up after it does nothing either."""
    count = Count()

    def deadly(call: Any) -> Any:
        def counted(*args: Any, **options: Any) -> Any:
            count.n += 1
            if 0 < at_call <= count.n:
                raise Killed
            return call(*args, **options)

        return counted

    with pytest.MonkeyPatch.context() as patched:
        for call in CALLS:
            patched.setattr(os, call, deadly(getattr(os, call)))
        try:
            yield count
        except Killed:
            assert at_call


def write_and_die(path: Path) -> None:
    def write(partial: Path) -> None:
        partial.write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)

    write_whole(path, write)


def build_beside(model_folder: Path, folder: Path, said: Path) -> None:
    """An index, or what was said instead."""
    from made_index import TEXTS, made_saes

    from workbench.features.index.index import build_index
    from workbench.model.model import load_model

    try:
        build_index(load_model(model_folder), made_saes(), TEXTS[:20], folder, shard=100, progress=False)
        said.write_text("built")
    except Busy as error:
        said.write_text(str(error))


def put_labels(path: Path, runs: Path, row: dict[str, Any], first: int) -> None:
    """Twenty labels and twenty runs, one after the other."""
    from workbench.features.index.own_labels import OwnLabels
    from workbench.features.index.parts import Label
    from workbench.sae.scaling.sweep import add_rows

    for number in range(first, first + 20):
        OwnLabels(path).put("abc", {number: Label(f"thing {number}")})
        add_rows([row | {"seed": number}], runs)
