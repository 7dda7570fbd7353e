"""The finder without a browser: what a search gives, what filters do without the model, what is refused."""

import json

import pytest
from made_models import random_sae

import workbench as wb
from widgets import Finder
from workbench.bench import Workbench
from workbench.features.search import codes

POSITIVE, NEGATIVE = ["the cat sat", "the cat ran to the mat", "a cat"], ["the dog ran", "and the mat"]
HOSTILE = "</script><img src=x onerror=window.hacked=1>\n"


@pytest.fixture
def bench(model) -> Workbench:
    return Workbench(model=model, sae=random_sae(), labels=dict.fromkeys(range(64), HOSTILE))


def features(pane: Finder) -> list[int]:
    return [row["feature"] for row in pane.view["rows"]]


def test_a_search_gives_what_bench_find_gives_and_says_what_each_filter_removed(bench):
    pane = Finder(bench, positive=POSITIVE, negative=NEGATIVE, margin=0.5)
    assert pane.run().wait(60).stage == "done"
    expected = bench.find(POSITIVE, NEGATIVE, margin=0.5)
    assert features(pane) == expected.table["feature"].tolist() and len(features(pane)) > 1
    assert [(each["n_before"], each["n_removed"]) for each in pane.view["removed"]] == [each[1:] for each in expected.removed]
    assert pane.view["n_passed"] == expected.n_passed


def test_cancel_ends_the_reading_between_two_batches_and_an_earlier_result_stays(bench, monkeypatch):
    pane = Finder(bench, positive=POSITIVE, negative=NEGATIVE)
    pane.run().wait(60)
    before = pane.view
    monkeypatch.setitem(codes.BATCH, "cpu", 8)  # tokens: a prompt or two
    pane.positive, seen = [f"the cat {'and ' * i}the dog" for i in range(20)], []

    def cancel(change) -> None:
        if change["new"]["done"]:
            seen.append(change["new"])
            pane.cancel()

    pane.observe(cancel, "progress")
    assert pane.run().wait(60).stage == "cancelled"
    assert seen[-1]["stage"] == "cancelled" and 0 < seen[-1]["done"] < seen[-1]["total"] == 22
    assert pane.view == before


def test_each_row_says_on_which_tokens_of_which_prompts_it_is_active(bench):
    pane = Finder(bench, positive=POSITIVE, negative=NEGATIVE, margin=0.5)
    pane.run().wait(60)
    row = pane.view["rows"][0]
    for i, (prompt, acts) in enumerate(zip(POSITIVE + NEGATIVE, row["acts"], strict=True)):
        _, cache = bench.model.run_with_cache(prompt)
        expected = bench.sae.encode(cache[bench.sae.cfg.hook_name][0])[1:, row["feature"]]
        assert "".join(pane.view["prompts"][i]["tokens"]) == prompt
        found = dict(acts)
        assert [found.get(place, 0.0) for place in range(len(expected))] == pytest.approx(expected.tolist(), abs=1e-3)
    assert [each["kind"] for each in pane.view["prompts"]] == ["positive"] * 3 + ["negative"] * 2


def test_moving_a_filter_asks_the_model_nothing(bench, monkeypatch):
    pane = Finder(bench, positive=POSITIVE, negative=NEGATIVE)
    pane.run().wait(60)
    monkeypatch.setattr("widgets.panes.finder.encode", None)
    n_passed = []
    for pane.margin in (0.0, 0.5, 2.0):
        n_passed.append(pane.view["n_passed"])
    assert n_passed == sorted(n_passed) and n_passed[0] < n_passed[-1]
    strict = pane.view["n_passed"]
    pane.share = 0.3
    assert pane.view["n_passed"] > strict
    pane.top = 2
    assert len(pane.view["rows"]) == 2


def test_a_selection_that_does_not_pass_is_explained_too(bench):
    pane = Finder(bench, positive=POSITIVE, negative=NEGATIVE)
    pane.run().wait(60)
    left_out = next(i for i in range(64) if i not in features(pane))
    pane.feature = left_out
    assert pane.outside["feature"] == left_out and len(pane.outside["acts"]) == 5
    pane.margin, pane.share, pane.top = 100.0, 0.01, 64
    assert left_out not in features(pane) or pane.outside == {}
    pane.feature = features(pane)[0]
    assert pane.outside == {}


@pytest.mark.parametrize(
    ("sets", "says"),
    [
        (([], NEGATIVE), "there is no positive prompt"),
        ((POSITIVE, [" "]), "negative prompt 1 of 1 is empty"),
        ((POSITIVE, POSITIVE[:1]), "is both a positive and a negative prompt"),
        ((["the cat " * 5000], []), "prompt 1: the prompt is"),
    ],
)
def test_what_cannot_be_searched_with_is_said_and_an_earlier_result_stays(bench, sets, says):
    pane = Finder(bench, positive=POSITIVE, negative=NEGATIVE)
    pane.run().wait(60)
    before = pane.view
    pane.positive, pane.negative = sets
    assert pane.run().wait(60).stage == "failed" and says in pane.progress["message"]
    assert pane.view == before


