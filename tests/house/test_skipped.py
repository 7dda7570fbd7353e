"""What does not run on a machine is said in one line, with what brings it."""

from pathlib import Path

from skipped import BRINGS, ELSE, in_one_line

ROOT = Path(__file__).parents[2]


def test_the_line_counts_what_is_missing_and_names_what_brings_it():
    reasons = ["Skipped: no Chromium here: sudo apt install chromium"] * 3 + ["Skipped: needs CUDA", "Skipped: llama has no array"]
    line = in_one_line(reasons)
    assert line.startswith("5 tests skipped: 3 need Chromium (sudo apt install chromium), 1 needs a CUDA device")
    assert f"1 needs {ELSE[0]}" in line and "\n" not in line


def test_nothing_is_said_where_nothing_was_skipped():
    assert in_one_line([]) == ""


def test_the_commands_name_extras_that_there_are():
    extras = (ROOT / "pyproject.toml").read_text()
    for _, command in BRINGS.values():
        if "[" in command:
            assert f"\n{command.split('[')[1].split(']')[0]} = [" in extras


def test_in_ci_a_browser_test_that_skips_fails():
    assert "export CI=true" in (ROOT / ".ci/run").read_text()
