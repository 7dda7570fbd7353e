"""What a newcomer calls with the wrong thing is answered by one sentence, before anything is computed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from wrong_calls import CALLS


@pytest.fixture(scope="module")
def answers() -> dict[str, str]:
    script = Path(__file__).parents[1] / "made" / "wrong_calls.py"
    ran = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_call_says_what_was_wrong_and_what_was_expected(answers: dict[str, str], name: str):
    kind, _, message = answers[name].partition(": ")
    assert CALLS[name][1] in message
    assert kind in ("ValueError", "SAEError", "TextError", "TrainingError")
