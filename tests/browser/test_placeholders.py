"""What a box says while it is empty is read to its end, in every pane and at the narrowest that two columns get."""

from pathlib import Path

import pytest
from live_page import open_live
from made_models import TEXT, random_sae
from playwright.sync_api import Page

from widgets import explore
from workbench.bench import Workbench
from workbench.features.index.index import build_index

pytestmark = pytest.mark.browser
# One-line boxes that are seen, empty, and too narrow for what they say.
CUT = """() => {
  const pen = document.createElement("canvas").getContext("2d");
  return [...document.querySelectorAll("input[placeholder]")].filter((box) => box.checkVisibility() && !box.value).map((box) => {
    const style = getComputedStyle(box);
    pen.font = style.font;
    const room = box.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    return [pen.measureText(box.placeholder).width - room, `${box.ariaLabel}: ${box.placeholder}`];
  }).filter(([over]) => over > 0.5).map(([over, name]) => `${name} (${over.toFixed(0)} px)`);
}"""


def test_no_placeholder_is_cut_off(page: Page, model_of, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    index = build_index(model_of("gpt2"), random_sae(), [TEXT, "the dog sat"], tmp_path / "index", progress=False)
    explorer = explore(Workbench(model=model_of("gpt2"), sae=random_sae(), index=index), "the cat sat on the", "", "", feature=3)
    explorer.pane["prompt"]._job.wait(60)
    explorer.pane["compare"].asking.prompt = explorer.pane["batch"].text = "the dog ran to"
    for job in (explorer.pane["compare"].asking.run(), explorer.pane["batch"].run()):
        job.wait(60)
    page.set_viewport_size({"width": 1040, "height": 720})  # 1280 × 720 with JupyterLab's file browser open
    open_live(page, explorer, tmp_path)
    cut = []
    for left in ("1", "2", "3"):
        page.get_by_role("tab", name="Feature").focus()
        page.keyboard.press(left)
        page.wait_for_timeout(200)
        cut += page.evaluate(CUT)
    for tab in page.get_by_role("tab").all():
        tab.click()
        page.wait_for_timeout(100)
        cut += page.evaluate(CUT)
    finder = page.get_by_label("Find features by")
    page.get_by_role("tab", name="Find").click()
    for way in finder.locator("option").evaluate_all("(options) => options.map((each) => each.value)"):
        finder.select_option(way)
        cut += page.evaluate(CUT)
    explorer._drawing.wait(60)
    explorer.close()
    assert not set(cut), set(cut)
