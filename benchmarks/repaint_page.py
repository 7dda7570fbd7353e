"""A widget in Chromium with its Python behind it, for repaint.py: opened, clocked, reported.

Where processes share the cores, a click waits for them all. So beside the time on the wall stands the CPU time of one round: that of the
page's main thread (with what tests/pages/live_page.py itself does there, and what finds the place to click), and that of Python's answers.
"""

import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page

sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / folder) for folder in ("made", "pages")]
from live_page import Behind, open_live  # noqa: E402
from page_clock import busy, milliseconds  # noqa: E402

CHROMIUM = "/usr/bin/chromium"
REST = 200  # milliseconds between two acts: what the one before still fetches is not part of the next
MEASURES = ("activation", "attribution", "effect")


def report(name: str, value: float, bar: float, cpu: str = "") -> None:
    print(f"{name:<58}{value:8.0f} ms   bar {bar:5.0f} ms   {'held' if value <= bar else 'MISSED'}{cpu}", flush=True)


@dataclass(frozen=True)
class Live:
    """A page and the Python behind it."""

    page: Page
    behind: Behind
    n_rounds: int

    def report(self, name: str, measure: Callable[[int], float], bar: float = 60.0) -> None:
        """The median of what measure(i) gives in milliseconds, beside its bar; the CPU times are means."""
        measure(0)  # warms up
        clock = busy(self.page)
        began, answered = clock(), self.behind.seconds
        value = statistics.median([self._rested(measure, i) for i in range(1, self.n_rounds + 1)])
        in_page, in_python = (clock() - began) / self.n_rounds, 1000 * (self.behind.seconds - answered) / self.n_rounds
        report(name, value, bar, f"   (CPU: page {in_page:.0f}, Python {in_python:.0f})")

    def _rested(self, measure: Callable[[int], float], i: int) -> float:
        self.page.wait_for_timeout(REST)
        return measure(i)


@contextmanager
def opened(browser: Browser, widget: Any, n_rounds: int) -> Iterator[Live]:
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.on("pageerror", lambda error: print("error in the page:", error))
    with tempfile.TemporaryDirectory() as folder:
        yield Live(page, open_live(page, widget, Path(folder)), n_rounds)
    page.close()


def change_theme(page: Page, is_recolored: str = "") -> float:
    """A key's event is its beginning. is_recolored: true once the panes that draw their colors themselves have done so."""
    is_dark = page.evaluate("document.body.classList.contains('dark')")
    page.evaluate("addEventListener('keydown', () => document.body.classList.toggle('dark'), { once: true })")
    done = f"document.body.classList.contains('dark') !== {json.dumps(is_dark)}"
    return milliseconds(page, "keydown", lambda: page.keyboard.press("F8"), f"{done} && ({is_recolored or 'true'})")
