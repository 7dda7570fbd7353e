"""Nothing that was typed, marked or measured is lost by a click: each SAE keeps its own, a feature of another one is looked at beside it, a
person's labels go to another machine and come back."""

import json
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from live_page import open_live
from made_models import random_sae
from playwright.sync_api import Page, expect

from workbench.bench import Workbench

pytestmark = pytest.mark.browser
PROMPT = "the cat sat on the"


@pytest.fixture
def explorer(explorer_of):
    return explorer_of({3: "cats"}, PROMPT, " mat", " dog", saes={"a": random_sae(), "b": random_sae("blocks.2.hook_resid_pre")})


def test_each_sae_keeps_what_was_typed_marked_and_measured(page: Page, tmp_path: Path, explorer):
    open_live(page, explorer, tmp_path)
    rows, sae = page.locator(".wbr tbody tr"), page.get_by_label("SAE", exact=True)
    rows.first.focus()
    page.keyboard.press("Space")
    rows.nth(1).click()
    chosen, before = explorer.feature, page.locator(".wbr tbody").inner_text()
    page.get_by_role("tab", name="Find").click()
    page.get_by_label("Add positive prompts, one a line").fill("the cat")
    page.keyboard.press("Enter")
    page.get_by_role("tab", name="Steer").click()
    page.get_by_role("button", name="Add").first.click()
    page.get_by_label(f"Exact strength of feature {chosen}").fill("2.5")
    page.keyboard.press("Tab")
    sae.focus()
    sae.select_option("b")
    expect(page.get_by_role("slider", name="Strength of feature")).to_have_count(0)
    expect(page.locator(".wbr-marked")).to_have_count(0)
    explorer.pane["prompt"]._job.wait(60)
    sae.focus()
    sae.select_option("a")
    page.wait_for_function("(text) => document.querySelector('.wbr tbody').innerText === text", arg=before)
    expect(rows.first).to_have_class("wbr-marked")
    expect(rows.nth(1)).to_have_attribute("aria-selected", "true")
    expect(page.get_by_label(f"Exact strength of feature {chosen}")).to_have_value("2.5")
    page.get_by_role("tab", name="Find").click()
    expect(page.get_by_role("tabpanel", name="Find")).to_contain_text("the cat")


def test_a_feature_of_another_sae_is_looked_at_beside_what_there_is(page: Page, tmp_path: Path, explorer, monkeypatch):
    table = [(sae, i, 0.1 * i, 0.2 * i, 0, 0.1, "") for sae in ("a", "b") for i in range(9)]
    drawn = pd.DataFrame(table, columns=["sae", "feature", "x", "y", "cluster", "density", "label"])
    monkeypatch.setattr(Workbench, "map", lambda self: SimpleNamespace(table=drawn))
    page.set_viewport_size({"width": 896, "height": 720})
    open_live(page, explorer, tmp_path)
    page.get_by_role("tab", name="Map").click()
    page.locator(".wbp[data-paint]:not(.wbx)").wait_for()
    before, chosen = page.locator(".wbr tbody").inner_text(), explorer.feature
    explorer.pane["map"].set_state({"feature": 5, "sae_name": "b"})
    page.evaluate("ask({})")
    preview = page.get_by_role("region", name="Preview")
    expect(preview).to_contain_text("feature 5 of b")
    lowest = "(part) => part.getBoundingClientRect().bottom"
    assert page.locator(".wbp-map").evaluate(lowest) <= page.locator(".wbe-right").evaluate(lowest) + 1  # both are in sight
    assert (explorer.feature, explorer.bench.sae_name) == (chosen, "a") and page.locator(".wbr tbody").inner_text() == before
    page.get_by_role("tab", name="Map").press("Escape")
    expect(preview).to_be_hidden()
    explorer.pane["map"].set_state({"feature": 5, "sae_name": "b"})
    page.evaluate("ask({})")
    preview.get_by_role("button", name="Look through b").click()
    expect(page.get_by_label("SAE", exact=True)).to_have_value("b")
    assert explorer.feature == 5 and explorer.bench.sae_name == "b"


def test_labels_are_taken_along_and_brought_back_in_words_where_they_cannot_be(page: Page, tmp_path: Path, explorer, own_labels: Path):
    open_live(page, explorer, tmp_path)
    first, box = explorer.feature, page.get_by_label("Label of this feature")
    box.fill("of mine")
    page.keyboard.press("Enter")
    row = page.locator(".wbr tbody tr").first
    expect(row).to_contain_text("of mine")
    page.get_by_text("more", exact=True).click()
    with page.expect_download() as saving:
        page.get_by_role("button", name="Export").click()
    saving.value.save_as(tmp_path / "carried.json")
    page.get_by_role("button", name="Undo").click()
    expect(row).not_to_contain_text("of mine")
    (tmp_path / "wrong.json").write_text("[]")
    page.get_by_label("File of labels").set_input_files(tmp_path / "wrong.json")
    expect(page.get_by_role("tabpanel", name="Feature")).to_contain_text("labels")
    page.get_by_label("File of labels").set_input_files(tmp_path / "carried.json")
    expect(row).to_contain_text("of mine")
    kept = json.loads(own_labels.read_text())["saes"][explorer.bench.sae.fingerprint()]
    assert list(kept) == [str(first)] and "of mine" not in str(explorer.bench.index._beside.labels)
