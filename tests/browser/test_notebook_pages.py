"""Every notebook as a static HTML page, in a Chromium that is cut off from the network: every cell and every output is there to be seen."""

from pathlib import Path

import nbformat
import pytest
from nbconvert import HTMLExporter
from playwright.sync_api import Page

pytestmark = pytest.mark.browser
ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
FROM_THE_NETWORK = ("require_js_url", "mathjax_url", "mermaid_js_url", "jquery_url")  # what nbconvert adds; no notebook needs it


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    return request.param


def open_page(page: Page, path: Path, folder: Path) -> Page:
    """In a folder beside docs/, as the notebook is: pictures in its text come from there."""
    html, _ = HTMLExporter(**dict.fromkeys(FROM_THE_NETWORK, "")).from_filename(str(path))
    (folder / "docs").symlink_to(ROOT / "docs")
    (folder / "notebooks").mkdir()
    (folder / "notebooks" / "page.html").write_text(html)
    page.goto((folder / "notebooks" / "page.html").as_uri())
    return page


def test_a_static_page_shows_every_cell_and_every_output(page: Page, path: Path, tmp_path: Path):
    open_page(page, path, tmp_path)
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    sources = page.locator(".jp-CodeCell .jp-InputArea-editor").all_inner_texts()
    assert [text.strip() for text in sources] == [cell.source.strip() for cell in code]
    assert page.locator(".jp-MarkdownCell").count() == len(notebook.cells) - len(code)
    shown = page.locator(".jp-OutputArea-output").all()
    assert len(shown) == sum(len(cell.outputs) for cell in code)
    for output in shown:
        box = output.bounding_box()
        assert box and box["height"] > 5 and box["width"] > 5
        assert output.inner_text().strip() or output.locator("img").count()


def test_a_static_page_s_pictures_are_all_there(page: Page, path: Path, tmp_path: Path):
    open_page(page, path, tmp_path)
    pictures = page.locator("img").evaluate_all("all => all.map(img => [img.src.slice(0, 60), img.naturalWidth, img.alt])")
    assert all(source.startswith(("data:image/", "file:")) and width > 0 and alt for source, width, alt in pictures), pictures


def test_a_static_page_says_what_each_output_says(page: Page, path: Path, tmp_path: Path):
    """An output that has no HTML is shown as its text, whole."""
    text = " ".join(open_page(page, path, tmp_path).locator("body").inner_text().split())
    for cell in nbformat.read(path, as_version=4).cells:
        for output in cell.get("outputs", []):
            plain = output.get("text") or output.get("data", {}).get("text/plain", "")
            if "text/html" not in output.get("data", {}):
                assert " ".join(plain.split()) in text
