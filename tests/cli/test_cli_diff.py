"""workbench diff: what changed, as text, JSON and a page; one line for what was typed wrong."""

import json
from pathlib import Path

import pytest
from made_folders import tuned_from
from made_models import random_sae

from workbench import cli

TEXTS = [f"{who} {does} on the {where}" for who in ("the cat", "a dog") for does in ("sat", "ran") for where in ("mat", "cat", "dog")]


@pytest.fixture(scope="module")
def command(folder_of, tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("diff")
    random_sae().save(folder / "sae")
    (folder / "texts.txt").write_text("\n\n".join(TEXTS))
    tuned = tuned_from(folder_of("gpt2"), folder / "tuned")
    return ["diff", str(folder_of("gpt2")), tuned, "--sae", str(folder / "sae"), "--texts", str(folder / "texts.txt")]


def test_it_prints_the_verdict_the_features_and_what_is_assumed(command: list[str], capsys):
    assert cli.main([*command, "--top", "3"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Changes: ") and "most of all" in out and "through one SAE" in out and "12 texts are few" in out


def test_json_has_the_rows_in_full(command: list[str], capsys):
    assert cli.main([*command, "--json", "--top", "2"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert len(found["rows"]) == 2 <= found["n_changed"] and found["n_texts"] == 12 and len(found["dense"]) == 10


def test_effects_are_asked_for_by_a_word(command: list[str], tmp_path: Path, capsys):
    (tmp_path / "texts.txt").write_text("\n\n".join([*TEXTS, *(f"{text} mat" for text in TEXTS)]))
    longer = [*command[:-1], str(tmp_path / "texts.txt"), "--effects"]
    assert cli.main([*longer, "--json", "--top", "2"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert len(found["effects"]) == 2 and {"base", "tuned", "change", "q"} <= set(found["effects"][0])
    assert cli.main([*command, "--effects"]) == 2
    assert "12 texts: half of them choose features" in capsys.readouterr().err


def test_a_page_is_written_beside(command: list[str], tmp_path: Path):
    assert cli.main([*command, "--out", str(tmp_path / "changes.html")]) == 0
    assert "What did tuning change?" in (tmp_path / "changes.html").read_text()


def test_what_cannot_be_compared_is_one_line(command: list[str], capsys):
    assert cli.main([*command, "--n-texts", "9"]) == 2
    assert "9 texts: a text is what is counted, give 10 or more" in capsys.readouterr().err
    assert cli.main(["diff", command[1], command[1], *command[3:]]) == 2
    assert "nothing differs: both models have the same weights" in capsys.readouterr().err
    assert cli.main(["diff", command[1], command[2]]) == 2
    assert "needs --texts" in capsys.readouterr().err
