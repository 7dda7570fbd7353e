"""The explorer's part of repaint.py: every control of the one screen, on the bundled atlas."""

import json
import os
import tempfile
from typing import Any

from page_clock import milliseconds
from playwright.sync_api import Browser, Page
from repaint_page import MEASURES, Live, change_theme, opened

from widgets import explore
from workbench import atlas
from workbench.bench import Workbench

PROMPTS = [question.prompt for question in atlas.questions(held_out=True)]


def explorer_on_the_atlas(browser: Browser, n_rounds: int) -> None:
    bench = atlas.load()
    os.chdir(tempfile.mkdtemp())  # where a list of kept features is written
    bench.feature(0)  # without an index the example texts are read once
    explorer = explore(bench)
    explorer.pane["prompt"]._job.wait()
    with opened(browser, explorer, n_rounds) as live:
        page = live.page
        page.locator(".wbk-page").wait_for()
        live.report("explorer: select a row", lambda i: mark_row(page, i))
        live.report("explorer: open a card in sight", lambda i: open_card(page, i))
        live.report("explorer: open a card that was not read ahead", lambda i: open_card(page, i, forget(bench)))
        live.report("explorer: change the theme", lambda i: change_theme(page))
        ways_about(live)
        kept_and_compared(live, explorer)
        live.report("explorer: a new prompt to its first attributions", lambda i: new_prompt(page, PROMPTS[i]), 400)


def mark_row(page: Page, i: int) -> float:
    """Over when the row is marked; what Python knows of the feature follows: that is to open its card."""
    row = page.locator(".wbr tbody tr").nth(3 + i % 2)
    return milliseconds(page, "click", row.click, f"document.querySelectorAll('.wbr tbody tr')[{3 + i % 2}].ariaSelected === 'true'")


def ways_about(live: Live) -> None:
    """Marks, the ways back, the box that opens anything, the tabs."""
    page = live.page
    live.report("explorer: mark a row for a group", lambda i: mark_for_group(page, i))
    live.report("explorer: back, and forward", lambda i: go_back(page, i))
    live.report("explorer: open a feature by its number", lambda i: open_by_number(page, i))
    for name in ("Find", "Steer", "Group", "Lists", "Circuit", "Attention"):
        live.report(f"explorer: the tab {name}", lambda i, name=name: choose_tab(page, name))
    page.get_by_role("tab", name="Feature").click()


def mark_for_group(page: Page, i: int) -> float:
    """By Space, on and off again."""
    row = page.locator('.wbr tbody tr[tabindex="0"]')
    is_marked = row.evaluate("(row) => row.classList.contains('wbr-marked')")
    done = f"document.querySelector('.wbr tbody tr[tabindex=\"0\"]').classList.contains('wbr-marked') === {json.dumps(not is_marked)}"
    return milliseconds(page, "keydown", lambda: row.press("Space"), done)


def go_back(page: Page, i: int) -> float:
    """To the page of the feature before, and to the one after it."""
    before = json.dumps(page.locator(".wbk-page").inner_text()[:200])
    key = ("Alt+ArrowLeft", "Alt+ArrowRight")[i % 2]
    return milliseconds(
        page, "keydown", lambda: page.keyboard.press(key), f"!document.querySelector('.wbk-page').innerText.startsWith({before})"
    )


def open_by_number(page: Page, i: int) -> float:
    """From Enter in the box: what is typed waits a tenth of a second before it is looked up, which is not counted."""
    page.get_by_role("tab", name="Feature").press("/")
    page.get_by_role("combobox", name="Open a feature").fill(str(100 + i))
    page.locator(".wbe-open li").filter(has_text=f"feature {100 + i}").first.wait_for()
    done = f"document.querySelector('.wbk-page').textContent.includes('feature {100 + i} of')"
    return milliseconds(page, "keydown", lambda: page.keyboard.press("Enter"), done)


def choose_tab(page: Page, name: str) -> float:
    """From the feature's page, which is shown again afterwards."""
    tab = page.get_by_role("tab", name=name, exact=True)
    took = milliseconds(page, "click", tab.click, f"!!document.querySelector('[role=tabpanel][aria-label={name}]:not([hidden])')")
    page.get_by_role("tab", name="Feature").click()
    return took


