"""Figures of what features are: their numbers are those of the rows, their still pictures are inert, labels are text."""

import base64
import re

import numpy as np
import pandas as pd
from made_page import HOSTILE

from widgets.figures.features import plot_completeness, plot_correlations, plot_specificity

LEVELS = pd.DataFrame(
    {
        "low": [1.0, 0.0],
        "high": [2.0, 1.0],
        "n_active": [3, 40],
        "irrelevant": [0, 0.5],
        "vague": [0, 0.25],
        "near": [0, 0.25],
        "clean": [1, 0],
    }
)


def svg(still: str) -> str:
    return "".join(base64.b64decode(data).decode() for data in re.findall(r"base64,([A-Za-z0-9+/=]+)", still))


def test_bars_stack_to_one_from_weak_to_strong():
    figure = plot_specificity(LEVELS, "feature 3: cats")
    shares = np.array([trace.y for trace in figure.data[:4]], dtype=float)
    assert shares.sum(0).tolist() == [1, 1] and shares[0].tolist() == [0, 1]
    assert list(figure.data[4].y) == [40, 3]
    heights = [float(h) for h in re.findall(r'height="([\d.]+)" fill="rgb\(44,123,182\)" fill-opacity="0.9"', svg(figure._still))]
    assert len(heights) == 1 and heights[0] > 100  # one clean level, as high as the picture


def test_curves_pass_the_half_at_their_half_point_and_shift_by_the_alive_features():
    points = pd.DataFrame({"dictionary": ["1k", "1k"], "frequency": [1e-4, 1e-2], "share": [0.1, 0.9], "n": [5, 5]})
    figure = plot_completeness(points, {"1k": (9.0, 3.0, 1000)})
    left, right = (figure.data[i] for i in (0, 2))
    assert abs(np.interp(0.5, left.y, left.x) + 3) < 0.02
    np.testing.assert_allclose(np.array(right.x) - np.array(left.x), 3)


def test_the_share_of_features_rises_to_one():
    figure = plot_correlations({"2k": np.array([0.5, 0.1, 0.9])}, 0.3)
    assert list(figure.data[0].x) == [0.1, 0.5, 0.9] and list(figure.data[0].y) == [1 / 3, 2 / 3, 1]


def test_hostile_labels_are_text_in_both_forms():
    hostile = "".join(HOSTILE)
    figures = [plot_specificity(LEVELS, hostile), plot_correlations({hostile: np.array([0.1, 0.2])}, 0.3)]
    points = pd.DataFrame({"dictionary": [hostile], "frequency": [1e-3], "share": [0.5], "n": [5]})
    for figure in [*figures, plot_completeness(points, {hostile: (1.0, 1.0, 9)})]:
        for text in (figure._still, svg(figure._still), figure.to_json()):
            assert "<script" not in text and "<img src=x" not in text and "\u202e" not in text
