"""The story, end to end in JupyterLab, nearly all of it by keyboard, in one file because its tests share one server.

The Kobe prompt → its effects → the feature of the Lakers → its page → a neighbor → a search with three prompts on each side → steering → a
saved file that opens offline and still sorts. Then typing and Cancel while effects are measured, the cell run again, and a restarted
kernel. No request leaves the machine, and the console has no error.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_lab import CLEAR, HIDE_FILES, READY, RESTART, RUN_ALL, RUN_CODE, SHUT_DOWN, jupyterlab, write_notebook
from playwright.sync_api import Browser, Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.slow]
LOAD = 'import workbench as wb\nfrom widgets import explore\n\nbench = wb.load("atlas")'
EXPLORE = "explorer = explore(bench)\nexplorer"
HAVE_IT = ["Fact: Kobe Bryant plays for the", "Fact: The team of Kobe Bryant is the", "Kobe Bryant Lakers"]
LACK_IT = ["Fact: Larry Bird plays for the", "Fact: The team of Larry Bird is the", "The chemical symbol of gold is"]
QUESTION = "Fact: The capital of the state where %s played basketball is"
# One pair after the other, with a rest before each: some twenty seconds a question.
SLOW = """
import time
from workbench.replay.replay import Replay

batches = Replay.batches

def slowly(replay, pos):
    for rows in batches(replay, pos):
        for row in rows.split(1):
            time.sleep(0.1)
            yield row

Replay.batches = slowly
"""
FAST = "Replay.batches = batches"
LOCAL = ("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:", "file:")


@pytest.fixture(scope="module")
def opened(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A notebook in JupyterLab, with a kernel that serves every test here."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "notebooks").mkdir()
    write_notebook(folder / "notebooks" / "story.ipynb", LOAD, EXPLORE)
    with jupyterlab(folder) as address:
        page = chromium.new_page(viewport={"width": 1500, "height": 1250}, accept_downloads=True)
        page.wrong = wrong = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: None if request.url.startswith(LOCAL) else wrong.append(request.url))
        page.goto(f"{address}/lab/workspaces/story/tree/story.ipynb")
        expect(page.locator(".jp-Notebook .jp-CodeCell").first).to_be_visible(timeout=60_000)
        page.evaluate(READY)
        page.evaluate(HIDE_FILES)
        yield page
        page.evaluate(SHUT_DOWN)
        page.close()


@pytest.fixture
def lab(opened: Page) -> Page:
    """The notebook's cells run anew: an explorer that nobody has touched, its first question ranked."""
    opened.evaluate(CLEAR)
    expect(opened.locator(".wbe")).to_have_count(0)
    opened.wrong.clear()
    opened.evaluate(RUN_ALL)
    is_ranked(opened)
    return opened


def is_ranked(page: Page) -> None:
    expect(page.locator('.wbq[data-stage="done"]')).to_be_visible(timeout=240_000)  # a kernel that imports on a busy machine
    expect(page.locator(".wbr tbody tr").first).to_be_visible()


def choose_tab(page: Page, name: str) -> None:
    """By arrow keys, from whichever tab is chosen."""
    page.locator('.wbe-tabs [aria-selected="true"]').focus()
    for _ in range(8):
        if page.locator('.wbe-tabs [aria-selected="true"]').inner_text() == name:
            return
        before = page.locator('.wbe-tabs [aria-selected="true"]').inner_text()
        page.keyboard.press("ArrowRight")
        expect(page.locator('.wbe-tabs [aria-selected="true"]')).not_to_have_text(before)
    raise AssertionError(f"no tab {name}")


def type_prompts(page: Page, label: str, prompts: list[str]) -> None:
    page.get_by_label(f"Add {label} prompts, one a line").focus()
    for prompt in prompts:
        page.keyboard.type(prompt)
        page.keyboard.press("Enter")


