"""Small pictures drawn as SVG inside an <img>: they show where scripts do not run, in light and dark, at a few kilobytes.

Mid-gray ink reads on both themes; an <img> cannot see the page's. Sign is shown twice, by color and by shape.
"""

import base64
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np

from widgets.marks import ORANGE, PURPLE

INK = "#888"
WHOLE, HALF, THIRD = (680, 320), (470, 280), (310, 200)  # of a notebook's page: a picture alone, two side by side, three
LEFT, RIGHT, TOP, BOTTOM = 42, 10, 22, 34
HEAT_GRAY, HEAT_ORANGE, HEAT_PURPLE = (178, 172, 168), (240, 115, 20), (160, 132, 245)  # a heat map's: black on them has contrast ≥ 6
OPAQUE = 0.15  # of a heat map's scale: from here on a cell has a number and covers the page
NOTHING = 1e-3  # share of the scale that cannot be seen
NAMES, NAME = 256, 14  # pixels beside a picture for names, and below each other
N_POINTS = 2_000  # the largest by |y|; more would neither be seen nor keep the notebook small


def scatter_svg(
    x: np.ndarray, y: np.ndarray, x_name: str, y_name: str, alt: str, *, has_diagonal: bool = False, size: tuple[int, int] = WHOLE
) -> str:
    """Points (x, y) as an <img>; y > 0 orange dots, y ≤ 0 purple squares, the ten largest y drawn big. has_diagonal: the line y = x."""
    drawn = np.isfinite(x) & np.isfinite(y)
    x, y = x[drawn], y[drawn]
    kept = np.argsort(-np.abs(y), kind="stable")[:N_POINTS]
    x, y = x[kept], y[kept]
    x_ticks = nice_ticks(x, _n_ticks(size))
    axes = _Axes(x_ticks, nice_ticks(y), x_ticks[-1], *size)
    px, py = axes.at(x, y)
    is_top = np.zeros(len(y), dtype=bool)
    is_top[np.argsort(-y, kind="stable")[:10]] = True
    marks = [
        _marks(px[~is_top & (y > 0)], py[~is_top & (y > 0)], ORANGE, "round", 4, 0.55),
        _marks(px[~is_top & (y <= 0)], py[~is_top & (y <= 0)], PURPLE, "square", 3, 0.55),
        _marks(px[is_top & (y > 0)], py[is_top & (y > 0)], ORANGE, "round", 8, 0.9),
        _marks(px[is_top & (y <= 0)], py[is_top & (y <= 0)], PURPLE, "square", 7, 0.9),
    ]
    diagonal = axes.diagonal() if has_diagonal else []
    return svg_img("".join([*axes.drawn(x_name, y_name), *diagonal, *marks]), *size, alt)


def slopes_svg(
    ranks: np.ndarray, effects: np.ndarray, names: Sequence[str], alt: str, size: tuple[int, int] = WHOLE, called: Sequence[str] = ()
) -> str:
    """One line per row of `ranks` (n_rows, n_orders) from its rank in one order to its rank in the next; rank 1 on top, log scale.
    called: what each row is, written where its line ends, for which the picture is wider."""
    (width, height), lowest = size, 1.1 * max(10.0, float(ranks.max(initial=0)))
    ticks = 10.0 ** np.arange(np.floor(np.log10(lowest)) + 1)
    at_x = np.linspace(LEFT + 14, width - 34, len(names))
    at_y, tick_y = (TOP + np.log10(rank) / np.log10(lowest) * (height - TOP - BOTTOM) for rank in (ranks, ticks))
    body = [_line(LEFT, y, width - RIGHT, y, False) for y in tick_y]
    body += [_text(LEFT - 6, y + 4, f"{rank:,.0f}", "end") for y, rank in zip(tick_y, ticks, strict=True)]
    body += [_text(x, height - BOTTOM + 18, name, "middle") for x, name in zip(at_x, names, strict=True)]
    for ys, effect in zip(at_y, effects, strict=True):
        color, dash = (ORANGE, "") if effect > 0 else (PURPLE, ' stroke-dasharray="4 3"')
        line = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in zip(at_x, ys, strict=True))
        body.append(f'<path d="{line}" fill="none" stroke="rgb({color})" stroke-width="1.5" stroke-opacity="0.7"{dash}/>')
        body.append(_marks(at_x, ys, color, "round" if effect > 0 else "square", 6, 0.9))
    below = 0.0
    for i in np.argsort(ranks[:, -1], kind="stable")[: len(called)]:
        x, y, below = at_x[-1], at_y[i, -1], max(below + NAME, at_y[i, -1] + 4)  # names keep apart where ranks are close
        body.append(f'<path d="M{x + 7:.1f} {y:.1f}L{width + 6} {below - 4:.1f}" stroke="{INK}" stroke-opacity="0.4"/>')
        body.append(_text(width + 10, below, called[int(i)], "start"))
    body.append(_text(LEFT - 6, 10, "rank", "start"))
    return svg_img("".join(body), width + (NAMES if called else 0), max(height, round(below) + 8), alt)


