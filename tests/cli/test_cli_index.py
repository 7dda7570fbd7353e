"""workbench index and page: an index from files, pages from the index; one line for what was typed wrong."""

import shutil
from pathlib import Path

import pytest
from made_models import TEXT

from workbench import cli
from workbench.cli.observe import numbers
from workbench.features.index.index import FeatureIndex
from workbench.sae.sae import SAE


@pytest.fixture(scope="module")
def command(folder_of, tmp_path_factory) -> list[str]:
    from made_models import random_sae

    folder = tmp_path_factory.mktemp("cli")
    random_sae().save(folder / "first")
    changed: SAE = random_sae()
    changed.b_enc += 0.1
    changed.save(folder / "second")
    (folder / "texts.txt").write_text("\n".join(TEXT[n % 20 :] for n in range(60)))
    saes = ["--sae", str(folder / "first"), "--sae", str(folder / "second")]
    return ["index", str(folder / "index"), "--model", str(folder_of("gpt2")), *saes, "--texts", str(folder / "texts.txt")]


@pytest.fixture(scope="module")
def folder(command: list[str]) -> Path:
    assert cli.main(command) == 0
    return Path(command[1])


def test_an_index_is_built_of_all_saes_and_said(command: list[str], folder: Path, capsys):
    assert cli.main(command) == 0  # again: it is there
    out = capsys.readouterr().out
    assert "SAE first" in out and "SAE second" in out and "of 60 texts" in out
    assert list(FeatureIndex.open(folder).manifest["saes"]) == ["first", "second"]


def test_an_sae_is_named_by_its_folder_whatever_that_is_called(command: list[str], tmp_path: Path):
    sae, out = tmp_path / "sæ 1 (new)", tmp_path / "ïndex 1"
    shutil.copytree(command[command.index("--sae") + 1], sae)
    assert cli.main(["index", str(out), *command[2:4], "--sae", str(sae), *command[-2:]]) == 0
    assert list(FeatureIndex.open(out).manifest["saes"]) == ["sæ-1-new"]


def test_n_texts_cuts_the_corpus(command: list[str], tmp_path: Path):
    assert cli.main([command[0], str(tmp_path / "few"), *command[2:], "--n-texts", "5"]) == 0
    assert FeatureIndex.open(tmp_path / "few").manifest["corpus"]["n_texts"] == 5


def test_pages_are_printed(folder: Path, capsys):
    assert cli.main(["page", str(folder), "3", "5-6", "--sae", "second"]) == 0
    out = capsys.readouterr().out
    assert [line.split(":")[0] for line in out.splitlines() if line.startswith("Feature")] == [f"Feature {i} of second" for i in (3, 5, 6)]


def test_pages_are_written_to_a_folder(folder: Path, tmp_path: Path, capsys):
    assert cli.main(["page", str(folder), "--html", str(tmp_path / "pages")]) == 0
    active = FeatureIndex.open(folder).table.query("n_active > 0")["feature"]
    assert {path.stem for path in (tmp_path / "pages").iterdir()} == {"index", *map(str, active)}
    assert "index.html" in capsys.readouterr().out


def test_ranges_of_features_are_read():
    assert numbers(["7", "3-5", "4"], 8) == [7, 3, 4, 5]


WRONG = {
    "which features? Name some": ["page", "INDEX"],
    "'x' is no feature": ["page", "INDEX", "x"],
    "'9-3' is no feature": ["page", "INDEX", "9-3"],
    "feature 64 is out of range": ["page", "INDEX", "64"],
    "no SAE is called 'third' in this index; there is first, second": ["page", "INDEX", "3", "--sae", "third"],
    "is not an index: manifest.json is missing": ["page", "nowhere", "3"],
    "needs --sae and --texts": ["index", "new", "--model", "gpt2"],
    "no such file or folder: no-such.txt": ["index", "new", "--model", "gpt2", "--sae", "s", "--texts", "no-such.txt"],
}


@pytest.mark.parametrize("message", WRONG)
def test_what_was_typed_wrong_is_one_line_and_exit_2(folder: Path, message: str, capsys):
    assert cli.main([str(folder) if word == "INDEX" else word for word in WRONG[message]]) == 2
    err = capsys.readouterr().err.splitlines()
    assert message in err[-1] and err[-1].startswith("workbench: ")


def test_an_index_of_other_texts_is_not_overwritten(command: list[str], folder: Path, tmp_path: Path, capsys):
    (tmp_path / "others.txt").write_text("the dog\nthe cat")
    assert cli.main([*command[:-1], str(tmp_path / "others.txt")]) == 2
    assert "is an index of something else: here corpus" in capsys.readouterr().err
