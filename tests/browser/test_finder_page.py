"""The finder in Chromium with its Python behind it: prompts are typed, pasted, read from a file; filters move; a result selects."""

from pathlib import Path

import pytest
from live_page import open_live, open_saved
from made_models import random_sae
from playwright.sync_api import Page, expect

from widgets import Finder
from workbench.bench import Workbench

pytestmark = pytest.mark.browser
POSITIVE, NEGATIVE = ["the cat sat", "the cat ran to the mat", "a cat"], ["the dog ran", "and the mat"]
HOSTILE = "</script><img src=x onerror=window.hacked=1>"


def made(model, **traits) -> Finder:
    bench = Workbench(model=model, sae=random_sae(), labels=dict.fromkeys(range(0, 64, 2), HOSTILE))
    return Finder(bench, **traits)


def searched(model, **traits) -> Finder:
    pane = made(model, positive=POSITIVE, negative=NEGATIVE, margin=0.5, **traits)
    pane.run().wait(60)
    return pane


def test_prompts_are_typed_pasted_removed_and_every_change_searches(page: Page, tmp_path: Path, model):
    pane = made(model)
    open_live(page, pane, tmp_path)
    box = page.get_by_label("Add positive prompts")
    box.fill("the cat sat")
    box.press("Enter")
    expect(page.get_by_role("status").first).to_be_attached()
    expect(page.locator(".wbf-removed")).to_contain_text("active on 1 of 1 positive prompts")
    paste = """(box, text) => {
        const data = new DataTransfer();
        data.setData("text", text);
        box.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true }));
    }"""
    box.evaluate(paste, "a cat\n\n  the mat \r\nthe cat sat\n")
    expect(page.get_by_label("positive prompts", exact=True).locator("li")).to_have_count(3)
    assert pane.positive == ["the cat sat", "a cat", "the mat"]
    page.get_by_role("button", name="Remove positive prompt 2").click()
    expect(page.locator(".wbf-removed")).to_contain_text("active on 2 of 2 positive prompts")
    assert pane.positive == ["the cat sat", "the mat"]
    undo = page.get_by_role("button", name="Undo: the positive prompts as they were")
    undo.click()
    expect(page.locator(".wbf-removed")).to_contain_text("active on 3 of 3 positive prompts")
    page.get_by_role("button", name="Clear the positive prompts").press("Enter")
    expect(page.get_by_label("positive prompts", exact=True).locator("li")).to_have_count(0)
    expect(undo).to_be_focused()
    undo.press("Enter")
    assert pane.positive == ["the cat sat", "a cat", "the mat"]
    page.get_by_role("button", name="Remove positive prompt 1").click()
    expect(undo).to_be_visible()
    pane.positive = ["a dog"]  # from a cell, or another view
    page.evaluate("ask({})")
    expect(undo).to_have_count(0)  # it would take the new one away


def test_a_file_gives_a_prompt_a_line_and_what_is_no_text_is_refused(page: Page, tmp_path: Path, model):
    pane = made(model, positive=["a cat"])
    open_live(page, pane, tmp_path)
    chooser = page.get_by_label("File of negative prompts, one a line")
    chooser.set_input_files({"name": "prompts.txt", "mimeType": "text/plain", "buffer": b"the dog ran\r\nand the mat\n"})
    expect(page.get_by_label("negative prompts", exact=True).locator("li")).to_have_count(2)
    assert pane.negative == NEGATIVE
    chooser.set_input_files({"name": "model.bin", "mimeType": "text/plain", "buffer": b"\x00\x01"})
    expect(page.get_by_text("model.bin is not a text file")).to_be_visible()
    chooser.set_input_files({"name": "corpus.txt", "mimeType": "text/plain", "buffer": b"x" * (2**20 + 1)})
    expect(page.get_by_text("corpus.txt is larger than 1 MB")).to_be_visible()
    assert pane.negative == NEGATIVE


def test_a_filter_is_moved_by_keys_and_the_counts_follow(page: Page, tmp_path: Path, model):
    pane = searched(model)
    open_live(page, pane, tmp_path)
    n_before = pane.view["n_passed"]
    page.get_by_label("on negative ones at most").focus()
    page.keyboard.press("End")
    expect(page.locator(".wbf-removed")).to_contain_text("at most 2 × as active")
    assert pane.margin == 2 and pane.view["n_passed"] > n_before


def test_results_are_walked_by_keys_and_say_where_each_is_active(page: Page, tmp_path: Path, model):
    pane = searched(model)
    open_live(page, pane, tmp_path)
    rows = page.get_by_role("grid", name="Features found").locator("tbody tr")
    rows.first.click()
    expect(rows.first).to_have_attribute("aria-selected", "true")
    page.keyboard.press("ArrowDown")
    second = pane.view["rows"][1]
    expect(rows.nth(1)).to_have_attribute("aria-selected", "true")
    page.wait_for_function("window.answered >= 2")
    assert pane.feature == second["feature"]
    lines = page.locator(".wbf-why li")
    expect(lines).to_have_count(5)
    assert lines.locator(".wbp-text").all_inner_texts() == POSITIVE + NEGATIVE
    marked = [each.inner_text() for each in lines.nth(0).locator(".wbp-mark").all()]
    assert marked == [pane.view["prompts"][0]["tokens"][place] for place, _ in second["acts"][0] if place >= 0]


