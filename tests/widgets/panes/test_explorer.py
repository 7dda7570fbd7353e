"""The explorer without a browser: its traits are the state, Python computes, one selection for all panes."""

import json
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from made_circuit import made_circuit_bench
from made_index import contents
from made_models import TEXT, random_sae

from widgets import CardPane, Explorer, PromptPane, explore
from widgets.panes.jobs import turn_of
from workbench.bench import Workbench
from workbench.benches import load
from workbench.circuits.metrics import logit_diff
from workbench.features.index.index import FeatureIndex, build_index

PROMPT = "the cat sat on the"
TEXTS = [TEXT, "the dog sat", "a cat and the mat"]


@pytest.fixture(scope="module")
def bench(model_of, tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    saes = {"a": random_sae(), "b": random_sae("blocks.2.hook_resid_pre")}
    index = build_index(model_of("gpt2"), saes["a"], TEXTS, tmp_path_factory.mktemp("index"), progress=False)
    return Workbench(model=model_of("gpt2"), sae=saes["a"], saes=saes, index=index, labels={3: "three"})


@pytest.fixture
def explorer(bench: Workbench):
    made = explore(bench, PROMPT, " mat", " dog")
    assert made.pane["prompt"]._job.wait(60).stage == "done"
    yield made
    made.close()


def test_a_prompt_shows_its_tokens_and_what_the_model_would_say(bench: Workbench):
    pane = PromptPane(bench, prompt=PROMPT)
    assert pane.tokens == ["<|start|>", "the", " cat", " sat", " on", " the"] and pane.n_tokens == 6
    pane._asking.wait(60)
    shares = [each["probability"] for each in pane.next_tokens]
    assert len(shares) == 8 and shares == sorted(shares, reverse=True)


@pytest.mark.parametrize(
    ("about", "typed", "says"),
    [
        ("prompt", "the cat " * 5000, "tokens long; this model reads at most 64"),
        ("prompt", "   ", "empty"),
        ("answer", "catastrophe", "expected one token"),
        ("baseline", "xyz dog", "expected one token"),
        ("baseline", " mat", "its own baseline"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_computed(bench: Workbench, about: str, typed: str, says: str):
    pane = PromptPane(bench, prompt=PROMPT, answer=" mat")
    setattr(pane, about, typed)
    assert says in pane.problems[about]
    assert pane.run() is None and pane.ranking is None


def test_an_answer_gets_the_leading_space_that_makes_it_one_token(bench: Workbench):
    for word in ("mat", "dog", "ran", "cat"):
        pieces = bench.model.tokenizer(word, add_special_tokens=False)["input_ids"]
        if len(pieces) > 1:
            break
    pane = PromptPane(bench, prompt=PROMPT, answer=word)
    assert pane.answer == " " + word and not pane.problems["answer"]


@pytest.mark.parametrize("prompt", ["the", "</script><img src=x> 👩‍👩‍👧 \u202e", "the\n\tcat"])
def test_short_and_hostile_prompts_are_ranked_like_any_other(bench: Workbench, prompt: str):
    pane = PromptPane(bench, prompt=prompt, answer=" mat")
    assert pane.run().wait(60).stage == "done", pane.progress
    assert pane.ranking.table["effect"].notna().all()
    assert not any("\u202e" in token or "\n" in token for token in pane.tokens)


def test_what_is_streamed_ends_as_what_rank_gives(bench: Workbench, explorer: Explorer):
    expected = bench.rank(PROMPT, logit_diff(" mat", " dog"), progress=False)
    found = explorer.pane["ranking"].ranking
    assert found.table["feature"].tolist() == expected.table["feature"].tolist()
    assert found.table["effect"].to_numpy() == pytest.approx(expected.table["effect"].to_numpy(), abs=1e-5)


def test_attributions_come_before_effects_and_cancel_keeps_what_was_measured(bench: Workbench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("widgets.panes.prompt.SHOWN_AGAIN", 0.0)
    monkeypatch.setattr("widgets.panes.prompt.SHARE", 0)
    pane, measured = PromptPane(bench, prompt=PROMPT, answer=" mat"), []

    def look(change) -> None:
        measured.append(int(change["new"].table["effect"].notna().sum()))
        if measured[-1]:
            pane.cancel()

    pane.observe(look, "ranking")
    assert pane.run().wait(60).stage == "cancelled"
    assert measured[0] == 0 and 0 < measured[-1] < len(pane.ranking.table)
    assert pane.progress["done"] == measured[-1]


def test_typing_while_an_ablation_runs_reads_the_new_prompt_and_leaves_the_ranking_to_its_own(bench: Workbench):
    pane = PromptPane(bench, prompt=PROMPT, answer=" mat")
    with turn_of(bench.model):  # a model that is taken: as during an ablation
        job = pane.run()
        pane.prompt = "the dog ran to the"
        assert pane.tokens[2] == " dog" and pane.progress["stage"] == "waiting"
    assert job.wait(60).stage == "done"
    pane._asking.wait(60)
    assert pane.next_tokens


def test_two_explorers_on_one_model_both_get_their_ranking(bench: Workbench):
    both = [explore(bench, prompt, " mat") for prompt in (PROMPT, "the dog ran to the")]
    jobs = [each.pane["prompt"].run() for each in both]
    assert [job.wait(60).stage for job in jobs] == ["done", "done"]
    assert [each.pane["ranking"].ranking.prompt for each in both] == [PROMPT, "the dog ran to the"]


def test_closing_the_view_ends_its_thread(bench: Workbench):
    explorer = Explorer(bench, PROMPT, " mat")
    with turn_of(bench.model):
        job = explorer.pane["prompt"].run()
        explorer.close()
    assert job.wait(60).stage == "cancelled" and not [t for t in threading.enumerate() if t is job.thread]


def test_what_is_in_sight_is_read_before_it_is_chosen(bench: Workbench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("widgets.panes.card.REST", 0.0)
    bench = replace(bench, index=FeatureIndex.open(bench.index.folder))  # nobody else reads it
    tables = bench.index._tables
    explorer = explore(bench, PROMPT, " mat", " dog")
    card = explorer.pane["card"]
    explorer.pane["prompt"]._job.wait(60)
    card._ahead.wait(60)
    in_sight = [row["feature"] for row in explorer.pane["ranking"].view["rows"]] + card.neighbors
    assert len(in_sight) > 12
    monkeypatch.setattr("widgets.panes.card.REST", 60.0)  # what comes in sight below is not read ahead
    read = tables.windows.cache_info().misses
    for feature in in_sight:
        explorer.feature = feature
        assert f"feature {feature}" in card.html.lower()
    assert tables.windows.cache_info().misses == read
    explorer.close()
    assert card._ahead.wait(60).is_over


def test_a_feature_chosen_anywhere_is_chosen_everywhere(explorer: Explorer):
    feature = int(explorer.pane["ranking"].ranking.table["feature"].iloc[5])
    for name in explorer.pane:
        explorer.feature = None
        explorer.pane[name].feature = feature
        assert {other: pane.feature for other, pane in explorer.pane.items()} == dict.fromkeys(explorer.pane, feature)
    assert f"eature {feature}" in explorer.pane["card"].html and explorer.pane["ranking"].detail["feature"] == feature


def test_the_state_is_json_and_restores_every_pane(explorer: Explorer, bench: Workbench):
    explorer.pane["ranking"].query, explorer.pane["finder"].positive, explorer.tab = "effect>0", ["the cat"], "finder"
    state = json.loads(explorer.facts)
    assert state == json.loads(json.dumps(explorer.state()))
    other = Explorer(bench)
    other.restore(state)
    other.pane["prompt"]._job.wait(60)
    assert other.state() == explorer.state() and other.pane["ranking"].view == explorer.pane["ranking"].view
    with pytest.raises(ValueError, match="no pane 'nonsense'"):
        other.restore({"panes": {"nonsense": {}}})


def test_the_code_is_python_that_ranks_and_restores(explorer: Explorer):
    explorer.feature = 3
    for line in ("ranking = bench.rank('the cat sat on the', wb.logit_diff(' mat', ' dog'))", "bench.feature(3)", "explorer.restore({"):
        assert line in explorer.code
    assert "bench = wb.Workbench(model=model, sae=sae)  # as you made them" in explorer.code
    compile(explorer.code, "code", "exec")


def test_the_code_runs_for_a_model_of_ones_own(folders: tuple[Path, Path], tmp_path: Path):
    texts = ["Fact: The capital of the state", "Kobe Bryant played basketball"]
    made = load(str(folders[0]), sae=folders[1], start_token=None)
    index = build_index(made.model, made.sae, texts, tmp_path / "index", progress=False)
    explorer = Explorer(replace(made, index=index))
    explorer.pane["prompt"].prompt = "Fact: The capital of the"
    explorer.pane["prompt"].answer = " state"
    explorer.pane["prompt"].run().wait(60)
    known: dict[str, Any] = {}
    exec(explorer.to_python(), known)
    assert known["bench"].index.folder == index.folder and known["ranking"].start_token == ""
    assert known["ranking"].table.equals(explorer.pane["ranking"].ranking.table)
    known["explorer"].close()
    explorer.close()


def test_another_sae_gives_the_panes_of_its_own(explorer: Explorer, bench: Workbench):
    explorer.feature = 3
    explorer.pane["prompt"].sae = "b"
    assert explorer.feature is None and explorer.pane["ranking"].ranking is None
    assert all(pane._bench.sae is bench.saes["b"] for name, pane in explorer.pane.items() if name not in ("prompt", "ranking"))
    assert explorer.pane["prompt"].run().wait(60).stage == "done"
    assert explorer.pane["ranking"].ranking.hook_name == "blocks.2.hook_resid_pre"


def test_the_map_comes_when_it_is_looked_at_and_a_point_of_another_dictionary_is_a_preview_until_it_is_followed(
    explorer: Explorer, monkeypatch
):
    rows = [(sae, i, 0.1 * i, 0.2 * i, 0, 0.1, "") for sae in ("a", "b") for i in range(9)]
    table = pd.DataFrame(rows, columns=["sae", "feature", "x", "y", "cluster", "density", "label"])
    monkeypatch.setattr(Workbench, "map", lambda self: SimpleNamespace(table=table))
    assert "map" not in explorer.pane
    explorer.tab = "map"
    explorer._drawing.wait(60)
    explorer.pane["map"].feature = 4
    assert explorer.feature == 4 and explorer.bench.sae_name == "a"
    ranking = explorer.pane["ranking"].ranking
    explorer.pane["map"].set_state({"feature": 5, "sae_name": "b"})
    assert (explorer.feature, explorer.bench.sae_name) == (4, "a") and explorer.pane["ranking"].ranking is ranking
    assert (explorer.preview["sae"], explorer.preview["feature"]) == ("b", 5)
    explorer.follow()
    assert explorer.bench.sae_name == explorer.pane["prompt"].sae == "b" and not explorer.preview
    assert {name: pane.feature for name, pane in explorer.pane.items()} == dict.fromkeys(explorer.pane, 5)


def test_a_text_of_ones_own_is_read_by_the_selected_feature(bench: Workbench):
    card = CardPane(bench, feature=3, text="the cat")
    while "tokens" not in card.tried:
        pass
    acts = bench.rank("the cat", logit_diff(" mat"), progress=False).table
    expected = dict(acts[acts["feature"] == 3][["pos", "activation"]].itertuples(index=False))
    assert card.tried["tokens"] == ["the", " cat"]
    assert card.tried["values"] == pytest.approx([expected.get(1, 0.0), expected.get(2, 0.0)], abs=1e-4)


def test_a_label_is_the_persons_own_and_shown_everywhere_at_once(explorer: Explorer, own_labels: Path):
    before = contents(explorer.bench.index.folder)
    feature = explorer.first_feature()
    explorer.pane["finder"].positive = ["the cat"]
    explorer.pane["finder"].run().wait(60)
    explorer.pane["steering"].strengths = {feature: 1.0}
    explorer.pane["card"].label("</script> mine")
    assert explorer.pane["card"].title == "</script> mine" and "&lt;/script&gt; mine" in explorer.pane["card"].html
    assert explorer.pane["ranking"].view["rows"][0]["label"] == "</script> mine" == explorer.pane["ranking"].detail["label"]
    assert explorer.pane["steering"].about[str(feature)]["label"] == "</script> mine"
    assert set(explorer.pane["finder"].found.table.set_index("feature")["label"].get([feature], [])) <= {"</script> mine"}
    assert contents(explorer.bench.index.folder) == before and own_labels.is_file()
    explorer.pane["card"].unlabel()
    assert explorer.pane["card"].title == "" and explorer.pane["ranking"].view["rows"][0]["label"] != "</script> mine"


def test_nothing_is_lost_by_looking_through_another_sae(explorer: Explorer):
    ranking, feature = explorer.pane["ranking"].ranking, explorer.feature
    explorer.pane["finder"].positive, explorer.pane["steering"].strengths = ["the cat"], {3: 1.5}
    panes = dict(explorer.pane)
    explorer.pane["prompt"].sae = "b"
    assert explorer.pane["finder"].positive == [] and explorer.pane["steering"].strengths == {}
    explorer.pane["prompt"].sae = "a"
    assert explorer.pane == panes and explorer.pane["finder"].positive == ["the cat"]
    assert explorer.pane["ranking"].ranking is ranking and explorer.feature == feature


def test_back_and_forward_return_to_questions_and_features_without_measuring_again(explorer: Explorer):
    first, asking = explorer.feature, explorer.pane["prompt"]
    rankings = [explorer.pane["ranking"].ranking]
    explorer.feature = 7
    asking.prompt = "the dog ran to the"
    asking.run().wait(60)
    rankings.append(explorer.pane["ranking"].ranking)
    asking.prompt = "half a thou"  # typed, and not asked
    explorer.back()
    assert asking.prompt == "the dog ran to the" and explorer.pane["ranking"].ranking is rankings[1]
    for _ in range(20):
        explorer.back()
    assert (asking.prompt, explorer.feature) == (PROMPT, first) and explorer.pane["ranking"].ranking is rankings[0]
    assert explorer.can_go == [False, True] and not explorer.pane["ranking"].stale
    for _ in range(20):
        explorer.forward()
    assert asking.prompt == "half a thou" and explorer.can_go == [True, False]
    assert [each["prompt"] for each in asking.asked] == ["half a thou", "the dog ran to the", PROMPT]
    asking._hear(None, {"do": "recall", "at": 2}, [])
    assert asking.prompt == PROMPT and explorer.pane["ranking"].ranking is rankings[0]


def test_rows_of_another_question_say_so_and_a_new_question_selects_its_first_feature(explorer: Explorer, bench: Workbench):
    asking, rows = explorer.pane["prompt"], explorer.pane["ranking"]
    asking.prompt = "the dog ran to the"
    assert rows.stale == f"“{PROMPT}”  mat rather than  dog"
    explorer.feature = next(
        i for i in range(64) if i not in set(bench.rank(asking.prompt, logit_diff(" mat", " dog"), progress=False).table["feature"])
    )
    asking.run().wait(60)
    assert not rows.stale and explorer.feature == explorer.first_feature() == rows.detail["feature"]


def test_an_answer_that_the_model_would_not_give_is_flagged(bench: Workbench):
    pane = PromptPane(bench, prompt=PROMPT)
    pane._asking.wait(60)
    assert pane.standing == {}
    first, last = pane.next_tokens[0]["token"], pane.next_tokens[-1]["token"]
    pane.answer = last
    assert (pane.standing["token"], pane.standing["rank"]) == (last, 8) and pane.standing["first"]["token"] == first
    assert pane.run().wait(60).stage == "done"
    assert pane.ranking.standing.rank == 8 and repr(first) in pane.ranking.caveat and "#8" in pane.ranking.caveat
    pane.answer = first
    assert pane.standing["rank"] == 1 and bench.rank(PROMPT, logit_diff(first), progress=False).caveat == ""


def test_a_state_with_a_map_restores_where_no_map_is_drawn_yet(explorer: Explorer, bench: Workbench, monkeypatch):
    table = pd.DataFrame(
        [("a", i, 0.1 * i, 0.2 * i, 0, 0.1, "") for i in range(9)], columns="sae feature x y cluster density label".split()
    )
    monkeypatch.setattr(Workbench, "map", lambda self: SimpleNamespace(table=table))
    explorer.tab = "map"
    explorer._drawing.wait(60)
    explorer.pane["map"].query = "cats"
    other = Explorer(bench)
    other.restore(explorer.state())
    other._drawing.wait(60)
    assert other.pane["map"].query == "cats"


def test_a_saved_file_holds_the_pages_of_the_ranked_features(explorer: Explorer):
    pages = explorer.pane["card"].offline()["pages"]
    assert list(pages)[:5] == explorer.pane["ranking"].ranking.table["feature"].drop_duplicates().tolist()[:5]


def test_beside_the_live_view_stand_a_static_page_and_a_stable_text(explorer: Explorer):
    explorer.feature = 3
    bundle, _ = explorer._repr_mimebundle_()
    assert bundle["text/plain"] == "Explorer: 'the cat sat on the', feature 3"
    assert "Why “mat” rather than “dog”?" in bundle["text/html"] and "<script" not in bundle["text/html"]


def test_a_circuit_is_built_of_the_question_and_follows_and_sets_the_selection(model_of, own_labels: Path):
    bench = made_circuit_bench(model_of("gpt2"))
    explorer = explore(bench, PROMPT, " mat", " dog")
    pane = explorer.pane["circuit"]
    assert pane.circuit is None and pane.question == {"prompt": PROMPT, "answer": " mat", "baseline": " dog"} and not pane.waiting
    explorer.pane["prompt"]._job.wait(60)
    assert pane.run().wait(120).stage == "done", pane.progress
    assert pane.circuit.answer == " mat" and pane.progress["done"] == pane.progress["total"] > 100
    nodes = pane.circuit.nodes
    home = nodes[(nodes["hook_name"] == bench.sae.cfg.hook_name) & (nodes["kind"] == "feature")]
    away = nodes[(nodes["hook_name"] != bench.sae.cfg.hook_name) & (nodes["kind"] == "feature")]
    explorer.feature = int(home["feature"].iloc[7])
    assert home.set_index("node").loc[pane.node, "feature"] == explorer.feature
    pane.set_state({"node": home["node"].iloc[3]})
    assert explorer.feature == explorer.pane["card"].feature == home["feature"].iloc[3]
    pane.set_state({"node": away["node"].iloc[0]})  # a feature of another place is no feature of these panes
    assert explorer.feature == home["feature"].iloc[3] and pane.node == away["node"].iloc[0]
    assert "circuit = bench.circuit('the cat sat on the', wb.logit_diff(' mat', ' dog'))" in explorer.code
    json.loads(explorer.facts)
    explorer.close()


def test_a_bench_of_one_place_says_that_a_circuit_needs_more(explorer: Explorer):
    pane = explorer.pane["circuit"]
    assert "two hook points" in pane.waiting
    assert pane.run().wait(60).stage == "failed" and "two hook points" in pane.progress["message"]
