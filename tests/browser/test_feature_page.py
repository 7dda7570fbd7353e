"""A folder of feature pages in Chromium: opens offline in both themes, finds features as one types, shows hostile text as text."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from made_page import ARABIC, HOSTILE, made_page
from playwright.sync_api import Browser, Page, expect

from widgets.html.pages import feature_page, search_page, search_row
from widgets.marks import visible
from workbench.features.index.page import FeaturePage
from workbench.features.index.parts import FeatureScore, Label

pytestmark = pytest.mark.browser


def write(folder: Path, pages: Sequence[FeaturePage]) -> Path:
    features = [page.feature for page in pages]
    for i, page in enumerate(pages):
        (folder / f"{page.feature}.html").write_text(
            feature_page(page, features[max(0, i - 1) : i], features[i + 1 : i + 2], set(features))
        )
    (folder / "index.html").write_text(search_page([search_row(page) for page in pages], {"model": "atlas"}))
    return folder / "index.html"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    labels = ["Lakers players", "", "the city of Los Angeles", "KOBE's rival"]
    pages = [made_page(feature, label=Label(label)) for feature, label in zip((3, 10, 77, 1500), labels, strict=True)]
    pages[1] = made_page(10, tokens=[" Sacramento", " capital", " of"], label=Label(""))
    return write(tmp_path, pages).parent


def found(page: Page) -> list[str]:
    return page.locator("table.features tbody a").all_inner_texts()


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["3", "10", "77", "1,500"]),
        ("kobe", ["1,500", "3", "77"]),  # in the label first, then among tokens
        ("sacramento", ["10"]),
        ("LOS angeles", ["77"]),
        ("1500", ["1,500"]),
        ("nothing of this", []),
        ('" <b>', []),
    ],
)
def test_features_are_found_by_label_token_and_number(page: Page, folder: Path, query: str, expected: list[str]):
    page.goto((folder / "index.html").as_uri())
    page.get_by_label("Search features").fill(query)
    assert found(page) == expected
    expect(page.locator("#found")).to_contain_text(f"{len(expected)} ")


def test_a_click_on_a_heading_sorts_and_what_is_not_known_stands_last(page: Page, tmp_path: Path):
    scores = {3: FeatureScore(0.5, -0.1), 10: FeatureScore(), 77: FeatureScore(0.9, 0.2), 1500: FeatureScore(0.1, None)}
    page.goto(write(tmp_path, [made_page(feature, scores=each) for feature, each in scores.items()]).as_uri())
    heading = page.get_by_role("button", name="input")
    heading.click()
    assert found(page) == ["77", "3", "1,500", "10"]
    heading.press("Enter")
    assert found(page) == ["1,500", "3", "77", "10"]
    page.get_by_role("button", name="output").click()
    assert found(page)[:2] == ["77", "3"]
    expect(page.locator("th[aria-sort=descending]")).to_have_text("output")


def test_enter_opens_the_first_and_links_lead_on_and_back(page: Page, folder: Path):
    page.goto((folder / "index.html").as_uri())
    expect(page.get_by_label("Search features")).to_be_focused()
    page.keyboard.type("sacramento")
    page.keyboard.press("Enter")
    expect(page).to_have_title("feature 10")
    page.get_by_text("77 →").click()
    expect(page).to_have_title("the city of Los Angeles")
    page.get_by_text("All features").click()
    assert len(found(page)) == 4


def test_pages_show_without_scripts(chromium: Browser, folder: Path):
    plain = chromium.new_context(java_script_enabled=False).new_page()
    plain.goto((folder / "3.html").as_uri())
    expect(plain.get_by_text("Top 20 texts")).to_be_visible()
    plain.get_by_text("7.00 to 7.50").click()
    expect(plain.locator("details[open] table").first).to_be_visible()
    plain.goto((folder / "index.html").as_uri())
    expect(plain.get_by_role("link", name="1,500")).to_be_visible()


@pytest.mark.parametrize("tokens", [HOSTILE, ARABIC, ["x" * 5000, " " * 300, "👩‍👩‍👧"]], ids=["markup", "right to left", "long"])
def test_hostile_tokens_are_shown_not_run_and_stay_inside_the_page(page: Page, tmp_path: Path, tokens: list[str]):
    index = write(tmp_path, [made_page(3, tokens=tokens, label=Label("".join(tokens)))])
    for address in (index, tmp_path / "3.html"):
        page.goto(address.as_uri())
        assert page.evaluate("window.hacked") is None
        assert page.locator("img[src=x]").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert visible(tokens[0])[:50] in page.locator('div[dir="auto"]').first.inner_text()


@pytest.mark.parametrize("width", [390, 800, 1400])
def test_pages_fit_narrow_and_wide_windows(page: Page, folder: Path, width: int):
    page.set_viewport_size({"width": width, "height": 800})
    for name in ("index.html", "3.html"):
        page.goto((folder / name).as_uri())
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), name


def test_both_themes_are_readable(chromium: Browser, folder: Path):
    """Text against its background, by WCAG's contrast ratio."""
    for scheme in ("light", "dark"):
        page = chromium.new_page(color_scheme=scheme)
        page.goto((folder / "3.html").as_uri())
        ink, paper = page.evaluate("[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]")
        brightness = [sum(map(int, color[4:-1].split(","))) for color in (ink, paper)]
        assert (brightness[0] < 150 < 600 < brightness[1]) if scheme == "light" else (brightness[1] < 150 < 600 < brightness[0])
        page.close()
