"""The explorer in Chromium with its Python behind it: one box opens a feature or a text, a token shows what is active there, each way of
searching asks only for what it needs. All by keys."""

from pathlib import Path

import pytest
from live_page import open_live
from made_models import random_sae
from playwright.sync_api import Page, expect

from widgets import Finder
from widgets.marks import visible
from workbench.bench import Workbench

pytestmark = pytest.mark.browser
HOSTILE = "<img src=x onerror=window.hacked=1>"


@pytest.fixture
def explorer(explorer_of):
    return explorer_of({3: "three small cats", 12: f"cats {HOSTILE}"}, "the cat sat on the", " mat", " dog")


def test_a_slash_opens_a_box_and_what_is_typed_there_is_found_by_keys(page: Page, tmp_path: Path, explorer):
    open_live(page, explorer, tmp_path)
    page.get_by_role("tab", name="Feature").focus()
    page.keyboard.press("/")
    box = page.get_by_role("combobox", name="Open a feature")
    expect(box).to_be_focused()
    page.keyboard.type("cats")
    options = page.get_by_role("option").filter(has_text="cats")
    expect(options).to_have_count(3)  # two labels, and the text itself
    page.keyboard.press("ArrowDown")
    chosen = page.locator('.wbe-open [aria-selected="true"]')
    feature = int(chosen.inner_text().rsplit(" ", 1)[1])
    page.keyboard.press("Enter")
    expect(box).to_be_hidden()
    expect(page.get_by_role("tab", name="Feature")).to_be_focused()  # where one was
    page.wait_for_function("(n) => document.querySelector('.wbk-page')?.textContent.includes(`eature ${n} of`)", arg=feature)
    assert explorer.feature == feature in (3, 12)
    assert page.evaluate("window.hacked") is None and page.locator("img[src=x]").count() == 0


def test_a_number_that_is_no_feature_says_so_and_the_box_stays(page: Page, tmp_path: Path, explorer):
    before = explorer.feature
    open_live(page, explorer, tmp_path)
    page.get_by_role("button", name="Open a feature").click()
    page.keyboard.type("12,345")
    expect(page.get_by_text("there is no feature 12,345")).to_be_visible()
    page.keyboard.press("Enter")
    expect(page.get_by_role("combobox", name="Open a feature")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("combobox", name="Open a feature")).to_be_hidden()
    assert explorer.feature == before


def test_a_token_of_the_question_shows_what_is_active_there(page: Page, tmp_path: Path, explorer):
    open_live(page, explorer, tmp_path)
    tokens = page.get_by_role("group", name="Tokens", exact=True).get_by_role("button")
    tokens.first.focus()
    page.keyboard.press("ArrowRight")
    expect(tokens.nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    found = page.get_by_role("tabpanel", name="Find")
    expect(found.locator("tbody tr").first).to_be_visible()
    assert (
        explorer.pane["finder"].found.table["feature"].tolist() == explorer.bench.find_at("the cat sat on the", 2).table["feature"].tolist()
    )
    expect(found.locator('.wbf-tokens [aria-pressed="true"]')).to_have_text(" cat")
    expect(found.locator(".wbf-filters")).to_be_hidden()
    lens = found.get_by_role("region", name="Logit lens")
    expect(lens).to_contain_text("plain logit lens: the final norm and the unembedding")
    expect(lens).to_contain_text("nostalgebraist 2020")
    expected = explorer.bench.logit_lens("the cat sat on the", 2, top=3)
    lines = lens.locator("tbody tr")
    expect(lines).to_have_count(len(expected.own))
    for line, (_, best) in zip(lines.all(), expected.table.groupby("layer"), strict=True):
        assert [each.strip() for each in line.locator("code").all_inner_texts()] == [visible(each).strip() for each in best["token"]]
    page.set_viewport_size({"width": 1536, "height": 900})
    boxes = [each.bounding_box() or {} for each in (lens, found.locator(".wbf-results"))]
    assert boxes[0]["y"] == boxes[1]["y"] and boxes[0]["x"] + boxes[0]["width"] < boxes[1]["x"]  # beside each other
    page.get_by_label("Find features by").select_option("label")
    expect(lens).to_be_hidden()


def test_each_way_asks_for_what_it_needs(page: Page, tmp_path: Path, model):
    pane = Finder(Workbench(model=model, sae=random_sae(), labels={3: "three small cats"}), feature=5)
    open_live(page, pane, tmp_path)
    way = page.get_by_label("Find features by")
    way.select_option("label")
    expect(page.get_by_label("Add positive prompts")).to_be_hidden()
    page.get_by_label("Words of a label").fill("small")
    page.get_by_label("Words of a label").press("Enter")
    rows = page.get_by_role("grid", name="Features found").locator("tbody tr")
    expect(rows).to_have_count(1)
    expect(page.get_by_role("columnheader", name="match")).to_be_visible()
    way.select_option("near")  # it has all that it needs: the selection
    expect(rows).to_have_count(20)
    page.get_by_label("Number of a feature").fill("7")
    expect(page.get_by_text("This is what was asked before")).to_be_hidden()
    page.get_by_label("Number of a feature").press("Enter")
    page.wait_for_function("document.querySelector('.wbf-code').textContent.includes('find_near(7)')")
    way.select_option("attribution")
    page.get_by_label("Text", exact=True).fill("the cat sat on the")
    page.get_by_label("Answer to attribute").fill(" mat")
    page.get_by_label("Answer to attribute").press("Enter")
    expect(page.get_by_role("columnheader", name="attribution")).to_be_visible()
    assert pane.found.wants == "that support the metric most, by attribution"
    pane.feature = 9
    way.select_option("prompts")
    expect(page.get_by_text("This is what was asked before")).to_be_visible()
