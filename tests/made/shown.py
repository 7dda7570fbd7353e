"""What a reader sees of a notebook's outputs, and where an execution shows something else than what is committed.

Words must be the same, and numbers to the last digit shown, or to a share CLOSE where more digits are written than anyone reads: another
processor sums in another order. Of HTML the texts and attributes count, so bars and SVG paths by their numbers; of a figure its data. What
is trained on the spot comes out differently elsewhere (TRAINED): there the words must be nearly the same; numbers: notebook_claims.py.
"""

import base64
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from itertools import zip_longest
from typing import Any

import numpy as np

PLOTLY, WIDGET = "application/vnd.plotly.v1+json", "application/vnd.jupyter.widget-view+json"
CLOSE = 1e-3
ALIKE = 0.7  # share of a trained cell's words; seen on another processor: 0.8 and more, of stale outputs of other cells: 0.4 and less
TRAINED = {  # notebook → the number of the first code cell that shows what was trained there, and of the first that does not any more
    "02_train_an_sae": (4, 99),
    "03_scaling_laws": (3, 4),
    "10_your_own_model": (6, 99),
}
NUMBER = re.compile(r"(?<![\w.])[-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[-+−]?\d+)?|(?<![\w.])[-+−]?\.\d+")
SVG = re.compile(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)")
DOT = re.compile(r"M[-\d.]+ [-\d.]+h0")  # a point in a picture's path
BEND = re.compile(r"(?<=[ML])([-\d.]+) ([-\d.]+)")  # of a line there
DOTS, BENDS = "points of pictures", "lines of pictures"
UNSEEN = 0.75  # pixels; seen between two processors' products, where rankings have ties: 0.5
CONTEXT = 40  # characters shown around a difference
Output = dict[str, Any]


def differences(committed: Sequence[Output], executed: Sequence[Output], is_trained: bool = False) -> list[str]:
    """What a reader would see otherwise after an execution; [] if nothing."""
    ours, theirs = list(_pieces(committed)), list(_pieces(executed))
    if [kind for kind, _ in ours] != [kind for kind, _ in theirs]:
        return [f"shows {', '.join(kind for kind, _ in ours) or 'nothing'}; executed {', '.join(kind for kind, _ in theirs) or 'nothing'}"]
    found = []
    for (kind, a), (_, b) in zip(ours, theirs, strict=True):
        compare = {DOTS: _points_apart, BENDS: _bends_apart}.get(kind, _first_difference)
        if said := (_unlike if is_trained else compare)(a, b):
            found.append(f"{kind}: {said}")
    return found


def is_trained(notebook: str, number: int) -> bool:
    """Does this code cell, counted from 1, show what was trained in the notebook?"""
    first, end = TRAINED.get(notebook, (0, 0))
    return first <= number < end


def _pieces(outputs: Sequence[Output]) -> Iterator[tuple[str, str]]:
    """(kind, what is seen); progress bars, which an execution drops, left out."""
    for output in outputs:
        data = dict(output.get("data", {}))
        is_bar = WIDGET in data and set(data) == {WIDGET, "text/plain"}
        if "text" in output:
            yield output["name"], output["text"]
        for kind in sorted(data) if not is_bar else ():
            if kind == PLOTLY:
                yield kind, "\n".join(_leaves(data[kind]))
            elif kind == "text/html" and PLOTLY not in data:
                dots: list[str] = []
                bends: list[str] = []
                yield kind, _seen(data[kind], dots, bends)
                yield from ((DOTS, "\n".join(dots)), (BENDS, "\n".join(bends)))
            elif kind not in ("text/html", WIDGET):
                yield kind, data[kind] if isinstance(data[kind], str) else json.dumps(data[kind])


def _leaves(value: Any, path: str = "") -> Iterator[str]:
    """Everything in a figure's JSON, a line each, arrays decoded."""
    if isinstance(value, dict) and "bdata" in value:
        numbers = np.frombuffer(base64.b64decode(value["bdata"]), value["dtype"]).tolist()
        yield f"{path} {' '.join(map(_number, numbers))}"
    elif isinstance(value, dict):
        for key in sorted(value):
            yield from _leaves(value[key], f"{path}/{key}")
    elif isinstance(value, list):
        for each in value:
            yield from _leaves(each, path)
    else:
        yield f"{path} {_number(value)}"


def _number(value: Any) -> str:
    """Floats with more digits than a picture shows: 2.1 is then no last digit away from 2.0."""
    return f"{value:.6f}" if isinstance(value, float) else str(value)


