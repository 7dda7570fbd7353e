"""Several prompts ranked together, by keys: pasted with answers of their own, sorted, a row on each prompt, CSV, Python, a saved page that
goes on sorting; a line that cannot be asked is one sentence."""

import csv
import io
from pathlib import Path

import pytest
from contrast import too_faint
from live_page import open_live, open_saved
from playwright.sync_api import Page, expect

from workbench.circuits.metrics import logit_diff

pytestmark = pytest.mark.browser
HOSTILE = "<img src=x onerror=window.hacked=1>"
PROMPTS = ["the cat sat on the", "the dog ran to", "a cat"]


@pytest.fixture
def explorer(explorer_of):
    return explorer_of({3: f"=cats {HOSTILE}"}, PROMPTS[0], " mat", " dog")


def test_pasted_prompts_are_ranked_together_by_keys_and_taken_away(page: Page, tmp_path: Path, explorer):
    page.set_viewport_size({"width": 1040, "height": 720})  # 1280 × 720 with JupyterLab's file browser open
    open_live(page, explorer, tmp_path)
    page.get_by_role("tab", name="Find").click()
    page.keyboard.press("3")
    box = page.get_by_role("textbox", name="Prompts, one a line", exact=True)
    expect(box).to_be_focused()
    page.keyboard.insert_text(f"{PROMPTS[0]} | mat | dog 2\n{PROMPTS[1]} | cat dog\n{PROMPTS[2]}")  # digits in a box are no keys
    page.keyboard.press("Control+Enter")
    expect(page.get_by_text("line 1: 'dog 2' is")).to_be_visible()
    expect(page.get_by_text("(1 more of 3 lines cannot be asked either)")).to_be_visible()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(f"{PROMPTS[0]} | mat | dog\n{PROMPTS[1]}\t mat\n{PROMPTS[2]}")
    page.keyboard.press("Tab")
    page.keyboard.type("mat")
    page.keyboard.press("Enter")
    rows = page.get_by_role("grid", name="Features over all prompts").locator("tbody tr")
    expect(rows.nth(7)).to_be_visible()
    expect(page.locator(".wbb .wbt-said")).to_contain_text("metrics of their own")
    batch = explorer.pane["batch"]
    batch._job.wait(60)
    whole = batch.view
    batch.set_trait("view", {**whole, "n_asked": 60})  # as after Cancel
    page.evaluate("ask({})")
    expect(page.locator(".wbb .wbt-said")).to_contain_text("3 of 60 prompts · mean effects over those, the others are not ranked")
    batch.set_trait("view", whole)
    page.evaluate("ask({})")  # the page has its last rows: more come while prompts are measured
    expect(page.locator(".wbb .wbt-said")).to_contain_text("3 prompts · mean effects over all of them")
    metrics = [logit_diff(" mat", " dog"), logit_diff(" mat"), logit_diff(" mat")]
    expected = explorer.bench.rank_many(PROMPTS, metrics, progress=False).table
    assert batch.batch.table.round(4).equals(expected.round(4))
    rows.first.focus()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("table", name="The feature on each prompt").locator("tbody tr")).to_have_count(3)
    page.keyboard.press("Enter")
    expect(page.get_by_role("tabpanel", name="Feature")).to_be_visible()
    assert explorer.feature == expected["feature"][1] and explorer.tab == "card"
    assert page.locator(".wbb .wbt-scroll").evaluate("(each) => each.scrollWidth <= each.clientWidth")
    page.get_by_label("Filter the features of all prompts").fill("n_prompts>1")
    page.locator('.wbb th[data-column="low"] button').press("Enter")
    expect(page.locator('.wbb th[data-column="low"]')).to_have_attribute("aria-sort", "descending")
    with page.expect_download() as saving:
        page.locator(".wbb").get_by_role("button", name="CSV", exact=True).press("Enter")
    lines = list(csv.DictReader(io.StringIO(Path(saving.value.path()).read_text())))
    kept = expected[expected["n_prompts"] > 1].sort_values("low", ascending=False, kind="stable")
    assert [int(line["feature"]) for line in lines] == kept["feature"].tolist()
    assert all(line["label"].startswith("'=") for line in lines if line["feature"] == "3")
    with page.expect_download() as saving:
        page.get_by_role("button", name="On each prompt as CSV").press("Enter")
    each = batch.batch.on_each(explorer.feature)
    lines = list(csv.DictReader(io.StringIO(Path(saving.value.path()).read_text())))
    assert [line["prompt"] for line in lines] == PROMPTS
    assert [float(line["effect"] or 0) for line in lines] == pytest.approx(list(each["effect"].fillna(0)), abs=1e-5)
    assert "batch = bench.rank_many(prompts, metric)" in explorer.code and batch.to_python() in explorer.code
    page.get_by_role("button", name="Ask prompt 2 above").press("Enter")
    expect(page.get_by_role("textbox", name="Prompt", exact=True)).to_have_value(PROMPTS[1])
    rows.first.focus()
    page.keyboard.press("1")
    expect(page.get_by_role("grid", name="Features, ranked")).to_be_visible()
    page.keyboard.press("3")
    expect(box).to_be_focused()
    assert page.evaluate("window.hacked") is None and too_faint(page, ".wbb") == []
    explorer.pane["prompt"]._job.wait(60)


def test_a_saved_page_keeps_the_order_that_was_looked_at_and_goes_on_sorting(page: Page, tmp_path: Path, explorer):
    batch, compare = explorer.pane["batch"], explorer.pane["compare"]
    batch.text, compare.asking.prompt = "\n".join(PROMPTS), PROMPTS[1]
    for job in (batch.run(), compare.asking.run()):
        job.wait(60)
    for pane, by, found in ((batch, "activation", batch.batch.table), (compare, "effect_second", compare.comparison.table)):
        explorer.left = "batch" if pane is batch else "compare"
        pane.sort_by, pane.is_descending, pane.page = by, False, 1
        size, order = pane.page_size, found.sort_values(by, kind="stable")["feature"].tolist()
        path = explorer.to_html(tmp_path / f"{by}.html")
        assert [f"{feature}</td>" in explorer.static_html() for feature in order[size : 2 * size]] == [True] * size
        open_saved(page, path)
        shown = page.locator(".wbt:visible tbody tr td span")
        assert [int(each) for each in shown.all_inner_texts()] == order[size : 2 * size]
        page.get_by_role("button", name="Next page of").locator("visible=true").click()
        assert [int(each) for each in shown.all_inner_texts()] == order[2 * size : 3 * size]
        page.locator('.wbt:visible th[data-column="feature"] button').click()
        assert [int(each) for each in shown.all_inner_texts()] == sorted(order)[:size]
        page.get_by_label("Filter the features of").locator("visible=true").fill("feature>20 nonsense>1")
        expect(page.get_by_text("no numbers in 'nonsense'")).to_be_visible()
        page.get_by_label("Filter the features of").locator("visible=true").fill("feature>20")
        expect(shown.first).to_have_text(str(min(each for each in order if each > 20)))
