"""Any of our widgets as one HTML file that opens offline and stays alive: its ES module, its traits as JSON, a small model of them.

The JSON is gzipped: feature pages repeat their styles, and a saved explorer is a seventh of its size.

    save(widget, "view.html")            widgets inside of it come along; all that have a `feature` share one selection

What Python answered in the notebook, a second module answers in the file, where the widget names one:

    class RankingTable(Pane):
        _offline = (STATIC / "ranking/ranking_offline.js",)           export function answer(model, data)      called once, with what
        def offline(self) -> dict: ...                        it needs of Python's data                this returns

`document` builds the same page from plain data: what a result writes without a widget.
"""

import base64
import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from widgets.marks import visible
from workbench.files import checked_file, write_text

STATIC = Path(__file__).parents[1] / "static"
WIDGET = "anywidget:"  # how a trait that holds a widget refers to it
NOT_STATE = {"layout", "tabbable", "tooltip", "comm", "keys", "log"}


@dataclass(frozen=True)
class Part:
    """One widget of a page."""

    name: str  # refers to it: WIDGET + name
    module: str  # ES module, export default { render }
    style: str
    state: dict[str, Any]
    offline: str = ""  # ES module, export function answer(model, data)
    data: dict[str, Any] = field(default_factory=dict)


def save(widget: Any, path: str | Path, title: str = "") -> Path:
    """Write the widget, as it is now, to a file that needs nothing else."""
    path = checked_file(path)
    write_text(path, page(widget, title))
    return path


def page(widget: Any, title: str = "") -> str:
    """The widget as a document; what stands in it for those without scripts is its static view."""
    return document(title or repr(widget), list(parts(widget)), without_scripts=widget.static_html())


def parts(widget: Any) -> Iterator[Part]:
    """The widget and the widgets that its traits hold, itself first."""
    state, inner = {}, []
    for name, trait in widget.traits(sync=True).items():
        if name.startswith("_") or name in NOT_STATE:
            continue
        to_json = trait.metadata.get("to_json", lambda value, of: value)
        state[name] = to_json(getattr(widget, name), widget)
        inner += _widgets_in(getattr(widget, name))
    offline = "".join(path.read_text() for path in getattr(widget, "_offline", ()))
    data = widget.offline() if offline else {}
    yield Part(widget.model_id, str(widget._esm), str(getattr(widget, "_css", "")), state, offline, data)
    for each in inner:
        yield from parts(each)


def document(title: str, widgets: Sequence[Part], report: str = "", without_scripts: str = "") -> str:
    """report: HTML above the first of the widgets. Its content policy lets nothing in from outside of the file."""
    styles = dict.fromkeys(part.style for part in widgets)
    texts = {
        "TITLE": escape(visible(title)),
        "STYLE": "\n".join(styles),
        "REPORT": report,
        "PLAIN": without_scripts or "This part needs scripts.",
        "STATE": packed([{name: value for name, value in asdict(part).items() if name != "style"} for part in widgets]),
        "SCRIPT": (STATIC / "shared/page.js").read_text(),
    }
    return _filled((STATIC / "shared/page.html").read_text(), texts)


def still_document(title: str, report: str) -> str:
    """The same page around a report alone: without a script."""
    template = (STATIC / "shared/page.html").read_text().partition('<div id="widget">')[0]
    return _filled(f"{template}</body>\n</html>\n", {"TITLE": escape(visible(title)), "STYLE": "", "REPORT": report})


def _filled(template: str, texts: dict[str, str]) -> str:
    pieces = template.split("@@")  # text, NAME, text, …: content that holds @@ is never searched
    return "".join(piece if i % 2 == 0 else texts[piece] for i, piece in enumerate(pieces))


def packed(value: Any) -> str:
    """JSON, gzipped, as base64; the same value gives the same text."""
    return base64.b64encode(gzip.compress(as_json(value).encode(), mtime=0)).decode()


def as_json(value: Any) -> str:
    """JSON that may stand in a <script>: no `<` is left; bytes as base64."""
    return json.dumps(value, ensure_ascii=False, default=_bytes, allow_nan=False).replace("<", "\\u003c")


def _bytes(value: Any) -> dict[str, str]:
    if not isinstance(value, bytes | bytearray | memoryview):
        raise TypeError(f"a trait holds a {type(value).__name__}: neither JSON nor bytes")
    return {"@bytes": base64.b64encode(value).decode()}


def _widgets_in(value: Any) -> list[Any]:
    if hasattr(value, "model_id"):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [widget for each in inner for widget in _widgets_in(each)]