def _seen(html: str, dots: list[str], bends: list[str]) -> str:
    """dots, bends: take the points and lines of each picture, which are compared by the pixel, a picture a line. Where two points are as
    large to rounding, their order is the machine's."""

    def decoded(found: re.Match[str]) -> str:
        picture = base64.b64decode(found[1]).decode()
        dots.append(" ".join(DOT.findall(picture)))
        picture = DOT.sub("", picture)
        bends.append(" ".join(" ".join(bend) for bend in BEND.findall(picture)))
        return BEND.sub("", picture).replace('"', " ")

    page = _Page()
    page.feed(SVG.sub(decoded, html))
    return "\n".join(page.found)


def _points_apart(committed: str, executed: str) -> str:
    """Has every point of a picture one near it in the other, and are they as many? A point on the axis may be of either color."""
    for a, b in zip_longest(committed.splitlines(), executed.splitlines(), fillvalue=""):
        points, others = (np.array(re.findall(r"M([-\d.]+) ([-\d.]+)h0", line), dtype=float).reshape(-1, 2) for line in (a, b))
        if len(points) != len(others):
            return f"{len(points)} points; executed {len(others)}"
        for some, rest in ((points, others), (others, points)):
            apart = np.abs(some[:, None] - rest[None]).max(2).min(1, initial=np.inf) if len(some) else np.zeros(0)
            if (apart > UNSEEN).any():
                x, y = some[apart.argmax()]
                return f"a point at {x:g}, {y:g} has none near it in the other picture"
    return ""


class _Page(HTMLParser):
    """Texts, attributes and embedded data in their order; no code."""

    def __init__(self):
        super().__init__()
        self.found: list[str] = []
        self._is_code = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._is_code = tag == "style" or (tag == "script" and "json" not in (dict(attrs).get("type") or ""))
        self.found += [f"{name}={value}" for name, value in attrs if value]

    def handle_endtag(self, tag: str) -> None:
        self._is_code = False

    def handle_data(self, data: str) -> None:
        if not self._is_code and data.strip():
            self.found.append(data)


def _bends_apart(committed: str, executed: str) -> str:
    for a, b in zip_longest(committed.splitlines(), executed.splitlines(), fillvalue=""):
        ours, theirs = (np.array(line.split(), dtype=float) for line in (a, b))
        if len(ours) != len(theirs):
            return f"{len(ours) // 2} points of lines; executed {len(theirs) // 2}"
        if len(ours) and (apart := np.abs(ours - theirs)).max() > UNSEEN:
            return f"a line is {apart.max():.1f} pixels from where it was, at {ours[apart.argmax()]:g}"
    return ""


def _first_difference(committed: str, executed: str) -> str:
    committed, executed = (re.sub(r"\s+", " ", text) for text in (committed, executed))  # a table's columns widen with what is in them
    words, others = NUMBER.split(committed), NUMBER.split(executed)
    numbers, measured = NUMBER.findall(committed), NUMBER.findall(executed)
    for i, (a, b) in enumerate(zip_longest(words, others, fillvalue="")):
        last = slice(max(0, i - 3), i)
        before = "".join(word + number for word, number in zip(words[last], numbers[last], strict=False))[-CONTEXT:]
        if a != b:
            return f"…{before!r}, then {a[:CONTEXT]!r}; executed {b[:CONTEXT]!r}"
        if i < len(numbers) and i < len(measured) and not is_near(numbers[i], measured[i]):
            return f"…{before + a[-CONTEXT:]!r}, then {numbers[i]}; executed {measured[i]}"
    return ""


def is_near(a: str, b: str) -> bool:
    """The same to the last digit shown; counts and feature numbers exactly."""
    if a == b:
        return True
    x, y = (float(text.replace("−", "-").replace(",", "")) for text in (a, b))
    shown = [len(text.partition(".")[2].partition("e")[0]) for text in (a, b)]
    is_whole = not any(shown) and "e" not in a + b
    return not is_whole and abs(x - y) <= max(1.01 * 10.0 ** -min(shown) if "e" not in a + b else 0, CLOSE * abs(x))


def _unlike(committed: str, executed: str) -> str:
    """Are these other words? Of what was trained on the spot the numbers, the order and some tokens differ by machine."""
    a, b = (Counter(re.findall(r"[A-Za-z]{3,}", text)) for text in (committed, executed))
    share = 2 * (a & b).total() / max(1, a.total() + b.total())
    return "" if share >= ALIKE or not (a or b) else f"only {share:.0%} of the words are the same"
