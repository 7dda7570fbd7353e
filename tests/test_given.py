"""A whole number is one whoever made it; what only looks like one is none. A table is no list of prompts."""

import numpy as np
import pandas as pd
import pytest
import torch

from workbench.given import counted, no_table, on_prompt, whole


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), np.array(3), torch.tensor(3), pd.Series([3])[0]])
def test_whole_numbers_of_any_kind_are_ints(value):
    assert whole(value) == 3 and type(whole(value)) is int
    assert counted(value, "top", "feature") == 3


@pytest.mark.parametrize(
    "value", [True, np.bool_(True), torch.tensor(True), 3.0, np.float32(3), torch.tensor(3.0), "3", None, [3], float("nan")]
)
def test_what_only_looks_like_one_is_none(value):
    assert whole(value) is None
    with pytest.raises(ValueError, match="is no number of features: expected a whole number, at least 1"):
        counted(value, "top", "feature")


@pytest.mark.parametrize("value", [0, -1, np.int64(-2)])
def test_fewer_than_one_asks_for_nothing(value):
    with pytest.raises(ValueError, match="top=.* asks for no feature"):
        counted(value, "top", "feature")


def test_a_position_is_on_the_prompt_or_refused():
    assert on_prompt(np.int64(2), 3) == 2
    for pos in (3, -1, True, 1.0):
        with pytest.raises(ValueError, match="is not on this prompt: expected 0 .the start token. to 2"):
            on_prompt(pos, 3)


@pytest.mark.parametrize("table", [pd.DataFrame({"prompt": ["the cat"]}), {"prompt": "the cat"}])
def test_a_table_is_no_list_of_its_columns_names(table):
    with pytest.raises(ValueError, match="the prompts are a .* of 'prompt': expected a list of them"):
        no_table(table, "prompts")
    assert no_table(pd.Series(["the cat"]), "prompts").tolist() == ["the cat"]
