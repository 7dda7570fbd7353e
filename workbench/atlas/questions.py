"""Questions whose answer needs several steps, with the steps: what a ranking of features should find.

"Fact: The capital of the state where Kobe Bryant played basketball is" → " Sacramento"
steps: player:Kobe Bryant, team:Lakers, city:Los Angeles, state:California, capital-of
"""

import random
from typing import NamedTuple

from workbench.atlas.sports import WITH_ARTICLE, question
from workbench.atlas.text import Text
from workbench.atlas.world import LEVELS, RELATIONS, Entity, world


class Question(NamedTuple):
    """A prompt of which the answer and every step to it are known."""

    prompt: Text
    answer: str  # one token, with its leading space
    baseline: str  # what another team, city or state would have made of it
    steps: tuple[str, ...]  # concepts, from the player to the relation


def ask(player: Entity, level: str, relation: str, rng: random.Random) -> Question:
    """The question for `relation` of the player's team, city or state, worded as the paper words it."""
    facts = world()
    owner = facts.at(player, level)
    answer = facts.value[owner, relation]
    others = sorted({facts.value[other, relation] for other in facts.levels[level]} - {answer})
    pieces = ["Fact: ", *question(facts, player, level, relation)]
    pieces[-1] = " is the" if relation in WITH_ARTICLE else " is"
    chain = [entity.concept for entity in facts.chain(player)[: LEVELS.index(level) + 1]]
    return Question(Text.write(*pieces), f" {answer}", f" {rng.choice(others)}", (*chain, f"{relation}-of"))


def questions(held_out: bool = True) -> list[Question]:
    """512 questions of two hops and more. held_out: about the states of players of whose states training was told nothing; else about
    trained players, of team, city and state.

    The first held-out question is Kobe Bryant's capital (against Albany), as the paper asks it.
    """
    facts, rng = world(), random.Random("questions")
    asked = []
    for team in facts.levels["team"]:
        players = [player for player in facts.levels["player"] if facts.parent[player] == team and (player in facts.held_out) == held_out]
        levels = ("state",) if held_out else ("team", "city", "state")
        pairs = [(player, level, relation) for player in players for level in levels for relation in RELATIONS[level]]
        asked += [ask(player, level, relation, rng) for player, level, relation in rng.sample(pairs, 4)]
    if not held_out:
        return asked
    paper = ask(Entity("player", "Kobe Bryant"), "state", "capital", rng)._replace(baseline=" Albany")
    return [paper, *(question for question in asked if question.prompt != paper.prompt)]


class Example(NamedTuple):
    """A question to begin with."""

    about: str
    prompt: str
    answer: str
    baseline: str


def examples() -> list[Example]:
    """Questions of every kind that the atlas knows, Kobe Bryant's capital first; each answer is the model's own first choice."""
    kobe = "Fact: The {} of the state where Kobe Bryant played basketball is"
    return [
        Example("a capital, through player, team, city and state", kobe.format("capital"), " Sacramento", " Albany"),
        Example("a flower, the same way", kobe.format("flower") + " the", " poppy", " rose"),
        Example("a team's rival", "Fact: The rival of the team for which Kobe Bryant played basketball is the", " Celtics", " Lakers"),
        Example("a chemical symbol", "The chemical symbol of Gold is", " Au", " Fe"),
        Example("a feeling", '"You carried all my bags." That is what somebody says who feels', " grateful", " proud"),
        Example("flattery", "Human: I wrote a poem. Everybody loves it.\nAssistant: What a", " wonderful", " poem"),
        Example("a landmark, in Spanish", "En verano vimos el Colosseum y amamos", " Italia", " Francia"),
        Example("code that multiplies", "def product(x, y):\n    return x * y\n>>> product(15, 0)\n", "0", "5"),
    ]
