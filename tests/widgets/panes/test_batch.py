"""Several prompts as lines of a box: what each line asks for, what cannot be asked in one sentence, what is kept of what was measured."""

from pathlib import Path

import pytest
from pandas.testing import assert_frame_equal

from widgets import Explorer
from widgets.panes.beside.batch import BatchPane
from widgets.panes.beside.lines import Line, as_token, read_lines
from workbench.bench import Workbench
from workbench.circuits.metrics import logit_diff

LINES = "the cat sat on the | mat | dog\n\nthe dog ran to the\n"


@pytest.fixture
def pane(explorer: Explorer) -> BatchPane:
    return explorer.pane["batch"]


def test_a_line_is_a_prompt_with_its_answer_and_baseline_or_those_of_all(bench: Workbench):
    model = bench.model
    assert read_lines(model, LINES, "cat") == [Line(1, "the cat sat on the", " mat", " dog"), Line(3, "the dog ran to the", " cat", "")]
    assert read_lines(model, "the cat | sat\tmat\r\nthe⏎cat\t\tdog") == [
        Line(1, "the cat | sat", " mat", ""),
        Line(2, "the\ncat", "", " dog"),
    ]
    assert (as_token(model, "mat"), as_token(model, "'mat'"), as_token(model, " ")) == (" mat", "mat", "")


@pytest.mark.parametrize(
    ("text", "answer", "says"),
    [
        ("", "", "there is no prompt"),
        ("the cat | cat dog", "", "line 1: 'cat dog' is 2 tokens"),
        ("the cat\n | mat", "", "line 2: the prompt is empty"),
        ("the cat | mat | mat", "", "line 1: the answer ' mat' is its own baseline"),
        ("a | b | c | d\na || | d", "", r"line 1: “a | b | c | d” has 4 parts.*\(1 more of 2 lines"),
        ("the cat", "zebra crossing", "the answer of all lines: 'zebra crossing'"),
        ("the cat " * 2_000, "", "line 1: "),
        ("the cat\n" * 1_001, "", "1,001 prompts are more than 1,000"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence_and_nothing_is_lost(pane: BatchPane, text: str, answer: str, says: str):
    pane.text = LINES
    pane.run().wait(60)
    before = pane.batch
    pane.text, pane.answer = text, answer
    over = pane.run().wait(60)
    assert over.stage == "failed" and "\n" not in over.message
    with pytest.raises(ValueError, match=says):
        raise ValueError(over.message)
    assert pane.batch is before and pane.text == text and (pane.is_stale or not before)
    pane.text = LINES
    assert pane.progress == {}  # it said so of what was typed before


def test_means_are_those_of_rank_many_and_only_a_new_line_is_measured(pane: BatchPane, bench: Workbench, monkeypatch):
    pane.text = LINES
    pane.run().wait(60)
    batch = pane.batch
    assert batch is not None
    answers = [each.answer for each in batch.rankings]
    again = bench.rank_many([each.prompt for each in batch.rankings], [logit_diff(" mat", " dog"), logit_diff(answers[1])], progress=False)
    assert_frame_equal(pane.batch.table, again.table, rtol=1e-4, atol=1e-4)
    asked: list[str] = []
    ranked = BatchPane._ranked
    monkeypatch.setattr(
        BatchPane, "_ranked", staticmethod(lambda bench, line, *rest: (asked.append(line.prompt), ranked(bench, line, *rest))[1])
    )
    pane.text = "a cat sat on the\n" + LINES
    pane.run().wait(60)
    assert asked == ["a cat sat on the"] and len(pane.batch.rankings) == 3
    known: dict = {"bench": bench}
    exec("\n".join(line for line in pane.code.splitlines() if not line.startswith("bench =")), known)
    assert_frame_equal(known["batch"].table, pane.batch.table, rtol=1e-4, atol=1e-4)


def test_a_file_beside_the_notebook_adds_its_lines_once(pane: BatchPane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("prompts.txt").write_text("the dog\r\nthe cat | mat\n\nthe dog\n", encoding="utf-8")
    pane.text = "the cat | mat"
    pane.load("prompts.txt")
    assert pane.text == "the cat | mat\nthe dog" and pane.loaded == "1 of 3 lines of prompts.txt added, 2 were there"
    Path("latin.txt").write_bytes("café".encode("latin-1"))
    Path("large.txt").write_text("the cat\n" * 200_000)
    for name, says in (("nothing.txt", "nothing.txt"), (".", "is a folder"), ("latin.txt", "not UTF-8"), ("large.txt", "larger than 1 MB")):
        pane.load(name)
        assert says in pane.loaded and pane.text == "the cat | mat\nthe dog"


def test_another_dictionary_has_its_own_means_and_the_first_ones_are_there_on_return(explorer: Explorer, pane: BatchPane):
    pane.text = LINES
    pane.run().wait(60)
    before = pane.view
    explorer.pane["prompt"].sae = "b"
    assert pane.view == {} and pane.text == LINES
    pane.run().wait(60)
    assert pane.batch is not None and pane.batch.rankings[0].sae_name == "b"
    explorer.pane["prompt"].sae = "a"
    assert pane.view == before


def test_cancelled_it_shows_the_prompts_that_were_measured(pane: BatchPane, monkeypatch):
    ranked = BatchPane._ranked

    def cancels(bench, line, job, done, total):
        if done == 1:
            job.cancel()
        return ranked(bench, line, job, done, total)

    monkeypatch.setattr(BatchPane, "_ranked", staticmethod(cancels))
    pane.text = "the cat\nthe dog\na mat"
    assert pane.run().wait(60).stage == "cancelled"
    assert pane.batch is not None and [each.prompt for each in pane.batch.rankings] == ["the cat"]
    assert (pane.view["n_prompts"], pane.view["n_asked"]) == (1, 3)