def test_the_story(lab: Page, chromium: Browser, tmp_path: Path):
    page = lab
    page.get_by_label("Filter rows").focus()
    page.keyboard.type("lakers")
    expect(page.locator(".wbr-status")).to_contain_text(" of ")
    first = page.locator(".wbr tbody tr").first
    first.focus()
    page.keyboard.press("Enter")
    expect(first).to_have_attribute("aria-selected", "true")
    expect(page.locator(".wbr-detail")).to_contain_text("Lakers")
    feature = page.locator(".wbr tbody tr td").first.inner_text()
    expect(page.locator(".wbk-page")).to_contain_text(f"eature {feature}", timeout=60_000)
    page.screenshot(path=tmp_path / "1_card.png")

    neighbor = page.locator('.wbk-page a[href^="#"]').first
    other = neighbor.inner_text().replace(",", "")
    neighbor.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".wbk-page")).to_contain_text(f"eature {int(other):,}", timeout=10_000)
    page.locator(".wbr tbody tr").first.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".wbk-page")).to_contain_text(f"eature {feature}")

    choose_tab(page, "Find")
    finder = page.get_by_role("tabpanel", name="Find")
    type_prompts(page, "positive", HAVE_IT)
    type_prompts(page, "negative", LACK_IT)
    finder.get_by_role("button", name="Find", exact=True).focus()
    page.keyboard.press("Enter")
    expect(finder.locator("tbody tr").first).to_be_visible(timeout=20_000)
    page.screenshot(path=tmp_path / "2_find.png")

    choose_tab(page, "Steer")
    steering = page.get_by_role("tabpanel", name="Steer")
    steering.get_by_role("button", name="Add").first.focus()
    page.keyboard.press("Enter")
    expect(steering.get_by_label(f"Strength of feature {feature}", exact=True)).to_be_visible()
    steering.get_by_role("button", name="Write", exact=True).focus()
    page.keyboard.press("Enter")
    expect(steering).to_contain_text("unsteered", timeout=30_000, ignore_case=True)
    page.screenshot(path=tmp_path / "3_steer.png")

    page.get_by_role("tab", name="Steer").focus()
    page.keyboard.press("2")  # a second prompt beside the first, and what it shares kept in a list
    expect(page.get_by_role("textbox", name="Second prompt")).to_be_focused()
    page.keyboard.type("The star of the Celtics is")
    page.keyboard.press("Enter")
    both = page.get_by_role("grid", name="Features on both prompts").locator("tbody tr")
    expect(both.first).to_be_visible(timeout=30_000)
    both.first.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("tabpanel", name="Feature")).to_be_visible()
    page.keyboard.press("k")
    expect(page.get_by_role("button", name="In your list")).to_be_visible()
    page.keyboard.press("k")
    expect(page.get_by_role("list", name="Kept features").get_by_role("listitem")).to_have_count(1)
    page.screenshot(path=tmp_path / "3b_list.png")
    both.first.focus()
    page.keyboard.press("2")
    page.locator(".wbr tbody tr").first.focus()
    page.keyboard.press("Enter")

    with page.expect_download() as saving:
        page.get_by_role("button", name="Save as HTML").focus()
        page.keyboard.press("Enter")
    saving.value.save_as(tmp_path / "explorer.html")
    assert not page.wrong
    opens_offline_and_sorts(chromium, tmp_path, feature)


def opens_offline_and_sorts(chromium: Browser, folder: Path, feature: str) -> None:
    saved, wrong = chromium.new_page(viewport={"width": 1500, "height": 1250}), []
    saved.on("pageerror", lambda error: wrong.append(str(error)))
    saved.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    saved.on("request", lambda request: None if request.url.startswith(("file:", "data:", "blob:")) else wrong.append(request.url))
    saved.goto((folder / "explorer.html").as_uri())
    saved.get_by_label("Filter rows").fill("")
    expect(saved.locator(".wbr tbody tr")).to_have_count(12)
    saved.locator('th[data-column="activation"] button').focus()
    saved.keyboard.press("Enter")
    expect(saved.locator('th[data-column="activation"]')).to_have_attribute("aria-sort", "descending")
    ranks = saved.locator(".wbr tbody tr td:nth-child(5) .wbr-rank").all_inner_texts()
    assert ranks == [f"#{i}" for i in range(1, 13)]
    saved.screenshot(path=folder / "4_saved.png")
    assert not wrong
    saved.close()


def ask(page: Page, prompt: str) -> None:
    """By keyboard."""
    page.get_by_label("Prompt", exact=True).focus()
    page.keyboard.press("Control+a")
    page.keyboard.type(prompt)
    page.keyboard.press("Enter")


def test_typing_and_cancel_while_effects_are_measured(lab: Page):
    page = lab
    page.evaluate(RUN_CODE, SLOW)
    status, measured = page.locator(".wbq-status"), page.locator(".wbq [role=progressbar]")
    ask(page, QUESTION % "Larry Bird")
    expect(page.locator('.wbq[data-stage="running"]')).to_be_visible()
    expect(status).to_have_text(re.compile("^[1-9].* effects measured"))

    page.keyboard.press("End")
    page.keyboard.type(" not")  # what is typed is read, while the measuring goes on
    expect(page.locator(".wbq-tokens")).to_contain_text("not")
    so_far = status.inner_text()
    expect(status).not_to_have_text(so_far)
    expect(page.locator('.wbq[data-stage="running"]')).to_be_visible()

    page.locator(".wbq").get_by_role("button", name="Cancel").click()
    expect(page.locator('.wbq[data-stage="cancelled"]')).to_be_visible()
    expect(status).to_contain_text("cancelled")
    n_measured, n_pairs = (int(measured.get_attribute(name) or 0) for name in ("aria-valuenow", "aria-valuemax"))
    assert 0 < n_measured < n_pairs
    expect(page.locator(".wbr tbody tr").first).to_be_visible()  # what was measured stays

    ask(page, QUESTION % "Larry Bird")
    expect(page.locator('.wbq[data-stage="running"]')).to_be_visible()
    page.evaluate(RUN_CODE, FAST)
    ask(page, QUESTION % "Magic Johnson")  # takes the place of the one that runs
    is_ranked(page)
    expect(page.locator(".wbq-tokens")).to_contain_text("Johnson")
    expect(page.locator(".wbr tbody")).not_to_contain_text("Bird")
    assert not page.wrong


