"""A box that has the focus is never written to, whatever Python answers while a person types; what was typed is what counts."""

import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import traitlets
from live_page import open_live
from made_index import TEXTS
from made_models import random_sae
from made_ranking import made_ranking
from playwright.sync_api import Page, expect

from widgets import CardPane, PromptPane, RankingTable, SteeringPane
from workbench.bench import Workbench
from workbench.features.index.index import build_index

pytestmark = pytest.mark.browser
PROMPT = "the cat sat on the"


def bench_of(model, **parts) -> Workbench:
    strongest = [SimpleNamespace(str_tokens=[" a"], activations=[2.0])]
    return Workbench(model=model, sae=random_sae(), **{"examples": lambda feature: strongest, **parts})


class Slow(PromptPane):
    """As over a network: an answer comes back while the next box is typed in."""

    def set_state(self, sync_data) -> None:
        time.sleep(0.1)
        super().set_state(sync_data)


def test_a_baseline_typed_while_the_answer_is_read_stays_as_typed(page: Page, tmp_path: Path, model):
    pane = Slow(bench_of(model), prompt=PROMPT)
    open_live(page, pane, tmp_path)
    page.get_by_label("Answer").click()
    page.keyboard.type("mat")
    page.keyboard.press("Tab")
    page.keyboard.type("dog", delay=60)
    expect(page.get_by_label("Baseline")).to_have_value("dog")
    page.keyboard.press("Enter")
    expect(page.locator('.wbq[data-stage="done"]')).to_be_visible()
    assert (pane.ranking.answer.strip(), pane.ranking.baseline) == ("mat", " dog")
    page.get_by_label("Prompt").focus()
    expect(page.get_by_label("Baseline")).to_have_value(" dog")  # a box that is left shows what it is read as


@pytest.mark.parametrize("name", ["prompt", "ranking", "steering", "card"])
def test_whatever_box_has_the_focus_keeps_what_is_in_it(page: Page, tmp_path: Path, model, name: str):
    makers = {
        "prompt": lambda: PromptPane(bench_of(model), prompt=PROMPT),
        "ranking": lambda: RankingTable(made_ranking()),
        "steering": lambda: SteeringPane(bench_of(model), strengths={3: 2.0}),
        "card": lambda: CardPane(
            bench_of(model, index=build_index(model, random_sae(), TEXTS[:8], tmp_path / "i", progress=False)), feature=3
        ),
    }
    pane = makers[name]()
    open_live(page, pane, tmp_path)
    boxes = page.locator("textarea, input:not([type=checkbox], [type=range], [type=file])")
    assert boxes.count()
    others = {"strengths": {3: 1.0}, "feature": 7, "query": "x", "max_new_tokens": 9, "seed": 4, "text": "cat", "answer": " mat"}
    for box in boxes.all():
        typed = "5" if box.get_attribute("type") == "number" else "typed"
        box.fill(typed)
        for trait, value in others.items():
            if pane.has_trait(trait):
                setattr(pane, trait, value)
        page.evaluate("() => void ask({})")
        page.wait_for_timeout(30)
        assert box.input_value() == typed


BOXES = "textarea, input:not([type=checkbox], [type=range], [type=file], [type=radio])"


def test_no_box_of_the_explorer_is_written_to_while_a_person_is_in_it(page: Page, tmp_path: Path, explorer_of):
    explorer = explorer_of({3: "cats"}, PROMPT, " mat", " dog", feature=3)
    compare, batch = explorer.pane["compare"], explorer.pane["batch"]
    compare.asking.prompt = batch.text = "the dog ran to"
    for job in (compare.asking.run(), batch.run()):
        job.wait(60)
    explorer.pane["lists"].keep(3)
    open_live(page, explorer, tmp_path)
    panes = {"Find": ["finder"], "Steer": ["steering"], "Group": ["group"], "Lists": ["lists"], "Circuit": ["circuit"], "Feature": ["card"]}
    left = {"2": [compare, compare.asking], "3": [batch], "1": [explorer.pane["ranking"], explorer.pane["prompt"]]}
    places = [*left.items(), *((tab, [explorer.pane[name] for name in names]) for tab, names in panes.items())]
    wrong, n_tried = [], 0
    for place, owners in places:
        if place in left:
            page.get_by_role("tab", name="Feature").press(place)
        else:
            page.get_by_role("tab", name=place).click()
        within = page.locator(".wbe-left, .wbe-top") if place in left else page.get_by_role("tabpanel", name=place)
        page.wait_for_timeout(60)
        explorer.bench.label(3, f"{place} cats")
        for box in within.locator(BOXES).locator("visible=true").element_handles():
            was, typed = box.input_value(), "5" if box.get_attribute("type") == "number" else "typed"
            box.evaluate("(box, typed) => (box.focus(), (box.value = typed))", typed)
            for pane in owners:
                for name in set(pane.kept) - {"feature", "sae", "path"}:
                    if isinstance(pane.traits()[name], traitlets.Unicode):
                        setattr(pane, name, f"{getattr(pane, name)} ")
                    elif name in ("seed", "max_new_tokens"):
                        setattr(pane, name, getattr(pane, name) + 1)
            page.evaluate("ask({})")
            page.wait_for_timeout(20)
            wrong += [] if box.input_value() == typed else [f"{place}: {box.get_attribute('aria-label')}"]
            n_tried += 1
            box.evaluate("(box, was) => (box.value = was)", was)
    page.goto("about:blank")
    assert not wrong and n_tried > 15, (wrong, n_tried)


def test_a_label_that_is_not_set_yet_waits_for_its_feature(page: Page, tmp_path: Path, model):
    index = build_index(model, random_sae(), TEXTS[:8], tmp_path / "index", progress=False)
    pane = CardPane(bench_of(model, index=index), feature=3)
    open_live(page, pane, tmp_path)
    box = page.get_by_label("Label of this feature")
    box.fill("half a thou")
    page.locator('.wbk-page a[href^="#"]').first.click()
    expect(box).to_have_value("")
    page.evaluate("() => 0")
    pane.feature = 3
    page.get_by_label("Try your own text").fill("the")  # a round trip
    expect(box).to_have_value("half a thou")
