"""What there is room for: beside JupyterLab's file browser labels shrink and numbers stay whole, at a laptop's widths; a saved ranking fits
a phone."""

from pathlib import Path

import pytest
from live_page import open_live, open_saved
from made_ranking import made_ranking, made_table
from playwright.sync_api import Page, expect

from widgets import RankingTable

pytestmark = pytest.mark.browser
LONG = "a label that goes on and on, longer than any table has room for, and then a little more"
# Cells with numbers that are cut, and cells with words that are.
CUT = """() => {
  const cut = (cell) => cell.scrollWidth > cell.clientWidth + 1;
  const cells = [...document.querySelectorAll("td, th")].filter((cell) => cell.checkVisibility());
  const isWords = (cell) => cell.matches(".wbr-text, .wbr-token, .wbt-label, .wbp-text") || cell.querySelector("[dir=auto]");
  return [cells.filter((c) => !isWords(c) && cut(c)).map((c) => c.innerText), cells.filter((c) => isWords(c) && cut(c)).length];
}"""
# What reaches beyond a panel's right edge.
OVER = """(panel) => panel.scrollWidth <= panel.clientWidth ? [] : [...panel.querySelectorAll("*")]
  .filter((each) => each.getBoundingClientRect().right > panel.getBoundingClientRect().left + panel.clientWidth + 1)
  .map((each) => `${each.tagName} ${each.className} ${each.textContent.slice(0, 30)}`)"""
# JupyterLab leaves so much of 1280, 1366 and 1920 pixels beside its file browser.
WIDTHS = (848, 934, 1488)


def test_labels_shrink_and_numbers_do_not(page: Page, tmp_path: Path, explorer_of):
    explorer = explorer_of(dict.fromkeys(range(64), LONG), "the cat sat on the", " mat", " dog")
    explorer.pane["compare"].asking.prompt = explorer.pane["batch"].text = "the dog ran to"
    for job in (explorer.pane["compare"].asking.run(), explorer.pane["batch"].run()):
        job.wait(60)
    page.set_viewport_size({"width": 896, "height": 720})
    open_live(page, explorer, tmp_path)
    for width in WIDTHS:
        page.set_viewport_size({"width": width + 48, "height": 720})
        for key in ("1", "2", "3"):
            page.get_by_role("tab", name="Feature").press(key)
            expect(page.locator(".wbe-left tbody tr:visible").first).to_be_visible()
            numbers, n_words = page.evaluate(CUT)
            assert not numbers and n_words, (width, key, numbers)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.get_by_role("tab", name="Feature").press("1")
    page.set_viewport_size({"width": WIDTHS[0] + 48, "height": 720})
    for name in ("feature", "activation", "attribution"):  # the arrow beside a heading, too
        page.locator(f'.wbr th[data-column="{name}"] button').click()
        expect(page.locator(f'.wbr th[data-column="{name}"]')).not_to_have_attribute("aria-sort", "none")
        assert page.evaluate(CUT)[0] == []
    explorer.pane["steering"].give(3)
    explorer.pane["attention"].run().wait(60)
    for tab in ("Steer", "Attention", "Group", "Lists", "Feature", "Find"):
        page.get_by_role("tab", name=tab).click()
        assert page.get_by_role("tabpanel", name=tab).evaluate(OVER) == [], tab
    columns = page.locator(".wbe-middle").evaluate("(each) => getComputedStyle(each).gridTemplateColumns.split(' ').length")
    assert columns == 2


@pytest.mark.parametrize("live", [False, True])
def test_a_saved_ranking_fits_a_phone(page: Page, tmp_path: Path, live: bool):
    page.set_viewport_size({"width": 390, "height": 800})
    ranking = made_ranking(table=made_table().assign(label=LONG))
    path = RankingTable(ranking).to_html(tmp_path / "table.html") if live else ranking.to_html(tmp_path / "demo.html")
    open_saved(page, path)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    numbers, _ = page.evaluate(CUT)
    assert not numbers
    line = page.locator(".wbr tbody tr").first
    line.click()
    expect(line).to_have_attribute("aria-selected", "true")
