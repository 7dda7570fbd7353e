"""A full disk, a process that is killed, two at once, a place that must not be written to: every writer leaves the whole or nothing."""

import itertools
import os
import random
import signal
import tempfile
from pathlib import Path

import pytest
import torch
from made_index import TEXTS, made_saes
from made_kills import build_beside, killed_at, put_labels, write_and_die
from made_models import random_sae
from made_process import in_process, in_processes
from made_stream import Planted
from made_transcoders import random_transcoder
from made_writers import CONFIG, ROW, made_writers, without_clock

from workbench.features.index.index import FeatureIndex, build_index
from workbench.features.index.own_labels import OwnLabels
from workbench.features.index.parts import Label
from workbench.files import locked, whole_folder, write_tensors, write_text, write_together, write_whole
from workbench.sae.convert import convert
from workbench.sae.sae import SAE
from workbench.sae.scaling.sweep import read_rows
from workbench.sae.training.train import train

WRITERS = list(made_writers(None))
N_KILLED = int(os.environ.get("FAULTS", 0)) // 40 or 4
GOES_ON = ("index", "train", "shards", "pages")  # what is done stays, and the same call goes on


def partials(folder: Path) -> list[Path]:
    return list(folder.rglob("*.partial"))


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_one_sentence_and_the_same_call_then_does_it(name: str, model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The disk is full at the first flush, then at the second, …, until there are no more."""
    ready, write = made_writers(model)[name]
    (tmp_path / "at").mkdir()
    ready(tmp_path / "at")
    before, fsync = without_clock(tmp_path / "at"), os.fsync
    folders = set((tmp_path / "at").rglob("*"))
    for n in itertools.count():
        calls = itertools.count()

        def full(handle: int, n: int = n, calls=calls) -> None:
            if next(calls) == n:
                raise OSError(28, "No space left on device")
            fsync(handle)

        monkeypatch.setattr(os, "fsync", full)
        try:
            write(tmp_path / "at")
            break
        except OSError as error:
            assert "No space left" in str(error) and len(str(error).splitlines()) == 1 and str(tmp_path) in str(error)
        assert not partials(tmp_path)
        if name not in GOES_ON:
            assert without_clock(tmp_path / "at") == before and set((tmp_path / "at").rglob("*")) == folders
    assert n > 0, "it flushes nothing to the disk"
    monkeypatch.undo()
    (tmp_path / "fresh").mkdir()
    ready(tmp_path / "fresh")
    write(tmp_path / "fresh")
    assert without_clock(tmp_path / "at") == without_clock(tmp_path / "fresh")


@pytest.mark.parametrize("name", WRITERS)
def test_what_a_killed_process_left_is_taken_away_and_the_same_call_ends_as_an_unbroken_one(name: str, model, tmp_path: Path):
    """Killed again and again, at calls that change files, each drawn from those of an unbroken run."""
    ready, write = made_writers(model)[name]
    rng = random.Random(name)
    for folder in ("whole", "killed"):
        (tmp_path / folder).mkdir()
        ready(tmp_path / folder)
    with killed_at(0) as calls:
        write(tmp_path / "whole")
    n_calls, whole = calls.n, without_clock(tmp_path / "whole")
    before, kinds = without_clock(tmp_path / "killed"), (whole, without_clock(tmp_path / "killed"))
    for at_call in [rng.randint(1, n_calls) for _ in range(N_KILLED)]:
        with killed_at(at_call):
            if name.startswith("convert") and set(without_clock(tmp_path / "killed")) == set(whole):
                break  # it is done, and a second one would be refused
            write(tmp_path / "killed")
        for file, data in without_clock(tmp_path / "killed").items():
            known = file.endswith(".partial") or f".partial{os.sep}" in file or name in GOES_ON
            assert known or any(each.get(file) == data for each in kinds), f"{file} is neither what it was nor what it will be"
        if name == "an SAE over another":
            check_one_of_two(tmp_path / "killed" / "sae", before, whole)
    if name.startswith("convert") and set(without_clock(tmp_path / "killed")) == set(whole):
        with pytest.raises(ValueError, match="already holds something"):
            write(tmp_path / "killed")
    else:
        write(tmp_path / "killed")
    assert without_clock(tmp_path / "killed") == whole
    assert not partials(tmp_path)


def check_one_of_two(folder: Path, before: dict, whole: dict) -> None:
    """The SAE before, the one after, or none: never the weights of one with the settings of the other."""
    files = {f"sae/{path.name}": path.read_bytes() for path in folder.iterdir() if path.suffix != ".partial"}
    if "sae/cfg.json" in files:
        assert files in (before, whole)
    else:
        with pytest.raises(ValueError, match="cfg.json is missing"):
            SAE.load(folder)


def test_half_a_file_of_a_killed_process_is_taken_away_by_the_next(tmp_path: Path):
    assert in_process(write_and_die, tmp_path / "a.txt") == -signal.SIGKILL
    assert [path.suffix for path in tmp_path.iterdir()] == [".partial"]
    write_text(tmp_path / "a.txt", "whole")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


# two at once ------------------------------------------------------------------------------------------------------------------------


def test_of_two_builds_in_one_folder_one_is_refused_and_the_other_is_right(folder_of, tmp_path: Path, model):
    ended = in_processes(build_beside, [(folder_of("gpt2"), tmp_path / "index", tmp_path / name) for name in "ab"])
    assert ended == [0, 0]
    texts = sorted((tmp_path / name).read_text() for name in "ab")
    assert texts[1] == "built" and (texts[0] == "built" or "is being written by another process: wait until" in texts[0])
    build_index(model, made_saes(), TEXTS[:20], tmp_path / "one", shard=100, progress=False)
    assert without_clock(tmp_path / "index") == without_clock(tmp_path / "one")


def test_a_folder_that_is_being_written_is_refused_by_every_long_writer(model, tmp_path: Path):
    calls = [
        lambda: build_index(model, made_saes(), TEXTS[:3], tmp_path, progress=False),
        lambda: train(Planted(), CONFIG, progress=False, folder=tmp_path),
    ]
    with locked(tmp_path):
        for call in calls:
            with pytest.raises(ValueError, match="is being written by another process: wait until that is done, or name another folder"):
                call()
    assert not list(tmp_path.iterdir())


def test_labels_and_runs_of_two_processes_are_all_kept(tmp_path: Path):
    assert in_processes(put_labels, [(tmp_path / "mine.json", tmp_path / "runs.jsonl", ROW, first) for first in (0, 20)]) == [0, 0]
    assert sorted(OwnLabels(tmp_path / "mine.json").of("abc")) == list(range(40))
    assert sorted(row["seed"] for row in read_rows(tmp_path / "runs.jsonl")) == list(range(40))


def test_half_a_file_of_a_living_process_is_left_alone(tmp_path: Path):
    def write(partial: Path) -> None:
        write_whole(tmp_path / "a.txt", lambda other: other.write_text("inner"))
        assert partial.exists()
        partial.write_text("outer")

    (tmp_path / "a.txtabcd_123.partial").touch()  # a dead one's
    write_whole(tmp_path / "a.txt", write)
    assert (tmp_path / "a.txt").read_text() == "outer" and [path.name for path in tmp_path.iterdir()] == ["a.txt"]


# places that must not be written to ---------------------------------------------------------------------------------------------------


def test_a_place_under_a_file_is_one_sentence_from_python_too(model, tmp_path: Path):
    file = tmp_path / "notes.txt"
    file.touch()
    random_sae().save(tmp_path / "sae")
    calls = [
        lambda: random_sae().save(file / "sae"),
        lambda: random_transcoder().save(file),
        lambda: convert(tmp_path / "sae", file / "a"),
        lambda: build_index(model, made_saes(), TEXTS[:3], file / "index", progress=False),
        lambda: train(Planted(), CONFIG, progress=False, folder=file),
        lambda: FeatureIndex.open(file),
        lambda: OwnLabels(file / "mine.json").put("abc", {1: Label("x")}),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"notes\.txt") as caught:
            call()
        assert len(str(caught.value).splitlines()) == 1
    assert file.read_bytes() == b""


@pytest.mark.parametrize("name", WRITERS)
def test_a_place_that_must_not_be_written_to_is_one_sentence(name: str, model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    ready, write = made_writers(model)[name]
    ready(tmp_path)

    def refused(*args, **options):
        raise PermissionError(13, "Permission denied")

    before = without_clock(tmp_path)
    monkeypatch.setattr(tempfile, "mkstemp", refused)
    monkeypatch.setattr(os, "mkdir", refused)
    with pytest.raises(OSError, match=r"could not be written: Permission denied$"):
        write(tmp_path)
    assert without_clock(tmp_path) == before


def test_a_write_that_fails_for_another_reason_leaves_nothing_either(tmp_path: Path):
    def fail(path: Path) -> None:
        path.write_text("half")
        raise RuntimeError("torch says so")

    for write in (
        lambda: write_whole(tmp_path / "a", fail),
        lambda: write_together(tmp_path / "b" / "c", {"one": lambda path: path.touch(), "two": fail}),
    ):
        with pytest.raises(RuntimeError):
            write()
    with pytest.raises(RuntimeError), whole_folder(tmp_path / "d" / "e") as folder:
        fail(folder / "x")
    assert not list(tmp_path.iterdir())


def test_tensors_that_cannot_be_written_are_an_oserror(tmp_path: Path):
    with pytest.raises(OSError):
        write_tensors(tmp_path / "nowhere" / "x.safetensors", {"x": torch.zeros(2)})
