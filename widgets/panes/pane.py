"""What the panes of the explorer share: a selection, a state that can be kept, code that makes the pane again, a file that shows it.

A pane's traits are its state. JavaScript only draws them: pane.js and pane.css, which every pane has, followed by the pane's own.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import anywidget
import traitlets

from widgets.html.standalone import WIDGET
from widgets.panes.jobs import SETTING, Job, Progress

STATIC = Path(__file__).parents[1] / "static"


def module(*names: str) -> str:
    """A pane's ES module: the shared pieces, then its own files. One text, because a notebook's module can import nothing offline."""
    return "".join((STATIC / f"{name}.js").read_text() for name in ("shared/pane", *names))


def style(*names: str) -> str:
    """What all panes share, then this one's CSS."""
    return "".join((STATIC / f"{name}.css").read_text() for name in ("shared/pane", *names))


def reference(widget: anywidget.AnyWidget | None, _: Any = None) -> str | None:
    """How a page names a widget that a trait holds; None where there is none, and where it was closed, perhaps just now."""
    comm = None if widget is None else widget.comm
    return None if comm is None else WIDGET + comm.comm_id


class Pane(anywidget.AnyWidget):
    """The traits named in `kept` are what a person chose; the others follow from them."""

    kept: ClassVar[tuple[str, ...]] = ()
    maker: ClassVar[str] = ""  # code that makes the pane anew

    feature = traitlets.Int(None, allow_none=True, help="the selection; None: nothing is selected").tag(sync=True)

    def state(self) -> dict[str, Any]:
        """What was chosen, as JSON knows it."""
        return {name: getattr(self, name) for name in self.kept}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `state()` gave, here or elsewhere. Raises ValueError, changing nothing, for a name that is no state of it."""
        unknown = [name for name in state if name not in self.kept]
        if unknown:
            raise ValueError(f"{type(self).__name__} keeps no {unknown[0]!r}; it keeps {', '.join(self.kept)}")
        with self.hold_trait_notifications():
            for name, value in state.items():
                setattr(self, name, value)

    def to_python(self) -> str:
        """Code that makes this pane with what was chosen."""
        chosen = [f"    {name}={getattr(self, name)!r}," for name in self.kept if getattr(self, name) != self.trait_defaults(name)]
        made = self.maker.removesuffix(")")
        return "\n".join([f"{made},", *chosen, ")"]) if chosen else self.maker

    def set_state(self, sync_data: Any) -> None:
        with SETTING:  # what the page says and what a job found are never set at the same time: traitlets would lose one
            super().set_state(sync_data)

    def notify_change(self, change: Any) -> None:
        """What follows from a change is told with it: one message to the page, which draws once."""
        with SETTING, self.hold_sync():
            super().notify_change(change)

    def to_html(self, path: str | Path) -> Path:
        """One file that opens offline and shows the pane as it is now."""
        from widgets.html.standalone import save

        return save(self, path)

    def static_html(self) -> str:
        """What stands where no script runs."""
        return ""

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        return {**bundle, "text/plain": repr(self), "text/html": self.static_html()}, metadata


class WorkingPane(Pane):
    """A pane whose work takes the model for a while: `work` runs in a thread (jobs.py), one at a time, and ends with the pane."""

    progress = traitlets.Dict(read_only=True, help="what the work is at: see jobs.Progress").tag(sync=True)
    actions: ClassVar[tuple[str, ...]] = ("run", "cancel")  # what a page may ask for

    _job: Job | None = None

    def __init__(self, model: Any, **traits: Any):
        self._model = model
        super().__init__(**traits)
        self.on_msg(self._hear)

    def run(self) -> Job:
        """Starts the work on what is chosen now, instead of what is still running; `.wait()` blocks until it is over."""
        if self._job is not None:
            self._job.replace()
        self._job = Job(self.work, self._model, self._show)
        return self._job

    def cancel(self) -> None:
        """Ask what runs to stop."""
        if self._job is not None:
            self._job.cancel()

    def work(self, job: Job) -> None:
        """What the pane computes, on a thread of its own; `job` says whether to go on."""
        raise NotImplementedError

    def close(self) -> None:
        self.cancel()
        super().close()

    def _show(self, progress: Progress) -> None:
        self.set_trait("progress", progress._asdict())

    def _hear(self, _: Any, content: Any, buffers: Any) -> None:
        action = content.get("do") if isinstance(content, dict) else None
        if action in self.actions:
            getattr(self, action)()
