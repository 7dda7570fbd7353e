"""A saved ranking in Chromium: opens offline, with and without scripts; sorts, filters and chooses as the notebook's table does."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from live_page import open_saved
from made_ranking import made_ranking, made_table
from playwright.sync_api import Browser, Page, expect

from widgets import RankingTable

pytestmark = pytest.mark.browser
HOSTILE = "</script><img src=x onerror=window.hacked=1>\u202e"
# The widget's module on a state that Python computed, with a model that only records: what Jupyter gives it, without Jupyter.
MODULE_PAGE = """<!doctype html><meta charset="utf-8"><style>@CSS@</style><div id="here"></div><script type="module">
@JS@
const traits = @STATE@, listeners = {};
window.saved = [];
window.answer = (changes) => {
  Object.assign(traits, changes);
  for (const name in changes) (listeners[`change:${name}`] ?? []).forEach((draw) => draw());
};
const set = (name, value) => { traits[name] = value; window.saved.push([name, value]); };
const on = (event, draw) => (listeners[event] ??= []).push(draw);
render({ model: { get: (name) => traits[name], set, on, off() {}, save_changes() {} }, el: document.getElementById("here") });
</script>"""


def open_page(page: Page, folder: Path, ranking=None) -> Page:
    open_saved(page, (ranking or made_ranking()).to_html(folder / "ranking.html"))
    return page


def open_module(page: Page, folder: Path, table: RankingTable) -> Page:
    names = [name for name in table.traits(sync=True) if not name.startswith("_") and name not in ("layout", "tabbable", "tooltip")]
    state = json.dumps({name: getattr(table, name) for name in names}).replace("<", "\\u003c")
    script = RankingTable._esm.replace("export default { render };", "")
    html = MODULE_PAGE.replace("@CSS@", RankingTable._css).replace("@JS@", script).replace("@STATE@", state)
    (folder / "module.html").write_text(html)
    page.goto((folder / "module.html").as_uri())
    return page


def rows(page: Page) -> list[list[str]]:
    return [row.inner_text().split("\t") for row in page.locator(".wbr tbody tr").all()]


def drawn(table: RankingTable) -> list[tuple[int, int | None]]:
    return [(row["feature"], row.get("pos", row.get("n_pos"))) for row in table.view["rows"]]


def shown(page: Page) -> list[tuple[int, int]]:
    heads = page.locator(".wbr thead th").evaluate_all("cells => cells.map((cell) => cell.dataset.column)")
    where = heads.index("pos") if "pos" in heads else heads.index("n_pos")
    return [(int(cells[0]), int(cells[where])) for cells in rows(page)]


def test_the_page_shows_the_report_without_scripts(chromium: Browser, tmp_path: Path):
    plain = chromium.new_context(java_script_enabled=False).new_page()
    plain.goto(made_ranking().to_html(tmp_path / "ranking.html").as_uri())
    expect(plain.get_by_text("Why “Sacramento” rather than “Albany”?")).to_be_visible()
    expect(plain.get_by_text("by activation", exact=True)).to_be_visible()
    expect(plain.get_by_text("This part needs scripts")).to_be_visible()
    assert plain.locator("img").evaluate_all("images => images.every((image) => image.naturalWidth > 0)")


STATES = [
    dict(sort_by="activation"),
    dict(sort_by="effect", is_descending=False),
    dict(sort_by="label", is_descending=False),
    dict(sort_by="token", is_descending=True, page=3),
    dict(query="kobe effect>0.001"),
    dict(query='pos>=9 "Lakers p"'),
    dict(query="41", is_summed=True),
    dict(is_summed=True, sort_by="activation", page=1),
    dict(query="n_pos>1 effect<0", is_summed=True),
    dict(query="nothing at all"),
    dict(page=999),
]


@pytest.mark.parametrize("state", STATES, ids=str)
def test_the_saved_page_shows_the_rows_that_the_notebook_shows(page: Page, tmp_path: Path, state: dict):
    table = made_table()
    table.loc[3::7, "effect"] = np.nan
    ranking = made_ranking(table=table)
    open_page(page, tmp_path, ranking)
    live = RankingTable(ranking, **state)
    if state.get("is_summed"):
        page.get_by_label("sum over positions").check()
    for _ in range(state.get("sort_by", "effect") != "effect"):
        page.locator(f'th[data-column="{state["sort_by"]}"] button').click()
    if "is_descending" in state and (state["is_descending"] is False) != (state.get("sort_by") in ("label", "token")):
        page.locator(f'th[data-column="{state["sort_by"]}"] button').click()
    if "query" in state:
        page.get_by_label("Filter rows").fill(state["query"])
        expect(page.locator(".wbr-status")).to_contain_text(f"{live.view['n_matching']} of {live.view['n_rows']}")
    for _ in range(min(state.get("page", 0), 20)):
        if page.get_by_role("button", name="Next").is_enabled():
            page.get_by_role("button", name="Next").click()
    assert shown(page) == drawn(live)


@pytest.mark.parametrize("query", ["efect>1", "token>1", "pos=two"])
def test_a_query_that_cannot_be_read_is_named_and_changes_nothing(page: Page, tmp_path: Path, query: str):
    before = shown(open_page(page, tmp_path))
    page.get_by_label("Filter rows").fill(query)
    expect(page.locator(".wbr-status.wbp-wrong")).to_contain_text(query.split("=")[0].split(">")[0])
    assert shown(page) == before


def test_keys_choose_features_turn_pages_and_sort(page: Page, tmp_path: Path):
    open_page(page, tmp_path)
    line = page.locator(".wbr tbody tr")
    line.first.focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator(".wbr-detail")).to_contain_text("asked for a capital")
    expect(line.nth(1)).to_have_attribute("aria-selected", "true")
    page.keyboard.press("End")
    page.keyboard.press("ArrowDown")
    expect(page.locator(".wbr-pager")).to_contain_text("13–24")
    expect(line.first).to_be_focused()
    expect(page.locator(".wbr-detail")).to_contain_text(f"feature {rows(page)[0][0]}")
    page.keyboard.press("ArrowUp")
    expect(page.locator(".wbr-pager")).to_contain_text("1–12")
    expect(line.last).to_be_focused()
    page.locator('th[data-column="activation"] button').focus()
    page.keyboard.press("Enter")
    expect(page.locator('th[data-column="activation"]')).to_have_attribute("aria-sort", "descending")
    expect(page.locator('th[data-column="activation"] button')).to_be_focused()


def test_a_focused_row_can_be_seen(page: Page, tmp_path: Path):
    open_page(page, tmp_path)
    page.locator(".wbr tbody tr").first.focus()
    page.keyboard.press("ArrowDown")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


@pytest.mark.parametrize("opened", [open_page, lambda page, folder, ranking: open_module(page, folder, RankingTable(ranking, feature=41))])
def test_hostile_text_is_shown_not_run(page: Page, tmp_path: Path, opened):
    table = made_table().assign(token=HOSTILE, label=HOSTILE)
    opened(page, tmp_path, made_ranking(table=table, str_tokens=[HOSTILE] * 14, prompt=HOSTILE, answer=HOSTILE))
    page.locator(".wbr tbody tr").first.wait_for()
    assert HOSTILE.replace("\u202e", "\\u202e") in rows(page)[0][1]
    assert page.evaluate("window.hacked") is None
    assert page.locator("img[src=x]").count() == 0


def test_the_widget_shows_the_strongest_texts_of_the_chosen_feature(page: Page, tmp_path: Path):
    texts = [SimpleNamespace(str_tokens=[" the", " Lakers\n", HOSTILE], activations=[0.0, strength, 0.1]) for strength in (4.0, 3.0)]
    open_module(page, tmp_path, RankingTable(made_ranking(), examples=lambda feature: texts, feature=9))
    expect(page.locator(".wbr-detail")).to_contain_text("Lakers players feature 9")
    expect(page.locator(".wbr-detail li")).to_have_count(2)
    strongest = page.locator(".wbr-detail li .wbr-mark").first
    assert strongest.inner_text().rstrip("\n") == " Lakers⏎" and strongest.get_attribute("title") == "activation 4.00"


def test_the_widget_asks_python_and_draws_the_answer(page: Page, tmp_path: Path):
    table = RankingTable(made_ranking())
    open_module(page, tmp_path, table)
    page.locator('th[data-column="activation"] button').click()
    assert page.evaluate("window.saved") == [["sort_by", "activation"], ["is_descending", True], ["page", 0]]
    table.sort_by = "activation"
    page.evaluate("view => window.answer({ view })", table.view)
    assert shown(page) == drawn(table)
    page.locator(".wbr tbody tr").nth(2).click()
    assert ["feature", table.view["rows"][2]["feature"]] in page.evaluate("window.saved")


def test_jupyters_shortcuts_do_not_hear_the_widgets_keys(page: Page, tmp_path: Path):
    """JupyterLab asks the focused element itself, so each that can be focused carries the attribute."""
    open_module(page, tmp_path, RankingTable(made_ranking()))
    focusable = page.locator(".wbr button, .wbr input, .wbr [tabindex]")
    assert focusable.count() > 20
    assert focusable.evaluate_all("all => all.every((one) => one.dataset.lmSuppressShortcuts === 'true')")


def test_what_to_know_before_believing_the_numbers_stands_above_the_rows(page: Page, tmp_path: Path):
    """Of an SAE that is read otherwise than it was trained, say: the live table is all of a ranking that the explorer shows."""
    notes = ("this SAE was made with no start token", f"BatchTopK picks among all tokens {HOSTILE}")
    open_module(page, tmp_path, RankingTable(made_ranking(notes=notes)))
    said = page.locator(".wbr-known")
    expect(said.first).to_contain_text("⚠ This SAE was made with no start token")
    expect(said.last).to_contain_text("BatchTopK picks among all tokens </script><img")
    assert page.evaluate("window.hacked") is None