def kept_and_compared(live: Live, explorer: Any) -> None:
    """What sets things side by side: a second prompt's rows, the list, a token with its logit lens. The lens runs the model twice."""
    page, asking = live.page, explorer.pane["compare"].asking
    asking.prompt = PROMPTS[-1]
    asking.run().wait()
    page.evaluate("ask({})")
    press = page.get_by_role("tab", name="Feature").press
    shown = "!document.querySelector('.wbc').parentElement.hidden"
    page.get_by_role("button", name="Second prompt").click()
    page.locator(".wbc tbody tr").first.wait_for()
    page.get_by_role("button", name="Second prompt").click()
    live.report("explorer: a second prompt, shown again", lambda i: toggled(page, press, shown))
    page.evaluate("document.querySelector('.wbc').parentElement.hidden && document.querySelector('[aria-label=\"Second prompt\"]').click()")
    live.report("explorer: select a row of two prompts", lambda i: select_compared(page, ".wbc", i))
    live.report("explorer: sort the rows of two prompts", lambda i: sort_rows(page, ".wbc", f"{MEASURES[i % 3]}_difference"))
    batch = explorer.pane["batch"]
    batch.text = "\n".join(PROMPTS[:4])
    batch.run().wait()
    page.evaluate("ask({})")
    page.get_by_role("button", name="Several prompts").click()
    page.locator(".wbb tbody tr").first.wait_for()
    live.report("explorer: sort the rows of several prompts", lambda i: sort_rows(page, ".wbb", ("effect", "low", "activation")[i % 3]))
    live.report("explorer: select a row of several prompts", lambda i: select_compared(page, ".wbb", i))
    page.get_by_role("button", name="Several prompts").click()
    live.report("explorer: keep a feature", lambda i: keep(page, explorer))
    tokens = page.get_by_role("group", name="Tokens", exact=True).get_by_role("button")
    live.report("explorer: a token's features and logit lens", lambda i: look_at(page, tokens.nth(2 + i % 6)), 400)
    page.get_by_role("tab", name="Feature").click()


def toggled(page: Page, press: Any, shown: str) -> float:
    """Shown; it is hidden again afterwards."""
    took = milliseconds(page, "keydown", lambda: press("2"), shown)
    page.get_by_role("button", name="Second prompt").click()
    return took


def select_compared(page: Page, table: str, i: int) -> float:
    """Over when its page is there."""
    row = page.locator(f"{table} .wbt tbody tr").nth(i % 8)
    feature = int(row.locator("td span").first.inner_text())
    return milliseconds(page, "click", row.click, f"document.querySelector('.wbk-page').textContent.includes('feature {feature:,} of')")


def sort_rows(page: Page, table: str, name: str) -> float:
    before = page.locator(f"{table} tbody").first.inner_text()
    head = page.locator(f"{table} th[data-column={name}] button")
    return milliseconds(page, "click", head.click, f"document.querySelector('{table} tbody').innerText !== {json.dumps(before)}")


def keep(page: Page, explorer: Any) -> float:
    """By its key, until the star is full; it is taken out again afterwards."""
    took = milliseconds(
        page,
        "keydown",
        lambda: page.get_by_role("tab", name="Feature").press("k"),
        "!!document.querySelector('[aria-label=\"In your list\"]')",
    )
    explorer.pane["lists"].remove(explorer.feature)
    page.evaluate("ask({})")
    page.locator('[aria-label="Keep"]').wait_for()
    return took


def look_at(page: Page, token: Any) -> float:
    said = token.inner_text()
    done = (
        f"!document.querySelector('.wbf-lens')?.hidden && document.querySelector('.wbf-lens h4')?.textContent.includes({json.dumps(said)})"
    )
    return milliseconds(page, "click", token.click, done)


def forget(bench: Workbench) -> None:
    """What the index has read of features."""
    tables = bench.index._tables if bench.index else None
    assert tables is not None
    for read in (tables.row, tables.windows):
        read.cache_clear()


def open_card(page: Page, i: int, _: None = None) -> float:
    """Of one row after the other."""
    row = page.locator(".wbr tbody tr").nth(i % 12)
    feature = row.locator("td").first.inner_text().replace(",", "")
    return milliseconds(
        page, "click", row.click, f"document.querySelector('.wbk-page').textContent.includes('feature {int(feature):,} of')"
    )


def new_prompt(page: Page, prompt: str) -> float:
    page.get_by_label("Prompt", exact=True).fill(prompt)
    before = page.locator(".wbr tbody").inner_text()
    done = f"document.querySelector('.wbr tbody').innerText !== {json.dumps(before)}"
    found = milliseconds(page, "keydown", lambda: page.keyboard.press("Enter"), done)
    page.wait_for_function("document.querySelector('.wbq').dataset.stage === 'done'")
    return found
