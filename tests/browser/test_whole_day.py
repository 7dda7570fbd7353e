"""A day of work by keyboard alone at 1280 × 720: a question, its ranking, rows as a group, ablated together, a second prompt beside it,
several together, a search, a label, a list, a circuit, and all of it taken away. Nothing is focused but by Tab and keys that `?` lists."""

import csv
import io
from pathlib import Path

import pytest
from live_page import open_live
from made_circuit import made_circuit_bench
from made_index import TEXTS
from playwright.sync_api import Page, expect

from widgets import Explorer, explore
from workbench.circuits.evidence.sets import FeatureSets
from workbench.circuits.metrics import logit_diff
from workbench.features.index.index import build_index

pytestmark = pytest.mark.browser
PROMPT, SECOND = "the cat sat on the", "the dog sat on the"
MOST_TABS = 150
# The accessible name of what has the focus, or why it cannot be seen.
FOCUSED = """() => {
  const at = document.activeElement;
  if (at === document.body) return "";
  const box = at.getBoundingClientRect();
  const seen = box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth && at.checkVisibility();
  const name = at.tagName === "TR" ? `row of ${at.closest("table").ariaLabel}` : at.ariaLabel ?? (at.labels?.[0] ?? at).textContent.trim();
  return seen ? name : `out of sight: ${name}`;
}"""


