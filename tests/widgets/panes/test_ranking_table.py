"""The live table without a browser: its traits are the state, its `view` and `detail` what is drawn."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from made_ranking import made_ranking, made_table
from traitlets import TraitError

from widgets import RankingTable
from widgets.html.ranking_data import example_window


def strongest_texts(feature: int) -> list[SimpleNamespace]:
    return [SimpleNamespace(str_tokens=[" a"] * 40 + [f"\n{feature}</script>"], activations=[0.0] * 40 + [float(n)]) for n in (9, 8)]


def features(table: RankingTable) -> list[int]:
    return [row["feature"] for row in table.view["rows"]]


def test_the_first_page_holds_the_largest_effects():
    ranking = made_ranking()
    table = RankingTable(ranking)
    assert features(table) == ranking.top(12)["feature"].tolist()
    assert [row["ranks"]["activation"] for row in table.view["rows"]] == ranking.top(12)["activation_rank"].tolist()


def test_sorting_by_a_column_reorders_all_rows_not_the_page():
    ranking = made_ranking()
    table = RankingTable(ranking)
    table.sort_by = "activation"
    assert features(table) == ranking.top(12, by="activation")["feature"].tolist()
    table.is_descending = False
    assert table.view["rows"][0]["activation"] == pytest.approx(ranking.table["activation"].min(), abs=1e-5)


def test_a_query_filters_and_an_unreadable_one_keeps_the_rows_and_says_why():
    table = RankingTable(made_ranking(), query="capital effect>1")
    assert features(table) == [41] and table.view["n_matching"] == 1
    table.query = "efect>1"
    assert features(table) == [41] and "did you mean 'effect'" in table.view["message"]
    table.query = ""
    assert table.view["message"] == "" and table.view["n_matching"] == len(made_ranking().table)


def test_summed_shows_one_row_per_feature():
    ranking = made_ranking()
    table = RankingTable(ranking, is_summed=True)
    assert features(table) == ranking.by_feature()["feature"].head(12).tolist()
    assert table.view["unit"] == "features" and "n_pos" in table.view["rows"][0]
    table.sort_by = "pos"  # a column that sums do not have
    assert features(table) == ranking.by_feature()["feature"].head(12).tolist()


def test_turning_pages_walks_through_every_row_once():
    ranking = made_ranking()
    table = RankingTable(ranking, page_size=50)
    seen = []
    for table.page in range(4):
        seen += [(row["feature"], row["pos"]) for row in table.view["rows"]]
    assert sorted(seen) == sorted(zip(ranking.table["feature"], ranking.table["pos"], strict=True))
    table.page = 99
    assert table.view["first"] == 150


def test_a_chosen_feature_shows_its_effects_at_their_positions_and_its_strongest_texts():
    ranking = made_ranking()
    table = RankingTable(ranking, examples=strongest_texts, feature=41)
    own = ranking.table[ranking.table["feature"] == 41]
    shown = dict(zip(table.detail["tokens"], table.detail["values"], strict=True))  # each word stands once in this prompt
    assert {token: value for token, value in shown.items() if value is not None} == pytest.approx(
        dict(zip(own["token"], own["effect"], strict=True)), abs=1e-5
    )
    first = table.detail["examples"][0]
    assert first["max"] == 9 and first["tokens"][0] == "…" and first["tokens"][-1] == "⏎41</script>"
    assert len(first["tokens"]) == len(first["activations"]) == 14


def test_examples_leave_out_the_start_token_and_say_where_they_are_cut():
    short = example_window(["<s>", " a", " b"], [0.0, 1.0, 0.0], start="<s>")
    assert (short["tokens"], short["activations"]) == ([" a", " b"], [1.0, None])
    assert example_window(["<s>", " a"], [0.0, 1.0])["tokens"] == ["<s>", " a"]
    long = example_window(["<s>", *(f" {i}" for i in range(60))], [0.0] * 30 + [2.0] + [0.0] * 30, start="<s>")
    assert long["tokens"][0] == long["tokens"][-1] == "…" and len(long["tokens"]) == 27
    assert long["activations"].index(2.0) == long["tokens"].index(" 29")


def test_a_feature_chosen_elsewhere_that_is_not_active_here_is_said_so():
    table = RankingTable(made_ranking())
    table.feature = 10**6
    assert table.detail["message"] == "Not active on this prompt." and not table.detail["measures"]
    assert table.chosen is None and len(table.view["rows"]) == 12


def test_a_selection_that_a_filter_hides_or_another_page_holds_is_told_apart():
    table = RankingTable(made_ranking(), feature=41)
    assert table.chosen == 1
    table.query = "Lakers"
    assert table.chosen is None and table.detail["measures"]
    table.query, table.sort_by = "", "activation"
    place = table.chosen
    table.page = place // table.page_size
    assert 41 in features(table)


def test_another_ranking_takes_the_place_of_the_first():
    table = RankingTable(query="effect>0")
    assert table.view == {} and "No prompt" in table.static_html()
    table.ranking = made_ranking(table=made_table(40, seed=3))
    assert table.view["n_rows"] == len(table.ranking.table) and features(table)
    table.ranking = None
    assert table.view == {} and table.detail == {}


def test_pictures_hold_the_largest_effects_and_what_agreement_says():
    ranking = made_ranking()
    table = RankingTable(ranking, shows="ranks")
    assert [point["feature"] for point in table.picture["points"]] == ranking.top(10)["feature"].tolist()
    assert table.picture["points"][0]["ranks"]["activation"] == ranking.top(1)["activation_rank"].iat[0]
    table.shows = "agreement"
    assert table.picture["agreement"]["attribution"]["overlap"] == ranking.agreement().attribution_overlap
    table.shows = "table"
    assert table.picture == {}


def test_what_was_chosen_is_kept_and_taken_over_by_another_table():
    table = RankingTable(made_ranking(), query="effect>0", sort_by="activation", page=1, feature=41)
    other = RankingTable(made_ranking())
    other.restore(json.loads(json.dumps(table.state())))
    assert other.view == table.view and other.detail == table.detail


def test_without_examples_it_says_nothing_of_them_and_with_an_empty_list_it_says_so():
    assert RankingTable(made_ranking(), feature=41).detail["message"] == ""
    assert "No example" in RankingTable(made_ranking(), examples=lambda feature: [], feature=41).detail["message"]


def test_all_that_is_sent_is_json_without_nan():
    table = made_table()
    table.loc[3:, "effect"] = np.nan
    live = RankingTable(made_ranking(table=table), examples=strongest_texts, sort_by="activation", feature=int(table["feature"].iloc[9]))
    json.dumps([live.view, live.detail], allow_nan=False)
    assert live.view["rows"][0]["effect"] is None and live.view["rows"][0]["ranks"]["effect"] is None
    assert live.detail["name"] == "attribution"  # what there is, where no effect of the feature was measured


def test_beside_the_live_view_stand_a_static_table_and_a_stable_text():
    live = RankingTable(made_ranking(), examples=strongest_texts, feature=41)
    bundle, _ = live._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert "Lakers players" in bundle["text/html"] and "&lt;/script&gt;" in bundle["text/html"]
    assert bundle["text/plain"] == f"RankingTable: {len(made_ranking().table)} rows by effect, feature 41 chosen"


def test_the_widgets_own_traits_cannot_be_overwritten_from_the_page():
    with pytest.raises(TraitError):
        RankingTable(made_ranking()).view = {}
