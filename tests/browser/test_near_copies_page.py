"""Near copies: features of one direction that a dictionary split are one row when they are taken together, and apart again. By keys."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from live_page import open_live
from made_models import random_sae
from playwright.sync_api import Page, expect

from widgets import Explorer, explore
from workbench.bench import Workbench
from workbench.circuits.evidence.sets import FeatureSets
from workbench.circuits.metrics import logit_diff
from workbench.sae.sae import SAE

pytestmark = pytest.mark.browser
PROMPT = "the cat sat on the"
ONE, COPY, NEAR = 10, 20, 30  # their cosines with the first: 0.999, 0.9


def split_sae() -> SAE:
    """What feature 10 of another dictionary would be is three here, active on the same tokens; only two of them are near copies."""
    sae = random_sae()
    sae.b_enc[ONE] = 1.0  # active anywhere
    row = sae.W_dec[ONE] / sae.W_dec[ONE].norm()
    across = torch.nn.functional.normalize(torch.randn(len(row), generator=torch.Generator().manual_seed(0)), dim=0)
    across = torch.nn.functional.normalize(across - (across @ row) * row, dim=0)
    for feature, cosine in ((COPY, 0.999), (NEAR, 0.9)):
        sae.W_enc[:, feature], sae.b_enc[feature] = sae.W_enc[:, ONE], sae.b_enc[ONE]
        sae.W_dec[feature] = sae.W_dec[ONE].norm() * (cosine * row + (1 - cosine**2) ** 0.5 * across)
    return sae


@pytest.fixture
def explorer(model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Explorer]:
    monkeypatch.chdir(tmp_path)
    made = explore(Workbench(model=model, sae=split_sae(), labels={ONE: "one"}), PROMPT, " mat", " dog")
    assert made.pane["prompt"]._job.wait(60).stage == "done"
    yield made
    made.close()


def test_near_copies_become_one_row_and_are_taken_apart_again(page: Page, tmp_path: Path, explorer: Explorer):
    table = explorer.pane["prompt"].ranking.table
    places = sorted(set(table[table["feature"] == ONE]["pos"]) & set(table[table["feature"] == COPY]["pos"]))
    assert places and NEAR in set(table["feature"])
    open_live(page, explorer, tmp_path)
    page.get_by_role("tab", name="Group").click()
    group = page.get_by_role("tabpanel", name="Group")
    offers = group.locator(".wbp-bar", has=page.get_by_role("button", name="Mark them"))
    expect(offers).to_have_count(len(places))
    assert {tuple(sorted(feature for feature, _ in each["pairs"])) for each in explorer.pane["group"].copies} == {(ONE, COPY)}
    expect(offers.first).to_contain_text(str(ONE))
    expect(offers.first).not_to_contain_text(str(NEAR))

    offers.first.get_by_role("button", name="Mark them").press("Enter")
    pairs = explorer.pane["group"].copies[0]["pairs"]
    pos = pairs[0][1]
    expect(group.get_by_role("button", name=f"Take away one {ONE} at {pos}")).to_be_visible()
    assert sorted(explorer.pane["group"].marked) == sorted(pairs)
    page.get_by_label("Name of a group").fill("the copies")
    page.get_by_role("button", name="Make a group").press("Enter")
    page.get_by_role("button", name="Ablate together").press("Enter")
    row = group.locator(".wbg-table tbody tr")
    expect(row).to_have_count(1)
    cells = row.locator("td")
    expect(cells.nth(0)).to_have_text("the copies")
    expect(cells.nth(1)).to_have_text("2")
    together = FeatureSets(explorer.bench, PROMPT, logit_diff(" mat", " dog")).ablate([[pos, feature] for feature, pos in pairs])
    assert explorer.pane["group"].view["rows"][0]["effect"] == pytest.approx(together)

    group.get_by_role("button", name=f"Take away feature {COPY} at {pos}").press("Enter")
    expect(group.get_by_text("The groups have changed since.")).to_be_visible()
    page.get_by_role("button", name="Ablate together").press("Enter")
    expect(cells.nth(1)).to_have_text("1")
    alone = float(table[(table["feature"] == ONE) & (table["pos"] == pos)]["effect"].iloc[0])
    assert explorer.pane["group"].view["rows"][0]["effect"] == pytest.approx(alone, abs=1e-4)
    group.get_by_role("button", name="Remove the group the copies").press("Enter")
    expect(group.get_by_role("region", name="the copies")).to_have_count(0)
    assert explorer.pane["group"].groups == {}
    expect(offers).to_have_count(len(places))  # offered again
    page.goto("about:blank")
