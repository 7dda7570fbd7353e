"""The attention pane in Chromium: CircuitsVis draws from the package's own file, once per page, and nothing leaves the machine."""

from pathlib import Path

import pytest
from live_page import open_live, open_saved
from made_models import random_sae
from playwright.sync_api import Page, expect

from widgets import AttentionPane
from workbench.bench import Workbench

pytestmark = pytest.mark.browser
PROMPT = "the cat</script><img src=x onerror=window.hacked=1> sat"


def made(model, **traits) -> AttentionPane:
    bench = Workbench(model=model, sae=random_sae(), labels={3: PROMPT})
    return AttentionPane(bench, **{"prompt": PROMPT, "answer": " cat", "feature": 3, **traits})


def test_heads_are_measured_and_drawn_and_hostile_tokens_are_text(page: Page, tmp_path: Path, model):
    pane = made(model)
    open_live(page, pane, tmp_path)
    assert pane.bundle == ""
    page.get_by_role("button", name="Measure heads").click()
    expect(page.locator("tbody tr")).to_have_count(8)
    expect(page.get_by_text("Head Selector")).to_be_visible()
    assert page.locator("tbody th").all_inner_texts() == [head["name"] for head in pane.view["heads"]]
    assert page.locator("tbody td.wbp-text").first.inner_text() == "".join(pane.view["tokens"])
    assert page.evaluate("window.hacked") is None and page.locator("img[src=x]").count() == 0


def test_the_saved_page_draws_without_python(page: Page, tmp_path: Path, model):
    pane = made(model)
    pane.run().wait(60)
    open_saved(page, pane.to_html(tmp_path / "attention.html"))
    expect(page.get_by_text("Head Selector")).to_be_visible()
    expect(page.get_by_role("button", name="Measure heads")).to_be_disabled()


def test_another_selection_says_that_the_table_is_of_the_former(page: Page, tmp_path: Path, model):
    pane = made(model)
    pane.run().wait(60)
    pane.feature = 5
    open_live(page, pane, tmp_path)
    expect(page.locator(".wba-about")).to_contain_text("has changed since")


def test_a_prompt_of_many_tokens_has_a_table_and_no_picture(page: Page, tmp_path: Path, model, monkeypatch):
    monkeypatch.setattr("widgets.panes.attention.MOST_TOKENS", 5)
    pane = made(model)
    pane.run().wait(60)
    open_live(page, pane, tmp_path)
    expect(page.locator("tbody tr")).to_have_count(8)
    expect(page.get_by_text("tokens are not drawn")).to_be_visible()
    assert page.evaluate("typeof CircuitsVis") == "undefined" and pane.bundle == ""


def test_a_selection_leaves_the_patterns_and_the_head_that_was_chosen_in_them(page: Page, tmp_path: Path, model):
    """CircuitsVis takes longer to draw than the whole explorer, and begins at its first head."""
    pane = made(model)
    pane.run().wait(60)
    open_live(page, pane, tmp_path)
    page.get_by_text("Head Selector").wait_for()
    page.evaluate("window.drawn = document.querySelector('.wba-picture').firstElementChild")
    pane.feature = 5
    page.evaluate("ask({})")
    expect(page.locator(".wba-about")).to_contain_text("has changed since")
    assert page.evaluate("window.drawn.isConnected")
