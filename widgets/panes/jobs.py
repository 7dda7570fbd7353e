"""Long work beside a live view: in a thread, one at a time on a model, with progress and Cancel.

    job = Job(work, model, show)         starts at once; work(job) computes, asks job.is_cancelled and calls job.report(done, total)
    job.cancel()                         work stops at its next report; show(progress) gets the last word

Work of which half is worth nothing calls job.go_on(done, total) instead, which ends it there.

A notebook handles no callback while a cell computes, so nothing long may run in one. Jobs of one model take turns, in the order of asking,
and change places at each report: typing in one view goes on while another one ablates. The threads end with their work, when their view is
closed, or with the kernel.
"""

import atexit
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, WeakSet

SETTING = threading.RLock()  # held while traits are set: a message from the page and a job never set them at the same time
SHOWN_EVERY = 0.1  # seconds between two reports that reach the page
_TURNS: WeakKeyDictionary[Any, "Turn"] = WeakKeyDictionary()
_RUNNING: WeakSet["Job"] = WeakSet()


class Progress(NamedTuple):
    """What a view shows of a job."""

    stage: str  # "waiting" for another job of the model, "running", and at last "done", "cancelled" or "failed"
    done: int = 0
    total: int = 0  # 0: not known
    message: str = ""  # why it failed
    seconds: float = 0.0

    @property
    def is_over(self) -> bool:
        """Nothing more will come."""
        return self.stage in ("done", "cancelled", "failed")


class Cancelled(Exception):
    """Ends a work that was cancelled."""


class Turn:
    """A lock that is given in the order of asking: whoever releases it and asks again comes last."""

    def __init__(self) -> None:
        self._changed, self._queue = threading.Condition(), deque()

    def __enter__(self) -> None:
        me = object()
        with self._changed:
            self._queue.append(me)
            try:
                self._changed.wait_for(lambda: self._queue[0] is me)
            except BaseException:  # Ctrl-C while waiting: those behind must not wait for somebody who left
                self._queue.remove(me)
                self._changed.notify_all()
                raise

    def __exit__(self, *error: Any) -> None:
        with self._changed:
            self._queue.popleft()
            self._changed.notify_all()

    @property
    def is_taken(self) -> bool:
        """Does a job run or wait for this model?"""
        return bool(self._queue)


def turn_of(model: Any) -> Turn:
    """The model's one lock. Not to be asked for inside of a Job of that model, which holds it already, nor by what handles a message of
    the page, which would freeze the view until the job ahead is over."""
    return _TURNS.setdefault(model, Turn())


class Job:
    """`work(job)` on a thread of its own, when the model is free; `show(progress)` is called as it goes, and once when it is over."""

    def __init__(self, work: Callable[["Job"], None], model: Any, show: Callable[[Progress], None]):
        self._work, self._turn, self._show = work, turn_of(model), show
        self._cancelled, self._began, self._shown = threading.Event(), time.monotonic(), 0.0
        self.progress = Progress("waiting" if self._turn.is_taken else "running")
        self.thread = threading.Thread(target=self._run, name="workbench job", daemon=True)
        show(self.progress)
        _RUNNING.add(self)
        self.thread.start()

    @property
    def event(self) -> threading.Event:
        """For work that takes one: ablate(…, cancel=job.event)."""
        return self._cancelled

    @property
    def is_cancelled(self) -> bool:
        """Was it asked to stop? `work` looks at this between batches."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Ask it to stop; it ends at its next look."""
        self._cancelled.set()

    def replace(self) -> None:
        """Cancelled, and its last word is kept from the view: another job's comes now."""
        self._show = lambda progress: None
        self.cancel()

    def report(self, done: int, total: int = 0) -> None:
        """Called by the work between batches, never inside a hook: says how far it is and lets another job of the model in."""
        self.tell(done, total)
        self._turn.__exit__()
        self._turn.__enter__()

    def go_on(self, done: int, total: int = 0) -> None:
        """`report`, for work that keeps nothing of what it has begun: once cancelled, it ends here."""
        self.report(done, total)
        if self.is_cancelled:
            raise Cancelled

    def tell(self, done: int, total: int = 0) -> None:
        """Says how far it is and keeps its turn: for work that is inside of a hook."""
        now, before = time.monotonic(), self.progress.done
        self.progress = Progress("running", done, total, "", round(now - self._began, 3))
        if now - self._shown > SHOWN_EVERY or done == total != before:
            self._shown = now
            self._say("running", done, total)

    def wait(self, timeout: float | None = None) -> Progress:
        """Blocks until it is over: for scripts and tests."""
        self.thread.join(timeout)
        return self.progress

    def _run(self) -> None:
        try:
            with self._turn:
                if not self.is_cancelled:
                    self._say("running")
                    with suppress(Cancelled):
                        self._work(self)
        except ValueError as error:  # what a user typed
            self._say("failed", message=str(error))
        except Exception as error:
            self._say("failed", message=f"{type(error).__name__}: {error}")
            raise  # a bug: its traceback goes where the kernel writes
        else:
            self._say("cancelled" if self.is_cancelled else "done", self.progress.done, self.progress.total)

    def _say(self, stage: str, done: int = 0, total: int = 0, message: str = "") -> None:
        self.progress = Progress(stage, done, total, message, round(time.monotonic() - self._began, 3))
        with SETTING:
            self._show(self.progress)


@atexit.register
def _end_all() -> None:
    """Before the interpreter goes: a thread that is left inside torch would crash it."""
    jobs = list(_RUNNING)
    for job in jobs:
        job.cancel()
    for job in jobs:
        job.thread.join(timeout=5)
