"""workbench evaluate: an SAE's measures as text or JSON; one line for what was typed wrong."""

import json
from pathlib import Path

import pytest
from made_models import TEXT

from workbench import cli
from workbench.model.model import load_model
from workbench.sae.evaluate import evaluate
from workbench.sae.sae import SAE


@pytest.fixture
def command(folder_of, sae: SAE, tmp_path: Path) -> list[str]:
    sae.save(tmp_path / "sae")
    (tmp_path / "texts.txt").write_text("\n".join(TEXT[n % 20 :] for n in range(60)))
    return ["evaluate", str(tmp_path / "sae"), "--model", str(folder_of("gpt2")), "--texts", str(tmp_path / "texts.txt")]


def test_it_prints_what_evaluate_measures(command, tmp_path, capsys):
    assert cli.main(command) == 0
    found = evaluate(load_model(command[3]), SAE.load(tmp_path / "sae"), tmp_path / "texts.txt")
    assert capsys.readouterr().out.strip() == repr(found)


def test_json_is_all_of_stdout(command, capsys):
    assert cli.main([*command, "--json", "--n-texts", "3", "--other", command[1]]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert found["truth"] == [] and found["median_cosine"] == pytest.approx(1)
    assert found["n_tokens"] < 60 and found["d_sae"] == 64 and found["l0"] > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({2: "--model", 4: "--n-texts", 5: "3"}, "needs an SAE and --texts"),
        ({5: "no-such-file.txt"}, "no such file or folder: no-such-file.txt"),
        ({1: "no-such-sae"}, "no-such-sae"),
    ],
)
def test_what_was_typed_wrong_is_one_line(command, change, message, capsys):
    args = [change.get(i, arg) for i, arg in enumerate(command)]
    assert cli.main(args) == 2
    err = capsys.readouterr().err.strip().splitlines()
    assert message in err[-1] and err[-1].startswith("workbench: ")


def test_on_the_atlas_it_also_says_what_the_features_mean(capsys):
    assert cli.main(["evaluate", "--n-texts", "100", "--json"]) == 0
    truth = {row["kind"]: row for row in json.loads(capsys.readouterr().out)["truth"]}
    assert {"team", "city", "state", "relation"} <= set(truth)
    assert all(0 < row["f1"] <= 1 and 0 <= row["found"] <= 1 and row["n_concepts"] > 0 for row in truth.values())
