"""What the commands have in common: --start-token, --index, --chat; several epochs; and messages that speak as a shell does."""

import json
import re
import shutil
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from workbench import cli
from workbench.cli.options import shell_words
from workbench.sae.sae import SAE

PROMPT = "Fact: The capital of the state"
TEXTS = [PROMPT, "Kobe Bryant played basketball", "where the state is"] * 3


def rank_args(options: list[str], *more: str) -> list[str]:
    return ["rank", *options, "--answer", " Sacramento", "--ablate", "3", "--json", *more]


def test_an_index_made_in_the_shell_serves_rank_and_steer(options_of_both, tmp_path: Path, capsys):
    texts = tmp_path / "texts.txt"
    texts.write_text("\n\n".join(TEXTS))
    assert cli.main(["index", str(tmp_path / "index"), *options_of_both, "--texts", str(texts), "--start-token", ""]) == 0
    assert "no start token" in capsys.readouterr().out
    with_index = [*options_of_both, "--index", str(tmp_path / "index")]
    assert cli.main(rank_args(with_index, PROMPT)) == 2
    assert "this index was made with no start token" in capsys.readouterr().err
    assert cli.main(["rank", PROMPT, *with_index, "--answer", " Sacramento", "--json", "--start-token", ""]) == 0
    ranking = json.loads(capsys.readouterr().out)
    assert ranking["start_token"] == "" and min(row["pos"] for row in ranking["rows"]) == 0
    assert cli.main(["steer", PROMPT, *with_index, "--start-token", "", "--feature", "3=2", "--max-new-tokens", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["max_act"]["3"] > 0


def test_a_start_token_that_is_none_is_one_line(options_of_both, capsys):
    assert cli.main(rank_args(options_of_both, PROMPT, "--start-token", "<nope>")) == 2
    assert "--start-token '<nope>' is no token of this model" in capsys.readouterr().err


@pytest.fixture
def talking(folders, tmp_path: Path) -> list[str]:
    """The same model with a chat template."""
    shutil.copytree(folders[0], tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    tokenizer.save_pretrained(tmp_path / "model")
    return ["--model", str(tmp_path / "model"), "--sae", str(folders[1])]


def test_a_conversation_comes_from_a_file(talking, tmp_path: Path, capsys):
    file = tmp_path / "chat.json"
    file.write_text(json.dumps([{"role": "user", "content": "the state"}]))
    assert cli.main(["rank", *talking, "--answer", " Sacramento", "--chat", str(file), "--json"]) == 0
    ranking = json.loads(capsys.readouterr().out)
    assert {(row["role"], row["turn"]) for row in ranking["rows"]} >= {("user", 0), ("template", 0)}
    assert cli.main(["steer", "--chat", str(file), *talking, "--feature", "3=2", "--max-act", "3=1", "--max-new-tokens", "2"]) == 0
    assert "user: the state" in capsys.readouterr().out
    assert cli.main(["rank", *talking, "--answer", " Sacramento", "--chat", str(file)]) == 0
    assert re.search(r"\(\d+, (user|templ)", capsys.readouterr().out)  # beside each token, as far as a narrow shell has room


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "is not JSON"),
        ('{"role": "user"}', "expected a list of messages"),
        ("[]", "conversation is empty"),
        ("[3]", "holds [3]; expected a list"),
    ],
)
def test_what_is_no_conversation_is_one_line(talking, tmp_path: Path, content, says, capsys):
    file = tmp_path / "chat.json"
    file.write_text(content)
    assert cli.main(rank_args(talking, "--chat", str(file))) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("both", [True, False])
def test_a_prompt_or_a_conversation_and_not_both(options_of_both, both, capsys):
    assert cli.main(rank_args(options_of_both, *([PROMPT, "--chat", "x.json"] if both else []))) == 2
    assert "Give a prompt, or --chat FILE" in capsys.readouterr().err


def test_epochs_read_a_short_corpus_again(folders, tmp_path: Path, capsys):
    texts = tmp_path / "texts.txt"
    texts.write_text("\n\n".join(TEXTS))
    args = ["train", str(tmp_path / "sae"), "--d-sae", "8", "--model", str(folders[0]), "--texts", str(texts), "--n-steps", "12"]
    args += ["--hook-name", "blocks.1.hook_resid_pre", "--batch", "8", "--start-token", ""]
    assert cli.main(args) == 2
    assert "the stream ended after" in (said := capsys.readouterr().err) and "--epochs 2 into a new folder reads them again" in said
    args[1] = str(tmp_path / "again")
    assert cli.main([*args, "--epochs", "4"]) == 0
    assert SAE.load(tmp_path / "again").cfg.metadata["start_token"] == ""
    assert cli.main(["train", str(tmp_path / "other"), "--d-sae", "8", "--epochs", "2"]) == 2
    assert "--epochs is for --texts" in capsys.readouterr().err


def test_messages_speak_as_the_shell_does():
    names = ["max_act", "start_token", "share", "margin"]
    assert shell_words("give max_act={3: …}", names) == "give --max-act 3=…"
    assert shell_words('such as until="top 10"', {"until"}) == 'such as --until "top 10"'
    assert shell_words("share=0.5, margin=3.2 lets it in", names) == "--share 0.5, --margin 3.2 lets it in"
    assert shell_words("start_token=None when loading", names) == 'start-token "" when loading'.replace("start", "--start", 1)
    assert shell_words("'3=5' is no share=", ["share"]) == "'3=5' is no --share"
    assert shell_words("top=0 asks", names) == "top=0 asks"  # no option of that command
