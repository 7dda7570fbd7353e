"""A small picture of what each notebook shows, for notebooks/README.md: docs/NN_name.png, from the committed outputs, in Chromium.

python -m notebooks.pictures 08_steering …
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from nbconvert import HTMLExporter
from playwright.sync_api import FloatRect, sync_playwright

HERE = Path(__file__).parent
WIDTH, WIDE = 760, 960
# The code cell, by its number; how far down its output the picture begins, and how high it is; how wide, where not WIDTH.
CELLS: dict[str, tuple[int, ...]] = {
    "02_train_an_sae": (4, 0, 290, WIDE),
    "03_scaling_laws": (4, 0, 430),
    "04_feature_tour": (2, 0, 400),
    "05_finding_features": (3, 20, 300, WIDE),
    "06_feature_survey": (6, 60, 480),
    "07_features_vs_neurons": (3, 0, 400),
    "08_steering": (3, 0, 400),
    "09_evidence": (10, 172, 800),
    "10_your_own_model": (11, 0, 390),
    "11_which_make_which": (2, 0, 730, WIDE),
    "12_what_each_layer_adds": (3, 0, 560, WIDE),
    "13_what_did_tuning_change": (2, 0, 420, WIDE),
    "14_features_or_probes": (2, 90, 200, 700),
    "15_safety_relevant_features": (5, 0, 320, WIDE),
}


def take(name: str) -> Path:
    """The picture of one notebook. Raises ValueError for one that is not in CELLS."""
    if name not in CELLS:
        raise ValueError(f"no cell is chosen for {name}: add it to CELLS; there are {', '.join(CELLS)}")
    number, top, height, *width = CELLS[name]
    html, _ = HTMLExporter(require_js_url="", mathjax_url="", mermaid_js_url="").from_filename(str(HERE / f"{name}.ipynb"))
    picture = HERE.parent / "docs" / f"{name}.png"
    with TemporaryDirectory() as folder, sync_playwright() as playwright:
        page_file = Path(folder) / "page.html"
        page_file.write_text(html)
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": (width[0] if width else WIDTH) + 200, "height": 900})
        page.goto(page_file.as_uri())
        box = page.locator(".jp-CodeCell").nth(number - 1).locator(".jp-OutputArea-output").last.bounding_box()
        assert box, f"cell {number} of {name} shows nothing"
        clip: FloatRect = {
            "x": box["x"],
            "y": box["y"] + top,
            "width": min(width[0] if width else WIDTH, box["width"]),
            "height": min(height, box["height"] - top),
        }
        page.screenshot(path=picture, full_page=True, clip=clip)
        browser.close()
    return picture


if __name__ == "__main__":
    for chosen in sys.argv[1:] or CELLS:
        made = take(chosen)
        print(f"docs/{made.name}: {made.stat().st_size:,} bytes")
