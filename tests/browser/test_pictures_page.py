"""Every picture can be taken away as SVG and as PNG, with what is in sight, in the page's theme, its texts as text: the circuit's is in
test_circuit_page.py."""

from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest
from live_page import open_live, open_saved
from made_ranking import made_ranking, made_table
from playwright.sync_api import Locator, Page

from widgets import FeatureMap, RankingTable

pytestmark = pytest.mark.browser
HOSTILE = "</svg><script>window.hacked=1</script>"
TEXT, SHAPES = ".//{*}text", (".//{*}path", ".//{*}circle", ".//{*}rect")


def taken(page: Page, within: Locator) -> ElementTree.Element:
    """The SVG, read; the PNG is one of some size."""
    with page.expect_download() as saving:
        within.get_by_role("button", name="PNG", exact=True).click()
    png = Path(saving.value.path()).read_bytes()
    assert png.startswith(b"\x89PNG") and len(png) > 3_000
    with page.expect_download() as saving:
        within.get_by_role("button", name="SVG", exact=True).click()
    return ElementTree.parse(saving.value.path()).getroot()


def names(picture: ElementTree.Element) -> str:
    return " ".join(each.text or "" for each in picture.findall(TEXT))


@pytest.mark.parametrize(("shows", "says"), [("Ranks", "attribution"), ("Agreement", "y = x")])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_rankings_pictures(page: Page, tmp_path: Path, shows: str, says: str, scheme: str):
    page.emulate_media(color_scheme=scheme)
    table = made_table()
    open_saved(page, RankingTable(made_ranking(table=table.assign(label=HOSTILE))).to_html(tmp_path / "ranking.html"))
    page.get_by_role("button", name=shows, exact=True).click()
    picture = taken(page, page.locator(".wbr"))
    assert says in names(picture) and sum(len(picture.findall(each)) for each in SHAPES) > 10
    colors = {each.get("fill") for each in picture.findall(".//{*}circle")} | {each.get("stroke") for each in picture.findall(".//{*}path")}
    assert "rgb(230, 97, 0)" in colors  # what supports the answer, though a file has no style sheet
    assert next(each.get("fill") for each in picture.findall("{*}rect")) == ("#14161a" if scheme == "dark" else "#ffffff")
    assert not picture.findall(".//{*}script") and page.evaluate("window.hacked") is None


def test_a_maps_picture_has_its_points_names_and_the_selection(page: Page, tmp_path: Path):
    rows = [(sae, i, i % 5 - 2.0, i // 5 - 1.0, 0, 0.1, HOSTILE if i == 3 else f"label {i}") for sae in ("a", "b") for i in range(15)]
    table = pd.DataFrame(rows, columns=["sae", "feature", "x", "y", "cluster", "density", "label"])
    open_live(page, FeatureMap(table, feature=4, sae_name="a"), tmp_path)
    page.locator(".wbp[data-paint]").wait_for()
    picture = taken(page, page.locator(".wbp"))
    outlines = "".join(each.get("d") or "" for each in picture.findall(".//{*}path"))
    assert outlines.count("M") == 30 and len(picture.findall(".//{*}circle")) == 1
    assert "label 4" in names(picture) and not picture.findall(".//{*}script")
    page.get_by_label("Search labels and feature numbers").fill("label 4")
    page.wait_for_timeout(300)
    assert {each.get("fill-opacity") for each in taken(page, page.locator(".wbp")).findall(".//{*}path")} == {"0.2", "0.9"}