def test_the_query_is_code_that_finds_the_same(bench):
    pane = Finder(bench, positive=[*POSITIVE, HOSTILE], negative=NEGATIVE, share=0.5, margin=1.0)
    pane.run().wait(60)
    assert eval(pane.code, {"bench": bench}).table["feature"].tolist() == features(pane)
    assert pane.code == pane.query() and "max_density" not in pane.code


def test_a_state_that_was_kept_comes_back(bench):
    pane = Finder(bench, positive=POSITIVE, negative=NEGATIVE, margin=0.5, feature=3)
    other = Finder(bench)
    other.restore(json.loads(json.dumps(pane.state())))
    assert other.state() == pane.state()
    assert eval(pane.to_python(), {"Finder": Finder, "bench": bench}).state() == pane.state()


def test_all_that_is_sent_is_json_and_labels_are_visible_text(bench):
    pane = Finder(bench, positive=POSITIVE)
    assert "not searched yet" in pane.static_html()
    pane.run().wait(60)
    json.dumps([pane.view, pane.outside], allow_nan=False)
    assert pane.view["rows"][0]["label"].endswith("⏎") and pane.view["unit"] == "mean activation"
    assert "<img src=x" not in pane.static_html() and "On the prompts" in pane.static_html()
    assert repr(pane).startswith("Finder: 3 positive and 0 negative prompts, ")


WAYS = [
    ({"way": "classifier", "positive": POSITIVE, "negative": NEGATIVE}, lambda bench: bench.find_by_classifier(POSITIVE, NEGATIVE)),
    ({"way": "token", "text": "the cat sat", "at": 2}, lambda bench: bench.find_at("the cat sat", 2)),
    ({"way": "token", "text": "the cat sat"}, lambda bench: bench.find_at("the cat sat")),
    ({"way": "attribution", "text": "the cat sat on the", "answer": " mat", "baseline": " dog"},
     lambda bench: bench.find_by_attribution("the cat sat on the", wb.logit_diff(" mat", " dog"))),
    ({"way": "near", "target": 7}, lambda bench: bench.find_near(7)),
    ({"way": "near", "feature": 7}, lambda bench: bench.find_near(7)),
    ({"way": "label", "words": "IMG hacked"}, lambda bench: bench.find_by_label("IMG hacked")),
]  # fmt: skip


@pytest.mark.parametrize(("chosen", "same"), WAYS)
def test_every_way_gives_what_the_bench_gives_says_it_as_code_and_can_be_kept(bench, chosen, same):
    pane = Finder(bench, **chosen)
    assert pane.run().wait(60).stage == "done", pane.progress
    expected = same(bench).table
    assert features(pane) == expected["feature"].tolist() and len(features(pane)) > 3
    scores = [row["score"] for row in pane.view["rows"]]
    assert scores == pytest.approx(expected["score"].tolist(), rel=1e-5) and pane.view["columns"][0]["name"] == "score"
    assert eval(pane.code, {"bench": bench, "wb": wb}).table["feature"].tolist() == features(pane)
    assert pane.view["asked"] == pane.asking and pane.is_asked
    other = Finder(bench)
    other.restore(json.loads(json.dumps(pane.state())))
    assert other.code == pane.code and other.tokens == pane.tokens
    json.dumps([pane.view, pane.outside, pane.tokens], allow_nan=False)
    pane.relabel()
    assert features(pane) == expected["feature"].tolist() and pane.static_html()


@pytest.mark.parametrize(
    ("chosen", "says"),
    [
        ({"way": "near"}, "near which feature"),
        ({"way": "near", "target": 10_000}, "features 0 to 63"),
        ({"way": "attribution", "text": "the cat"}, "attribution is to an answer"),
        ({"way": "attribution", "text": "the cat", "answer": "no token at all"}, "no token at all"),
        ({"way": "label", "words": "!"}, "holds no word"),
        ({"way": "token"}, "is empty"),
    ],
)
def test_what_a_way_cannot_search_with_is_said(bench, chosen, says):
    pane = Finder(bench, **chosen)
    assert pane.run().wait(60).stage == "failed" and says in pane.progress["message"]


def test_a_text_gives_its_tokens_and_a_place_that_it_has_not_is_given_up(bench):
    pane = Finder(bench, way="token", text="the cat sat", at=3)
    assert [token for _, token in pane.tokens] == ["the", " cat", " sat"] and pane.tokens[0][0] == 1
    pane.text = "the"
    assert pane.at is None and len(pane.tokens) == 1


def test_the_question_that_is_ranked_is_gone_on_from_but_what_was_typed_stays(bench):
    pane = Finder(bench)
    pane.ask_about("the cat", " mat", " dog")
    pane.ask_about("a dog", " sat", "", before="the cat")
    assert (pane.text, pane.answer, pane.baseline) == ("a dog", " sat", "")
    pane.text = "my own"
    pane.ask_about("the cat", " mat", "", before="a dog")
    assert (pane.text, pane.answer) == ("my own", " mat")
