"""The question's pane: what is wrong is said before anything is computed, effects come as they are measured, Cancel keeps them."""

import pytest

from widgets import PromptPane
from widgets.panes.jobs import turn_of
from workbench.bench import Workbench
from workbench.circuits.metrics import logit_diff

PROMPT = "the cat sat on the"


def test_a_prompt_shows_its_tokens_and_what_the_model_would_say(bench: Workbench):
    pane = PromptPane(bench, prompt=PROMPT)
    assert pane.tokens == ["<|start|>", "the", " cat", " sat", " on", " the"] and pane.n_tokens == 6
    pane._asking.wait(60)
    shares = [each["probability"] for each in pane.next_tokens]
    assert len(shares) == 8 and shares == sorted(shares, reverse=True)


@pytest.mark.parametrize(
    ("about", "typed", "says"),
    [
        ("prompt", "the cat " * 5000, "tokens long; this model reads at most 64"),
        ("prompt", "   ", "empty"),
        ("answer", "catastrophe", "expected one token"),
        ("baseline", "xyz dog", "expected one token"),
        ("baseline", " mat", "its own baseline"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_computed(bench: Workbench, about: str, typed: str, says: str):
    pane = PromptPane(bench, prompt=PROMPT, answer=" mat")
    setattr(pane, about, typed)
    assert says in pane.problems[about]
    assert pane.run() is None and pane.ranking is None


def test_what_cannot_be_asked_is_a_comment_in_the_code_and_what_is_shown_is_ranked(bench: Workbench):
    pane = PromptPane(bench, prompt=PROMPT, answer=" mat")
    pane.run().wait(60)
    pane.answer = "catastrophe"
    said, ranked = pane.to_python().splitlines()
    assert said.startswith("# What is typed cannot be asked: ") and "expected one token" in said
    assert ranked == f"ranking = bench.rank({PROMPT!r}, wb.logit_diff(' mat'))"


def test_an_answer_gets_the_leading_space_that_makes_it_one_token(bench: Workbench):
    for word in ("mat", "dog", "ran", "cat"):
        pieces = bench.model.tokenizer(word, add_special_tokens=False)["input_ids"]
        if len(pieces) > 1:
            break
    pane = PromptPane(bench, prompt=PROMPT, answer=word)
    assert pane.answer == " " + word and not pane.problems["answer"]


@pytest.mark.parametrize("prompt", ["the", "</script><img src=x> 👩‍👩‍👧 \u202e", "the\n\tcat"])
def test_short_and_hostile_prompts_are_ranked_like_any_other(bench: Workbench, prompt: str):
    pane = PromptPane(bench, prompt=prompt, answer=" mat")
    assert pane.run().wait(60).stage == "done", pane.progress
    assert pane.ranking.table["effect"].notna().all()
    assert not any("\u202e" in token or "\n" in token for token in pane.tokens)


def test_attributions_come_before_effects_and_cancel_keeps_what_was_measured(bench: Workbench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("widgets.panes.prompt.SHOWN_AGAIN", 0.0)
    monkeypatch.setattr("widgets.panes.prompt.SHARE", 0)
    pane, measured = PromptPane(bench, prompt=PROMPT, answer=" mat"), []

    def look(change) -> None:
        measured.append(int(change["new"].table["effect"].notna().sum()))
        if measured[-1]:
            pane.cancel()

    pane.observe(look, "ranking")
    assert pane.run().wait(60).stage == "cancelled"
    assert measured[0] == 0 and 0 < measured[-1] < len(pane.ranking.table)
    assert pane.progress["done"] == measured[-1]


def test_typing_while_an_ablation_runs_reads_the_new_prompt_and_leaves_the_ranking_to_its_own(bench: Workbench):
    pane = PromptPane(bench, prompt=PROMPT, answer=" mat")
    with turn_of(bench.model):  # a model that is taken: as during an ablation
        job = pane.run()
        pane.prompt = "the dog ran to the"
        assert pane.tokens[2] == " dog" and pane.progress["stage"] == "waiting"
    assert job.wait(60).stage == "done"
    pane._asking.wait(60)
    assert pane.next_tokens


def test_an_answer_that_the_model_would_not_give_is_flagged(bench: Workbench):
    pane = PromptPane(bench, prompt=PROMPT)
    pane._asking.wait(60)
    assert pane.standing == {}
    first, last = pane.next_tokens[0]["token"], pane.next_tokens[-1]["token"]
    pane.answer = last
    assert (pane.standing["token"], pane.standing["rank"]) == (last, 8) and pane.standing["first"]["token"] == first
    assert pane.run().wait(60).stage == "done"
    assert pane.ranking.standing.rank == 8 and repr(first) in pane.ranking.caveat and "#8" in pane.ranking.caveat
    pane.answer = first
    assert pane.standing["rank"] == 1 and bench.rank(PROMPT, logit_diff(first), progress=False).caveat == ""
