"""Figures of a survey: near means alike, labels never lie on each other, numbers are those of the rows, labels are text."""

import base64
import re

import numpy as np
import pandas as pd
import pytest
from made_page import HOSTILE

from widgets.figures.survey import plot_grid, plot_neighborhood, plot_shares
from workbench.features.survey.distributions import reaching


def svg(still: str) -> str:
    return "".join(base64.b64decode(data).decode() for data in re.findall(r"base64,([A-Za-z0-9+/=]+)", still))


def neighbors(n: int = 6, label: str = "team:Lakers") -> pd.DataFrame:
    cosines = np.linspace(0.95, 0.45, n)
    return pd.DataFrame(
        [(sae, i, cosine, label) for sae in ("1k", "2k", "4k") for i, cosine in enumerate(cosines)],
        columns=["sae", "feature", "cosine", "label"],
    )


@pytest.mark.parametrize("n", [1, 2, 6, 15])
def test_neighbors_stand_the_nearer_the_more_alike_and_no_label_lies_on_another(n: int):
    figure = plot_neighborhood(neighbors(n), "feature 3 of 1k")
    dots = [trace for trace in figure.data if trace.name != "the feature"]
    for trace in dots:
        away = np.hypot(np.array(trace.x), np.array(trace.y))
        assert (np.diff(away) > 0).all() and len(away) == n
    drawn = svg(figure._still)
    labels = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" text-anchor="(start|end)" fill="#888">(\d\.\d\d [^<]+)</text>', drawn)
    assert len(labels) == 3 * n
    for side in ("start", "end"):
        rows = sorted(float(y) for _, y, anchor, _ in labels if anchor == side)
        assert all(b - a >= 14 for a, b in zip(rows, rows[1:], strict=False)), "a row of its own for every label"
    assert all(7 * len(text) < (660 - float(x) if anchor == "start" else float(x)) for x, _, anchor, text in labels), (
        "inside of the picture"
    )


def test_labels_are_cut_and_a_feature_without_one_is_named_by_its_number():
    figure = plot_neighborhood(neighbors(2, label=""), "feature 3")
    assert "0.95 2k 0" in svg(figure._still)
    assert "x" * 40 not in svg(plot_neighborhood(neighbors(2, label="x" * 90), "feature 3")._still)
    assert plot_neighborhood(neighbors(0), "alone")._still.count("<img") == 1


def test_a_grid_says_its_values():
    table = pd.DataFrame({"1k": [0.1, 0.62], "2k": [0.9, np.nan]}, index=["team:Lakers", "state:California"])
    figure = plot_grid(table, "Best F1")
    np.testing.assert_array_equal(np.array(figure.data[0].z, dtype=float), table.to_numpy())
    assert [text in svg(figure._still) for text in ("0.62", "0.9", "California", "nan")] == [True, True, True, False]


def test_shares_fall_from_one_and_their_interval_holds_them():
    values = np.array([0.1, 0.5, 0.5, 0.9])
    rows = reaching(values).set_index("x")
    assert rows["share"].loc[[0.0, 0.5, 1.0]].tolist() == [1.0, 0.75, 0.0]
    assert ((rows["low"] <= rows["share"]) & (rows["share"] <= rows["high"])).all()
    narrow = reaching(np.tile(values, 50))
    assert (narrow["high"] - narrow["low"]).max() < (rows["high"] - rows["low"]).max() / 3
    figure = plot_shares({"F1": {"features": rows.reset_index(), "neurons": narrow}}, "How interpretable")
    curves = [trace for trace in figure.data if trace.mode == "lines" and trace.name]
    assert [trace.name for trace in curves] == ["features", "neurons"] and list(curves[0].y) == rows["share"].tolist()
    with pytest.raises(ValueError, match="expected two or more, from 0 to 1"):
        reaching(np.array([0.2, 1.2]))


def test_hostile_labels_are_text_in_both_forms():
    hostile = "".join(HOSTILE)
    rows = neighbors(2).assign(label=hostile, sae=hostile)
    shares = reaching(np.array([0.1, 0.2]))
    grid = plot_grid(pd.DataFrame({hostile: [0.5]}, index=[hostile]), "grid")
    for figure in (plot_neighborhood(rows, hostile), grid, plot_shares({hostile: {hostile: shares}}, "shares")):
        for text in (figure._still, svg(figure._still), figure.to_json()):
            assert "<script" not in text and "<img src=x" not in text and "\u202e" not in text
