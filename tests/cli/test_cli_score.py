"""workbench score: two scores of each feature, kept beside the index; one line for what was typed wrong."""

import json
from pathlib import Path

import pytest
from made_index import TEXTS
from made_models import random_sae

from workbench import cli
from workbench.features.index.index import FeatureIndex, build_index
from workbench.sae.sae import SAE


@pytest.fixture
def command(model_of, folder_of, tmp_path: Path) -> list[str]:
    random_sae().save(tmp_path / "sae")
    folder = build_index(model_of("gpt2"), SAE.load(tmp_path / "sae"), TEXTS, tmp_path / "index", progress=False).folder
    return ["score", str(folder), "3-6", "--model", str(folder_of("gpt2")), "--sae", str(tmp_path / "sae")]


def test_scores_are_printed_and_kept(command: list[str], tmp_path: Path, capsys):
    assert cli.main([*command, "--html", str(tmp_path / "scores.html")]) == 0
    assert capsys.readouterr().out.startswith("Scores of 4 features, by the 20 tokens")
    assert set(FeatureIndex.open(command[1]).scores()) == {3, 4, 5, 6} and "What 4 features" in (tmp_path / "scores.html").read_text()
    assert cli.main([*command, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out, parse_constant=pytest.fail)["rows"]) == 4


def test_what_was_typed_wrong_is_one_line(command: list[str], capsys):
    assert cli.main([*command[:2], "64", *command[3:]]) == 2 and "feature 64 is out of range" in capsys.readouterr().err
    assert cli.main(["score", "nowhere"]) == 2 and "is not an index" in capsys.readouterr().err
