"""A person's list in the explorer, by keys: K keeps, notes are typed, two pages stand side by side, files are taken away, what was removed
comes back; a damaged file is one sentence."""

import json
from pathlib import Path

import pytest
from contrast import too_faint
from live_page import open_live
from playwright.sync_api import Page, expect

from workbench.features.lists.feature_list import FeatureList

pytestmark = pytest.mark.browser
HOSTILE = "<img src=x onerror=window.hacked=1>"


@pytest.fixture
def explorer(explorer_of):
    return explorer_of({3: f"cats {HOSTILE}", 5: "dogs"}, "the cat sat on the", " mat", " dog", feature=3)


def test_a_feature_is_kept_noted_removed_and_put_back_by_keys(page: Page, tmp_path: Path, explorer):
    page.set_viewport_size({"width": 1040, "height": 720})
    open_live(page, explorer, tmp_path)
    page.get_by_label("Try your own text").focus()
    page.keyboard.type("k")  # a letter in a box is no key
    assert not (tmp_path / "kept_features.json").exists()
    page.get_by_role("tab", name="Feature").focus()
    page.keyboard.press("k")
    expect(page.get_by_role("button", name="In your list")).to_be_visible()
    expect(page.locator(".wbe-foot")).to_contain_text("feature 3 kept in kept_features.json")
    page.keyboard.press("k")  # kept already: it is shown
    expect(page.get_by_role("tabpanel", name="Lists")).to_be_visible()
    FeatureList(explorer.bench, "kept_features.json").keep(5, "from a cell")
    page.evaluate("ask({})")  # what the page hears of the kernel by itself
    note = page.get_by_label("Note on feature 3")
    note.focus()
    page.keyboard.type(f"a k, 2 and / in it {HOSTILE}")
    page.keyboard.press("ArrowDown")
    expect(page.get_by_label("Note on feature 5")).to_be_focused()
    expect(page.get_by_label("Note on feature 5")).to_have_value("from a cell")
    page.wait_for_function("window.answered")
    kept = FeatureList(explorer.bench, tmp_path / "kept_features.json")
    assert kept.table["note"].tolist() == [f"a k, 2 and / in it {HOSTILE}", "from a cell"]
    page.get_by_role("button", name="Remove feature 3 from the list").press("Enter")
    expect(page.get_by_text("feature 3 was removed")).to_be_visible()
    assert kept.features == [5]
    page.get_by_role("button", name="Undo").last.press("Enter")
    expect(page.get_by_label("Note on feature 3")).to_have_value(f"a k, 2 and / in it {HOSTILE}")
    page.locator(".wbl-name").filter(has_text="dogs").press("Enter")
    expect(page.locator(".wbl-chosen")).to_contain_text("dogs")
    assert explorer.feature == 5 and "kept = wb.FeatureList(bench, 'kept_features.json')" in explorer.code
    assert page.evaluate("window.hacked") is None and too_faint(page, ".wbl") == []


def test_what_another_notebook_wrote_is_there_when_the_list_is_opened(page: Page, tmp_path: Path, explorer):
    open_live(page, explorer, tmp_path)
    kept = FeatureList(explorer.bench, tmp_path / "elsewhere.json")
    kept.keep(5, "from another notebook")
    (tmp_path / "elsewhere.json").rename(tmp_path / "kept_features.json")  # of which nobody here is told
    page.get_by_role("tab", name="Lists").click()
    expect(page.get_by_label("Note on feature 5")).to_have_value("from another notebook")


def test_two_features_stand_side_by_side_and_the_list_is_taken_away_as_files(page: Page, tmp_path: Path, explorer):
    for feature in (3, 5):
        explorer.pane["lists"].keep(feature)
    explorer.tab = "lists"
    open_live(page, explorer, tmp_path)
    for feature in (3, 5):
        page.get_by_label(f"feature {feature} side by side").press("Space")
    page.get_by_role("button", name="Side by side").press("Enter")
    both = page.get_by_role("dialog", name="Side by side")
    expect(both).to_contain_text("feature 3 of")
    expect(both).to_contain_text("feature 5 of")
    page.keyboard.press("Escape")
    expect(both).to_be_hidden()
    expect(page.get_by_role("button", name="Side by side")).to_be_focused()
    found = {}
    for name, what in (("CSV", "csv"), ("JSON", "json"), ("HTML page", "html")):
        with page.expect_download() as saving:
            page.get_by_role("tabpanel", name="Lists").get_by_role("button", name=name).press("Enter")
        assert saving.value.suggested_filename == f"kept_features.{what}"
        found[what] = Path(saving.value.path()).read_text()
    assert [each["feature"] for each in json.loads(found["json"])["entries"]] == [3, 5]
    assert found["csv"].startswith("feature,label,note,density,max_act,kept\n3,cats")
    (tmp_path / "shared.html").write_text(found["html"])
    page.goto((tmp_path / "shared.html").as_uri())
    page.get_by_role("link", name="5", exact=True).first.click()
    expect(page.locator("section[id='5']")).to_be_in_viewport()
    assert page.evaluate("window.hacked") is None


def test_a_damaged_file_is_one_sentence_and_another_file_can_be_named(page: Page, tmp_path: Path, explorer):
    (tmp_path / "kept_features.json").write_text("{")
    explorer.pane["lists"].refresh()
    explorer.tab = "lists"
    open_live(page, explorer, tmp_path)
    expect(page.get_by_text("holds no feature list that can be read")).to_be_visible()
    page.get_by_label("File of the list").fill("other.json")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Nothing of this dictionary is kept yet")).to_be_visible()
    page.get_by_role("button", name="Keep the selection").press("Enter")
    expect(page.get_by_label("Note on feature 3")).to_be_visible()
    assert (tmp_path / "kept_features.json").read_text() == "{" and (tmp_path / "other.json").exists()
