"""The attention pane without a browser: what it measures, what it sends, what it says when it cannot."""

import json

import numpy as np
import pytest
from made_models import random_sae

from widgets import AttentionPane
from widgets.panes.attention import bundle_text
from workbench.bench import Workbench
from workbench.circuits.depth.heads import head_effects
from workbench.circuits.metrics import logit_diff

PROMPT = "the cat sat on the mat"
HOSTILE = "</script><img src=x onerror=window.hacked=1>\n"


@pytest.fixture
def bench(model) -> Workbench:
    return Workbench(model=model, sae=random_sae(), labels={3: HOSTILE})


def test_a_run_measures_the_heads_of_the_selected_feature(bench):
    pane = AttentionPane(bench, prompt=PROMPT, answer=" cat", baseline=" dog", feature=3)
    assert pane.run().wait(60).stage == "done"
    expected = head_effects(bench, PROMPT, logit_diff(" cat", " dog"), 3)
    shown = [f"{row.layer}.{row.head}" for row in expected.table.head(8).itertuples()]
    assert [head["name"] for head in pane.view["heads"]] == shown
    assert [head["moved"] for head in pane.view["heads"]] == pytest.approx(expected.table["moved"].head(8))
    n = len(pane.view["tokens"])
    assert np.frombuffer(pane.patterns, np.float32).reshape(8, n, n) == pytest.approx(expected.patterns[:8])
    json.dumps(pane.view, allow_nan=False)


def test_without_an_answer_it_is_the_likeliest_token(bench):
    pane = AttentionPane(bench, prompt=PROMPT, feature=3)
    pane.run().wait(60)
    likeliest = bench.model(PROMPT)[0, -1].argmax()
    assert pane.view["answer"] == bench.model.tokenizer.decode([int(likeliest)])


@pytest.mark.parametrize(
    ("chosen", "says"),
    [
        (dict(feature=None), "no feature is selected"),
        (dict(prompt=""), "there is no prompt"),
        (dict(answer="two words"), "two words"),
        (dict(pos=99), "position 99 is not on this prompt"),
    ],
)
def test_what_cannot_be_measured_is_said(bench, chosen, says):
    pane = AttentionPane(bench, **{"prompt": PROMPT, "answer": " cat", "feature": 3, **chosen})
    assert pane.run().wait(60).stage == "failed" and says in pane.progress["message"]


def test_circuitsvis_is_the_packages_own_and_sent_only_when_asked_for(bench):
    pane = AttentionPane(bench)
    assert pane.bundle == "" and len(bundle_text()) > 10**6
    pane._handle_custom_msg({"do": "send_bundle"}, [])
    assert pane.bundle == bundle_text()


def test_a_page_can_ask_for_nothing_but_its_actions(bench):
    pane = AttentionPane(bench, feature=3)
    pane._handle_custom_msg({"do": "close"}, [])
    pane._handle_custom_msg("run", [])
    assert pane.comm is not None and pane.progress == {}


def test_a_state_that_was_kept_comes_back(bench):
    pane = AttentionPane(bench, prompt=PROMPT, answer=" cat", feature=3, pos=2)
    assert eval(pane.to_python(), {"AttentionPane": AttentionPane, "bench": bench}).state() == pane.state()


def test_without_scripts_a_table_stands_there(bench):
    pane = AttentionPane(bench, prompt=PROMPT, answer=" cat", feature=3)
    assert "not measured yet" in pane.static_html()
    pane.run().wait(60)
    assert "what it reads at the last position" in pane.static_html() and "<img src=x" not in pane.static_html()