class Line(NamedTuple):
    """A curve or some points: x and y of one length, in the units of the axes."""

    x: np.ndarray
    y: np.ndarray
    color: str
    dash: str = ""  # an SVG stroke-dasharray


def lines_svg(lines: Sequence[Line], x_name: str, y_name: str, alt: str, size: tuple[int, int] = WHOLE) -> str:
    """Lines as an <img>; a point is left out where it is no number."""
    every_x, every_y = (np.concatenate([np.asarray(line[i], dtype=float) for line in lines]) for i in (0, 1))
    every_x, every_y = every_x[np.isfinite(every_x)], every_y[np.isfinite(every_y)]
    x_ticks, last = nice_ticks(every_x, _n_ticks(size)), every_x.max(initial=-np.inf)
    axes = _Axes(x_ticks, nice_ticks(every_y), last if x_ticks[-2] < last else x_ticks[-1], *size)
    body = axes.drawn(x_name, y_name)
    for x, y, color, dash in lines:
        drawn = np.isfinite(x) & np.isfinite(y)
        path = "L".join(f"{at_x:.1f} {at_y:.1f}" for at_x, at_y in zip(*axes.at(x[drawn], y[drawn]), strict=True))
        if path:
            body.append(f'<path d="M{path}" fill="none" stroke="rgb({color})" stroke-width="2" stroke-dasharray="{dash}"/>')
    return svg_img("".join(body), *size, alt)


