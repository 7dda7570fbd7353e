"""Several rows as one, by keyboard: marked in the ranking, named, switched off together, clamped together; tables as CSV."""

import csv
import io
from pathlib import Path

import pytest
from live_page import open_live
from made_index import TEXTS
from made_models import random_sae
from playwright.sync_api import Page, expect
from traitlets import TraitError

from widgets import Explorer, explore
from workbench.bench import Workbench
from workbench.circuits.evidence.sets import FeatureSets
from workbench.circuits.metrics import logit_diff
from workbench.features.index.index import build_index

pytestmark = pytest.mark.browser
PROMPT = "the cat sat on the"


@pytest.fixture
def explorer(model, tmp_path: Path):
    (tmp_path / "page").mkdir()
    index = build_index(model, random_sae(), TEXTS[:8], tmp_path / "index", progress=False)
    made = explore(Workbench(model=model, sae=random_sae(), index=index, labels={3: "=three"}), PROMPT, " mat", " dog")
    assert made.pane["prompt"]._job.wait(60).stage == "done"
    yield made
    made.close()


def test_rows_are_marked_named_and_ablated_together_by_keyboard(page: Page, tmp_path: Path, explorer: Explorer):
    open_live(page, explorer, tmp_path / "page")
    rows = page.locator(".wbr tbody tr")
    rows.first.focus()
    page.keyboard.press("Space")
    expect(rows.first).to_have_class("wbr-marked")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    rows.nth(4).click(modifiers=["Control"])
    assert len(explorer.pane["group"].marked) == 3
    rows.nth(4).click(modifiers=["Control"])
    pairs = [[row["feature"], row["pos"]] for row in explorer.pane["ranking"].view["rows"][:2]]
    assert explorer.pane["group"].marked == pairs
    page.get_by_role("tab", name="Feature").focus()
    for _ in range(page.get_by_role("tab").count()):
        if page.evaluate("document.activeElement.textContent") == "Group":
            break
        page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Group")).to_be_focused()
    page.get_by_label("Name of a group").focus()
    page.keyboard.type("both")
    page.get_by_role("button", name="Make a group").press("Enter")
    page.get_by_role("button", name="Ablate together").press("Enter")
    expect(page.locator(".wbg-table tbody tr")).to_contain_text("both")
    sets = FeatureSets(explorer.bench, PROMPT, logit_diff(" mat", " dog"))
    assert explorer.pane["group"].view["rows"][0]["effect"] == pytest.approx(sets.ablate([[pos, feature] for feature, pos in pairs]))
    assert "FeatureSets(bench, ranking.prompt" in explorer.code


def test_the_table_is_a_file_in_which_no_text_is_a_formula(page: Page, tmp_path: Path, explorer: Explorer):
    open_live(page, explorer, tmp_path / "page")
    with page.expect_download() as saving:
        page.get_by_role("button", name="CSV").first.click()
    rows = list(csv.DictReader(io.StringIO(Path(saving.value.path()).read_text())))
    ranking = explorer.pane["ranking"].ranking
    assert [int(row["feature"]) for row in rows] == ranking.table["feature"].tolist()
    assert {row["label"] for row in rows if row["feature"] == "3"} <= {"'=three"}


def test_back_forward_keys_and_a_labels_every_place_by_keyboard(page: Page, tmp_path: Path, explorer: Explorer):
    open_live(page, explorer, tmp_path / "page")
    first = explorer.feature
    page.locator(".wbr tbody tr").first.focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator(".wbr tbody tr").nth(1)).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Alt+ArrowLeft")
    expect(page.get_by_role("button", name="Forward")).to_be_enabled()
    assert explorer.feature == first
    page.get_by_label("Label of this feature").fill("mine")
    page.keyboard.press("Enter")
    expect(page.locator(".wbr tbody tr").first).to_contain_text("mine")
    expect(page.locator(".wbk-page")).to_contain_text("mine")
    page.get_by_role("button", name="Undo").press("Enter")
    expect(page.locator(".wbr tbody tr").first).not_to_contain_text("mine")
    page.get_by_label("Prompt", exact=True).focus()
    page.keyboard.press("End")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("the")
    expect(page.locator(".wbr-stale")).to_contain_text("These rows are of")
    page.locator(".wbr tbody tr").first.focus()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    lines = page.locator(".wbe-keys dt").evaluate_all(
        "(all) => all.map((each) => { const words = new Range(); words.selectNodeContents(each); return words.getClientRects().length; })"
    )
    assert set(lines) == {1}, "the keys of one line stand on one line"
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Keys")).to_be_hidden()
    assert explorer.pane["prompt"].prompt == PROMPT + "\nthe"


