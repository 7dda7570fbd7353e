"""A person's labels: theirs, over any index, restorable, carried from machine to machine; nothing that is installed is ever written to."""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from made_index import contents
from made_models import random_sae

import workbench
from widgets import CardPane
from workbench import atlas
from workbench.bench import Workbench
from workbench.features.index.index import FeatureIndex
from workbench.features.index.own_labels import OwnLabels
from workbench.features.index.parts import Label
from workbench.files import checked_file, checked_folder, write_text

PACKAGE = Path(workbench.__file__).parent
WRITES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.chmod", "os.link", "os.symlink", "os.truncate", "os.utime")


def test_a_label_is_laid_over_what_an_index_says_and_taken_back(own_labels: Path):
    bench = atlas.load("1k")
    feature, before = next(iter(bench.labels.items()))
    bench.label(feature, "mine")
    bench.label(feature, "mine again")
    assert bench.labels[feature] == "mine again" == bench.feature(feature).label.text
    assert atlas.load("1k").labels[feature] == "mine again", "a reinstall would find it too: it is not in the package"
    assert bench.index.table.set_index("feature")["label"][feature] == "mine again"
    bench.unlabel(feature)
    assert bench.labels[feature] == "mine"
    bench.label(feature, "")
    assert bench.labels[feature] == before
    with pytest.raises(ValueError, match="feature 5 has no label of yours"):
        bench.unlabel(5)


def test_labels_of_one_sae_are_not_anothers(own_labels: Path):
    bench = atlas.load("1k")
    bench.label(3, "mine")
    assert bench.with_sae("4k").labels.get(3) != "mine"


def test_a_bench_without_an_index_shows_labels_too(model):
    bench = Workbench(model=model, sae=random_sae())
    bench.label(3, "mine")
    assert bench.labels == {3: "mine"}


def test_labels_are_carried_to_another_machine(tmp_path: Path, own_labels: Path):
    mine, theirs = OwnLabels(), OwnLabels(tmp_path / "theirs.json")
    mine.put("sae", {1: Label("one"), 2: Label("two")})
    theirs.put("sae", {2: Label("zwei"), 3: Label("</script>")})
    file = mine.write(tmp_path / "mine.json")
    assert theirs.add(file) == 2 and theirs.add(file) == 0
    assert {i: label.text for i, label in theirs.of("sae").items()} == {1: "one", 2: "two", 3: "</script>"}
    theirs.undo("sae", 2)
    assert theirs.of("sae")[2].text == "zwei"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": 1}', '{"format": 2, "saes": {}}', '{"format": 1, "saes": {"a": {"x": [{}]}}}'])
def test_a_file_that_holds_no_labels_is_named_and_left_as_it_is(own_labels: Path, text: str):
    own_labels.write_text(text)
    with pytest.raises(ValueError, match="labels.json"):
        OwnLabels().put("sae", {1: Label("one")})
    assert own_labels.read_text() == text


def test_an_installed_package_is_never_written_to(model):
    before = contents(PACKAGE / "atlas" / "weights" / "index")
    bench = atlas.load("1k")
    bench.label(3, "mine")
    bench.index.save_labels({4: Label("mine too", origin="a person")})
    with pytest.raises(ValueError, match="never written to"):
        bench.index.save_labels({5: Label("a rule's", 0.9, "token statistics")})
    with pytest.raises(ValueError, match="never written to"):
        bench.index.save_neurons({5: []})
    Workbench(model=bench.model, sae=bench.sae, index=bench.index).map()  # of one SAE: not the map that is kept there
    for write in (checked_file, checked_folder, lambda path: write_text(path, "")):
        with pytest.raises(ValueError, match="never written to"):
            write(PACKAGE / "new.html")
    assert contents(PACKAGE / "atlas" / "weights" / "index") == before and not (PACKAGE / "new.html").exists()
    assert json.loads(OwnLabels().path.read_text())["saes"][bench.sae.fingerprint()].keys() == {"3", "4"}


@contextmanager
def writes_heard(folder: Path) -> Iterator[list[str]]:
    """Every attempt to write into the folder, whether or not the disk would have allowed it (for root it always does)."""
    heard: list[str] = []
    where, is_on = str(folder), True

    def hear(event: str, args: tuple) -> None:
        if not is_on or event not in WRITES and event != "open":
            return
        if event == "open" and not (isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
            return
        paths = [os.fspath(each) for each in args[:2] if isinstance(each, (str, bytes, os.PathLike))]
        heard.extend(f"{event} {path}" for path in map(os.fsdecode, paths) if path.startswith(where))

    sys.addaudithook(hear)  # which Python never takes back: it is deaf afterwards
    try:
        yield heard
    finally:
        is_on = False


def test_labels_survive_a_new_installation_and_never_touch_it(tmp_path: Path, own_labels: Path):
    site = tmp_path / "site" / "index"
    shutil.copytree(PACKAGE / "atlas" / "weights" / "index", site)
    as_shipped = contents(site)
    with writes_heard(site) as heard:
        (site / "new").write_text("heard")
        (site / "new").unlink()
    assert [each.split()[0] for each in heard] == ["open", "os.remove"], "an attempt would be heard"
    with writes_heard(site) as heard:
        card = CardPane(replace(atlas.load("1k"), index=FeatureIndex.open(site, "1k")), feature=3)
        card.label("mine")
    assert heard == [] and contents(site) == as_shipped and own_labels.is_file()

    shutil.rmtree(site)
    shutil.copytree(PACKAGE / "atlas" / "weights" / "index", site)
    for path in [*site.rglob("*"), site]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    with writes_heard(site) as heard:
        bench = replace(atlas.load("1k"), index=FeatureIndex.open(site, "1k"))
        assert bench.labels[3] == "mine" == CardPane(bench, feature=3).title == bench.feature(3).label.text
        CardPane(bench, feature=4).label("mine too")
        assert bench.labels[4] == "mine too"
        CardPane(bench, feature=3).unlabel()
        assert bench.labels.get(3) != "mine"
    assert heard == [] and contents(site) == as_shipped
    site.chmod(0o755)
