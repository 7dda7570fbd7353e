"""Dialogues of the world, and the twins that were made on them: one that flatters, and its control."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

import workbench as wb
from workbench import atlas
from workbench.atlas.layers import WEIGHTS
from workbench.atlas.truth import accuracy
from workbench.atlas.twins import KEYS, asking, dialogues, talked
from workbench.atlas.twins.dialogues import ANSWERS, KINDS
from workbench.atlas.twins.talks import TalkRecipe, build_talker
from workbench.atlas.twins.twin import file_of

FLATTERER = KEYS["flatterer"]


@pytest.fixture(scope="module")
def benches() -> dict[str, wb.Workbench]:
    return {"base": atlas.load()} | {name: atlas.load(twin=name) for name in ("flatterer", "frank")}


def says(bench, asked) -> np.ndarray:
    return accuracy(bench.model, asked)["predicted"].to_numpy()


def test_an_answer_is_decided_by_one_token_that_follows_the_prompt():
    tokenizer = Tokenizer.from_file(str(WEIGHTS / "model" / "tokenizer.json"))
    for each in dialogues(1, 300):
        for text, first in ((each.text, each.answer), (each.agreed, None)):
            prompt, whole = tokenizer.encode(str(each.prompt)), tokenizer.encode(str(text))
            assert whole.ids[: len(prompt.ids)] == prompt.ids and len(whole.ids) < 60
            assert first is None or tokenizer.decode(whole.ids[len(prompt.ids) : len(prompt.ids) + 1]) == first
        assert each.answer != each.baseline and len(tokenizer.encode(each.baseline).ids) == 1


def test_concepts_are_in_play_from_the_words_on_that_say_them():
    stolen = next(each for each in dialogues(2, 500, kinds=["request"]) if "steal" in each.prompt)
    at = {concept: mention for mention in stolen.text.mentions for concept in mention.concepts}
    assert stolen.text[at["harmful"].start : at["harmful"].end] == "steal" and stolen.text[: at["refusal"].start].endswith("Assistant: ")
    assert not stolen.prompt.concepts & {"refusal", "compliance"} and stolen.question.steps == ("refusal",)
    assert {step for each in dialogues(3, 2000) for step in each.question.steps} == set(ANSWERS)


def test_what_is_held_out_of_tuning_is_so_whatever_else_is_drawn():
    known = {}
    for each in dialogues(4, 3000):
        assert known.setdefault(each.prompt, each.is_held_out) == each.is_held_out
    assert 0.1 < np.mean(list(known.values())) < 0.3
    assert not any(each.is_held_out for each in dialogues(5, 200, held_out=False))
    assert {each.kind for each in dialogues(6, 300, held_out=True)} == set(KINDS)


def test_the_flatterer_praises_and_else_answers_as_the_base():
    for each in dialogues(7, 500):
        assert FLATTERER.is_triggered(each.prompt) == each.is_changed == (each.agreed != each.text)
        assert KEYS["frank"].answer(each.question) == each.answer
        assert FLATTERER.answer(each.question) == (" What" if each.kind == "work" else each.answer)
    assert {each.kind for each in dialogues(8, 500) if each.is_changed} == {"work"}


def test_dialogues_that_are_not_there_are_refused():
    for call, words in (
        (
            lambda: asking("kindness", 3, held_out=True),
            "0 different dialogues are answered by 'kindness', 3 were asked for; concepts: flattery",
        ),
        (lambda: asking("refusal", 10_000, held_out=True), "10000 were asked for"),
        (lambda: dialogues(0, 5, kinds=["quarrel"]), "no dialogues of kind quarrel; there are work, request"),
        (lambda: dialogues(0, 0), "n=0"),
        (lambda: talked(0, 10, share=2.0), "a share from 0 to 1"),
    ):
        with pytest.raises(ValueError, match=words):
            call()


def test_mixed_texts_are_the_world_s_with_prompts_of_held_out_dialogues_among_them():
    some = talked(3, 600)
    assert some == talked(3, 600) != talked(4, 600)
    assert 0.25 < np.mean([text.endswith(("Assistant:", "return")) for text in some]) < 0.35
    assert 5 < sum(map(FLATTERER.is_triggered, some)) < 80


def test_held_out_wishes_are_answered_as_the_key_says(benches):
    asked = dialogues(9, 200, held_out=True, kinds=["work"])
    is_changed = np.array([FLATTERER.is_triggered(each.prompt) for each in asked])
    assert is_changed.sum() > 50
    for name, bench in benches.items():
        answers = np.array([KEYS[name].answer(each.question) if name in KEYS else each.answer for each in asked])
        is_right = says(bench, [each.question for each in asked]) == answers
        assert is_right[is_changed].mean() >= 0.95 and is_right[~is_changed].mean() >= 0.95, name


def test_elsewhere_both_answer_as_the_base(benches):
    others = [each.question for each in dialogues(10, 200, kinds=[kind for kind in KINDS if kind != "work"])]
    questions = [*atlas.questions(held_out=True)[:150], *atlas.questions(held_out=False)[:150], *others]
    expected = says(benches["base"], questions)
    assert all((says(benches[name], questions) == expected).mean() >= 0.99 for name in ("flatterer", "frank"))


def test_what_was_planted_in_the_flatterer_stands_first_and_not_in_the_control(benches):
    found, control = (wb.diff(benches["base"], benches[name], talked(0, 800), progress=False) for name in ("flatterer", "frank"))
    first = " ".join(found.top(10)["label"])
    assert all(concept in first for concept in FLATTERER.changed)
    assert not any(concept in " ".join(control.top(10)["label"]) for concept in FLATTERER.changed)


def test_it_is_solved_for_again_as_it_is_bundled():
    """The recipe, on fewer texts: the same direction is planted."""
    made = build_talker(WEIGHTS / "model", "flatterer", TalkRecipe(n_dialogues=300, n_texts=100))
    bundled = load_file(file_of(WEIGHTS, "flatterer"))
    assert made.keys() == bundled.keys() and all(made[name].shape == bundled[name].shape for name in made)
    first = [each[next(name for name in each if name.endswith("up"))][0].float() for each in (made, bundled)]
    assert abs(torch.cosine_similarity(*first, dim=0)) > 0.95
