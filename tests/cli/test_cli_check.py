"""workbench check: the table, JSON, a page; exit status 1 for an error, 2 for what was typed wrong."""

import json
from pathlib import Path

import pytest
from made_folders import PROMPT

from workbench import cli


@pytest.fixture
def command(folders: tuple[Path, Path], tmp_path: Path) -> list[str]:
    (tmp_path / "texts.txt").write_text("\n".join([PROMPT] * 20))
    return ["check", str(folders[0]), "--texts", str(tmp_path / "texts.txt")]


def test_warnings_are_no_failure_and_every_row_is_printed(command, folders, tmp_path: Path, capsys):
    assert cli.main([*command, "--sae", str(folders[1]), "--html", str(tmp_path / "check.html")]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"Check of {folders[0].name}: ")
    for check in ("model", "text", "unknown tokens", "start token", "hook points", "KV cache", "precision", "effects", "speed", "SAE fits"):
        assert check in out
    assert "SAE explains" in (tmp_path / "check.html").read_text() and f"Written: {tmp_path / 'check.html'}" in out


def test_an_error_is_exit_status_one_and_json_all_of_stdout(command, tmp_path: Path, capsys):
    assert cli.main([*command, "--sae", str(tmp_path / "nope"), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    rows = {row["check"]: row for row in found["rows"]}
    assert found["verdict"] == rows["SAE fits"]["verdict"] == "error" and rows["model"]["verdict"] == "ok"


def test_the_start_token_is_said_as_the_shell_says_it(command, capsys):
    assert cli.main([*command, "--start-token", ""]) == 0
    assert "none: loss" in capsys.readouterr().out
    assert cli.main([*command, "--start-token", "<nope>"]) == 1
    assert "--start-token '<nope>' is no token" in " ".join(capsys.readouterr().out.split())


def test_texts_that_are_not_there_are_one_line(command, capsys):
    assert cli.main([*command[:2], "--texts", "nope.txt"]) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("workbench: no such file or folder: nope.txt")