def test_the_map_and_the_heads_are_drawn(lab: Page, tmp_path: Path):
    page = lab
    choose_tab(page, "Map")
    page.locator(".wbp[data-paint]:not(.wbx)").wait_for(timeout=60_000)
    field = page.get_by_role("application")
    before = page.locator(".wbp-said").inner_text()
    field.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".wbp-said")).not_to_have_text(before)
    page.screenshot(path=tmp_path / "map.png")
    page.keyboard.press("/")
    page.get_by_role("combobox", name="Open a feature").fill("0")  # which is not active on this prompt
    page.keyboard.press("Enter")
    expect(page.get_by_role("tabpanel", name="Feature")).to_be_visible()  # the answer moves to it, whenever it comes
    choose_tab(page, "Attention")
    page.get_by_role("button", name="Measure heads").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("tabpanel", name="Attention").get_by_role("status")).to_contain_text("active nowhere", timeout=30_000)
    page.locator(".wbr tbody tr").first.focus()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Measure heads").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("Head Selector")).to_be_visible(timeout=30_000)
    page.screenshot(path=tmp_path / "attention.png")
    assert not page.wrong


def test_the_circuit_is_built_walked_and_its_group_ablated_by_keyboard_alone(lab: Page, tmp_path: Path):
    page = lab
    choose_tab(page, "Circuit")
    page.get_by_role("button", name="Build the circuit").focus()
    page.keyboard.press("Enter")
    picture = page.get_by_role("tabpanel", name="Circuit").get_by_role("application")
    expect(picture).to_be_visible(timeout=240_000)
    picture.focus()
    said = page.locator(".wbx-said")
    for key in ("ArrowDown", "]", "ArrowLeft"):
        page.keyboard.press(key)
    expect(said).to_contain_text("influence")
    page.keyboard.press("/")
    page.keyboard.type("state:California")
    page.keyboard.press("Enter")
    expect(said).to_contain_text("state:California")
    page.keyboard.press("Escape")
    for key in ("Space", "[", "Space", "g"):
        page.keyboard.press(key)
    page.keyboard.type("mine")
    page.keyboard.press("Enter")
    expect(said).to_contain_text("mine · a group of 2 nodes")
    page.keyboard.press("a")
    expect(page.locator(".wbx-moved")).to_contain_text("mine switched off", timeout=60_000)
    page.screenshot(path=tmp_path / "circuit.png")
    assert not page.wrong


def test_a_cell_run_again_and_a_restarted_kernel(lab: Page):
    page = lab
    page.get_by_label("Prompt", exact=True).focus()
    page.keyboard.press("Control+a")
    page.keyboard.type("Fact: The x capital")  # JupyterLab would cut the cell at x, and delete it at d d
    expect(page.locator(".wbq-tokens")).to_contain_text("x")
    expect(page.locator(".jp-CodeCell")).to_have_count(2)
    page.evaluate(RUN_ALL)  # the cell again, while its view is there: the new one starts from the first question
    expect(page.get_by_label("Prompt", exact=True)).to_have_value(
        "Fact: The capital of the state where Kobe Bryant played basketball is", timeout=60_000
    )
    is_ranked(page)
    assert not page.wrong
    expect(page.locator(".wbe > [role=alert]")).to_be_hidden()
    page.evaluate(RESTART)
    expect(page.locator(".wbe > [role=alert]")).to_contain_text("run the cell again")
    expect(page.locator(".wbr tbody tr").first).to_be_visible()  # the view stays as it was last
    page.wrong.clear()  # what JupyterLab says of the requests that its own restart cuts off
    page.evaluate(RUN_ALL)
    expect(page.locator(".wbe > [role=alert]")).to_be_hidden(timeout=240_000)  # with the view that it was in
    is_ranked(page)
    expect(page.locator(".wbe")).to_have_count(1)
    expect(page.locator(".wbe > [role=alert]")).to_be_hidden()
    page.locator('th[data-column="activation"] button').click()
    expect(page.locator('th[data-column="activation"]')).to_have_attribute("aria-sort", "descending")
    assert not [text for text in page.wrong if "Canceled future" not in text]