def test_hostile_labels_and_prompts_are_shown_not_run(page: Page, tmp_path: Path, model):
    pane = made(model, positive=[f"the cat {HOSTILE}"], share=1.0)
    pane.run().wait(60)
    pane.feature = next(row["feature"] for row in pane.view["rows"] if row["label"])
    open_live(page, pane, tmp_path)
    expect(page.locator(".wbf-why h4")).to_contain_text(HOSTILE)
    expect(page.locator(".wbf-prompts").first).to_contain_text(HOSTILE)
    assert page.evaluate("window.hacked") is None and page.locator("img").count() == 0


def test_the_saved_page_still_selects_and_explains_and_says_that_it_cannot_search(page: Page, tmp_path: Path, model):
    pane = searched(model)
    open_saved(page, pane.to_html(tmp_path / "finder.html"))
    rows = page.get_by_role("grid", name="Features found").locator("tbody tr")
    rows.nth(1).click()
    expect(page.locator(".wbf-why li")).to_have_count(5)
    expect(page.get_by_role("button", name="Find")).to_be_disabled()
    expect(page.get_by_text("searching needs the model")).to_be_visible()


def test_the_search_can_be_copied_as_python(page: Page, tmp_path: Path, model):
    pane = searched(model)
    open_live(page, pane, tmp_path)
    page.get_by_text("This search as Python").click()
    assert page.locator(".wbf-code").inner_text().strip() == pane.code
    copy = page.get_by_role("button", name="Copy").element_handle()
    copy.evaluate("(it) => new MutationObserver(() => (it.said = (it.said ?? '') + it.textContent)).observe(it, { childList: true })")
    copy.click()
    page.wait_for_function("(it) => it.said?.includes('Copied')", arg=copy)  # it is said for a moment only


def test_all_that_can_be_focused_keeps_its_keys_from_jupyter_and_has_a_name(page: Page, tmp_path: Path, model):
    open_live(page, searched(model), tmp_path)
    focusable = page.locator(".wbp button, .wbp input, .wbp textarea, .wbp summary, .wbp [tabindex]")
    assert focusable.count() > 20
    assert focusable.evaluate_all("all => all.every((one) => one.dataset.lmSuppressShortcuts === 'true')")
    assert focusable.evaluate_all("all => all.every((one) => one.ariaLabel || one.textContent || one.labels?.length)")
    heard = """(box) => new Promise((done) => {
      const hear = (event) => (document.removeEventListener("keydown", hear, true), done(box.dataset.lmSuppressShortcuts));
      document.addEventListener("keydown", hear, true); // as JupyterLab listens
      box.dispatchEvent(new KeyboardEvent("keydown", { key: "%s", ctrlKey: %s, bubbles: true }));
    })"""
    box = page.get_by_label("Add positive prompts")
    assert box.evaluate(heard % ("s", "true")) is None, "Ctrl+S saves the notebook"
    page.wait_for_function("(box) => box.dataset.lmSuppressShortcuts === 'true'", arg=box.element_handle())
    assert box.evaluate(heard % ("s", "false")) == "true"


def test_a_press_on_a_column_sorts_what_is_shown_and_a_second_one_turns_it(page: Page, tmp_path: Path, model):
    pane = made(model, positive=POSITIVE, negative=NEGATIVE, margin=2.0)
    pane.run().wait(60)
    open_live(page, pane, tmp_path)
    rows = page.get_by_role("grid", name="Features found").locator("tbody tr")
    found = pane.view["rows"]
    column = page.locator(".wbf-results th[data-column=min_activation]")
    for turn, order in enumerate(("descending", "ascending")):
        column.get_by_role("button").click()
        expect(column).to_have_attribute("aria-sort", order)
        expected = sorted(found, key=lambda row: row["min_activation"], reverse=not turn)
        said = [str(row["feature"]) in text for row, text in zip(expected, rows.all_inner_texts(), strict=True)]
        assert all(said) and len(said) == len(found) > 2
    page.wait_for_function("window.answered >= 2")
    assert (pane.sort_by, pane.is_descending) == ("min_activation", False)
    rows.first.click()  # the row that stands there now, not the one that the search had first
    page.wait_for_function("window.answered >= 3")
    assert pane.feature == min(found, key=lambda row: row["min_activation"])["feature"]
    page.locator(".wbf-results th[data-column=score] button").click()
    assert [str(row["feature"]) in text for row, text in zip(found, rows.all_inner_texts(), strict=True)] == [True] * len(found)
