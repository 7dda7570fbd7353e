"""A feature's page in Chromium with its Python behind it: what fills the screen comes first, the example texts when that is painted."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from live_page import open_live, open_saved
from made_models import TEXT, random_sae
from playwright.sync_api import Page, expect

from widgets import CardPane
from workbench.bench import Workbench
from workbench.features.index.index import build_index
from workbench.features.index.parts import Label

pytestmark = pytest.mark.browser
HOSTILE = "</script><img src=x onerror=window.hacked=1>"


@pytest.fixture
def card(model, tmp_path: Path) -> Iterator[CardPane]:
    index = build_index(model, random_sae(), [TEXT, f"the dog {HOSTILE} sat"], tmp_path / "index", progress=False)
    index.save_labels({3: Label(HOSTILE, None, "made up")})
    card = CardPane(Workbench(model=model, sae=random_sae(), index=index), feature=3)
    yield card
    card.close()


def test_the_texts_are_read_when_the_first_parts_are_painted(page: Page, tmp_path: Path, card: CardPane):
    read = card._bench.index._tables.windows.cache_info
    before = read().misses
    card.feature = 5
    assert read().misses == before and "Top" not in card.html and not card.rest and not card.facts
    open_live(page, card, tmp_path)
    expect(page.locator(".wbk-page")).to_contain_text("feature 5 of")
    expect(page.locator(".wbk-page")).to_contain_text("where it is most active")
    assert read().misses == before + 1
    assert page.evaluate("window.hacked") is None and page.locator("img[src=x]").count() == 0


def test_who_has_scrolled_down_keeps_the_place(page: Page, tmp_path: Path, card: CardPane, monkeypatch: pytest.MonkeyPatch):
    """Between the two messages the page is as tall as the one before."""
    page.set_viewport_size({"width": 900, "height": 300})
    open_live(page, card, tmp_path)
    expect(page.locator(".wbk-page")).to_contain_text("counted every time")
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    page.wait_for_timeout(100)
    lowest = page.evaluate("scrollY")
    assert lowest > 300
    asked: list[bool] = []
    monkeypatch.setattr(card, "_draw_rest", lambda: asked.append(True))
    card.feature = 5
    page.evaluate("ask({})")
    page.wait_for_timeout(300)
    assert asked and page.evaluate("scrollY") == lowest  # the first parts are painted
    monkeypatch.undo()
    card._draw_rest()
    page.evaluate("ask({})")
    expect(page.locator(".wbk-page")).to_contain_text("counted every time")
    assert page.evaluate("scrollY") > lowest - 200


def test_a_neighbors_new_name_is_shown_though_the_page_itself_is_the_same(page: Page, tmp_path: Path, card: CardPane):
    open_live(page, card, tmp_path)
    expect(page.locator(".wbk-page")).to_contain_text("counted every time")
    card.label("tall ships", card.neighbors[0])
    page.evaluate("ask({})")
    expect(page.locator(".wbk-page")).to_contain_text("tall ships")
    assert page.locator(".wbk-page").inner_text().count("counted every time") == 1


def test_a_label_leaves_what_one_is_reading_and_what_was_unfolded(page: Page, tmp_path: Path, card: CardPane):
    open_live(page, card, tmp_path)
    expect(page.locator(".wbk-page")).to_contain_text("counted every time")
    page.get_by_text("From strong to weak").click()
    folded = page.locator(".wbk-page details details")
    expect(folded.first).to_be_visible()
    page.locator('.wbk-page a[href^="#"]').last.focus()
    unlike = next(feature for feature in range(64) if feature not in (3, *card.neighbors))
    card.label("of another feature", unlike)
    page.evaluate("ask({})")
    page.wait_for_timeout(300)
    expect(page.locator('.wbk-page a[href^="#"]').last).to_be_focused()
    expect(folded.first).to_be_visible()


def test_a_saved_file_has_the_whole_page_and_copies_it(page: Page, tmp_path: Path, card: CardPane):
    open_saved(page, card.to_html(tmp_path / "card.html"))
    expect(page.locator(".wbk-page")).to_contain_text("counted every time")
    expect(page.locator(".wbk-page")).to_contain_text("From strong to weak")


def test_a_damaged_file_of_texts_is_named_and_the_rest_of_the_page_stays(page: Page, tmp_path: Path, card: CardPane):
    index = card._bench.index
    card.feature = 5
    open_live(page, card, tmp_path)
    expect(page.locator(".wbk-page")).to_contain_text("counted every time")
    (damaged,) = index.folder.glob("examples-*.parquet")
    damaged.write_bytes(damaged.read_bytes()[:-40])
    index._tables._range.cache_clear()
    index._tables.windows.cache_clear()
    card.feature = 3
    page.evaluate("ask({})")
    expect(page.locator(".wbk")).to_contain_text("is damaged")
    expect(page.locator(".wbk-page")).to_contain_text("feature 3 of")
    assert "is damaged" in card.static_html() and "feature 3 of" in card.static_html()


def test_a_feature_without_a_page_is_labeled_and_reads_a_text(page: Page, tmp_path: Path, model, own_labels: Path):
    """Of a model and its SAE in folders nothing else is known."""
    card = CardPane(Workbench(model=model, sae=random_sae()), feature=3)
    open_live(page, card, tmp_path)
    expect(page.get_by_text("nothing is known of the features")).to_be_visible()
    name = page.get_by_label("Label of this feature")
    name.fill("mine")
    name.press("Enter")
    expect(page.get_by_role("button", name="Undo")).to_be_visible()
    assert card._bench.labels[3] == "mine" and card.to_python() == "", "there is no page to ask for"
    page.get_by_label("Try your own text").fill("the cat sat on the mat")
    expect(page.locator(".wbk-tried")).to_contain_text("activ")
    card.feature = 4
    page.get_by_label("Try your own text").focus()
    page.evaluate("ask({})")
    expect(name).to_have_value("")
    card.feature = 3
    page.evaluate("ask({})")
    expect(name).to_have_value("mine")
    card.feature = 99_999
    page.evaluate("ask({})")
    expect(name).to_be_hidden()  # it is no feature of this SAE
    expect(page.get_by_label("Try your own text")).to_be_hidden()
    card.close()
