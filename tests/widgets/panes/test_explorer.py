"""The explorer without a browser: its traits are the state, Python computes, one selection for all panes."""

import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from made_index import contents

from widgets import CardPane, Explorer, explore
from widgets.panes.jobs import turn_of
from workbench.bench import Workbench
from workbench.circuits.metrics import logit_diff
from workbench.features.index.index import FeatureIndex

PROMPT = "the cat sat on the"


def test_what_is_streamed_ends_as_what_rank_gives(bench: Workbench, explorer: Explorer):
    expected = bench.rank(PROMPT, logit_diff(" mat", " dog"), progress=False)
    found = explorer.pane["ranking"].ranking
    assert found.table["feature"].tolist() == expected.table["feature"].tolist()
    assert found.table["effect"].to_numpy() == pytest.approx(expected.table["effect"].to_numpy(), abs=1e-5)


def test_a_metric_says_answer_and_baseline(bench: Workbench):
    asking = Explorer(bench, PROMPT, logit_diff(" mat", " dog")).pane["prompt"]
    assert (asking.answer, asking.baseline) == (" mat", " dog")
    assert Explorer(bench, PROMPT, logit_diff(" mat")).pane["prompt"].baseline == ""
    with pytest.raises(ValueError, match="leave baseline=' dog' out"):
        Explorer(bench, PROMPT, logit_diff(" mat"), " dog")


def test_two_explorers_on_one_model_both_get_their_ranking(bench: Workbench):
    both = [explore(bench, prompt, " mat") for prompt in (PROMPT, "the dog ran to the")]
    jobs = [each.pane["prompt"].run() for each in both]
    assert [job.wait(60).stage for job in jobs] == ["done", "done"]
    assert [each.pane["ranking"].ranking.prompt for each in both] == [PROMPT, "the dog ran to the"]


def test_a_pane_that_is_closed_has_no_name_for_the_page(bench: Workbench):
    view = explore(bench)
    compare = view.pane["compare"]
    to_json, asking = compare.trait_metadata("asking", "to_json"), compare.asking
    assert to_json(asking, view).endswith(asking.model_id)
    view.close()
    assert to_json(asking, view) is None, "what is told meanwhile does not fail"


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
    ranked = explorer.pane["ranking"].ranking.table["feature"].drop_duplicates().head(20)
    assert explorer.pane["map"].ranked == [feature for feature in ranked if feature < 9] != []  # rows of the map, of this dictionary
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


def test_one_box_opens_a_feature_by_number_by_label_or_what_is_active_on_a_text(explorer):
    explorer.sought = "three"
    assert [(each["feature"], each["text"]) for each in explorer.offers] == [(3, "three"), (None, "three")]
    explorer.tab = "map"
    explorer.look_up("three")
    assert (explorer.feature, explorer.tab) == (3, "card")
    explorer.look_up("feature 12")
    assert explorer.feature == 12
    explorer.look_up("the cat sat")
    finder = explorer.pane["finder"]
    assert finder._job.wait(60).stage == "done" and (finder.way, finder.at, explorer.tab) == ("token", None, "finder")
    assert finder.found.table["feature"].tolist() == explorer.bench.find_at("the cat sat").table["feature"].tolist()
    explorer.sought = "64"
    assert "this dictionary has 0 to 63" in explorer.offers[0]["wrong"]
    with pytest.raises(ValueError, match="this dictionary has 0 to 63"):
        explorer.look_up("64")
    with pytest.raises(ValueError, match="has no meaning number 0"):
        explorer.look_up("  ")


def test_a_token_that_is_clicked_shows_what_is_active_there(explorer):
    asking, finder = explorer.pane["prompt"], explorer.pane["finder"]
    for at in (2, 2, 3):
        asking._hear(asking, {"do": "look", "at": at}, [])
        assert finder._job.wait(60).stage == "done" and explorer.tab == "finder"
        assert finder.found.table["feature"].tolist() == explorer.bench.find_at(asking.prompt, at).table["feature"].tolist()
    asking._hear(asking, {"do": "look", "at": 99}, [])
    assert finder.at == 3
