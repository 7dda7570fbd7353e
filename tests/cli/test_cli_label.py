"""workbench label: token rules offline, a language model after its cost was said; one line for what was typed wrong."""

from pathlib import Path

import pytest
from made_endpoint import about_cat, served
from made_evidence import TEXTS, rare_sae

from workbench import cli
from workbench.features.index.index import FeatureIndex, build_index


@pytest.fixture
def folder(model, tmp_path: Path) -> Path:
    return build_index(model, rare_sae(model), TEXTS, tmp_path / "index", progress=False).folder


def test_labels_by_token_rules_are_kept_in_the_index(folder: Path, capsys):
    assert cli.main(["label", str(folder), "3-6"]) == 0
    assert "4 features labelled by token statistics" in capsys.readouterr().out
    assert set(FeatureIndex.open(folder).labels()) == {3, 4, 5, 6}


def test_a_language_models_cost_is_said_first_and_nothing_is_sent_without_yes(folder: Path, capsys):
    pytest.importorskip("openai", reason="an extra: pip install 'circuit-workbench[label]' to run this test")
    with served(about_cat) as (url, server):
        command = ["label", str(folder), "3", "4", "--by", "llm", "--model", "made-up", "--url", f"{url}/v1", "--price", "1", "5"]
        command += ["--per-minute", "100000"]
        assert cli.main(command) == 0
        out = capsys.readouterr().out
        assert "2 features, 6 requests: about" in out and "dollars" in out and "--yes goes on" in out
        assert not server.asked and not FeatureIndex.open(folder).labels()
        assert cli.main([*command, "--yes"]) == 0
        assert len(server.asked) == 6
    assert FeatureIndex.open(folder).labels()[3].text == "the word cat"


WRONG = {
    "--by llm needs --model": ["label", "INDEX", "--by", "llm"],
    "is not an index": ["label", "nowhere"],
    "feature 64 is out of range": ["label", "INDEX", "64"],
    "needs a key in the environment variable NO_SUCH_KEY": [
        "label",
        "INDEX",
        "3",
        "--by",
        "llm",
        "--model",
        "m",
        "--key",
        "NO_SUCH_KEY",
        "--yes",
    ],
}


@pytest.mark.parametrize("message", WRONG)
def test_what_was_typed_wrong_is_one_line_and_exit_2(folder: Path, message: str, capsys):
    assert cli.main([str(folder) if word == "INDEX" else word for word in WRONG[message]]) == 2
    err = capsys.readouterr().err.splitlines()
    assert message in err[-1] and err[-1].startswith("workbench: ")
