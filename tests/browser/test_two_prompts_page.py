"""A second prompt beside the first, by keys: asked as the first is, the same features on both, a page opened from there, CSV, Python."""

import csv
import io
from pathlib import Path

import pytest
from contrast import too_faint
from live_page import open_live
from playwright.sync_api import Page, expect

from workbench.circuits.metrics import logit_diff
from workbench.circuits.ranking.comparison import compare

pytestmark = pytest.mark.browser
HOSTILE = "<img src=x onerror=window.hacked=1>"
FIRST, SECOND = "the cat sat on the", "the dog ran to"


@pytest.fixture
def explorer(explorer_of):
    return explorer_of({3: f"=cats {HOSTILE}"}, FIRST, " mat", " dog")


def test_a_second_prompt_is_ranked_beside_the_first_by_keys(page: Page, tmp_path: Path, explorer):
    page.set_viewport_size({"width": 1040, "height": 720})  # 1280 × 720 with JupyterLab's file browser open
    open_live(page, explorer, tmp_path)
    page.get_by_role("tab", name="Find").click()
    page.keyboard.press("2")
    box = page.get_by_role("textbox", name="Second prompt")
    expect(box).to_be_focused()
    page.keyboard.type(f"{SECOND} 2")  # a digit in a box is no key
    expect(box).to_have_value(f"{SECOND} 2")
    page.keyboard.press("Backspace")
    page.keyboard.press("Backspace")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.get_by_label("Second answer").fill(" mat")
    page.keyboard.press("Enter")
    rows = page.get_by_role("grid", name="Features on both prompts").locator("tbody tr")
    expect(rows.nth(9)).to_be_visible()
    expect(page.locator(".wbt-said")).to_contain_text("metric of its own")
    bench = explorer.bench
    expected = compare(
        bench.rank(FIRST, logit_diff(" mat", " dog"), progress=False), bench.rank(SECOND, logit_diff(" mat"), progress=False)
    ).table
    explorer.pane["compare"].asking._job.wait(60)
    page.evaluate("ask({})")  # the page has its last rows: more come while effects are measured
    found = explorer.pane["compare"].comparison.table
    assert found["feature"].tolist() == expected["feature"].tolist()
    assert found["effect_difference"].to_numpy() == pytest.approx(expected["effect_difference"].to_numpy(), abs=1e-5)
    rows.first.focus()
    page.keyboard.press("ArrowDown")
    expect(rows.nth(1)).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Enter")
    expect(page.get_by_role("tabpanel", name="Feature")).to_be_visible()
    assert explorer.feature == found["feature"][1] and explorer.tab == "card"
    assert page.locator(".wbt-scroll").evaluate("(each) => each.scrollWidth <= each.clientWidth")  # nothing is cut off at the right
    assert page.evaluate("window.hacked") is None and too_faint(page, ".wbc") == []


def test_a_question_of_the_history_is_picked_and_the_table_is_a_file(page: Page, tmp_path: Path, explorer):
    asking = explorer.pane["prompt"]
    asking.prompt, asking.baseline = SECOND, ""
    asking.run().wait(60)
    explorer.left = "compare"
    open_live(page, explorer, tmp_path)
    page.get_by_label("Second questions asked before").select_option(index=2)  # the newest is the one above
    rows = page.get_by_role("grid", name="Features on both prompts").locator("tbody tr")
    expect(rows.first).to_be_visible()
    second = explorer.pane["compare"].comparison.second
    assert (second.prompt, second.answer, second.baseline) == (FIRST, " mat", " dog")
    page.locator('.wbc th[data-column="effect_difference"] button').click()
    expect(page.locator('.wbc th[data-column="effect_difference"]')).to_have_attribute("aria-sort", "ascending")
    with page.expect_download() as saving:
        page.get_by_role("button", name="CSV").last.click()
    lines = list(csv.DictReader(io.StringIO(Path(saving.value.path()).read_text())))
    assert [int(line["feature"]) for line in lines] == explorer.pane["compare"].comparison.table["feature"].tolist()[::-1]
    assert all(line["label"].startswith("'=") for line in lines if line["feature"] == "3")
    assert f"other = bench.rank({FIRST!r}, wb.logit_diff(' mat', ' dog'))" in explorer.pane["compare"].code
    assert explorer.pane["compare"].to_python() in explorer.code
    second_box = page.get_by_role("textbox", name="Second prompt")
    second_box.focus()
    feature = int(rows.nth(3).locator("td span").first.inner_text())
    rows.nth(3).click()  # leaving the box moves nothing under the hand
    page.wait_for_function("(n) => document.querySelector('.wbk-page').textContent.includes(`eature ${n} of`)", arg=feature)
    assert explorer.feature == feature
    second_box.focus()
    page.keyboard.type(" mat")
    expect(page.get_by_text("The second prompt was changed since")).to_be_visible()
    rows.first.focus()
    page.keyboard.press("2")
    expect(page.get_by_role("grid", name="Features, ranked")).to_be_visible()
