"""The map in Chromium, as the file that it writes: points stand where they belong, hand and keys select, the lasso takes what is inside."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from live_page import open_saved
from made_map import made_map
from playwright.sync_api import Page, expect

from widgets import FeatureMap

pytestmark = pytest.mark.browser
HOSTILE = "</script><img src=x onerror=window.hacked=1>"


def opened(page: Page, folder: Path, table: pd.DataFrame | None = None, **traits) -> Page:
    open_saved(page, FeatureMap(made_map() if table is None else table, **traits).to_html(folder / "map.html"))
    page.locator(".wbp[data-paint]").wait_for()
    return page


def spot(page: Page, table: pd.DataFrame, row: int) -> dict[str, float]:
    """Where a row of the table is on the field, by the map's own rule worked out here: 95 % of the field, one scale."""
    box = page.locator(".wbp-map").bounding_box()
    xy = FeatureMap(table)._xy
    half = np.abs(xy).max(axis=0)
    k = 0.95 * min(box["width"] / 2 / half[0], box["height"] / 2 / half[1])
    return {"x": box["width"] / 2 + k * xy[row, 0], "y": box["height"] / 2 - k * xy[row, 1]}


def field(page: Page):
    return page.get_by_role("application")


def said(page: Page):
    return page.locator(".wbp-said")


def test_a_click_on_a_point_selects_its_feature(page: Page, tmp_path: Path):
    table = made_map(12)
    opened(page, tmp_path, table)
    field(page).click(position=spot(page, table, 5))
    expect(said(page)).to_contain_text("Lakers feature 5 of 4k")
    field(page).click(position=spot(page, table, 10))
    expect(said(page)).to_contain_text("asked for a capital feature 10 of 1k")


def test_without_an_index_no_density_is_said(page: Page, tmp_path: Path):
    table = made_map(12).assign(density=np.nan)
    opened(page, tmp_path, table)
    field(page).click(position=spot(page, table, 5))
    expect(said(page)).to_contain_text("on how many tokens is not known")
    expect(page.get_by_text("an index would know")).to_be_visible()


def test_hovering_names_a_feature_and_leaving_ends_it(page: Page, tmp_path: Path):
    table = made_map(12)
    opened(page, tmp_path, table)
    field(page).hover(position=spot(page, table, 7))
    expect(page.locator(".wbp-tip")).to_contain_text("Zincfeature 7 of 4k")
    page.mouse.move(2, 2)
    expect(page.locator(".wbp-tip")).to_be_hidden()


def test_the_lasso_takes_the_points_inside_and_no_others(page: Page, tmp_path: Path):
    opened(page, tmp_path)
    box = page.locator(".wbp-map").bounding_box()
    page.get_by_role("button", name="Lasso").click()
    corners = [(0.5, 0.52), (0.99, 0.52), (0.99, 0.99), (0.5, 0.99)]  # low on the right: the cluster of (5, −5)
    for i, (x, y) in enumerate(corners):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=4)
        if not i:
            page.mouse.down()
    page.mouse.up()
    expect(page.locator(".wbp-listed")).to_contain_text("50 features in the lasso")
    expect(page.get_by_role("button", name="Lakers").first).to_be_visible()
    page.locator(".wbp-listed button").first.click()
    expect(said(page)).to_contain_text("feature")
    field(page).focus()
    page.keyboard.press("Escape")
    expect(page.locator(".wbp-listed")).to_be_empty()


