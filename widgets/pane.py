"""What the panes of the explorer share: a selection, a state that can be kept, code that makes the pane again, a file that shows it.

A pane's traits are its state. JavaScript only draws them: pane.js and pane.css, which every pane has, followed by the pane's own.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import anywidget
import traitlets

STATIC = Path(__file__).parent / "static"


def module(*names: str) -> str:
    """A pane's ES module: the shared pieces, then its own files. One text, because a notebook's module can import nothing offline."""
    return "".join((STATIC / f"{name}.js").read_text() for name in ("pane", *names))


def style(name: str) -> str:
    return (STATIC / "pane.css").read_text() + (STATIC / f"{name}.css").read_text()


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

    def to_html(self, path: str | Path) -> Path:
        """One file that opens offline and shows the pane as it is now."""
        from widgets.standalone import save

        return save(self, path)

    def static_html(self) -> str:
        """What stands where no script runs."""
        return ""

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        return {**bundle, "text/plain": repr(self), "text/html": self.static_html()}, metadata
