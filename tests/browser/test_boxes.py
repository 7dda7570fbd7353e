"""Every box of every pane, at the narrowest that two columns get: what it says while it is empty is read to its end, and what is typed, key
by key, arrives in it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from live_page import open_live
from made_models import TEXT, random_sae
from playwright.sync_api import Page

from widgets import Explorer, explore
from workbench.bench import Workbench
from workbench.features.index.index import build_index

pytestmark = pytest.mark.browser
# One-line boxes that are seen, empty, and too narrow for what they say.
CUT = """() => {
  const pen = document.createElement("canvas").getContext("2d");
  return [...document.querySelectorAll("input[placeholder]")].filter((box) => box.checkVisibility() && !box.value).map((box) => {
    const style = getComputedStyle(box);
    pen.font = `${style.fontWeight} ${style.fontSize} ${style.fontFamily}`; // the shorthand is empty where digits are tabular
    const room = box.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    return [pen.measureText(box.placeholder).width - room, `${box.ariaLabel}: ${box.placeholder}`];
  }).filter(([over]) => over > 0.5).map(([over, name]) => `${name} (${over.toFixed(0)} px)`);
}"""


# Boxes of text that are seen, and whether one takes the Enter by which a Japanese or Chinese word is chosen, for its own.
COMPOSED = """() => [...document.querySelectorAll("input:not([type]), input[type=search], textarea")]
  .filter((each) => each.checkVisibility()).map((box) => {
  const enter = new KeyboardEvent("keydown", { key: "Enter", isComposing: true, bubbles: true, cancelable: true });
  let isHeard = false;
  const hear = () => (isHeard = true);
  document.body.addEventListener("keydown", hear);
  box.dispatchEvent(enter);
  document.body.removeEventListener("keydown", hear);
  return [box.ariaLabel, isHeard || enter.defaultPrevented];
})"""
KEYS = "a1"  # a letter and a digit: boxes of numbers take the digit
BOXES = "input:not([type]), input[type=search], input[type=number], textarea"


@pytest.fixture
def explorer(model_of, tmp_path: Path, own_labels: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Explorer]:
    monkeypatch.chdir(tmp_path)
    index = build_index(model_of("gpt2"), random_sae(), [TEXT, "the dog sat"], tmp_path / "index", progress=False)
    made = explore(Workbench(model=model_of("gpt2"), sae=random_sae(), index=index), "the cat sat on the", "", "", feature=3)
    made.pane["prompt"]._job.wait(60)
    made.pane["compare"].asking.prompt = made.pane["batch"].text = "the dog ran to"
    for job in (made.pane["compare"].asking.run(), made.pane["batch"].run()):
        job.wait(60)
    made.pane["lists"].keep(3)
    made.pane["steering"].give(3)
    made.pane["group"].marked = [[3, -1]]
    yield made
    if made._drawing is not None:
        made._drawing.wait(60)
    made.close()


def everywhere(page: Page) -> Iterator[str]:
    """Each pane in turn, in each of its ways to ask."""
    for left in ("1", "2", "3"):
        page.get_by_role("tab", name="Feature").focus()
        page.keyboard.press(left)
        page.wait_for_timeout(50)
        yield left
    for tab in page.get_by_role("tab").all():
        tab.click()
        page.wait_for_timeout(30)
        yield tab.inner_text()
    page.get_by_role("tab", name="Find").click()
    ways = page.get_by_label("Find features by")
    for way in ways.locator("option").evaluate_all("(options) => options.map((each) => each.value)"):
        ways.select_option(way)
        yield way


def test_placeholders_are_read_to_their_end_and_what_is_typed_or_composed_arrives(page: Page, tmp_path: Path, explorer: Explorer):
    page.set_viewport_size({"width": 896, "height": 720})  # 848 for the explorer: JupyterLab at 1280 × 720, its file browser open
    open_live(page, explorer, tmp_path)
    cut, deaf, taken, tables, n_tried = [], [], [], [], 0
    for _ in everywhere(page):
        cut += page.evaluate(CUT)
        taken += [name for name, is_taken in page.evaluate(COMPOSED) if is_taken]
        tables += page.locator(".wbt-scroll, .wbr-scroll").evaluate_all("(all) => all.map((each) => each.scrollWidth - each.clientWidth)")
        for box in page.locator(BOXES).locator("visible=true").element_handles():
            if not box.is_editable() or box.get_attribute("data-tried"):
                continue
            name, typed = box.get_attribute("aria-label"), KEYS[1:] if box.get_attribute("type") == "number" else KEYS
            box.evaluate("(box) => ((box.dataset.tried = box.value || ' '), box.focus(), box.select())")
            page.keyboard.type(typed)
            deaf += [f"{name}: {box.input_value()!r}"] if box.input_value() != typed else []
            n_tried += 1
            box.evaluate("(box) => (box.value = box.dataset.tried.trim())")  # as it was: another file or way would take others away
    assert page.locator(".wbe-tabs").evaluate("(tabs) => tabs.scrollWidth <= tabs.clientWidth")
    page.goto("about:blank")
    assert len(tables) > 10 and max(tables) <= 0, tables
    assert not set(cut) and not set(taken), (set(cut), set(taken))
    assert not deaf and n_tried > 20, (deaf, n_tried)
