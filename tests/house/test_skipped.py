"""What does not run on a machine is said in one line, with what brings it."""

import os
import subprocess
import sys
from pathlib import Path

from skipped import BRINGS, ELSE, in_one_line

ROOT = Path(__file__).parents[2]


def test_the_line_counts_what_is_missing_and_ends_with_the_one_command_that_brings_it():
    reasons = ["Skipped: no Chromium here: sudo apt install chromium"] * 3 + ["Skipped: needs CUDA", "Skipped: llama has no array"]
    line = in_one_line([*reasons, "Skipped: could not import 'ray'", "Skipped: triton is not installed"])
    assert line.startswith("7 tests skipped: 3 need Chromium, 1 needs a CUDA device")
    assert f"1 needs {ELSE[0]}" in line and "\n" not in line
    assert line.endswith("To run them: sudo apt install chromium && .venv/bin/pip install -e '.[gpu,ray]'")


def test_where_no_command_helps_none_is_named():
    assert in_one_line(["Skipped: needs CUDA"]) == "1 test skipped: 1 needs a CUDA device"


def test_the_line_is_the_last_one(tmp_path: Path):
    (tmp_path / "test_it.py").write_text('import pytest\n\n\ndef test_it():\n    pytest.skip("needs CUDA")\n')
    command = [sys.executable, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", f"--confcutdir={tmp_path}", "-p", "skipped", tmp_path]
    alone = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT / "tests/made")}
    found = subprocess.run(command, env={**os.environ, **alone}, capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "1 test skipped: 1 needs a CUDA device"


def test_nothing_is_said_where_nothing_was_skipped():
    assert in_one_line([]) == ""


def test_the_commands_name_extras_that_there_are():
    extras = (ROOT / "pyproject.toml").read_text()
    for _, command in BRINGS.values():
        assert not command or " " in command or f"\n{command} = [" in extras


def test_in_ci_a_browser_test_that_skips_fails():
    assert "export CI=true" in (ROOT / ".ci/run").read_text()
