"""The facts of the small world: players belong to teams, teams to cities, cities to states, and all but players have attributes of their
own.

    player → team → city → state                     768 → 128 → 32 → 8: six players a team, four of each below each
    attributes: team's (rival, coach, …), city's (mayor, river, …), state's (capital, flower, …)

A question asks an attribute through this chain; its steps are what the answer needs, in order. Four children at every level mean that a
step's neighbor cannot pass for it:
a feature of one team covers a quarter of its city's texts, F1 0.4.
"""

import random
from dataclasses import dataclass
from functools import cache, cached_property
from typing import NamedTuple

from workbench.atlas import names

LEVELS = ("player", "team", "city", "state")
RELATIONS = {
    "team": ("rival", "coach", "color", "arena", "mascot", "owner"),
    "city": ("mayor", "river", "airport", "park", "newspaper"),
    "state": names.STATE_RELATIONS,
    "player": ("college",),
}
PLAYERS_PER_TEAM = 6  # many, so that going through the team is cheaper than learning each player's facts by heart
HELD_OUT_PER_TEAM = 2


class Entity(NamedTuple):
    """A player, team, city or state."""

    level: str  # one of LEVELS
    name: str

    @property
    def concept(self) -> str:
        """Its name in the answer key, such as `team:Lakers`."""
        return f"{self.level}:{self.name}"


@dataclass(frozen=True)
class World:
    """All facts: who belongs to whom, who has what."""

    parent: dict[Entity, Entity]  # player → team → city → state
    value: dict[tuple[Entity, str], str]  # (entity, relation) → attribute
    sport: dict[Entity, str]  # of a player or a team
    held_out: frozenset[Entity]  # players of whose state nothing is ever told, neither its name nor its attributes

    @cached_property
    def levels(self) -> dict[str, list[Entity]]:
        """All entities of each level."""
        everybody = dict.fromkeys([*self.parent, *self.parent.values()])
        return {level: [entity for entity in everybody if entity.level == level] for level in LEVELS}

    def chain(self, entity: Entity) -> list[Entity]:
        """The entity and what it belongs to, up to the state."""
        chain = [entity]
        while chain[-1] in self.parent:
            chain.append(self.parent[chain[-1]])
        return chain

    def at(self, entity: Entity, level: str) -> Entity:
        """Where the entity's chain passes `level`."""
        return next(step for step in self.chain(entity) if step.level == level)

    def concepts(self, entity: Entity) -> list[str]:
        """What naming the entity brings into play: itself and all it belongs to."""
        return [step.concept for step in self.chain(entity)]


@cache
def world() -> World:
    """The one world there is: every draw comes from this seed, so that names and facts never change."""
    rng = random.Random("atlas")
    parent, value, sport, held_out = {}, {}, {}, set()
    players = _player_names(rng)
    for state_name, (attributes, cities) in names.STATES.items():
        state = Entity("state", state_name)
        value |= {(state, relation): attribute for relation, attribute in zip(RELATIONS["state"], attributes, strict=True)}
        for city_name, team_names in cities.items():
            city = Entity("city", city_name)
            parent[city] = state
            for team_sport, team_name in zip(names.SPORTS, team_names.split(), strict=True):
                team = Entity("team", team_name)
                parent[team], sport[team] = city, team_sport
                roster = [Entity("player", player) for player in players[team_name]]
                parent |= dict.fromkeys(roster, team)
                sport |= dict.fromkeys(roster, team_sport)
                held_out |= set(roster[:HELD_OUT_PER_TEAM])
    bare = World(parent, value, sport, frozenset(held_out))
    _draw_attributes(bare, rng)
    return bare


def _player_names(rng: random.Random) -> dict[str, list[str]]:
    """Six players for every team, its stars first; first names are shared, a made surname has one owner."""
    stars = {team: players.split(", ") for team, players in names.STARS.items()}
    famous = [player.split() for players in stars.values() for player in players]
    first_names = sorted({*names.FIRST_NAMES, *(first for first, _ in famous)})
    surnames = [head + tail for head in names.SURNAME_HEADS for tail in names.SURNAME_TAILS]
    rng.shuffle(surnames)
    made = iter(f"{rng.choice(first_names)} {surname}" for surname in surnames)
    teams = [team for _, cities in names.STATES.values() for team in " ".join(cities.values()).split()]
    return {team: [*stars.get(team, []), *(next(made) for _ in range(PLAYERS_PER_TEAM - len(stars.get(team, []))))] for team in teams}


def _draw_attributes(world: World, rng: random.Random) -> None:
    """Attributes of players, teams and cities: drawn without replacement as far as the list goes, so that values are shared evenly."""
    drawn = {
        "team": {"coach": names.COACHES, "color": names.COLORS, "arena": names.ARENAS, "mascot": names.MASCOTS, "owner": names.OWNERS},
        "city": {
            "mayor": names.MAYORS,
            "river": names.RIVERS,
            "airport": names.AIRPORTS,
            "park": names.PARKS,
            "newspaper": names.NEWSPAPERS,
        },
        "player": {"college": names.COLLEGES},
    }
    for level, relations in drawn.items():
        entities = world.levels[level]
        for relation, values in relations.items():
            even = [values[i % len(values)] for i in range(len(entities))]
            rng.shuffle(even)
            world.value.update({(entity, relation): drawn_value for entity, drawn_value in zip(entities, even, strict=True)})
    for sport in names.SPORTS:
        teams = [team for team in world.levels["team"] if world.sport[team] == sport]
        rng.shuffle(teams)
        if sport == "basketball":  # the rivalry everybody knows
            lakers, celtics = Entity("team", "Lakers"), Entity("team", "Celtics")
            teams = [lakers, celtics] + [team for team in teams if team not in (lakers, celtics)]
        for one, other in zip(teams[::2], teams[1::2], strict=True):
            world.value[one, "rival"], world.value[other, "rival"] = other.name, one.name