@pytest.fixture
def explorer(model_of, tmp_path: Path, own_labels: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    bench = made_circuit_bench(model_of("gpt2"))
    index = build_index(bench.model, bench.sae, TEXTS[:8], tmp_path / "index", progress=False)
    made = explore(bench.__class__(model=bench.model, sae=bench.sae, index=index, labels={3: "three small cats"}, layers=bench.layers))
    yield made
    made.close()


def reach(page: Page, name: str) -> None:
    """By Tab."""
    passed = []
    for _ in range(MOST_TABS):
        passed.append(page.evaluate(FOCUSED))
        if passed[-1] == name:
            return
        page.keyboard.press("Tab")
    pytest.fail(f"Tab does not come to {name!r}, but to {list(dict.fromkeys(passed))}")


def open_tab(page: Page, name: str) -> None:
    chosen = page.locator('.wbe-tabs [aria-selected="true"]')
    reach(page, chosen.inner_text())
    for _ in range(page.get_by_role("tab").count()):
        if chosen.inner_text() == name:
            break
        page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tabpanel", name=name, exact=True)).to_be_visible()
    expect(page.get_by_role("tab", name=name, exact=True)).to_be_focused()


def write(page: Page, name: str, text: str) -> None:
    reach(page, name)
    page.keyboard.press("Control+a")
    page.keyboard.type(text)


def test_a_day_by_keyboard_alone(page: Page, tmp_path: Path, explorer: Explorer):
    page.set_viewport_size({"width": 1280, "height": 720})
    open_live(page, explorer, tmp_path)
    asking, bench = explorer.pane["prompt"], explorer.bench
    rows = page.get_by_role("grid", name="Features, ranked").locator("tbody tr")

    write(page, "Prompt", PROMPT)
    write(page, "Answer", " mat")
    write(page, "Baseline", " dog")
    page.keyboard.press("Enter")
    expect(page.locator('.wbq[data-stage="done"]').first).to_be_visible()
    expected = bench.rank(PROMPT, logit_diff(" mat", " dog"), progress=False)
    assert asking.ranking.table["feature"].tolist() == expected.table["feature"].tolist()

    reach(page, "row of Features, ranked")
    page.keyboard.press("Space")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    open_tab(page, "Group")
    write(page, "Name of a group", "both 1")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    reach(page, "Ablate together")
    page.keyboard.press("Enter")
    expect(page.locator(".wbg-table tbody tr")).to_contain_text("both 1")
    pairs = expected.table.iloc[:2][["pos", "feature"]].values.tolist()
    together = FeatureSets(bench, PROMPT, logit_diff(" mat", " dog")).ablate(pairs)
    assert explorer.pane["group"].view["rows"][0]["effect"] == pytest.approx(together)

    expect(page.get_by_role("button", name="Ablate together")).to_be_focused()  # from where a key is heard
    page.keyboard.press("2")
    expect(page.get_by_role("textbox", name="Second prompt")).to_be_focused()
    page.keyboard.type(SECOND)
    page.keyboard.press("Enter")
    expect(page.get_by_role("grid", name="Features on both prompts").locator("tbody tr").first).to_be_visible()
    reach(page, "row of Features on both prompts")
    page.keyboard.press("3")
    expect(page.get_by_role("textbox", name="Prompts, one a line", exact=True)).to_be_focused()
    page.keyboard.insert_text(f"{PROMPT} | mat | dog\n{SECOND} | mat | cat")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("grid", name="Features over all prompts").locator("tbody tr").first).to_be_visible()
    explorer.pane["batch"]._job.wait(60)
    reach(page, "row of Features over all prompts")
    page.keyboard.press("1")
    expect(rows.nth(1)).to_be_focused()

    page.keyboard.press("/")
    page.keyboard.type("three")
    expect(page.locator(".wbe-open li").first).to_contain_text("three small cats")
    page.keyboard.press("Enter")
    expect(page.locator(".wbk-page")).to_contain_text("eature 3 of")
    assert explorer.feature == 3 and explorer.tab == "card"
    open_tab(page, "Find")
    write(page, "Add positive prompts, one a line", "the cat sat")
    page.keyboard.press("Enter")
    write(page, "Add negative prompts, one a line", "the dog")
    page.keyboard.press("Enter")
    reach(page, "Find")
    page.keyboard.press("Enter")
    expect(page.get_by_role("tabpanel", name="Find").locator("tbody tr").first).to_be_visible()

    open_tab(page, "Feature")
    write(page, "Label of this feature", "my own 2")
    page.keyboard.press("Enter")
    expect(page.locator(".wbk-page")).to_contain_text("my own 2")
    assert bench.labels[3] == "my own 2"
    open_tab(page, "Feature")
    page.keyboard.press("k")
    expect(page.get_by_role("button", name="In your list")).to_be_visible()
    page.keyboard.press("k")
    expect(page.get_by_role("tabpanel", name="Lists")).to_be_visible()
    write(page, "Note on feature 3", "of 3 cats")
    page.keyboard.press("Enter")
    open_tab(page, "Circuit")
    assert explorer.pane["lists"].list.table[["feature", "label", "note"]].values.tolist() == [[3, "my own 2", "of 3 cats"]]
    reach(page, "Build the circuit")
    page.keyboard.press("Enter")
    picture = page.get_by_role("tabpanel", name="Circuit").get_by_role("application")
    expect(picture).to_be_visible()
    reach(page, picture.get_attribute("aria-label") or "")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("]")
    expect(page.locator(".wbx-said")).to_contain_text("influence")
    page.keyboard.press("/")  # the picture's own search, which it says
    expect(page.get_by_label("Search labels, tokens, groups and feature numbers")).to_be_focused()
    page.keyboard.press("Escape")

    reach(page, "CSV")
    with page.expect_download() as saving:
        page.keyboard.press("Enter")
    lines = list(csv.DictReader(io.StringIO(Path(saving.value.path()).read_text())))
    assert [int(line["feature"]) for line in lines] == expected.table["feature"].tolist()
    reach(page, "Copy as Python")
    page.keyboard.press("Enter")
    expect(page.locator(".wbe-foot")).to_contain_text("Python copied")
    page.keyboard.press("/")
    page.keyboard.press("Control+v")
    assert "bench.rank_many(prompts, metric)" in page.get_by_role("combobox", name="Open a feature").input_value()
    page.keyboard.press("Escape")
    known: dict = {"bench": bench}
    exec("\n".join(line for line in explorer.code.splitlines() if not line.startswith(("bench =", "explorer"))), known)
    assert known["ranking"].table["feature"].tolist() == expected.table["feature"].tolist()
    assert known["comparison"].table.shape == explorer.pane["compare"].comparison.table.shape
    assert known["kept"].features == [3] and len(known["batch"].rankings) == 2
    page.goto("about:blank")  # nothing asks any more when the panes close
