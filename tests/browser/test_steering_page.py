"""The steering pane in Chromium with its Python behind it: sliders, numbers and keys choose; Write writes; hostile text stays text."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from live_page import open_live, open_saved
from made_index import TEXTS
from made_models import random_sae
from playwright.sync_api import Page, expect

from widgets import SteeringPane
from workbench.bench import Workbench
from workbench.features.index.index import build_index

pytestmark = pytest.mark.browser
HOSTILE = "</script><img src=x onerror=window.hacked=1>"


def made(model, **traits) -> SteeringPane:
    labels = {3: "a label", 5: HOSTILE}
    strongest = [SimpleNamespace(str_tokens=[" a"], activations=[2.0])]
    bench = Workbench(model=model, sae=random_sae(), labels=labels, examples=lambda feature: strongest)
    return SteeringPane(bench, **{"prompt": "the cat sat", "max_new_tokens": 6, **traits})


def test_a_feature_is_added_moved_steered_with_and_removed(page: Page, tmp_path: Path, model):
    pane = made(model, feature=3)
    open_live(page, pane, tmp_path)
    page.get_by_role("button", name="Add “a label”").click()
    slider = page.get_by_role("slider", name="Strength of feature 3")
    expect(slider).to_have_value("1")
    page.get_by_label("Exact strength of feature 3").fill("5")
    page.keyboard.press("Tab")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_label("Exact strength of feature 3")).to_have_value("4.5")
    page.get_by_role("button", name="Write").click()
    expect(page.get_by_role("status")).to_contain_text("done in")
    expect(page.locator(".wbs-text")).to_have_count(2)
    steered = page.get_by_label("steered", exact=True)
    expect(steered).to_contain_text("3 × 4.5")
    assert steered.locator("p").inner_text() == "the cat sat" + "".join(pane.view["texts"][1]["tokens"])
    expect(page.locator(".wbs-next tbody tr")).to_have_count(8)
    page.get_by_label("Exact strength of feature 3").fill("-2")
    page.keyboard.press("Enter")
    expect(page.locator(".wbs-stale")).to_contain_text("has changed since")
    page.get_by_role("button", name="Remove feature 3").click()
    expect(page.get_by_role("slider")).to_have_count(0)
    assert pane.strengths == {}


def test_a_slider_starts_at_its_features_own_limit_which_is_marked_and_explained(page: Page, tmp_path: Path, model):
    index = build_index(model, random_sae(), TEXTS[:8], tmp_path / "index", progress=False)
    strongest, weakest = (
        int(feature) for feature in (index.table["max_act"].idxmax(), index.table.query("n_active > 0")["max_act"].idxmin())
    )
    pane = SteeringPane(Workbench(model=model, sae=random_sae(), index=index), prompt="the cat sat", feature=strongest)
    open_live(page, pane, tmp_path)
    legend = page.get_by_text("up to there texts usually stay readable")
    expect(legend).to_be_hidden()  # nothing is marked yet
    page.get_by_role("button", name="Add").first.click()
    expect(legend).to_be_visible()
    page.get_by_label("Number of another feature").fill(str(weakest))
    page.keyboard.press("Enter")
    expect(page.get_by_role("slider")).to_have_count(2)
    for feature in (strongest, weakest):
        page.wait_for_function("() => document.querySelectorAll('.wbs-line .wbs-limit:not([hidden])').length === 4")
        limit = pane.about[str(feature)]["limit"]
        slider = page.get_by_role("slider", name=f"Strength of feature {feature}", exact=True)
        expect(slider).to_have_value(f"{limit:g}")
        line = page.locator(".wbs-line", has=slider)
        marks = line.locator(".wbs-limit")
        assert [each.evaluate("(mark) => mark.style.left") for each in marks.all()] == [f"{50 - 5 * limit:g}%", f"{50 + 5 * limit:g}%"]
        thumb, ticks, mark = slider.bounding_box() or {}, line.locator(".wbs-ticks").bounding_box() or {}, marks.nth(1).bounding_box() or {}
        assert mark["x"] - ticks["x"] == pytest.approx((50 + 5 * limit) / 100 * ticks["width"], abs=2)
        assert mark["y"] + mark["height"] > thumb["y"] + thumb["height"], "seen below the thumb that stands on it"
        unit = line.locator(".wbs-unit")
        expect(unit).not_to_have_class(re.compile("wbp-wrong"))
        if limit < 10:
            slider.focus()
            page.keyboard.press("ArrowRight")
            expect(unit).to_have_class(re.compile("wbp-wrong"))
    assert pane.about[str(strongest)]["limit"] < 10


def test_a_feature_that_is_not_there_is_not_added(page: Page, tmp_path: Path, model):
    pane = made(model)
    open_live(page, pane, tmp_path)
    page.get_by_label("Number of another feature").fill("64")
    page.get_by_role("button", name="Add this feature").click()
    assert page.get_by_label("Number of another feature").evaluate("input => input.validationMessage") == "a feature from 0 to 63"
    page.get_by_label("Number of another feature").fill("63")
    page.keyboard.press("Enter")
    expect(page.get_by_role("slider")).to_have_count(1)


def test_typing_a_prompt_and_ctrl_enter_writes_with_it(page: Page, tmp_path: Path, model):
    pane = made(model, strengths={3: 1.0})
    open_live(page, pane, tmp_path)
    page.get_by_label("Prompt to continue").fill("the dog")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_label("unsteered")).to_contain_text("the dog")
    assert pane.prompt == "the dog"


def test_what_went_wrong_is_said(page: Page, tmp_path: Path, model):
    open_live(page, made(model), tmp_path)
    page.get_by_role("button", name="Write").click()
    expect(page.locator(".wbp-wrong")).to_have_text("no feature has a slider yet: add one")


def test_hostile_labels_and_prompts_are_shown_not_run(page: Page, tmp_path: Path, model):
    pane = made(model, prompt=HOSTILE, strengths={5: 1.0})
    pane.run().wait(60)
    open_live(page, pane, tmp_path)
    expect(page.get_by_label("unsteered")).to_contain_text(HOSTILE)
    expect(page.locator(".wbs-name")).to_contain_text(HOSTILE)
    assert page.evaluate("window.hacked") is None and page.locator("img").count() == 0


def test_the_saved_page_shows_the_texts_and_says_that_it_cannot_steer(page: Page, tmp_path: Path, model):
    pane = made(model, strengths={3: 1.0})
    pane.run().wait(60)
    open_saved(page, pane.to_html(tmp_path / "steering.html"))
    expect(page.locator(".wbs-text")).to_have_count(2)
    expect(page.get_by_role("status")).to_contain_text("open the notebook")
    expect(page.get_by_role("button", name="Write")).to_be_disabled()


def test_all_that_can_be_focused_keeps_its_keys_from_jupyter(page: Page, tmp_path: Path, model):
    open_live(page, made(model, strengths={3: 1.0}, feature=5), tmp_path)
    focusable = page.locator(".wbp button, .wbp input, .wbp textarea, .wbp [tabindex]")
    assert focusable.count() >= 11
    assert focusable.evaluate_all("all => all.every((one) => one.dataset.lmSuppressShortcuts === 'true')")
    assert focusable.evaluate_all("all => all.every((one) => one.ariaLabel || one.textContent || one.labels?.length)"), "one has no name"
