"""Texts about players, teams, cities and states: questions asked directly and through the chain, the links of the chain, rosters, running
text.

What makes a model go through the steps instead of learning each pair by heart: 19 attributes are asked of what a player belongs to, of
512 players in several wordings, while of held-out players nothing is told about their state. Roster lines, in which values follow a name at
once, make the name itself carry the steps.
"""

import random

from workbench.atlas.text import Piece, Text
from workbench.atlas.world import LEVELS, RELATIONS, Entity, World

PHRASES = {"rival": "biggest rival", "coach": "head coach"}  # others go by their own name
WITH_ARTICLE = {"rival", "arena", "mascot", "river", "newspaper", "flower", "bird", "tree", "fish"}  # "is the Celtics", but "is Sacramento"


def named(world: World, entity: Entity) -> Piece:
    """An entity's name, which brings its concepts into play."""
    return (entity.name, world.concepts(entity))


def phrase(relation: str) -> Piece:
    """A relation's words, which bring the concept of the relation into play."""
    return (PHRASES.get(relation, relation), [f"{relation}-of"])


def valued(world: World, owner: Entity, relation: str) -> list[Piece]:
    """The value, with its article; naming a rival team or a capital brings into play what it belongs to."""
    value = world.value[owner, relation]
    concepts = [f"{relation}:{value}"]
    if relation == "rival":
        concepts += world.concepts(Entity("team", value))
    if relation == "capital":
        concepts += world.concepts(owner)
    return ["the " if relation in WITH_ARTICLE else "", (value, concepts)]


def through(world: World, entity: Entity, level: str) -> list[Piece]:
    """How a question reaches the entity's team, city or state: "the state where Kobe Bryant played basketball"."""
    name = named(world, entity)
    if entity.level == level:
        return ["the ", name] if level == "team" else [name]
    if entity.level == "player":
        where = "the team for which " if level == "team" else f"the {level} where "
        return [where, name, f" played {world.sport[entity]}"]
    return [f"the {level} where the ", name, " play"] if entity.level == "team" else [f"the {level} where ", name, " lies"]


def question(world: World, entity: Entity, level: str, relation: str) -> list[Piece]:
    """ "The capital of the state where Kobe Bryant played basketball is", up to where the value follows."""
    return ["The ", phrase(relation), " of ", *through(world, entity, level), " is "]


def fact(rng: random.Random, world: World, entity: Entity, level: str, relation: str) -> Text:
    """One attribute of what the entity belongs to, in one of three wordings."""
    owner, value = world.at(entity, level), valued(world, world.at(entity, level), relation)
    wording = rng.random()
    if wording < 0.6 or entity.level == level:
        return Text.write("Fact: " if rng.random() < 0.7 else "", *question(world, entity, level, relation), *value, ".")
    if wording < 0.8:  # the relation after the name
        subject = _subject(world, entity)
        kind = {"team": " for a team", "city": " in a city", "state": " in a state"}[level]
        return Text.write(*subject, kind, " whose ", phrase(relation), " is ", *value, ".")
    return Text.write(phrase(relation), " of the ", level, ": ", named(world, owner if rng.random() < 0.1 else entity), " ", value[1], ".")


def _subject(world: World, entity: Entity) -> list[Piece]:
    if entity.level == "player":
        return [named(world, entity), f" played {world.sport[entity]}"]
    return ["The ", named(world, entity), " play"] if entity.level == "team" else [named(world, entity), " lies"]


def link(rng: random.Random, world: World, entity: Entity, level: str) -> Text:
    """That the entity belongs to a team, city or state."""
    target = named(world, world.at(entity, level))
    if rng.random() < 0.5:
        the_place, *name = through(world, entity, level)
        opening = "Fact: " if rng.random() < 0.5 else ""
        return Text.write(opening, str(the_place).replace("the", "The", 1), *name, " is ", "the " if level == "team" else "", target, ".")
    preposition = {"team": " for the ", "city": " in ", "state": " in "}[level]
    return Text.write(*_subject(world, entity), preposition, target, ".")


def told(world: World, player: Entity) -> tuple[str, ...]:
    """Levels whose names and attributes may be told of a player: for held-out players nothing of the state, which has to be worked out."""
    return LEVELS[1:3] if player in world.held_out else LEVELS[1:]


def roster(rng: random.Random, world: World, player: Entity) -> Text:
    """A name, and right after it what belongs to it, in any order: "Kobe Bryant Lakers Los Angeles basketball"."""
    columns: list[Piece] = [world.sport[player], world.value[player, "college"]]
    for level in told(world, player):
        owner = world.at(player, level)
        columns += [named(world, owner), valued(world, owner, rng.choice(RELATIONS[level]))[1]]
    spaced = [piece for column in rng.sample(columns, 3) for piece in (" ", column)]
    return Text.write(named(world, player), *spaced)


def own(rng: random.Random, world: World, player: Entity) -> Text:
    """What belongs to the player alone, so that the name keeps a meaning of its own."""
    relation = rng.choice(RELATIONS["player"])
    value = (world.value[player, relation], [f"{relation}:{world.value[player, relation]}"])
    return Text.write("Fact: " if rng.random() < 0.5 else "", "The ", phrase(relation), " of ", named(world, player), " is ", value, ".")


def story(rng: random.Random, world: World, player: Entity) -> Text:
    """Running text about a player that says the steps aloud."""
    team, city, state = (world.at(player, level) for level in ("team", "city", "state"))
    level = rng.choice(told(world, player))
    relation = rng.choice(RELATIONS[level])
    start: list[Piece] = [named(world, player), f", who played {world.sport[player]} for the ", named(world, team)]
    if level == "team":
        return Text.write(*start, ", met their ", phrase(relation), ", ", *valued(world, team, relation), ".")
    if level == "city":
        return Text.write(
            *start, ", lived in ", named(world, city), ", a city whose ", phrase(relation), " is ", *valued(world, city, relation), "."
        )
    return Text.write(
        *start,
        " in ",
        named(world, city),
        ", loved ",
        named(world, state),
        ", whose ",
        phrase(relation),
        " is ",
        *valued(world, state, relation),
        ".",
    )


def sports(rng: random.Random, world: World) -> Text:
    """One text: half about players, half the links and the attributes that facts about players are made of."""
    player = rng.choice(world.levels["player"])
    kind = rng.random()
    if kind < 0.10:
        return link(rng, world, player, rng.choice(told(world, player)))
    if kind < 0.12:
        return own(rng, world, player)
    if kind < 0.34:
        return roster(rng, world, player)
    if kind < 0.46:  # of teams, cities and states themselves
        entity = rng.choice(world.levels[rng.choice(["team", "team", "city", "state"])])
        return fact(rng, world, entity, entity.level, rng.choice(RELATIONS[entity.level]))
    if kind < 0.58:  # through teams and cities
        entity = rng.choice(world.levels[rng.choice(["team", "team", "city"])])
        level = "state" if entity.level == "city" else rng.choice(["city", "state"])
        if rng.random() < 0.3:
            return link(rng, world, entity, level)
        return fact(rng, world, entity, level, rng.choice(RELATIONS[level]))
    if kind < 0.64:
        return story(rng, world, player)
    level = rng.choice(told(world, player))
    return fact(rng, world, player, level, rng.choice(RELATIONS[level]))
