"""A check's page: opens offline without a script, and every verdict can be read in both themes."""

from pathlib import Path

import pytest
from contrast import too_faint
from playwright.sync_api import Page

from workbench.checks.report import CheckReport, Finding, Verdict

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_row_can_be_read(page: Page, tmp_path: Path, theme: str):
    rows = [(f"row {verdict}", Finding(verdict, "12 of 13 obeyed", f"what {verdict} means")) for verdict in Verdict]
    page.emulate_media(color_scheme=theme)
    page.goto(CheckReport.of(rows, "mine").to_html(tmp_path / "check.html").absolute().as_uri())
    assert page.locator("script").count() == 0 and page.locator("tr").count() == 5
    assert too_faint(page, "body") == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
