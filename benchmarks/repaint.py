"""Click to repaint in Chromium, medians of 20, beside the bars that they should stay under.

    python benchmarks/repaint.py [--rounds 20] [--only explorer|ranking|million|map|circuit]

In the page: from the event's time stamp to the first task after the frame that shows the answer (tests/pages/page_clock.py). Behind the
page: the widgets' own Python in this process, reached through playwright's pipe (tests/pages/live_page.py), so Python's part counts and
Jupyter's websocket does not. The explorer holds the bundled atlas; tables and maps of a given length are made of random numbers.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from playwright.sync_api import Browser, Page, sync_playwright
from repaint_page import CHROMIUM, MEASURES, change_theme, opened, report  # which finds the folders of the next three

from live_page import open_saved  # isort: skip
from made_graph import made_graph  # isort: skip
from page_clock import busy, median, milliseconds  # isort: skip
from repaint_explorer import explorer_on_the_atlas

from widgets import CircuitView, FeatureMap, RankingTable
from workbench.circuits.ranking.ranking import FeatureRanking


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--only", choices=["explorer", "ranking", "million", "map", "circuit"])
    return parser.parse_args()


def made_ranking(n_rows: int) -> FeatureRanking:
    rng = np.random.default_rng(0)
    words = np.array([" Kobe", " Bryant", " played", " basketball", " is", " the", " state"], dtype=object)
    labels = np.array([f"label {i}" for i in range(2_000)], dtype=object)
    feature, pos = rng.integers(0, 2_000_000, n_rows), 1 + rng.integers(0, len(words), n_rows)
    table = pd.DataFrame({"feature": feature, "pos": pos, "token": words[pos - 1], "label": labels[feature % len(labels)]})
    for name in MEASURES:
        table[name] = rng.standard_t(3, n_rows)
    table["activation"] = table["activation"].abs()
    return FeatureRanking(
        prompt="".join(words),
        str_tokens=["<s>", *words],
        answer=" Sacramento",
        baseline=" Albany",
        clean_metric=5.0,
        table=table.drop_duplicates(["feature", "pos"]),
        hook_name="blocks.3.hook_resid_pre",
        model_name="made",
        sae_name="made",
    )


def select_row(page: Page, i: int) -> float:
    """Alternately of two rows; over when the feature's page stands below the table."""
    row = page.locator(".wbr tbody tr").nth(1 + i % 2)
    feature = row.locator("td").first.inner_text()
    shown = f"document.querySelector('.wbr-detail h4')?.textContent.includes('feature {feature.replace(',', '')}')"
    return milliseconds(page, "click", row.click, shown)


def sort_rows(page: Page, table: RankingTable, i: int) -> float:
    """By each measure in turn; nothing is kept of an earlier sort."""
    for kept in (table.rows._orders, table.rows._ranks, table._rows._found):
        kept.clear()
    name = MEASURES[i % 3]
    head = f"th[data-column={name}]"
    before = page.locator(".wbr tbody").inner_text()
    done = (
        f"document.querySelector('.wbr tbody').innerText !== {json.dumps(before)} && document.querySelector('{head}').ariaSort !== 'none'"
    )
    return milliseconds(page, "click", page.locator(f"{head} button").click, done)


def table_of(browser: Browser, n_rows: int, n_rounds: int, bars: tuple[float, float]) -> None:
    table = RankingTable(made_ranking(n_rows))
    with opened(browser, table, n_rounds) as live:
        live.report(f"select a row of {n_rows:,}", lambda i: select_row(live.page, i), bars[0])
        live.report(f"sort {n_rows:,} rows", lambda i: sort_rows(live.page, table, i), bars[1])


