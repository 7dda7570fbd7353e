"""What there is room for: beside JupyterLab's file browser labels shrink and numbers stay whole, at a laptop's widths; a saved ranking fits
a phone."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from live_page import open_live, open_saved
from made_map import made_map
from made_ranking import made_ranking, made_table
from playwright.sync_api import Page, expect

from widgets import RankingTable
from workbench.bench import Workbench

pytestmark = pytest.mark.browser
LONG = "a label that goes on and on, longer than any table has room for, and then a little more"
# Cells with numbers that are cut, and cells with words that are.
CUT = """() => {
  const cut = (cell) => cell.scrollWidth > cell.clientWidth + 1;
  const cells = [...document.querySelectorAll("td, th")].filter((cell) => cell.checkVisibility());
  const isWords = (cell) => cell.matches(".wbr-text, .wbr-token, .wbt-label, .wbp-text") || cell.querySelector("[dir=auto]");
  return [cells.filter((c) => !isWords(c) && cut(c)).map((c) => c.innerText), cells.filter((c) => isWords(c) && cut(c)).length];
}"""
# Numbers that reach out of their cells, into others.
CROSSED = """(body) => [...body.querySelectorAll("td.wbp-number, td.wbr-measure")].filter((cell) => {
  const words = new Range();
  words.selectNodeContents(cell);
  return [...words.getClientRects()].some((each) => each.left < cell.getBoundingClientRect().left - 0.5);
}).map((cell) => cell.innerText)"""
SMALL = re.compile("effect|attribution|low|high")
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
    explorer.pane["group"].groups = {"a group of some name": [[feature, -1] for feature in explorer._ranked_features()[:3]]}
    explorer.pane["group"].run().wait(60)
    explorer.pane["finder"].look_at("the cat sat on the", 2)
    explorer.pane["finder"]._job.wait(60)
    page.evaluate("ask({})")
    for tab in ("Steer", "Attention", "Group", "Lists", "Feature", "Find"):
        page.get_by_role("tab", name=tab).click()
        panel = page.get_by_role("tabpanel", name=tab)
        expect(panel).to_be_visible()
        assert panel.evaluate(OVER) == [] and page.evaluate(CUT)[0] == [], tab
    expect(panel.get_by_role("region", name="Logit lens")).to_be_visible()
    below, above = (panel.locator(each).bounding_box() or {} for each in (".wbf-lens", ".wbf-results"))
    assert above["y"] + above["height"] <= below["y"] and above["width"] > 300  # no room beside each other: the features first
    columns = page.locator(".wbe-middle").evaluate("(each) => getComputedStyle(each).gridTemplateColumns.split(' ').length")
    assert columns == 2


def shrunk(view: dict, factor: float = 1e-5) -> dict:
    """The same table of a model whose effects are so much smaller."""

    def times(fields: dict) -> dict:
        small = {name: value * factor for name, value in fields.items() if isinstance(value, float) and SMALL.match(name)}
        return fields | small | ({"digits": times(fields["digits"])} if "digits" in fields else {})

    return times(view) | {"scales": times(view["scales"]), "rows": [times(row) for row in view["rows"]]}


def test_numbers_with_many_digits_are_whole_too(page: Page, tmp_path: Path, explorer_of):
    explorer = explorer_of(dict.fromkeys(range(64), LONG), "the cat sat on the", " mat", " dog")
    explorer.pane["compare"].asking.prompt = explorer.pane["batch"].text = "the dog ran to\nthe cat sat on"
    for job in (explorer.pane["compare"].asking.run(), explorer.pane["batch"].run()):
        job.wait(60)
    page.set_viewport_size({"width": WIDTHS[0] + 48, "height": 720})
    open_live(page, explorer, tmp_path)
    for key, name in (("1", "ranking"), ("2", "compare"), ("3", "batch")):
        page.get_by_role("tab", name="Feature").press(key)
        expect(page.locator(".wbe-left tbody tr:visible").first).to_be_visible()
        pane = explorer.pane[name]
        pane.set_trait("view", shrunk(pane.view))
        page.evaluate("ask({})")
        expect(page.locator(".wbe-left tbody tr:visible").first).to_contain_text("0.00000")
        assert page.evaluate(CUT)[0] == [], name
        crossed = page.locator(".wbe-left tbody:visible").first.evaluate(CROSSED)
        assert crossed == [], (name, crossed)


# How much of its column's width each chart has, and the smallest letters in it, in the page's pixels; of pictures side by side all of them.
CHARTS = """(selector) => {
  const charts = [...document.querySelectorAll(selector)].filter((each) => each.checkVisibility());
  const column = charts[0].closest(".wbe-left, .wbe-pane, .wbp");
  const style = getComputedStyle(column);
  const room = column.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
  const rows = Object.groupBy(charts, (each) => Math.round(each.getBoundingClientRect().bottom));
  const widths = Object.values(rows).map((row) => row.reduce((sum, each) => sum + each.getBoundingClientRect().width, 0));
  const size = (text) => parseFloat(getComputedStyle(text).fontSize) * (text.getScreenCTM()?.a ?? 1);
  const letters = charts.flatMap((each) => [...each.querySelectorAll("text")]).map(size);
  return [Math.min(...widths) / room, Math.max(...widths) / room, Math.min(99, ...letters)];
}"""


@pytest.mark.parametrize("is_saved", [False, True])
def test_charts_fill_the_width_that_there_is_and_their_words_stay_readable(page: Page, tmp_path: Path, explorer_of, monkeypatch, is_saved):
    monkeypatch.setattr(Workbench, "map", lambda self: SimpleNamespace(table=made_map()))
    explorer = explorer_of({3: "three"}, "the cat sat on the", " mat", " dog")
    explorer.feature, explorer.tab = explorer.first_feature(), "map"
    explorer._drawing.wait(60)
    explorer.tab = "card"
    page.set_viewport_size({"width": WIDTHS[0] + 48, "height": 900})
    if is_saved:
        open_saved(page, explorer.to_html(tmp_path / "explorer.html"))
    else:
        open_live(page, explorer, tmp_path)
    ways = {"Feature": ".wbk-page table:has([title*=' token'])", "Map": ".wbp-map", "Ranks": ".wbr-picture", "Agreement": ".wbr-picture"}
    for width in WIDTHS:
        page.set_viewport_size({"width": width + 48, "height": 900})
        for way, selector in ways.items():
            page.get_by_role("tab" if way in ("Feature", "Map") else "button", name=way, exact=True).click()
            expect(page.locator(selector).first).to_be_visible()
            least, most, letters = page.evaluate(CHARTS, selector)
            assert 0.9 < least <= most < 1.01 and letters > 9, (width, way, least, most, letters)


@pytest.mark.parametrize("live", [False, True])
def test_a_saved_ranking_fits_a_phone(page: Page, tmp_path: Path, live: bool):
    page.set_viewport_size({"width": 390, "height": 800})
    ranking = made_ranking(table=made_table().assign(label=LONG))
    path = RankingTable(ranking).to_html(tmp_path / "table.html") if live else ranking.to_html(tmp_path / "demo.html")
    open_saved(page, path)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    numbers, _ = page.evaluate(CUT)
    assert not numbers
    assert page.locator(".wbr-scroll").evaluate("(each) => each.scrollWidth <= each.clientWidth"), "the effect, by which rows are sorted"
    line = page.locator(".wbr tbody tr").first
    line.click()
    expect(line).to_have_attribute("aria-selected", "true")


IN_SIGHT = """(panel) => (part) => {
  if (!part) return false;
  const [at, of] = [part.getBoundingClientRect(), panel.getBoundingClientRect()];
  return at.top >= of.top - 1 && at.bottom <= of.bottom + 1;
}"""


def test_what_a_search_found_comes_into_sight_but_not_while_one_types(page: Page, tmp_path: Path, explorer_of):
    """Under three prompts it begins below the fold: nothing would seem to have happened."""
    explorer = explorer_of({}, "the cat sat on the", " mat", " dog")
    finder = explorer.pane["finder"]
    finder.positive, finder.negative, finder.max_density = ["the cat sat on the", "the cat ran to the", "the cat and the dog"], [], 1.0
    explorer.tab = "finder"
    page.set_viewport_size({"width": 896, "height": 720})
    open_live(page, explorer, tmp_path)
    is_seen = f"() => ({IN_SIGHT})(document.querySelector('.wbe-shown'))(document.querySelector('.wbf-results tbody tr'))"
    page.get_by_role("button", name="Find", exact=True).click()
    page.wait_for_function(is_seen)
    page.locator(".wbe-shown").evaluate("(panel) => panel.scrollTop = 0")
    page.get_by_label("Add positive prompts, one a line").focus()
    finder.run().wait(60)
    page.evaluate("ask({})")
    page.wait_for_timeout(300)
    assert page.locator(".wbe-shown").evaluate("(panel) => panel.scrollTop") == 0 and not page.evaluate(is_seen)