def test_arrow_keys_walk_to_the_nearest_feature_in_a_direction(page: Page, tmp_path: Path):
    grid = pd.DataFrame({"sae": "1k", "feature": range(9), "cluster": 0, "density": 0.1, "label": ""})
    grid["x"], grid["y"] = grid["feature"] % 3, -(grid["feature"] // 3)  # 0 1 2 / 3 4 5 / 6 7 8
    nearer = grid.assign(sae="4k", x=grid["x"] + 0.1)  # another dictionary, whose points lie between
    opened(page, tmp_path, pd.concat([grid, nearer]), feature=4, sae_name="1k")
    field(page).focus()
    for key, feature in (("ArrowRight", 5), ("ArrowDown", 8), ("ArrowLeft", 7), ("ArrowUp", 4), ("ArrowUp", 1), ("ArrowUp", 1)):
        page.keyboard.press(key)
        expect(said(page)).to_contain_text(f"feature {feature} of 1k")
    page.keyboard.press("Escape")
    expect(said(page)).to_be_empty()
    page.keyboard.press("ArrowRight")  # with nothing selected: the one in the middle
    expect(said(page)).to_contain_text("feature 4 of")


def test_plus_and_minus_zoom_and_a_drag_moves(page: Page, tmp_path: Path):
    table = made_map(12)
    opened(page, tmp_path, table)
    field(page).focus()
    page.keyboard.press("+")
    page.keyboard.press("-")
    field(page).click(position=spot(page, table, 5))
    expect(said(page)).to_contain_text("feature 5 of 4k")
    at = spot(page, table, 6)
    box = page.locator(".wbp-map").bounding_box()
    page.mouse.move(box["x"] + 400, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 300, box["y"] + 230, steps=4)
    page.mouse.up()
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    field(page).click(position={"x": at["x"] - 100, "y": at["y"] + 30})
    expect(said(page)).to_contain_text("feature 6 of 4k")


def test_a_hidden_dictionary_cannot_be_selected_and_a_hidden_selection_says_so(page: Page, tmp_path: Path):
    table = made_map(12)
    opened(page, tmp_path, table, feature=5, sae_name="4k", hidden=["4k"])
    expect(said(page)).to_contain_text("its dictionary is hidden")
    field(page).click(position=spot(page, table, 7))
    expect(said(page)).not_to_contain_text("feature 7")
    page.get_by_label("4k").check()
    field(page).click(position=spot(page, table, 7))
    expect(said(page)).to_contain_text("feature 7 of 4k")


def test_a_search_says_how_many_match_and_enter_goes_from_one_to_the_next(page: Page, tmp_path: Path):
    opened(page, tmp_path)
    search = page.get_by_label("Search labels")
    search.fill("lakers")
    expect(page.get_by_role("status")).to_contain_text("34 of 200 features of 2 dictionaries")
    search.press("Enter")
    expect(said(page)).to_contain_text("Lakers")
    first = said(page).inner_text()
    search.press("Enter")
    expect(said(page)).not_to_have_text(first)
    search.fill("17")
    search.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("1 of 200")
    expect(said(page)).to_contain_text("feature 17 of 1k")


@pytest.mark.parametrize("color", ["density", "label", "dictionary", "score"])
def test_every_way_of_coloring_draws_points_in_both_themes(page: Page, tmp_path: Path, color: str):
    pane = FeatureMap(made_map())
    pane.show_scores({1: 1.0, 2: 2.0})
    pane.color_by = color
    path = pane.to_html(tmp_path / "map.html")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        open_saved(page, path)
        page.locator(".wbp[data-paint]").wait_for()
        alpha = "document.querySelector('canvas').getContext('2d').getImageData(0, 0, 1000, 500).data.filter((v, i) => i % 4 === 3)"
        assert page.evaluate(f"{alpha}.filter((value) => value > 100).length") > 50
        assert page.locator(".wbp-dark").count() == (scheme == "dark")


def test_a_theme_that_changes_under_the_map_recolors_it(page: Page, tmp_path: Path):
    opened(page, tmp_path)
    page.emulate_media(color_scheme="dark")
    expect(page.locator(".wbp.wbp-dark")).to_have_count(1)


def test_hostile_labels_and_names_are_shown_not_run(page: Page, tmp_path: Path):
    table = made_map(12).assign(label=HOSTILE, sae=HOSTILE)
    opened(page, tmp_path, table, feature=4, lassoed=[1, 2])
    field(page).hover(position=spot(page, table, 7))
    expect(said(page)).to_contain_text(HOSTILE)
    assert page.evaluate("window.hacked") is None and page.locator("img[src=x]").count() == 0


def test_jupyters_shortcuts_do_not_hear_the_maps_keys(page: Page, tmp_path: Path):
    opened(page, tmp_path, lassoed=[1, 2])
    focusable = page.locator(".wbp button, .wbp input, .wbp select, .wbp [tabindex]")
    assert focusable.count() > 8
    assert focusable.evaluate_all("all => all.every((one) => one.dataset.lmSuppressShortcuts === 'true')")


def test_a_map_of_nothing_opens(page: Page, tmp_path: Path):
    opened(page, tmp_path, made_map().iloc[:0])
    expect(page.get_by_role("status")).to_have_text("0 features of 0 dictionaries")


def test_what_a_search_finds_is_a_list_that_keys_reach(page: Page, tmp_path: Path):
    opened(page, tmp_path, feature=8, sae_name="1k")
    results = page.get_by_role("group", name="Features found on the map")
    expect(results).to_be_empty()
    box = page.get_by_label("Search labels and feature numbers")
    box.fill("lakers")
    n = int((made_map()["label"] == "Lakers").sum())
    expect(results).to_contain_text(f"{n} found")
    expect(results).to_contain_text(f"and {n - 24} more")
    box.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    table = made_map()
    own = table[(table["label"] == "Lakers") & (table["sae"] == "1k")]["feature"].tolist()  # of the selection's dictionary first
    expect(said(page)).to_contain_text(f"Lakers feature {own[1]} of 1k")
    expect(results.locator(":focus")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    expect(box).to_be_focused()
    box.fill("nowhere")
    expect(results).to_contain_text("nothing on the map is called “nowhere”")


def test_a_rankings_features_are_ringed_and_listed_until_their_box_is_emptied(page: Page, tmp_path: Path):
    table = made_map(12)
    pane = FeatureMap(table, sae_name="4k")
    pane.ring("4k", [7, 99, 4, 0], f"of largest effect {HOSTILE}")  # 99 is not on the map, 0 is of the other dictionary
    open_saved(page, pane.to_html(tmp_path / "map.html"))
    page.locator(".wbp[data-paint]").wait_for()
    results = page.get_by_role("group", name="Features found on the map").get_by_role("button")
    expect(results).to_have_text(["7 Zinc", "4 California"])
    before = field(page).evaluate("(each) => each.toDataURL()")
    page.get_by_label("2 of the ranking").uncheck()
    expect(results).to_have_count(0)
    assert field(page).evaluate("(each) => each.toDataURL()") != before
    assert page.evaluate("window.hacked") is None


def test_input_and_output_scores_color_it_where_some_are_known(page: Page, tmp_path: Path):
    table = made_map(12)
    opened(page, tmp_path, table)
    color = page.get_by_label("Color by")
    assert color.evaluate("box => [...box.options].filter(one => !one.disabled).map(one => one.value)") == [
        "density", "label", "dictionary", "score",
    ]  # fmt: skip
    scored = table.assign(input_score=np.where(np.arange(12) == 5, 0.9, np.nan), output_score=np.where(np.arange(12) == 5, -0.25, 0.5))
    opened(page, tmp_path, scored)
    color.select_option("writes")
    expect(page.locator(".wbp-legend .wbp-scale")).to_have_text("output score −0.250.50")
    field(page).click(position=spot(page, table, 5))
    expect(said(page)).to_contain_text("input score 0.90 · output score −0.25")
    color.select_option("reads")
    field(page).click(position=spot(page, table, 6))
    expect(said(page)).to_contain_text("output score 0.50")
    expect(said(page)).not_to_contain_text("input score")


def test_a_few_large_scores_leave_the_others_their_colors_and_the_legend_says_so(page: Page, tmp_path: Path):
    table = made_map(100)
    even = np.linspace(0, 1, 100)
    color, scale = page.get_by_label("Color by"), page.locator(".wbp-legend .wbp-scale")
    shown = {}
    for name, scores in (("even", even), ("tailed", np.where(even > 0.97, 50, even))):
        opened(page, tmp_path, table.assign(output_score=scores, input_score=np.where(even < 0.5, even, np.nan)))
        color.select_option("writes")
        shown[name] = page.evaluate("""() => {
          const canvas = document.querySelector(".wbp-map canvas");
          const pixels = new Uint32Array(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.buffer);
          return new Set(pixels).size;
        }""")
        expect(scale).to_have_text("output score 0.00" + ("1.00" if name == "even" else "0.95 and above, to 50.00"))
        assert (scale.get_attribute("title") is None) == (name == "even")
    assert shown["tailed"] > 0.8 * shown["even"], "not all of one color"
    assert "one in 20 lies above 0.95, up to 50.00" in (scale.get_attribute("title") or "")
    expect(page.locator(".wbp-legend")).not_to_contain_text("not known")
    color.select_option("reads")
    expect(page.locator(".wbp-legend")).to_contain_text("not known")
