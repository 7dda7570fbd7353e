"""The steering pane without a browser: what is chosen, what a run gives, what is refused."""

import json
from types import SimpleNamespace

import pytest
from made_index import TEXTS
from made_models import D_SAE, random_sae
from traitlets import TraitError

from widgets import SteeringPane
from workbench.bench import Workbench
from workbench.circuits.evidence.reference import usual_norm
from workbench.features.index.index import build_index
from workbench.features.search.codes import encode

PROMPT = "the cat sat on the"
HOSTILE = "</script><img src=x onerror=window.hacked=1>\n"


def strongest(feature: int) -> list[SimpleNamespace]:
    return [SimpleNamespace(str_tokens=[" a"], activations=[2.0])]


@pytest.fixture
def bench(model) -> Workbench:
    return Workbench(model=model, sae=random_sae(), labels={3: "a label", 5: HOSTILE}, examples=strongest)


def test_a_run_gives_what_bench_steer_gives(bench):
    pane = SteeringPane(bench, prompt=PROMPT, strengths={3: 4.0, 8: -2}, max_new_tokens=5)
    told: list[tuple[int, int]] = []
    pane.observe(lambda change: told.append((change["new"]["done"], change["new"]["total"])), "progress")
    assert pane.run().wait(60).stage == "done" and told[0] == (0, 0) and told[-1] == (5, 5)
    expected = bench.steer(PROMPT, {3: 4.0, 8: -2.0}, 5, progress=False)
    assert [each.text for each in pane.result.continuations] == [each.text for each in expected.continuations]
    unsteered, steered = pane.view["texts"]
    assert (unsteered["name"], steered["name"], steered["about"]) == ("unsteered", "steered", "3 × 4, 8 × -2")
    assert steered["tokens"] == expected.continuations[1].str_tokens
    likeliest = max(expected.continuations[1].next_tokens, key=expected.continuations[1].next_tokens.__getitem__)
    row = next(row for row in pane.view["next"] if row["token"] == likeliest)
    assert row["values"][1] == expected.continuations[1].next_tokens[likeliest]
    json.dumps(pane.view, allow_nan=False)


def test_where_no_text_tells_how_active_a_feature_gets_the_prompt_does_and_it_is_said(model):
    bench = Workbench(model=model, sae=random_sae())
    acts = encode(model, bench.sae, [PROMPT]).of(0).toarray().max(0)
    active, silent = int(acts.argmax()), int(acts.argmin())
    assert acts[silent] == 0, "the SAE of this test has to have a silent feature"
    pane = SteeringPane(bench, prompt=PROMPT, strengths={active: 2.0}, max_new_tokens=5)
    assert pane.run().wait(60).stage == "done"
    assert pane.result.max_act == pytest.approx({active: float(acts[active])})
    expected = bench.steer(PROMPT, {active: 2.0}, 5, max_act={active: float(acts[active])}, progress=False)
    assert [each.text for each in pane.result.continuations] == [each.text for each in expected.continuations]
    assert any("largest activation on this prompt" in note for note in pane.view["notes"])
    pane.strengths = {silent: 2.0}
    done = pane.run().wait(60)
    assert done.stage == "failed" and "active nowhere on this prompt" in done.message


def test_the_selection_gets_a_slider_once(bench):
    pane = SteeringPane(bench, feature=3)
    pane.add()
    assert pane.strengths == {3: 1.0}, "its own largest activation, until more is known"
    pane.strengths = {3: -1.0}
    pane.add()
    assert pane.strengths == {3: -1.0}
    pane.feature = None
    pane.add()
    assert pane.strengths == {3: -1.0}


