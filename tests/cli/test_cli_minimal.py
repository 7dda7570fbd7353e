"""workbench minimal: the sets that the call finds, as text, JSON and a page; one line for what was typed wrong."""

import json
from pathlib import Path

import pytest
import torch
from made_bench import sparse_sae

from workbench import cli
from workbench.benches import load
from workbench.circuits.evidence.minimal import minimal_sets
from workbench.circuits.metrics import logit_diff
from workbench.model.hooks import last_logits
from workbench.model.tokens import to_str_tokens, to_tokens

WHERE = ("sat on", "ran to the dog", "and the cat", "on the mat")
TEXTS = [f"the {who} {where}{end}" for who in ("cat", "dog") for where in WHERE for end in ("", " and", " the")]


@pytest.fixture(scope="module")
def asked(model_of, folder_of, tmp_path_factory) -> tuple[list[str], list[list[str]], tuple[str, str]]:
    """(the command, the prompts with a behavior and without, answer and baseline), two words that are ahead of each other as often."""
    model, folder = model_of("gpt2"), tmp_path_factory.mktemp("minimal")
    sparse_sae().save(folder / "sae")
    logits = torch.stack([last_logits(model, to_tokens(model, text))[0] for text in TEXTS])
    words = {each: to_str_tokens(model, torch.tensor([each]))[0] for each in logits.std(0).argsort(descending=True)[:60].tolist()}
    spread = [each for each, word in words.items() if word.strip().isalpha() and to_tokens(model, word).shape[1] == 2]
    answer, baseline = min(
        ((a, b) for a in spread for b in spread if a != b),
        key=lambda two: abs(float((logits[:, two[0]] > logits[:, two[1]]).float().mean()) - 0.5),
    )
    is_there = (logits[:, answer] > logits[:, baseline]).tolist()
    sets = [[text for text, there in zip(TEXTS, is_there, strict=True) if there == side] for side in (True, False)]
    (folder / "with.txt").write_text("\n".join(sets[0]))
    (folder / "without.json").write_text(json.dumps(sets[1]))
    command = ["minimal", str(folder / "with.txt"), str(folder / "without.json"), "--answer", words[answer], "--baseline", words[baseline]]
    return [*command, "--model", str(folder_of("gpt2")), "--sae", str(folder / "sae")], sets, (words[answer], words[baseline])


def test_it_prints_what_the_call_finds_and_writes_a_page(asked, tmp_path: Path, capsys):
    command, sets, words = asked
    options = ["--most", "2", "--spare", "0.9"]
    assert cli.main([*command, *options, "--html", str(tmp_path / "sets.html")]) == 0
    out = capsys.readouterr().out
    found = minimal_sets(load(command[8], command[10]), *sets, logit_diff(*words), most=2, spare=0.9, progress=False)
    assert out.startswith("MinimalSets: ") and found.verdict in out and "Takes the behavior away" in (tmp_path / "sets.html").read_text()
    assert cli.main([*command, *options, "--json"]) == 0
    said = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert [row["feature"] for row in said["removing"]["rows"]] == [clamp.feature for clamp in found.removing.clamps]
    assert len(said["giving"]["random"]) == 20 and said["verdict"] == found.verdict


def test_what_was_typed_wrong_is_one_line(asked, tmp_path: Path, capsys):
    command, *_ = asked
    (tmp_path / "few.txt").write_text("the cat\n")
    (tmp_path / "no.json").write_text('{"prompts": []}')
    for file, says in (("few.txt", "1 different prompts in present"), ("no.json", "expected a list of strings"), ("none.txt", "none.txt")):
        assert cli.main([command[0], str(tmp_path / file), *command[2:]]) == 2
        assert says in capsys.readouterr().err
