"""workbench steer: texts side by side on stdout, JSON that says the same, one line for what was typed wrong."""

import json
from collections.abc import Sequence

import pytest

from workbench import cli

PROMPT = "Fact: The capital of the state"


def steer_args(options_of_both: Sequence[str], *options: str) -> list[str]:
    return ["steer", PROMPT, *options_of_both, "--max-new-tokens", "4", *options]


def test_steer_prints_the_unsteered_text_and_one_for_each_strength(options_of_both: list[str], capsys: pytest.CaptureFixture[str]):
    options = ["--feature", "3=0,2,50", "--feature", "8=1", "--max-act", "3=1.5", "--max-act", "8=2", "--token", " Albany"]
    assert cli.main(steer_args(options_of_both, *options)) == 0
    out = capsys.readouterr().out
    headings = [line.split("  ")[0] for line in out.splitlines() if "perplexity" in line]
    assert headings == ["unsteered", "3 × 0, 8 × 1", "3 × 2, 8 × 1", "3 × 50, 8 × 1"]
    assert out.count(PROMPT) == 4 and "p( Albany)" in out
    said = " ".join(out.split())  # lines are wrapped
    assert "feature 3: strength 1 is activation 1.50" in said and ", 50: beyond" in said


def test_json_is_all_of_stdout_and_holds_the_texts(options_of_both: list[str], capsys: pytest.CaptureFixture[str]):
    options = ["--feature", "3=2", "--max-act", "3=1.5", "--temperature", "1", "--samples", "2", "--seed", "7", "--json"]
    assert cli.main(steer_args(options_of_both, *options)) == 0
    result = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)  # NaN is not JSON
    rows = result["continuations"]
    assert [(row["name"], row["sample"]) for row in rows] == [("unsteered", 0), ("unsteered", 1), ("3 × 2", 0), ("3 × 2", 1)]
    assert rows[0]["strength"] is None and rows[2]["strength"] == 2.0 and result["max_act"] == {"3": 1.5}
    cli.main(steer_args(options_of_both, *options))
    assert json.loads(capsys.readouterr().out) == result, "the same seed writes the same texts"


WRONG = {
    "no strength": (["--feature", "3"], "'3' is not FEATURE=NUMBER"),
    "a feature that is no number": (["--feature", "Lakers=3"], "expected something like 1234=10"),
    "a feature that is not there": (["--feature", "64=3"], "feature 64 is out of range: this SAE has features 0 to 63"),
    "a strength past all floats": (["--feature", "3=1e40", "--max-act", "3=1"], "3 × 1e+40 is more than torch.float32 holds"),
    "a largest activation that nobody knows": (["--feature", "3=3"], "give --max-act 3=…"),
    "no new token": (["--feature", "3=3", "--max-new-tokens", "0"], "--max-new-tokens"),
    "past the context": (["--feature", "3=3", "--max-act", "3=1", "--max-new-tokens", "100"], "that this model reads"),
    "samples that are all the same": (["--feature", "3=3", "--max-act", "3=1", "--samples", "2"], "give a temperature"),
    "no feature at all": ([], "--feature"),
}


@pytest.mark.parametrize("how", WRONG)
def test_what_is_typed_wrong_is_one_line_and_exit_2(options_of_both: list[str], how: str, capsys: pytest.CaptureFixture[str]):
    options, expected = WRONG[how]
    assert cli.main(steer_args(options_of_both, *options)) == 2
    captured = capsys.readouterr()
    line = captured.err.splitlines()[-1]
    assert line.startswith("workbench: ") and expected in line
    assert captured.out == "" and "Traceback" not in captured.err