def test_no_group_is_lost_to_a_name_and_small_effects_have_digits(page: Page, tmp_path: Path, explorer: Explorer):
    open_live(page, explorer, tmp_path / "page")
    pane, name = explorer.pane["group"], page.get_by_label("Name of a group")
    pairs = [[row["feature"], row["pos"]] for row in explorer.pane["ranking"].view["rows"][:4]]
    page.get_by_role("tab", name="Group").click()

    def grouped(pair: list[int], called: str) -> None:
        pane.marked = [pair]
        page.evaluate("ask({})")
        expect(name).to_be_enabled()
        name.fill(called)
        name.press("Enter")
        expect(name).to_be_disabled()

    grouped(pairs[0], "mine")
    grouped(pairs[1], "mine")
    assert pane.groups == {"mine": pairs[:2]}
    grouped(pairs[2], "constructor")  # what every object of a page has
    assert pane.groups == {"mine": pairs[:2], "constructor": [pairs[2]]}
    pane.groups = {"mine": pairs[:2]}
    grouped(pairs[2], "marked")  # what rows without a group are called
    page.get_by_role("button", name="Remove the group mine").press("Enter")
    page.get_by_role("button", name="Undo", exact=True).locator("visible=true").last.press("Enter")
    assert list(pane.groups.values()) == [pairs[:2], [pairs[2]]]
    page.get_by_role("button", name="Remove the group mine").press("Enter")
    expect(page.get_by_role("button", name="Undo", exact=True).locator("visible=true").last).to_be_focused()
    grouped(pairs[3], "")
    assert list(pane.groups.values()) == [[pairs[2]], [pairs[3]]], "the next free name"
    expect(page.get_by_title("as they were before something was taken away")).to_be_hidden()  # it would take the new one away
    with pytest.raises(TraitError, match="call the group something else"):
        pane.groups = {"marked": [pairs[0]]}
    pane.run().wait(60)
    view = pane.view
    small = [row | {"effect": row["effect"] * 1e-4, "singles": row["singles"] * 1e-4} for row in view["rows"]]
    pane.set_trait("view", view | {"rows": small})
    page.evaluate("ask({})")
    effect = small[0]["effect"]
    assert effect and float(page.locator(".wbg-table td").nth(2).inner_text().replace("−", "-")) == pytest.approx(effect, rel=0.5)


def test_back_and_forward_keep_the_keys_wherever_they_were(page: Page, tmp_path: Path, explorer: Explorer):
    open_live(page, explorer, tmp_path / "page")
    first, rows = explorer.feature, page.locator(".wbr tbody tr")
    rows.first.focus()
    page.keyboard.press("ArrowDown")
    expect(rows.nth(1)).to_have_attribute("aria-selected", "true")
    second = explorer.feature
    assert second != first
    page.get_by_label("Prompt", exact=True).focus()
    page.keyboard.press("Alt+ArrowLeft")  # the last step back: its button rests now
    expect(page.get_by_role("button", name="Back", exact=True)).to_be_disabled()
    assert explorer.feature == first
    page.keyboard.press("Alt+ArrowRight")
    expect(page.get_by_role("button", name="Forward", exact=True)).to_be_disabled()
    assert explorer.feature == second and page.evaluate("document.activeElement.ariaLabel") == "Back"


def test_tables_of_the_other_panes_are_files_too(page: Page, tmp_path: Path, explorer: Explorer):
    for name, ask in (("finder", lambda pane: pane.look_at(PROMPT, 2)), ("steering", lambda pane: pane.give(3)), ("attention", None)):
        pane = explorer.pane[name]
        if ask:
            ask(pane)
        (pane._job if name == "finder" else pane.run()).wait(60)
    open_live(page, explorer, tmp_path / "page")

    def taken(tab: str, what: str) -> list[dict[str, str]]:
        page.get_by_role("tab", name=tab).click()
        with page.expect_download() as saving:
            page.get_by_role("button", name=f"{what} as CSV").press("Enter")
        return list(csv.DictReader(io.StringIO(Path(saving.value.path()).read_text())))

    found, lens = explorer.pane["finder"].view["rows"], explorer.pane["finder"].lens["rows"]
    assert [(int(row["feature"]), float(row["activation"])) for row in taken("Find", "Features found")] == [
        (row["feature"], row["score"]) for row in found
    ]
    depths = taken("Find", "Logit lens")
    assert [row["depth"] for row in depths] == [row["depth"] for row in lens] and depths[0]["says 1"] == lens[0]["said"][0]["token"]
    after = explorer.pane["steering"].view["next"]
    assert [float(row["steered"]) for row in taken("Steer", "The next token")] == [row["values"][1] for row in after]
    heads = explorer.pane["attention"].view["heads"]
    assert [(row["head"], float(row["moved"])) for row in taken("Attention", "Heads")] == [(row["name"], row["moved"]) for row in heads]
