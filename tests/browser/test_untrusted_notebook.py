"""A saved notebook in a JupyterLab that does not trust it: scripts do not run, HTML is sanitized. Every cell still shows its result.

JupyterLab trusts by signature; the data folder here is fresh and holds none. What each pane shows is what it gave when it was shown.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from contrast import too_faint
from IPython.core.formatters import DisplayFormatter
from made_lab import OPENED, jupyterlab
from playwright.sync_api import Browser, expect

import workbench as wb
from widgets import AttentionPane, CardPane, FeatureMap, Finder, RankingTable, SteeringPane, explore

pytestmark = [pytest.mark.browser, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
COMMITTED = "01_why_sacramento"
PROMPT = "Fact: The capital of the state where Kobe Bryant played basketball is"
LAKERS = 574
# What of an output's HTML is not in the page: elements, texts, attributes, single declarations of a style, pictures that do not show.
# pandas' <style> is no loss.
LOST = """([cell, output, html]) => {
  const shown = window.jupyterapp.shell.currentWidget.content.widgets[cell].node.querySelectorAll(".jp-OutputArea-output")[output];
  const meant = new DOMParser().parseFromString(html, "text/html").body;
  for (const style of meant.querySelectorAll("style")) style.remove();
  const lost = [];
  const bare = (text) => text.replace(/\\s/g, "");
  const declarations = (element) => bare(element.getAttribute("style") ?? "").split(";").filter(Boolean);
  const compare = (one, other) => {
    const [children, there] = [[...one.children], [...other.children]];
    if (children.length !== there.length) return lost.push(`${children.length} elements in ${one.tagName}: ${there.length} are left`);
    children.forEach((child, i) => {
      if (child.tagName !== there[i].tagName) return lost.push(`${child.tagName}: it is ${there[i].tagName}`);
      const kept = declarations(there[i]);
      lost.push(...declarations(child).filter((each) => !kept.includes(each)).map((each) => `${each} of ${child.tagName}`));
      for (const { name, value } of child.attributes) {
        if (name !== "style" && there[i].getAttribute(name) !== value) lost.push(`${name}="${value.slice(0, 40)}" of ${child.tagName}`);
      }
      compare(child, there[i]);
    });
  };
  compare(meant, shown);
  if (bare(meant.textContent) !== bare(shown.textContent)) lost.push("some text");
  const pictures = [...shown.querySelectorAll("img")].filter((img) => !img.complete || !img.naturalWidth);
  lost.push(...pictures.map((img) => `the picture ${img.alt}`));
  return lost;
}"""
TRUSTED = "window.jupyterapp.shell.currentWidget.content.widgets.filter((cell) => cell.model.trusted).length"
THEME = 'window.jupyterapp.commands.execute("apputils:change-theme", { theme: "JupyterLab %s" })'


def results() -> dict[str, Any]:
    bench = wb.load("atlas")
    ranking = bench.rank(PROMPT, wb.logit_diff(" Sacramento", " Albany"), progress=False)
    finder = Finder(bench, positive=["Kobe Bryant plays for the", "Kobe Bryant Lakers"], negative=["Larry Bird plays for the"])
    steering = SteeringPane(bench, prompt="The Big Ben is in the city of", strengths={834: 5.0}, max_new_tokens=8)
    attention = AttentionPane(bench, prompt=PROMPT, answer=" Sacramento", baseline=" Albany", feature=LAKERS)
    for pane in (finder, steering, attention):
        assert pane.run().wait(60).stage == "done"
    return {
        "explorer": explore(bench),
        "ranking": RankingTable(ranking, examples=bench.examples, feature=LAKERS),
        "card": CardPane(bench, feature=LAKERS),
        "finder": finder,
        "steering": steering,
        "map": FeatureMap(bench.map().table, feature=LAKERS, sae_name="2k"),
        "attention": attention,
        "figure": ranking.plot_ranks(),
        "feature": bench.feature(LAKERS),
        "found": bench.find(["The star of the Lakers is"], ["The star of the Celtics is"]),
        "steered": bench.steer("The Big Ben is in the city of", {834: 3.0}, max_new_tokens=8),
    }


def write_outputs(path: Path, shown: dict[str, Any]) -> None:
    """A notebook whose cells have shown these."""
    cells = []
    for name, result in shown.items():
        data, metadata = DisplayFormatter().format(result)
        output = nbformat.v4.new_output("execute_result", data, metadata=metadata, execution_count=1)
        cells.append(nbformat.v4.new_code_cell(name, outputs=[output], execution_count=1))
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("untrusted")
    (folder / "notebooks").mkdir()
    shutil.copytree(ROOT / "docs", folder / "notebooks" / "docs", ignore=shutil.ignore_patterns("*.md"))  # pictures of notebook 01's text
    write_outputs(folder / "notebooks" / "panes.ipynb", results())
    shutil.copy(ROOT / "notebooks" / f"{COMMITTED}.ipynb", folder / "notebooks")
    return folder


@pytest.fixture(scope="module")
def address(folder: Path, chromium: Browser) -> Iterator[str]:
    with jupyterlab(folder) as address:
        yield address


@pytest.mark.parametrize("name", ["panes", COMMITTED])
def test_every_cell_of_an_untrusted_notebook_shows_its_whole_result(address: str, chromium: Browser, folder: Path, name: str):
    page = chromium.new_page(viewport={"width": 1500, "height": 9000})  # JupyterLab draws what is in sight
    page.goto(f"{address}/lab/workspaces/{name}/tree/{name}.ipynb")
    expect(page.locator(".jp-Notebook .jp-CodeCell").first).to_be_visible(timeout=60_000)
    page.evaluate(OPENED)
    assert page.evaluate(TRUSTED) == 0
    for i, cell in enumerate(nbformat.read(folder / "notebooks" / f"{name}.ipynb", as_version=4).cells):
        for j, output in enumerate(cell.get("outputs", [])):
            shown = page.locator(f'.jp-Cell[data-windowed-list-index="{i}"] .jp-OutputArea-output').nth(j)
            expect(shown).to_be_visible()
            if "application/vnd.plotly.v1+json" in output.get("data", {}):
                expect(shown.locator("svg.main-svg").first).to_be_visible()
            elif "text/html" in output.get("data", {}):
                assert page.evaluate(LOST, [i, j, output.data["text/html"]]) == [], f"cell {i}, {cell.source[:60]!r}"
    for theme in ("Light", "Dark"):
        page.evaluate(THEME % theme)
        expect(page.locator(f'body[data-jp-theme-light="{str(theme == "Light").lower()}"]')).to_be_attached()
        assert too_faint(page, ".jp-RenderedHTML") == []
    page.close()