def heat_svg(values: np.ndarray, row_names: Sequence[str], column_names: Sequence[str], alt: str, scale: float) -> str:
    """A matrix as an <img>: orange > 0, purple < 0, as deep as its share of `scale`, gray where nothing was measured; the larger values
    also as numbers, on shades that are the same on light and dark pages."""
    cell_x, cell_y, head = 38, 22, 12 + 6 * max(map(len, column_names), default=0)
    left = 12 + 7 * max(map(len, row_names), default=0)
    digits = 2 if scale <= 1 else 1 if scale < 10 else 0
    body = []
    for column, name in enumerate(column_names):
        x = left + cell_x * (column + 0.6)
        body.append(f'<text x="{x:.0f}" y="{head - 6}" fill="{INK}" transform="rotate(-60 {x:.0f} {head - 6})">{escape(name)}</text>')
    for row, name in enumerate(row_names):
        y = head + cell_y * row
        body.append(_text(left - 6, y + 15, name, "end"))
        for column, value in enumerate(values[row]):
            x, is_known = left + cell_x * column, np.isfinite(value)
            color, opacity = _shade(value / scale) if is_known else ("128,128,128", 0.1)
            fill = f'fill="rgb({color})" fill-opacity="{opacity:.2f}" stroke="{INK}" stroke-opacity="0.2"'
            body.append(f'<rect x="{x}" y="{y}" width="{cell_x - 1}" height="{cell_y - 1}" {fill}/>')
            if is_known and abs(value) >= OPAQUE * scale:
                shown = f"{value:.{digits}f}".replace("-", "−")
                body.append(f'<text x="{x + cell_x / 2:.1f}" y="{y + 15}" text-anchor="middle" fill="#111">{shown}</text>')
    return svg_img("".join(body), left + cell_x * len(column_names) + head // 2, head + cell_y * len(row_names) + 4, alt)


def _shade(share: float) -> tuple[str, float]:
    """A color between gray and orange or purple that black numbers stand out on, and its opacity: shares too small for a number fade; of
    what cannot be seen the color does not depend on how the machine rounds."""
    full, depth = (HEAT_ORANGE if share > NOTHING else HEAT_PURPLE), min(0.2 + 0.8 * abs(share), 1.0)
    mixed = (round(gray + depth * (hue - gray)) for gray, hue in zip(HEAT_GRAY, full, strict=True))
    return ",".join(map(str, mixed)), min(abs(share) / OPAQUE, 1.0)


def svg_img(body: str, width: int, height: int, alt: str) -> str:
    """An SVG body as an <img> with a data URI: the only picture that survives an untrusted notebook."""
    uri = "data:image/svg+xml;base64," + base64.b64encode(svg_text(body, width, height).encode()).decode()
    return f'<img src="{uri}" width="{width}" height="{height}" alt="{escape(alt)}" style="max-width:100%;height:auto">'


def svg_text(body: str, width: int, height: int) -> str:
    """An SVG body as a document; `body` is markup: escape what comes from data."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="system-ui,sans-serif" font-size="11">{body}</svg>'
    )


def nice_ticks(values: np.ndarray, n: int = 4) -> np.ndarray:
    """About n round numbers that enclose the values and 0."""
    low, high = min(0.0, float(values.min(initial=0))), max(0.0, float(values.max(initial=0)))
    if low == high:
        high = 1.0
    rough = (high - low) / n
    step = next(m for m in 10.0 ** np.floor(np.log10(rough)) * np.array([1, 2, 5, 10]) if m >= rough * 0.999)
    return np.arange(np.floor(low / step + 1e-9), np.ceil(high / step - 1e-9) + 1) * step


def _n_ticks(size: tuple[int, int]) -> int:
    """Numbers below a picture: about one in a hundred pixels."""
    return max(4, size[0] // 110)


class _Axes(NamedTuple):
    """Where values lie in a picture of width × height, and its grid; the x axis ends at `x_last`, with or without a tick."""

    x_ticks: np.ndarray
    y_ticks: np.ndarray
    x_last: float
    width: int
    height: int

    @property
    def left(self) -> float:
        """Room for the longest number beside the y axis."""
        return max(LEFT, 10 + 7 * max(len(_said(value)) for value in _round(self.y_ticks)))

    def at(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        px = self.left + (x - self.x_ticks[0]) / (self.x_last - self.x_ticks[0]) * (self.width - RIGHT - self.left)
        py = self.height - BOTTOM - (y - self.y_ticks[0]) / (self.y_ticks[-1] - self.y_ticks[0]) * (self.height - TOP - BOTTOM)
        return px, py

    def diagonal(self) -> list[str]:
        """The line y = x, as far as it lies within both axes."""
        ends = np.array([max(self.x_ticks[0], self.y_ticks[0]), min(self.x_last, self.y_ticks[-1])])
        (x1, x2), (y1, y2) = self.at(ends, ends)
        line = f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="{INK}" stroke-dasharray="4 3"/>'
        return [line, _text(x1 + 12, y1 - 4, "y = x", "start")] if ends[0] < ends[1] else []  # at its low end: the largest are at the other

    def drawn(self, x_name: str, y_name: str) -> list[str]:
        right, bottom = self.width - RIGHT, self.height - BOTTOM
        x_ticks = self.x_ticks[self.x_ticks <= self.x_last * (1 + 1e-9)]
        x_at, y_at = self.at(x_ticks, x_ticks)[0], self.at(self.y_ticks, self.y_ticks)[1]
        lines = [_line(self.left, y, right, y, value == 0) for y, value in zip(y_at, self.y_ticks, strict=True)]
        lines += [_line(x, TOP, x, bottom, value == 0) for x, value in zip(x_at, x_ticks, strict=True)]
        numbers = [_text(self.left - 6, y + 4, _said(value), "end") for y, value in zip(y_at, _round(self.y_ticks), strict=True)]
        numbers += [_text(x, bottom + 14, _said(value), "middle") for x, value in zip(x_at, _round(x_ticks), strict=True)]
        return [*lines, *numbers, _text(LEFT - 6, 10, y_name, "start"), _text(right, self.height - 4, x_name, "end")]


def _marks(px: np.ndarray, py: np.ndarray, color: str, cap: str, size: int, opacity: float) -> str:
    """Zero-length strokes with caps: ten bytes a point."""
    path = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in zip(px, py, strict=True))
    return (
        f'<path d="{path}" stroke="rgb({color})" stroke-width="{size}" stroke-linecap="{cap}" stroke-opacity="{opacity}"/>' if path else ""
    )


def _line(x1: float, y1: float, x2: float, y2: float, is_zero: bool) -> str:
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="{INK}" stroke-opacity="{0.7 if is_zero else 0.2}"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{INK}">{escape(text)}</text>'


def _said(tick: float) -> str:
    return f"{tick:g}".replace("-", "−")


def _round(ticks: np.ndarray) -> np.ndarray:
    return np.round(ticks, 10) + 0.0  # no 0.30000000000000004, no -0
