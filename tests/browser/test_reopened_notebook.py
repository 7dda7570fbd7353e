"""A notebook that is opened again without its kernel shows what was last looked at, not what was first displayed, trusted or not."""

from pathlib import Path

import nbformat
import pytest
from made_lab import OPENED, READY, RUN_ALL, SHUT_DOWN, jupyterlab, write_notebook
from playwright.sync_api import Browser, expect

pytestmark = [pytest.mark.browser, pytest.mark.slow]
CELL = """import workbench as wb
from widgets import explore
explorer = explore(wb.load("atlas", sae="1k"))
explorer"""
LATER = "Fact: The capital of the state where Magic Johnson played basketball is"
SAVE = """async () => { await window.jupyterapp.shell.currentWidget.context.save(); }"""


def test_the_picture_of_what_was_last_looked_at_stays(chromium: Browser, tmp_path: Path):
    (tmp_path / "notebooks").mkdir()
    write_notebook(tmp_path / "notebooks" / "kept.ipynb", CELL)
    with jupyterlab(tmp_path) as address:
        page = chromium.new_page(viewport={"width": 1280, "height": 720})
        page.goto(f"{address}/lab/tree/kept.ipynb")
        expect(page.locator(".jp-Notebook .jp-CodeCell").first).to_be_visible(timeout=60_000)
        page.evaluate(READY)
        page.evaluate(RUN_ALL)
        expect(page.locator('.wbq[data-stage="done"]')).to_be_attached(timeout=240_000)
        still = page.locator("[class^=wb-still]")
        expect(still).to_have_count(1)
        expect(still).to_be_hidden()
        assert page.locator(".wbr tbody td:last-child").first.evaluate(
            "cell => { const at = cell.getBoundingClientRect(); return at.width > 40 && at.right <= innerWidth; }"
        ), "the sort key is on the screen, beside the file browser"
        page.get_by_label("Prompt", exact=True).fill(LATER)
        page.get_by_label("Prompt", exact=True).press("Enter")
        expect(still).to_contain_text("Johnson", timeout=60_000)
        page.evaluate(SAVE)
        page.evaluate(SHUT_DOWN)
        page.goto(f"{address}/lab/workspaces/other/tree/kept.ipynb")
        page.wait_for_function("window.jupyterapp?.shell.currentWidget?.context")
        page.evaluate(OPENED)
        expect(page.locator("[class^=wb-still]")).to_be_visible(timeout=60_000)
        expect(page.locator("[class^=wb-still]")).to_contain_text("Johnson")
        expect(page.get_by_text("model not found")).to_be_hidden()
        page.close()
    texts = [
        output["data"]["text/html"]
        for output in nbformat.read(tmp_path / "notebooks" / "kept.ipynb", 4).cells[0].outputs
        if "data" in output and "text/html" in output["data"]
    ]
    assert len(texts) == 1 and "Johnson" in texts[0] and "Kobe" not in texts[0]
