"""Every text of every pane can be read in both themes."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from contrast import too_faint
from live_page import open_live
from made_map import made_map
from made_models import random_sae
from made_ranking import made_ranking
from playwright.sync_api import Page

from widgets import AttentionPane, FeatureMap, Finder, RankingTable, SteeringPane
from workbench.bench import Workbench

pytestmark = pytest.mark.browser


def bench_of(model) -> Workbench:
    strongest = [SimpleNamespace(str_tokens=[" a"], activations=[2.0])]
    return Workbench(model=model, sae=random_sae(), labels={3: "a label"}, examples=lambda feature: strongest)


def finder(model) -> Finder:
    pane = Finder(bench_of(model), positive=["the cat sat", "a cat"], negative=["the dog ran"], margin=0.5)
    pane.run().wait(60)
    pane.feature = pane.view["rows"][0]["feature"]
    pane.positive = [*pane.positive, "one more"]  # the results are older than the prompts
    return pane


def steering(model) -> SteeringPane:
    pane = SteeringPane(bench_of(model), prompt="the cat", strengths={3: 9.0}, feature=5, max_new_tokens=4)
    pane.run().wait(60)
    pane.seed = 3
    return pane


def attention(model) -> AttentionPane:
    pane = AttentionPane(bench_of(model), prompt="the cat sat", answer=" cat", feature=3)
    pane.run().wait(60)
    return pane


def failed(model) -> SteeringPane:
    pane = SteeringPane(bench_of(model), prompt="the cat")
    pane.run().wait(60)
    return pane


PANES = {
    "finder": finder,
    "steering": steering,
    "attention": attention,
    "failed": failed,
    "map": lambda model: FeatureMap(made_map(), feature=8, lassoed=list(range(40)), query="lakers"),
    "ranking": lambda model: RankingTable(made_ranking(), feature=41),
}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", PANES)
def test_every_text_can_be_read(page: Page, tmp_path: Path, model, name: str, theme: str):
    make: Callable = PANES[name]
    page.emulate_media(color_scheme=theme)
    open_live(page, make(model), tmp_path)
    assert too_faint(page, ".wbp") == []


def test_a_text_too_faint_is_found(page: Page, tmp_path: Path):
    open_live(page, FeatureMap(made_map(), feature=8), tmp_path)
    page.add_style_tag(content=".wbp-said b { color: rgb(0 0 0 / 0.5) }")
    assert [each.split(" (")[0] for each in too_faint(page, ".wbp")] == ["California"]
