"""A saved explorer in Chromium: one selection offline, readable in both themes, every control named and deaf to JupyterLab's shortcuts."""

from pathlib import Path

import pytest
from contrast import contrasts, too_faint
from live_page import open_saved
from made_models import TEXT, random_sae
from playwright.sync_api import Browser, Page, expect

from widgets import explore
from workbench.bench import Workbench
from workbench.features.index.index import build_index
from workbench.features.index.parts import Label

pytestmark = pytest.mark.browser
HOSTILE = "</script><img src=x onerror=window.hacked=1>"


@pytest.fixture(scope="module")
def saved(model_of, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explorer")
    index = build_index(model_of("gpt2"), random_sae(), [TEXT, "the dog sat"], folder / "index", progress=False)
    index.save_labels({3: Label(HOSTILE, None, "a person")})
    bench = Workbench(model=model_of("gpt2"), sae=random_sae(), index=index, labels=dict.fromkeys(range(0, 60, 3), HOSTILE))
    explorer = explore(bench, "the cat sat on the", " mat", " dog")
    explorer.pane["prompt"]._job.wait(60)
    explorer.feature = explorer.first_feature()
    path = explorer.to_html(folder / "explorer.html")
    explorer.close()
    return path


def test_choosing_a_row_opens_its_page_offline_and_a_neighbor_chooses_its_row(page: Page, saved: Path):
    open_saved(page, saved)
    row = page.locator(".wbr tbody tr").nth(3)
    feature = row.locator("td").first.inner_text()
    row.click()
    expect(page.locator(".wbk-page")).to_contain_text(f"eature {feature} of")
    page.locator('.wbk-page a[href^="#"]').first.click()
    other = page.locator(".wbr-detail h4").inner_text()
    assert f"feature {feature}" not in other
    assert page.evaluate("window.hacked") is None and page.locator("img[src=x]").count() == 0


def test_tabs_follow_the_arrow_keys_and_say_which_is_chosen(page: Page, saved: Path):
    open_saved(page, saved)
    page.get_by_role("tab", name="Feature").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Find")).to_be_focused()
    expect(page.get_by_role("tab", name="Find")).to_have_attribute("aria-selected", "true")
    expect(page.get_by_role("tabpanel", name="Find")).to_be_visible()
    expect(page.get_by_role("tabpanel", name="Feature")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_a_contrast_of_at_least_4_5(chromium: Browser, saved: Path, scheme: str):
    page = chromium.new_page(color_scheme=scheme, viewport={"width": 1400, "height": 1000})
    open_saved(page, saved)
    page.locator(".wbr tbody tr").nth(1).click()
    low = []
    for view in ("Ranks", "Agreement", "Table"):
        page.get_by_role("button", name=view).click()
        low += too_faint(page, "#widget")
    for tab in ("Find", "Steer", "Attention", "Feature"):
        page.get_by_role("tab", name=tab).click()
        expect(page.get_by_role("tabpanel", name=tab)).to_be_visible()
        low += too_faint(page, "#widget")
    assert len(contrasts(page, "#widget")) > 50
    assert not low
    page.add_style_tag(content=".wbp.wbr .wbr-status { color: #888; background: #777 }")
    assert too_faint(page, "#widget"), "what cannot be read goes unseen"
    page.close()


def test_every_control_has_a_name_and_keeps_its_keys_from_jupyterlab(page: Page, saved: Path):
    open_saved(page, saved)
    for tab in ("Find", "Steer", "Attention", "Feature"):
        page.get_by_role("tab", name=tab).click()
        expect(page.get_by_role("tabpanel", name=tab)).to_be_visible()
    controls = page.locator(".wbe button, .wbe input, .wbe select, .wbe textarea, .wbe a[href], .wbe summary, .wbe [tabindex]")
    assert controls.count() > 60
    heard = controls.evaluate_all("all => all.filter((one) => one.dataset.lmSuppressShortcuts !== 'true').map((one) => one.outerHTML)")
    assert not heard
    nameless = controls.evaluate_all(
        """all => all.filter((one) => !(one.ariaLabel || one.labels?.length || one.textContent.trim() || one.title))
                     .map((one) => one.outerHTML)"""
    )
    assert not nameless