def test_a_slider_starts_at_the_features_own_safe_limit(model, tmp_path):
    index = build_index(model, random_sae(), TEXTS[:8], tmp_path, progress=False)
    bench = Workbench(model=model, sae=random_sae(), index=index)
    feature = int(index.table["max_act"].idxmax())
    pane = SteeringPane(bench, feature=feature, prompt="the")
    pane.add()
    pane._asking.wait(60)
    limit = pane.about[str(feature)]["limit"]
    assert 0 < limit <= 10 and pane.strengths == {feature: limit}
    most = usual_norm(bench) / index.table["max_act"].max()  # of many tokens, not of a prompt of two
    assert most / 2 == pytest.approx(limit, abs=0.5), "at the whole activation's norm texts are nonsense already"
    pane.max_new_tokens = 3
    pane.run().wait(60)
    assert not [note for note in pane.view["notes"] if "beyond" in note], "where it starts is no warning zone"


def test_what_a_page_sends_are_numbers_again(bench):
    pane = SteeringPane(bench)
    pane.set_state({"strengths": {"3": 2, "8": -1.5}})
    assert pane.strengths == {3: 2.0, 8: -1.5}


def test_strengths_of_features_that_are_not_there_are_refused(bench):
    with pytest.raises(TraitError, match=f"feature {D_SAE} is out of range"):
        SteeringPane(bench, strengths={D_SAE: 1.0})


@pytest.mark.parametrize(
    ("chosen", "says"),
    [
        (dict(prompt=PROMPT), "no feature has a slider"),
        (dict(prompt=PROMPT * 20, strengths={3: 1.0}), "the prompt is 101 tokens long"),
        (dict(prompt=PROMPT * 10, strengths={3: 1.0}), "51 prompt tokens and 24 new ones are more than the 64"),
    ],
)
def test_what_cannot_be_steered_is_said_and_an_earlier_result_stays(bench, chosen, says):
    pane = SteeringPane(bench, prompt=PROMPT, strengths={3: 1.0}, max_new_tokens=2)
    pane.run().wait(60)
    before = pane.view
    pane.max_new_tokens, pane.prompt, pane.strengths = 24, chosen["prompt"], chosen.get("strengths", {})
    progress = pane.run().wait(60)
    assert progress.stage == "failed" and says in pane.progress["message"]
    assert pane.view == before


def test_cancel_ends_a_long_text_early_and_closing_ends_the_thread(bench):
    for end in ("cancel", "close"):
        pane = SteeringPane(bench, prompt="the", strengths={3: 1.0}, max_new_tokens=50)
        generated = []
        handle = bench.model.original_model.register_forward_hook(lambda *_: generated.append(getattr(pane, end)()))  # noqa: B023
        try:
            job = pane.run()
            assert job.wait(60).stage == "cancelled"
        finally:
            handle.remove()
        assert len(generated) < 40 and not job.thread.is_alive()


def test_a_state_that_was_kept_comes_back(bench):
    pane = SteeringPane(bench, prompt=PROMPT, strengths={3: 4.0}, temperature=0.7, seed=5)
    other = SteeringPane(bench)
    other.restore(json.loads(json.dumps(pane.state())))
    assert other.state() == pane.state() and other.strengths == {3: 4.0}
    made = eval(pane.to_python(), {"SteeringPane": SteeringPane, "bench": bench})
    assert made.state() == pane.state()


def test_the_same_seed_writes_the_same_and_another_seed_does_not(bench):
    pane = SteeringPane(bench, prompt=PROMPT, strengths={3: 0.5}, temperature=1.0, max_new_tokens=12)
    texts = []
    for pane.seed in (1, 1, 2):
        pane.run().wait(60)
        texts.append(pane.view["texts"][1]["tokens"])
    assert texts[0] == texts[1] != texts[2]


def test_without_scripts_the_texts_stand_side_by_side_and_nothing_hostile_runs(bench):
    pane = SteeringPane(bench, prompt=HOSTILE, strengths={5: 4.0}, max_new_tokens=3)
    assert "not run yet" in pane.static_html()
    pane.run().wait(60)
    html = pane.static_html()
    assert "unsteered" in html and "5 × 4" in html and "<img src=x" not in html
    assert pane._repr_mimebundle_()[0]["text/plain"] == "SteeringPane: 5 × 4"
    assert pane.about["5"]["label"].endswith("⏎") and pane.about["5"]["max_act"] == 2.0