def map_of(browser: Browser, n: int, n_rounds: int) -> None:
    rng = np.random.default_rng(0)
    cluster = rng.integers(0, 120, n)
    xy = rng.normal(0, 6, (120, 2))[cluster] + rng.normal(0, 0.5, (n, 2))
    columns = dict(sae=np.array(["1k", "4k", "16k"], dtype=object)[rng.integers(0, 3, n)], feature=np.arange(n), x=xy[:, 0], y=xy[:, 1])
    table = pd.DataFrame(
        {**columns, "cluster": cluster, "density": 10 ** rng.uniform(-5, -1, n), "label": [f"label {i % 9_000}" for i in range(n)]}
    )
    with opened(browser, FeatureMap(table), n_rounds) as live:
        page = live.page
        box = page.locator(".wbp-map").bounding_box() or {}
        at = lambda x, y: (box["x"] + x * box["width"], box["y"] + y * box["height"])  # noqa: E731
        drawn = "addEventListener('keydown', () => delete document.querySelector('.wbp').dataset.paint, { once: true })"
        page.get_by_role("application").focus()

        def zoom(i: int) -> float:
            page.evaluate(drawn)
            return milliseconds(page, "keydown", lambda: page.keyboard.press("+-"[i % 2]), "document.querySelector('.wbp').dataset.paint")

        def click(i: int) -> float:
            before = json.dumps(page.locator(".wbp-said").inner_text())
            done = f"document.querySelector('.wbp-said').innerText !== {before}"
            return milliseconds(page, "pointerup", lambda: page.mouse.click(*at(0.45 + 0.01 * (i % 7), 0.5 + 0.013 * (i % 5))), done)

        def lasso(i: int) -> float:
            before = json.dumps(page.locator(".wbp-listed").inner_text())
            page.keyboard.down("Shift")
            page.mouse.move(*at(0.3, 0.3))
            page.mouse.down()
            for x, y in ((0.6, 0.3), (0.6 - 0.01 * (i % 9), 0.7), (0.3, 0.7)):
                page.mouse.move(*at(x, y), steps=8)
            found = milliseconds(page, "pointerup", page.mouse.up, f"document.querySelector('.wbp-listed').innerText !== {before}")
            page.keyboard.up("Shift")
            return found

        report(f"map of {n:,}: from the bytes to all points, once", page.evaluate("window.drawnIn"), 500)
        live.report(f"map of {n:,}: zoom", zoom)
        live.report(f"map of {n:,}: select a point", click)
        live.report(f"map of {n:,}: lasso", lasso)
        live.report(f"map of {n:,}: change the theme", lambda i: recolor(page))


def circuit_of(browser: Browser, n_nodes: int, n_edges: int, n_rounds: int) -> None:
    """All of it drawn: both thresholds at 1. Of the edges made some lead nowhere, so more are made.

    The bar is for the CPU time that the main thread of a saved page takes for one change, the mean over the rounds: nothing asks that page
    anything meanwhile. Beside it, from the hand to the repaint in a live one, where all else on the machine counts."""
    circuit = made_graph(n_nodes - 22, 2 * n_edges, n_pos=14, n_layers=6)
    middle = circuit.nodes.query("kind == 'feature' and layer == 3")["node"].iloc[0]
    pane = CircuitView(circuit, node_share=1.0, edge_share=1.0, node=middle)
    places = {name: f"Share of the influence that {name}s carry" for name in ("edge", "node")}
    changes = {
        "zoom": ("", "+", "-"),
        "select a node": ("", "ArrowUp", "ArrowDown"),
        "move the threshold of edges": (places["edge"], "ArrowLeft", "ArrowRight"),
        "move the threshold of nodes": (places["node"], "ArrowLeft", "ArrowRight"),
        "collapse all groups, open them": ("", "Shift+C", "Shift+C"),
    }
    with opened(browser, pane, n_rounds) as opened_live, tempfile.TemporaryDirectory() as folder:
        live, saved = opened_live.page, browser.new_page(viewport={"width": 1400, "height": 1000})
        open_saved(saved, pane.to_html(Path(folder) / "circuit.html"))
        print(f"circuit: {saved.locator('.wbp-push').inner_text()}")
        report("circuit: draw, once", live.evaluate("window.drawnIn"), 500)
        clock = busy(saved)
        for what, (place, *keys) in changes.items():
            for page in (live, saved):
                page.bring_to_front()
                (page.get_by_label(place) if place else page.get_by_role("application")).focus()
            before = clock()
            for i in range(n_rounds):
                saved.keyboard.press(keys[i % 2])
                saved.wait_for_timeout(200)
            thread = (clock() - before) / n_rounds
            live.bring_to_front()
            wall = median(n_rounds, lambda i, keys=keys: press(live, keys[i % 2]))
            report(f"circuit: {what} ({wall:.0f} to the repaint)", thread, 60)
        saved.close()


def press(page: Page, key: str) -> float:
    page.evaluate("addEventListener('keydown', () => delete document.querySelector('.wbx').dataset.paint, { once: true })")
    return milliseconds(page, "keydown", lambda: page.keyboard.press(key), "document.querySelector('.wbx').dataset.paint")


def recolor(page: Page) -> float:
    page.evaluate("delete document.querySelector('.wbp').dataset.paint")
    return change_theme(page, "document.querySelector('.wbp').dataset.paint")


def main() -> None:
    options = arguments()
    if not Path(CHROMIUM).exists():
        print(f"no Chromium at {CHROMIUM}: nothing is measured")
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        if options.only in (None, "explorer"):
            explorer_on_the_atlas(browser, options.rounds)
        if options.only in (None, "ranking"):
            table_of(browser, 10_000, options.rounds, (60, 60))
        if options.only in (None, "million"):
            table_of(browser, 1_000_000, options.rounds, (60, 600))
        if options.only in (None, "map"):
            map_of(browser, 100_000, options.rounds)
        if options.only in (None, "circuit"):
            circuit_of(browser, 1_500, 20_000, options.rounds)
        browser.close()


if __name__ == "__main__":
    main()
