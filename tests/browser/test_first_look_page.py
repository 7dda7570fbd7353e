"""What the explorer's cell shows before anything slow is computed: the question in words, then the screen itself, before any model pass."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from live_page import open_live
from made_models import TEXT, random_sae
from playwright.sync_api import Page, expect

from widgets import Explorer, explore
from widgets.panes.jobs import turn_of
from widgets.panes.screen.first_look import NOTHING
from workbench.bench import Workbench
from workbench.features.index.index import build_index

pytestmark = pytest.mark.browser
PROMPT, HOSTILE = "the cat sat on the", "<img src=x onerror=window.hacked=1>"


@pytest.fixture
def bench(model_of, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workbench:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("widgets.panes.explorer.PATIENCE", 0)  # nothing here waits for a clock
    index = build_index(model_of("gpt2"), random_sae(), [TEXT, "the dog sat"], tmp_path / "index", progress=False)
    return Workbench(model=model_of("gpt2"), sae=random_sae(), index=index)


@contextmanager
def counted(bench: Workbench) -> Iterator[list[int]]:
    """One entry a pass through the model."""
    passes: list[int] = []
    block = bench.model.blocks[0]
    hook = block.register_forward_pre_hook(lambda _, args, kwargs: passes.append(1), with_kwargs=True)
    try:
        yield passes
    finally:
        hook.remove()


@pytest.fixture
def displayed(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """What a notebook's cell is given, one after the other."""
    shown: list[dict[str, str]] = []

    class Handle:
        def update(self, data: dict[str, str], raw: bool) -> None:
            shown.append(data)

    def display(data: dict[str, str], raw: bool, display_id: bool) -> Handle:
        shown.append(data)
        return Handle()

    monkeypatch.setattr("widgets.panes.screen.first_look.is_notebook", lambda: True)
    monkeypatch.setattr("IPython.display.display", display)
    return shown


def test_the_screen_is_there_with_its_question_before_the_first_model_pass(page: Page, tmp_path: Path, bench: Workbench):
    with counted(bench) as passes:
        with turn_of(bench.model):  # no job of this model gets its turn
            explorer = explore(bench, PROMPT, " mat", " dog")
            open_live(page, explorer, tmp_path)
            expect(page.get_by_role("textbox", name="Prompt", exact=True)).to_have_value(PROMPT)
            expect(page.get_by_label("Answer", exact=True)).to_have_value(" mat")
            expect(page.locator('.wbq[data-stage="waiting"]')).to_be_visible()
            expect(page.locator(".wbq-status").first).to_have_text("waiting for other work on this model")
            expect(page.get_by_role("tab", name="Feature")).to_be_visible()
            expect(page.locator(".wbr tbody tr")).to_have_count(0)
            assert passes == []
        expect(page.locator('.wbq[data-stage="done"]')).to_be_visible()
        expect(page.locator(".wbr tbody tr").first).to_be_visible()
        assert passes
    page.goto("about:blank")
    explorer.close()


@pytest.mark.parametrize(
    ("prompt", "asked", "says"), [(PROMPT, (" mat", " dog"), "Why  mat rather than  dog?"), (HOSTILE, ("",), "first token?")]
)
def test_while_the_first_ranking_is_waited_for_the_question_stands_there(
    page: Page, bench: Workbench, displayed: list[dict[str, str]], monkeypatch, prompt: str, asked: tuple[str, ...], says: str
):
    before: list[int] = []
    with counted(bench) as passes:

        class Watched(Explorer):
            def __init__(self, *args: Any, **kwargs: Any):
                before.append(len(displayed))
                assert not passes
                super().__init__(*args, **kwargs)

        monkeypatch.setattr("widgets.panes.explorer.Explorer", Watched)
        explorer = explore(bench, prompt, *asked)
        explorer.pane["prompt"]._job.wait(60)
    assert before == [1], "the question was shown before anything was made"
    first, last = displayed
    assert last == NOTHING, "when the explorer comes nothing of it is left"
    page.set_content(first["text/html"])
    expect(page.locator("body")).to_contain_text(prompt)
    assert says in page.locator("body").inner_text() and "working" in page.locator("body").inner_text()
    assert page.evaluate("window.hacked") is None and page.locator("img").count() == 0
    explorer.close()


def test_a_question_that_cannot_be_asked_leaves_nothing_behind(bench: Workbench, displayed: list[dict[str, str]], monkeypatch):
    def broken(*args: Any, **kwargs: Any) -> None:
        raise ValueError("of another kind")

    monkeypatch.setattr("widgets.panes.explorer.Explorer", broken)
    with pytest.raises(ValueError, match="of another kind"):
        explore(bench, PROMPT, " mat")
    assert len(displayed) == 2 and displayed[-1] == NOTHING
