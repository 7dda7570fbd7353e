"""Where a person has been: places, one of which is now; back and forward between them, as in a browser.

history.visit(place)          a new place; what lay ahead is forgotten, as is anything older than the last MOST places
history.go(-1)                the place before, or None at the end
Trail(explorer)               a history of what an explorer shows
"""

from typing import Any, NamedTuple

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


class Trail:
    """The way of a person through an explorer: what is looked at is visited, and a new question shows its first feature."""

    def __init__(self, explorer: Any):
        self._explorer, self._history = explorer, History()
        self._is_going = False
        self._chosen_for: tuple[str, int | None] | None = None  # the prompt and feature that no person has chosen

    def choose_first(self) -> None:
        """A selection that a new question does not have gives way to its first feature: by attribution at once, by effect at last."""
        explorer = self._explorer
        ranking, asking = explorer.pane["ranking"].ranking, explorer.pane["prompt"]
        if ranking is None or self._is_going:
            return
        is_mine = self._chosen_for is not None and self._chosen_for == (ranking.prompt, explorer.feature)  # nobody has chosen since
        is_over = asking.progress.get("stage") in ("done", "cancelled")
        if explorer.feature is None or not (ranking.table["feature"] == explorer.feature).any() or (is_mine and is_over):
            explorer.feature = explorer.first_feature()
            self._chosen_for = None if is_over else (ranking.prompt, explorer.feature)
        self.visit()

    def visit(self) -> None:
        """What is ranked and selected now."""
        asking = self._explorer.pane.get("prompt")
        if not self._is_going and asking is not None and asking.ranked:
            self._history.visit(Place(asking.question_ranked, self._explorer.feature))
            self._tell()

    def go(self, by: int) -> None:
        """So many steps on, where there are any; a question that is typed and was not asked can be returned to."""
        explorer = self._explorer
        asking = explorer.pane["prompt"]
        if asking.keep_draft():
            self._history.insert(Place(asking.question, explorer.feature))
        place = self._history.go(by)
        if place is None:
            return
        self._is_going = True
        try:
            if asking.question != place.question:
                asking.recall(place.question)
            explorer.feature = place.feature
        finally:
            self._is_going = False
        self._tell()

    def _tell(self) -> None:
        self._explorer.set_trait("can_go", list(self._history.can_go))
