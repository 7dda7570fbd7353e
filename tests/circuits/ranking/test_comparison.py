"""Two prompts side by side: sums and differences by hand, what is said of unlike prompts, what cannot be compared."""

import numpy as np
import pandas as pd
import pytest
from made_ranking import made_ranking

from workbench.circuits.ranking.comparison import compare, differences

COLUMNS = ["feature", "pos", "token", "activation", "attribution", "effect", "label"]


def rows(*rows: tuple) -> pd.DataFrame:
    return pd.DataFrame([(f, pos, "t", *values, f"label {f}") for f, pos, *values in rows], columns=COLUMNS)


def test_sums_and_differences_are_those_of_hand_arithmetic():
    first = rows((3, 1, 1.0, 0.5, 0.25), (3, 2, 2.0, 0.5, 0.5), (7, 1, 4.0, -1.0, -2.0))
    second = rows((3, 4, 8.0, 0.25, 0.125), (9, 1, 1.0, 1.0, 3.0))
    found = differences(first, second).set_index("feature")
    assert found.index.tolist() == [3, 7, 9]  # 0.75 − 0.125, −2, −3
    assert found["effect_difference"].tolist() == [0.625, -2.0, -3.0]
    three = found.loc[3]
    assert (three["activation_first"], three["activation_second"], three["activation_difference"]) == (3.0, 8.0, -5.0)
    assert (three["attribution_difference"], three["n_pos_first"], three["n_pos_second"]) == (0.75, 2, 1)
    assert (found.loc[9, "effect_first"], found.loc[7, "activation_second"]) == (0.0, 0.0)  # not active there: it adds nothing
    assert found["label"].tolist() == ["label 3", "label 7", "label 9"]


def test_what_was_not_measured_has_no_difference():
    first = rows((3, 1, 1.0, 0.5, np.nan), (3, 2, 2.0, 0.5, 0.5), (7, 1, 1.0, 1.0, 1.0))
    found = differences(first, rows((3, 1, 1.0, 1.0, 1.0))).set_index("feature")
    assert np.isnan(found.loc[3, "effect_difference"]) and found.loc[3, "attribution_difference"] == 0
    assert found.index[0] == 7
    assert "1 effects were not measured" in " ".join(compare(made_ranking(table=first), made_ranking(table=first)).notes)


def test_swapping_the_prompts_turns_every_sign():
    first, second = made_ranking(), made_ranking(table=made_ranking().table.iloc[5:60])
    there, back = (compare(*both).table.set_index("feature").sort_index() for both in ((first, second), (second, first)))
    assert there["effect_difference"].to_numpy() == pytest.approx(-back["effect_difference"].to_numpy())


def test_other_metrics_and_other_lengths_are_said():
    same = compare(made_ranking(), made_ranking())
    assert same.notes == () and not same.table["effect_difference"].any()
    unlike = made_ranking(answer=" Boston", baseline="", str_tokens=["<|endoftext|>", "The"])
    said = " ".join(compare(made_ranking(), unlike).notes)
    assert "a metric of its own" in said and "14 and 2 tokens" in said
    assert "logit(' Boston') − the mean logit" in repr(compare(made_ranking(), unlike))


def test_labels_are_text_in_its_picture():
    table = rows((3, 1, 1.0, 0.5, 0.25)).assign(label="</td><img src=x>")
    assert "<img" not in compare(made_ranking(table=table), made_ranking(table=table))._repr_html_()


def test_what_is_of_another_dictionary_or_no_ranking_is_refused():
    with pytest.raises(ValueError, match="differ in sae_name: '4,096 features' and '1k'"):
        compare(made_ranking(), made_ranking(sae_name="1k"))
    with pytest.raises(ValueError, match="second='the cat' is no ranking"):
        compare(made_ranking(), "the cat")
