"""Debian's Chromium through playwright, cut off from the network. No Chromium: these tests skip, but in CI they fail."""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from made_models import TEXT, random_sae
from playwright.sync_api import Browser, Page, expect, sync_playwright

from widgets import Explorer, explore
from workbench.bench import Workbench
from workbench.features.index.index import build_index
from workbench.features.survey import mapping
from workbench.sae.sae import SAE

CHROMIUM = next(
    (path for path in ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome") if Path(path).exists()), None
)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
expect.set_options(timeout=30_000)  # a busy machine draws late; what is wrong stays wrong


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    if CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail("no Chromium: in CI the browser tests must run (.ci/run installs it)")
        pytest.skip("no Chromium here: sudo apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(autouse=True)
def maps_are_drawn_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """By their two main axes: UMAP compiles itself for a quarter of a minute in every process, and tests/features/survey has it."""
    monkeypatch.setattr(mapping, "place", lambda directions: (mapping._principal(directions), "PCA"))


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A page on which any script error and any request that leaves the machine fails the test."""
    page = chromium.new_page(viewport={"width": 1120, "height": 900})
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: None if request.url.startswith(("file:", "data:", "about:", "blob:")) else wrong.append(request.url))
    yield page
    page.close()
    assert not wrong


@pytest.fixture
def explorer_of(model_of, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Explorer]]:
    """Labels, then what `explore` takes → an explorer on a tiny model with an index, its question ranked; lists are kept in tmp_path."""
    monkeypatch.chdir(tmp_path)
    index = build_index(model_of("gpt2"), random_sae(), [TEXT, "the dog sat"], tmp_path / "index", progress=False)
    made: list[Explorer] = []

    def make(labels: Mapping[int, str], *question: str, saes: Mapping[str, SAE] | None = None, **options) -> Explorer:
        sae = next(iter(saes.values())) if saes else random_sae()
        bench = Workbench(model=model_of("gpt2"), sae=sae, saes=dict(saes or {}), index=index, labels=dict(labels))
        made.append(explore(bench, *question, **options))
        made[-1].pane["prompt"]._job.wait(60)
        return made[-1]

    yield make
    for each in made:
        each.close()
