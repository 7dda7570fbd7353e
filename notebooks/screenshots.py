"""Pictures of the explorer as it is: JupyterLab in Chromium, on the atlas, light and dark → docs/explorer.png, docs/explorer_dark.png.

python -m notebooks.screenshots
"""

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "tests" / "pages"))

from made_lab import HIDE_FILES, READY, RUN_ALL, jupyterlab, write_notebook  # noqa: E402
from playwright.sync_api import Page, sync_playwright  # noqa: E402

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
CELLS = ('import workbench as wb\nfrom widgets import explore\n\nbench = wb.load("atlas")', "explore(bench, feature=574)")
WIDTH, HEIGHT = 1480, 1120


def shoot(page: Page, address: str, file: Path) -> None:
    page.goto(f"{address}/lab/tree/explorer.ipynb")
    page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=60_000)
    page.evaluate(READY)
    page.evaluate(HIDE_FILES)
    page.evaluate(RUN_ALL)
    page.wait_for_selector('.wbq[data-stage="done"]', timeout=120_000)
    page.wait_for_selector(".wbk-page table", timeout=60_000)
    page.wait_for_timeout(1_000)  # fonts and the last drawing
    page.screenshot(path=file)


def main() -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for name, is_dark in (("explorer", False), ("explorer_dark", True)):
            with tempfile.TemporaryDirectory() as folder:
                (Path(folder) / "notebooks").mkdir()
                write_notebook(Path(folder) / "notebooks" / "explorer.ipynb", *CELLS)
                with jupyterlab(Path(folder), is_dark) as address:
                    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
                    shoot(page, address, ROOT / "docs" / f"{name}.png")
                    page.close()
        browser.close()


if __name__ == "__main__":
    main()
