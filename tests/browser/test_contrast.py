"""Every text of every pane against what is behind it, in both themes: WCAG's contrast, 4.5 at least. Controls that rest are exempt."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import random_sae
from live_page import open_live
from made_map import made_map
from made_ranking import made_ranking
from playwright.sync_api import Page

from widgets import AttentionPane, FeatureMap, Finder, RankingTable, SteeringPane
from workbench.bench import Workbench

pytestmark = pytest.mark.browser
# Colors are laid over each other with their alpha, from the page's own background inward. CircuitsVis' drawing is its own affair.
FAINT = """() => {
  const parse = (text) => {
    const numbers = text.match(/-?[\\d.]+(e-?\\d+)?/g).map(Number);
    const scale = text.startsWith("color(") ? 255 : 1;
    return [...numbers.slice(0, 3).map((value) => value * scale), numbers[3] ?? 1];
  };
  const over = ([r, g, b, a], under) => [r, g, b].map((value, i) => a * value + (1 - a) * under[i]);
  const behind = (element) => {
    const color = parse(getComputedStyle(element).backgroundColor);
    return over(color, element.parentElement ? behind(element.parentElement) : [255, 255, 255]);
  };
  const brightness = (rgb) => rgb.map((value) => value / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, value, i) => sum + value * [0.2126, 0.7152, 0.0722][i], 0);
  const found = [];
  for (const element of document.querySelectorAll(".wbp, .wbp *")) {
    const text = [...element.childNodes].filter((child) => child.nodeType === 3).map((child) => child.data.trim()).join("");
    if (!text || !element.checkVisibility() || element.closest(":disabled, .wba-picture, svg, .wbp-hidden, option")) continue;
    if (element.closest("label")?.querySelector("input:disabled")) continue;
    const paper = behind(element);
    const [one, other] = [brightness(over(parse(getComputedStyle(element).color), paper)), brightness(paper)];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (ratio < 4.5) found.push(`${text.slice(0, 40)} (${element.className || element.tagName}): ${ratio.toFixed(2)}`);
  }
  return found;
}"""


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
    assert page.locator(".wbp").count() and page.evaluate(FAINT) == []


def test_a_text_too_faint_is_found(page: Page, tmp_path: Path):
    open_live(page, FeatureMap(made_map(), feature=8), tmp_path)
    page.add_style_tag(content=".wbp-said b { color: rgb(0 0 0 / 0.5) }")
    assert [each.split(" (")[0] for each in page.evaluate(FAINT)] == ["California"]
