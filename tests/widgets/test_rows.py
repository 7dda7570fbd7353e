"""Sorting, filtering and paging by hand; a million rows in interactive time."""

import numpy as np
import pandas as pd
import pytest

from widgets.rows import QueryError, Rows

NAN = float("nan")


def made_rows() -> Rows:
    table = pd.DataFrame({"feature": [5, 6, 7, 5], "token": [" Kobe", " x=1", "<bos>", " kobe"], "pos": [1, 2, 3, 4]})
    return Rows(table.assign(effect=[0.5, NAN, -2.0, 0.5], label=["Lakers", "", None, "Lakers"]))


def found(query: str) -> list[int]:
    return np.flatnonzero(made_rows().matching(query)).tolist()


def test_order_keeps_the_tables_order_among_equals_and_puts_missing_values_last():
    rows = made_rows()
    assert rows.order("effect", is_descending=True).tolist() == [0, 3, 2, 1]
    assert rows.order("effect", is_descending=False).tolist() == [2, 0, 3, 1]


def test_text_sorts_alphabetically_in_any_case_with_empty_ones_last():
    rows = made_rows()
    assert rows.order("token", is_descending=False).tolist() == [2, 0, 3, 1]
    assert rows.order("label", is_descending=True).tolist() == [0, 3, 1, 2]


def test_rank_counts_from_the_largest_and_missing_values_have_none():
    assert [made_rows().rank("effect", i) for i in range(4)] == [1, None, 3, 2]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [0, 1, 2, 3]),
        ("KOBE", [0, 3]),
        ("lakers pos>2", [3]),
        ("effect<=0.5", [0, 2, 3]),
        ("effect=0.5 pos=1", [0]),
        ("effect>-1e1 effect<0", [2]),
        ("7", [2]),
        ('"x=1"', [1]),
        ("<bos>", [2]),
        ("nothing", []),
    ],
)
def test_a_query_keeps_rows_that_meet_all_of_it(query: str, expected: list[int]):
    assert found(query) == expected


@pytest.mark.parametrize(
    ("query", "says"),
    [("efect>1", "did you mean 'effect'"), ("token>1", "no numbers"), ("pos=two", "wants a number"), ("pos>", "wants a number")],
)
def test_a_query_that_cannot_be_read_says_which_part(query: str, says: str):
    with pytest.raises(QueryError, match=says):
        found(query)


def test_pages_cut_the_order_and_past_the_end_comes_the_last():
    rows = made_rows()
    order, matches = rows.order("pos", is_descending=False), rows.matching("pos>1")
    assert rows.page(order, matches, 0, 2)[0].tolist() == [1, 2]
    assert rows.page(order, matches, 9, 2)[0].tolist() == [3]
    assert rows.page(order, matches, 0, 2)[1] == 3
    assert rows.page(order, rows.matching("nothing"), 3, 2)[0].tolist() == []


def test_of_many_rows_a_page_is_what_pandas_finds():
    rng, n = np.random.default_rng(0), 200_000
    tokens = np.array([f" token{i}" for i in range(512)])
    table = pd.DataFrame({"feature": rng.integers(0, 2**18, n), "pos": rng.integers(0, 512, n), "effect": rng.normal(size=n)})
    table = table.assign(token=tokens[table["pos"]])
    rows = Rows(table)
    page, n_found = rows.page(rows.order("effect", is_descending=True), rows.matching("token7 effect>0"), 3, 12)
    found = table[table["token"].str.contains("token7") & (table["effect"] > 0)].sort_values("effect", ascending=False)
    assert page.tolist() == found.index[36:48].tolist() and n_found == len(found)
