"""Log–log pictures as SVG inside an <img>: curves, points and fits that span decades, for where scripts do not run."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np

from widgets.figures.svg import BOTTOM, INK, LEFT, RIGHT, TOP, WHOLE, svg_img

ROOM = 24  # left of the first point, for names of curves that begin there
APART = 11  # pixels between two names


class Curve(NamedTuple):
    """Positive values. style: "line", "dash", "dots" (filled) or "rings" (what the fits leave out)."""

    x: np.ndarray
    y: np.ndarray
    color: str
    style: str
    name: str = ""  # written where it begins: many curves end close together


def loglog_svg(curves: Sequence[Curve], x_name: str, y_name: str, alt: str, size: tuple[int, int] = WHOLE) -> str:
    """Curves over logarithmic axes as an <img> of `size` pixels."""
    (x_low, x_high), (y_low, y_high) = _reach([curve.x for curve in curves]), _reach([curve.y for curve in curves])
    right, bottom = size[0] - RIGHT, size[1] - BOTTOM
    left = LEFT + (ROOM if any(curve.name for curve in curves) else 0)

    def at(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        px = left + (np.log(x) - x_low) / (x_high - x_low) * (right - left)
        return px, bottom - (np.log(y) - y_low) / (y_high - y_low) * (bottom - TOP)

    x_ticks, y_ticks = log_ticks(x_low, x_high), log_ticks(y_low, y_high)
    x_at, y_at = at(x_ticks, np.exp(y_low))[0], at(np.exp(x_low), y_ticks)[1]
    body = [_rule(x, TOP, x, bottom) + _text(x, bottom + 14, short(value), "middle") for x, value in zip(x_at, x_ticks, strict=True)]
    body += [_rule(LEFT, y, right, y) + _text(LEFT - 5, y + 4, short(value), "end") for y, value in zip(y_at, y_ticks, strict=True)]
    body += [_text(LEFT - 5, 10, y_name, "start"), _text(size[0] - RIGHT, size[1] - 4, x_name, "end")]
    drawn = [(*at(curve.x, curve.y), curve) for curve in curves]
    body += [_drawn(px, py, curve) for px, py, curve in drawn]
    body += _names([(float(px[0]), float(py[0]), curve.name) for px, py, curve in drawn if curve.name and len(px)])
    return svg_img("".join(body), *size, alt)


def _names(begins: list[tuple[float, float, str]]) -> list[str]:
    """Each name left of where its curve begins, or a little lower where another one is in the way."""
    texts, taken = [], []
    for x, y, name in sorted(begins, key=lambda begin: begin[1]):
        y = max([y, *(other_y + APART for other_x, other_y in taken if abs(x - other_x) < ROOM)])
        taken.append((x, y))
        texts.append(_text(x - 6, y + 4, name, "end"))
    return texts


def log_ticks(low: float, high: float) -> np.ndarray:
    """Powers of ten between exp(low) and exp(high); where that gives fewer than three, also twice and five times these."""
    first, last = np.floor(low / np.log(10)), np.ceil(high / np.log(10))
    tens = 10.0 ** np.arange(first, last + 1)
    for steps in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
        ticks = np.outer(tens, steps).ravel()
        ticks = ticks[(np.log(ticks) >= low - 1e-9) & (np.log(ticks) <= high + 1e-9)]
        if len(ticks) >= 3:
            break
    return ticks[:: max(1, len(ticks) // 5)]


def short(value: float) -> str:
    """1000 → 1k, 2e13 → 2e13."""
    if 1000 <= value < 1e6:
        return f"{value / 1000:g}k"
    return f"{value:g}".replace("e+", "e").replace("e-0", "e-").replace("-", "−")


def _reach(values: Sequence[np.ndarray]) -> tuple[float, float]:
    """From the smallest to the largest logarithm, with a little room."""
    every = np.log(np.concatenate([np.asarray(value, dtype=float) for value in values]))
    room = 0.04 * (every.max() - every.min()) or 0.1
    return float(every.min() - room), float(every.max() + room)


def _drawn(px: np.ndarray, py: np.ndarray, curve: Curve) -> str:
    if curve.style in ("dots", "rings"):
        fill = f'fill="rgb({curve.color})"' if curve.style == "dots" else 'fill="none"'
        marks = (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>' for x, y in zip(px, py, strict=True))
        return f'<g {fill} stroke="rgb({curve.color})">{"".join(marks)}</g>'
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in zip(px, py, strict=True))
    dash = ' stroke-dasharray="5 4"' if curve.style == "dash" else ""
    return f'<path d="M{path}" fill="none" stroke="rgb({curve.color})" stroke-width="1.5"{dash}/>' if path else ""


def _rule(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="{INK}" stroke-opacity="0.2"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{INK}">{escape(text)}</text>'
