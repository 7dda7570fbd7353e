"""Who is told when a file of a person's changes in this process: what shows it follows by itself.

changes = Watchers()
changes.watch(pane.refresh); changes.tell(); changes.unwatch(pane.refresh)
"""

from collections.abc import Callable
from weakref import WeakMethod


class Watchers:
    """Methods that are called after every change, each for as long as there is its object."""

    def __init__(self):
        self._seen: list[WeakMethod] = []

    def watch(self, seen: Callable[[], None]) -> None:
        """Calls `seen`, a method, from now on."""
        self._seen.append(WeakMethod(seen))

    def unwatch(self, seen: Callable[[], None]) -> None:
        """Ends that."""
        self._seen = [each for each in self._seen if each() != seen]

    def tell(self) -> None:
        """Something has changed."""
        self._seen = [each for each in self._seen if each() is not None]
        for seen in [each() for each in self._seen]:
            if seen is not None:
                seen()
