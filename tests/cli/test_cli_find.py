"""workbench find: every way but attribution, as text, JSON and a page; one line for what was typed wrong."""

import json
from pathlib import Path

import pytest
from made_models import random_sae

from workbench import cli
from workbench.features.index.index import build_index
from workbench.features.index.parts import Label
from workbench.sae.sae import SAE


@pytest.fixture(scope="module")
def command(model_of, folder_of, tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("find")
    random_sae().save(folder / "sae")
    index = build_index(model_of("gpt2"), SAE.load(folder / "sae"), ["the cat sat", "the dog ran"], folder / "index", progress=False)
    index.save_labels({3: Label("a cat <asleep>")})
    return ["find", "--model", str(folder_of("gpt2")), "--sae", str(folder / "sae"), "--index", str(folder / "index")]


def test_filters_are_printed_with_what_they_removed(command: list[str], capsys):
    assert cli.main([*command, "the cat", "a cat", "--without", "the dog", "--margin", "0.8", "--max-density", "1"]) == 0
    out = capsys.readouterr().out
    assert "active on 2 of 2 positive prompts" in out and "at most 0.8 × as active on 1 negative" in out and " left" in out


def test_json_has_the_rows_and_the_counts(command: list[str], capsys):
    assert cli.main([*command, "the cat", "--json", "--top", "3", "--max-density", "1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["rows"]) == 3 <= found["n_passed"] and found["removed"][0]["n_before"] == 64


WAYS = {
    "most active at ' cat'": ["the cat sat", "--token", "cat"],
    "nearest to feature 3": ["--near", "3"],
    "a cat <asleep>": ["--label", "cat"],
    "that the classifier did not see": ["the cat", "a cat", "--without", "the dog", "--without", "a mat", "--classify"],
}


@pytest.mark.parametrize("text", WAYS)
def test_other_ways(command: list[str], text: str, capsys):
    assert cli.main([*command, *WAYS[text]]) == 0
    assert text in capsys.readouterr().out


def test_words_that_no_label_holds_name_the_nearest_label(command: list[str], capsys):
    assert cli.main([*command, "--label", "asleap"]) == 0
    assert "no label holds these words; the nearest are 'a cat <asleep>'" in capsys.readouterr().out


def test_a_page_holds_the_table_and_no_markup_of_labels(command: list[str], tmp_path: Path):
    assert cli.main([*command, "--label", "cat", "--html", str(tmp_path / "found.html")]) == 0
    page = (tmp_path / "found.html").read_text()
    assert "a cat &lt;asleep&gt;" in page and "<asleep>" not in page


WRONG = {
    "what to look for?": [],
    "one of the four": ["the cat", "--near", "3"],
    "--token 'cat' is of one prompt": ["the cat", "a cat", "--token", "cat"],
    "feature 64 is out of range": ["--near", "64"],
    "positive prompt 2 of 2 is empty": ["the cat", " "],
    "tests is a folder": ["the cat", "--html", "tests"],
}


@pytest.mark.parametrize("message", WRONG)
def test_what_was_typed_wrong_is_one_line_and_exit_2(command: list[str], message: str, capsys):
    assert cli.main([*command, *WRONG[message]]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
