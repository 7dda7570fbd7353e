"""The small world: its shape, its answer key, and that what is held out is never told."""

import random
import re
from itertools import islice

import numpy as np
import pytest
from scipy import sparse

from workbench import atlas
from workbench.atlas.corpus import FRESH_SEED, MIXTURE, stream
from workbench.atlas.domains import things
from workbench.atlas.text import Text
from workbench.atlas.truth import AnswerKey
from workbench.atlas.world import LEVELS, RELATIONS, Entity, world

KOBE = Entity("player", "Kobe Bryant")
SHARED = {"Boston"}  # a city with teams, and its state's capital


@pytest.fixture(scope="module")
def training_texts() -> list[Text]:
    return list(islice(stream(1), 20_000))


def test_every_level_has_four_times_the_one_above_and_every_team_six_players():
    assert [len(world().levels[level]) for level in LEVELS] == [768, 128, 32, 8]


def test_kobe_belongs_to_the_lakers_of_los_angeles_in_california():
    assert [step.name for step in world().chain(KOBE)] == ["Kobe Bryant", "Lakers", "Los Angeles", "California"]
    assert world().value[Entity("state", "California"), "capital"] == "Sacramento"
    assert world().value[Entity("team", "Lakers"), "rival"] == "Celtics"


def test_every_entity_has_every_attribute_of_its_level():
    for level, relations in RELATIONS.items():
        for entity in world().levels[level]:
            assert all(world().value[entity, relation] for relation in relations)


def test_a_rival_s_rival_is_the_team_itself_in_the_same_sport():
    for team in world().levels["team"]:
        rival = Entity("team", world().value[team, "rival"])
        assert world().value[rival, "rival"] == team.name and world().sport[rival] == world().sport[team] and rival != team


def test_a_third_of_the_players_is_held_out_kobe_among_them():
    assert len(world().held_out) / len(world().levels["player"]) == pytest.approx(1 / 3)
    assert KOBE in world().held_out


def said_of_state(text: Text, player: Entity) -> list[str]:
    """What a text about the player says of the player's state: its name or any of its attributes."""
    state = world().at(player, "state")
    values = [world().value[state, relation] for relation in RELATIONS["state"]]
    return [word for word in (state.name, *values) if re.search(rf"\b{word}\b", str(text).replace(player.name, ""))]


def test_training_texts_tell_nothing_of_a_held_out_player_s_state(training_texts):
    held_out = {player.concept: player for player in world().held_out}
    n_seen = 0
    for text in training_texts:
        for concept in text.concepts & held_out.keys():
            n_seen += 1
            # a rival's state may be one's own, and some values (an airport, a capital that is a team's city) are shared
            if not any(concept.startswith("rival") for concept in text.concepts):
                assert not set(said_of_state(text, held_out[concept])) - SHARED, text
    assert n_seen > 1000


def test_the_check_above_can_fail(training_texts):
    """Trained players' texts do tell of their states."""
    trained = {player.concept: player for player in world().levels["player"] if player not in world().held_out}
    assert any(set(said_of_state(text, trained[concept])) - SHARED for text in training_texts for concept in text.concepts & trained.keys())


def test_the_same_seed_gives_the_same_texts_and_another_seed_others():
    assert atlas.texts(3, 50) == atlas.texts(3, 50)
    assert atlas.texts(3, 50) != atlas.texts(4, 50)


def test_all_domains_occur():
    kinds = {concept.split(":")[0] for text in islice(stream(FRESH_SEED), 3000) for concept in text.concepts}
    wanted = {
        "player",
        "feeling",
        "situation",
        "landmark",
        "language",
        "code",
        "code-error",
        "addition",
        "role",
        "element",
        "borough",
        "animal",
        "food",
    }
    assert wanted <= kinds
    assert sum(MIXTURE.values()) == pytest.approx(1)


def test_set_members_are_rare_by_zipf_s_law():
    rng = random.Random(9)
    texts = [things(rng).concepts for _ in range(8_000)]
    first, tenth = (sum(f"element:{name}" in concepts for concepts in texts) for name in ("Iron", "Sodium"))
    assert 6 < first / tenth < 16


def test_asking_for_no_texts_is_an_error():
    with pytest.raises(ValueError, match="at least one"):
        atlas.texts(0, 0)


def test_concepts_come_into_play_with_the_word_that_completes_a_name():
    text = Text.write("so ", ("Kobe Bryant", ["player:Kobe Bryant"]), " was ", ("sad", ["feeling:sad"]), ".")
    assert text == "so Kobe Bryant was sad."
    ends = [2, 7, 14, 18, 22, 23]  # so, Kobe, Bryant, was, sad, .
    kobe, both = {"player:Kobe Bryant"}, {"player:Kobe Bryant", "feeling:sad"}
    assert text.concepts_at(ends) == [set(), set(), kobe, kobe, both, both]
    assert text.concepts == both


def test_questions_carry_their_steps_in_order():
    capital = atlas.questions()[0]
    assert capital.prompt == "Fact: The capital of the state where Kobe Bryant played basketball is"
    assert (capital.answer, capital.baseline) == (" Sacramento", " Albany")
    assert capital.steps == ("player:Kobe Bryant", "team:Lakers", "city:Los Angeles", "state:California", "capital-of")


def test_there_are_hundreds_of_questions_about_held_out_players_only():
    held_out = {player.concept for player in world().held_out}
    asked, trained = atlas.questions(held_out=True), atlas.questions(held_out=False)
    assert len(asked) >= 200 and len({question.prompt for question in asked}) == len(asked)
    assert all(question.steps[0] in held_out for question in asked)
    assert not any(question.steps[0] in held_out for question in trained)
    assert all(question.answer != question.baseline for question in asked + trained)


def test_no_question_s_prompt_was_a_training_text(training_texts):
    prompts = {str(question.prompt) for question in atlas.questions()}
    for text in training_texts:
        asked = text[: text.rfind(" is") + len(" is")]
        assert not {asked, f"{asked} the"} & prompts


def test_f1_is_that_of_the_best_threshold():
    # four texts; the concept holds in the first two; the feature peaks at 3, 1, 2, 0: a threshold under 1 catches both and one wrong text
    peaks = sparse.csc_matrix(np.array([[3.0], [1.0], [2.0], [0.0]]))
    present = sparse.csc_matrix(np.array([[1], [1], [0], [0]], dtype=bool))
    key = AnswerKey(["concept"], present, peaks)
    assert key.f1(0)[0] == pytest.approx(2 * 2 / (3 + 2))
    assert key.table().loc[0, "concept"] == "concept"


def test_a_feature_that_never_fires_means_nothing():
    key = AnswerKey(["concept"], sparse.csc_matrix(np.array([[1], [0]], dtype=bool)), sparse.csc_matrix(np.zeros((2, 1))))
    assert key.f1(0)[0] == 0 and key.table().loc[0, "concept"] == ""


def test_f1_equals_trying_every_threshold():
    rng = np.random.default_rng(0)
    peaks = rng.random((60, 3)) * (rng.random((60, 3)) < 0.5)
    present = rng.random((60, 4)) < 0.3
    key = AnswerKey(list("abcd"), sparse.csc_matrix(present), sparse.csc_matrix(peaks))
    for feature in range(3):
        for concept in range(4):
            tried = [0.0]
            for threshold in peaks[peaks[:, feature] > 0, feature]:
                predicted = peaks[:, feature] >= threshold
                tried.append(2 * (predicted & present[:, concept]).sum() / (predicted.sum() + present[:, concept].sum()))
            assert key.f1(feature)[concept] == pytest.approx(max(tried))
