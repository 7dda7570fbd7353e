"""Where a person has been: places, one of which is now; back and forward between them, as in a browser.

history.visit(place)          a new place; what lay ahead is forgotten, as is anything older than the last MOST places
history.go(-1)                the place before, or None at the end
"""

from typing import NamedTuple

from widgets.panes.prompt import Question

MOST = 500


class Place(NamedTuple):
    """What was looked at."""

    question: Question
    feature: int | None


class History:
    """Places in the order of visiting, and which of them is now."""

    def __init__(self):
        self.places: list[Place] = []
        self.at = -1

    def visit(self, place: Place) -> None:
        """A new place, unless it is the one that is now."""
        if self.places and self.places[self.at] == place:
            return
        kept = self.places[: self.at + 1]
        if kept and kept[-1].question == place.question and kept[-1].feature is None:
            kept.pop()  # the question's first feature completes it
        self.places = [*kept, place][-MOST:]
        self.at = len(self.places) - 1

    def insert(self, place: Place) -> None:
        """Right after where one is, without forgetting what lies ahead: what was typed and not asked yet."""
        self.places.insert(self.at + 1, place)
        self.at += 1

    def go(self, by: int) -> Place | None:
        """The place so many steps on, which is now from then on; None where there is none."""
        if not 0 <= self.at + by < len(self.places):
            return None
        self.at += by
        return self.places[self.at]

    @property
    def can_go(self) -> tuple[bool, bool]:
        """Back, forward."""
        return self.at > 0, self.at < len(self.places) - 1
