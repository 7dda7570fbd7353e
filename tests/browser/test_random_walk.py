"""Random actions over the explorer's controls: no script error, nothing typed is lost, and what is written down as a state and as Python
opens a screen that shows the same."""

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from live_page import open_live
from made_models import TEXT, random_sae
from playwright.sync_api import Error, Locator, Page

from widgets import explore
from widgets.panes.explorer import Explorer
from widgets.panes.jobs import Job
from workbench.bench import Workbench
from workbench.features.index.index import build_index

pytestmark = pytest.mark.browser
N_ACTIONS, SEED = int(os.environ.get("WALK", 200)), int(os.environ.get("WALK_SEED", 0))
CONTROLS = "button, select, input, textarea, summary, [role=tab], [role=option], [role=row][tabindex], tbody tr, canvas"
KEYS = tuple("Tab Shift+Tab ArrowDown ArrowUp ArrowLeft ArrowRight Enter Space Escape Home End Alt+ArrowLeft".split())
LETTERS = ("/", "?", "1", "2", "3", "k", "j")
WORDS = ("the cat", "the dog sat on", "cat", "<b>dog</b>", "3", "-1.5", "a mat")
PROMPTS = ("the cat sat on the", "the dog sat on a", "a cat and the dog ran to the")


@pytest.fixture
def explorer(model_of, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Explorer]:
    monkeypatch.chdir(tmp_path)  # lists are kept beside the notebook
    index = build_index(model_of("gpt2"), random_sae(), [TEXT, "the dog sat"], tmp_path / "index", progress=False)
    made = explore(Workbench(model=model_of("gpt2"), sae=random_sae(), index=index, labels={3: "cats"}), PROMPTS[0], " mat", " dog")
    finish(made)
    yield made
    made.close()


def finish(explorer: Explorer) -> None:
    """Until none of its jobs runs."""
    jobs = [value for pane in explorer.pane.values() for value in vars(pane).values()] + [explorer._drawing]
    for job in jobs:
        if isinstance(job, Job):
            job.wait(60)


def settle(page: Page, explorer: Explorer) -> None:
    """Until no job runs, and the page knows what came of it."""
    for _ in range(3):
        finish(explorer)
        page.evaluate("ask({})")
        page.wait_for_timeout(30)


def act(page: Page, draws: random.Random) -> str:
    """One random thing that a hand does; what it was."""
    if draws.random() < 0.3:
        in_box = page.evaluate("['INPUT', 'TEXTAREA', 'SELECT'].includes(document.activeElement?.tagName)")
        key = draws.choice(KEYS if in_box else KEYS + LETTERS)
        page.keyboard.press(key)
        return f"key {key}"
    shown = page.locator(CONTROLS).locator("visible=true")
    control = shown.nth(draws.randrange(shown.count()))
    try:
        return use(control, draws)
    except Error:  # another control lies above it, or stands in its place by now: nothing was done
        return "nothing"


def use(control: Locator, draws: random.Random) -> str:
    kind = control.evaluate("(el) => el.type === 'range' ? 'range' : el.tagName.toLowerCase()")
    name = control.evaluate("(el) => (el.getAttribute('aria-label') ?? el.textContent ?? '').slice(0, 40)")
    if kind == "range":
        control.press(draws.choice(("ArrowRight", "ArrowLeft", "End", "Home")), timeout=500)
    elif kind == "select":
        values = control.evaluate("(el) => [...el.options].filter((o) => !o.disabled).map((o) => o.value)")
        control.select_option(draws.choice(values), timeout=500)
    elif kind in ("input", "textarea") and control.get_attribute("type") not in ("checkbox", "radio", "file"):
        typed = draws.choice(PROMPTS if kind == "textarea" else WORDS)
        if control.get_attribute("type") == "number":
            typed = draws.choice(("1", "3", "0.5"))
        control.fill(typed, timeout=500)
        control.press(draws.choice(("Enter", "Tab")), timeout=500)
    else:
        control.click(timeout=500, modifiers=draws.choice(([], [], ["Control"])))
    return f"{kind} {name!r}"


def differences(explorer: Explorer, state: dict[str, Any]) -> list[str]:
    """Where its state is another, pane by pane."""
    own = json.loads(json.dumps(explorer.state()))
    pairs = [("", {**own, "panes": None}, {**state, "panes": None})]
    pairs += [(name, own["panes"].get(name, {}), state["panes"].get(name, {})) for name in {*own["panes"], *state["panes"]}]
    return [
        f"{pane} {key}: {a.get(key)!r}, {b.get(key)!r} written down" for pane, a, b in pairs for key in {*a, *b} if a.get(key) != b.get(key)
    ]


def test_after_two_hundred_random_actions_the_screen_is_what_is_written_down(page: Page, tmp_path: Path, explorer: Explorer):
    page.set_viewport_size({"width": 1280, "height": 720})
    open_live(page, explorer, tmp_path)
    draws, done = random.Random(SEED), []
    for _ in range(N_ACTIONS):
        done.append(act(page, draws))
    assert sum(each != "nothing" for each in done) > 0.6 * N_ACTIONS, done
    page.keyboard.press("Escape")
    box = page.get_by_role("textbox", name="Prompt", exact=True)
    if not box.is_visible():
        pytest.fail(f"the question is gone after {done[-20:]}")
    box.fill(PROMPTS[1])  # whatever came before: what is typed now stays, and is what is ranked
    box.press("Enter")
    settle(page, explorer)
    assert box.input_value() == PROMPTS[1] == explorer.pane["prompt"].prompt, done[-20:]

    state = json.loads(json.dumps(explorer.state()))
    again = explore(explorer.bench)
    again.restore(state)
    finish(again)
    assert differences(again, state) == []
    known: dict[str, object] = {"bench": explorer.bench}
    lines = explorer.to_python().splitlines()
    exec("\n".join(line for line in lines if not line.startswith("bench =")), known)
    written = known["explorer"]
    assert isinstance(written, Explorer)
    finish(written)
    assert differences(written, state) == []
    again.close()
    written.close()
