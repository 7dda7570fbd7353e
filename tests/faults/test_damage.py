"""Any file that is read, damaged in any way, is read as it was, or refused in one sentence: no traceback, no hang, no other numbers where
a checksum could tell.

`make faults` tries thousands; here FAULTS of them, by default as many as take ten seconds. What was tried and what became of it is
printed (pytest -s).
"""

import os
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_faults import DAMAGES, Kind, made_kinds, outcome

N = int(os.environ.get("FAULTS", 0)) or 150
FINE = ("refused", "the same", "another, and nothing can tell")
counted: Counter[tuple[str, str]] = Counter()


class Kinds(dict[str, tuple[Kind, Any]]):
    """Each kind of file, and what is read from it while it is whole. A repr of these would be a megabyte."""

    def __repr__(self) -> str:
        return f"{len(self)} kinds of files"


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory, model_of) -> Iterator[Kinds]:
    made = made_kinds(tmp_path_factory.mktemp("kinds"), model_of("gpt2"))
    yield Kinds({name: (kind, kind.read(kind.folder)) for name, kind in made.items()})
    print("\n" + report(), flush=True)


def report() -> str:
    """tried, and what became of it, by kind of file"""
    names = sorted({name for name, _ in counted})
    lines = [f"{name:<20}" + "  ".join(f"{counted[name, fine]:>5} {fine}" for fine in FINE) for name in names]
    wrong = sum(n for (_, what), n in counted.items() if what not in FINE)
    return "\n".join([f"{sum(counted.values()):,} damaged files; tracebacks, hangs, accepted wrongly: {wrong}", *lines])


def test_what_is_written_is_read_as_it_was(kinds: Kinds):
    for name, (kind, right) in kinds.items():
        assert repr(kind.read(kind.folder)) == repr(right), name


@settings(max_examples=N, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(drawn=st.data())
def test_a_damaged_file_is_read_as_it_was_or_refused_in_one_sentence(kinds: Kinds, drawn: st.DataObject):
    name = drawn.draw(st.sampled_from(sorted(kinds)))
    kind, right = kinds[name]
    file = drawn.draw(st.sampled_from(kind.files()))
    damage = drawn.draw(st.sampled_from(DAMAGES))
    seed = drawn.draw(st.integers(0, 2**32))
    before = file.read_bytes()
    damaged = damage(before, random.Random(seed))
    if damaged != before:
        became = outcome(kind, file, damaged, right)
        counted[name, became.split(":")[0]] += 1
        assert became in FINE, f"{file.name} of {name}, {damage.__name__}, seed {seed}: {became}"
