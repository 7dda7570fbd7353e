"""Figures carry their rows, a still picture, and no markup from tokens or labels."""

import base64
import itertools
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from made_ranking import made_ranking, made_table

from widgets.figures.svg import RIGHT, TOP, WHOLE, Line, heat_svg, lines_svg, nice_ticks, scatter_svg


def still_pictures(html: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(base64.b64decode(data)) for data in re.findall(r"base64,([^\"]+)", html)]


def test_figures_show_where_scripts_do_not_run():
    for figure, n_pictures in ((made_ranking().plot_agreement(), 2), (made_ranking().plot_ranks(), 1)):
        bundle = figure._repr_mimebundle_()
        assert len(still_pictures(bundle["text/html"])) == n_pictures
        assert bundle["application/vnd.plotly.v1+json"]["data"]
        assert bundle["text/plain"] == repr(figure)


def test_the_agreement_figure_has_a_point_for_every_measured_pair():
    table = made_table()
    table.loc[table.index[:7], "effect"] = np.nan
    traces = made_ranking(table=table).plot_agreement().data
    assert [len(trace.x) for trace in traces] == [len(table) - 7] * 2


def test_the_ranks_figure_runs_through_the_three_ranks_of_each_row():
    ranking = made_ranking()
    first = ranking.top(1).iloc[0]
    line = ranking.plot_ranks().data[0]
    assert list(line.y) == [first["activation_rank"], first["attribution_rank"], 1]


def test_the_still_ranks_picture_names_its_lines_without_overlaps():
    ranking = made_ranking(table=made_table().assign(label="<b>" * 30))
    (picture,) = still_pictures(ranking.plot_ranks()._repr_mimebundle_()["text/html"])
    names = [(float(each.get("x")), float(each.get("y")), each.text) for each in picture.iter() if "·" in (each.text or "")]
    top = ranking.top(10)
    assert [text.split(" · ")[1] for *_, text in names] == [token.strip() for token in top["token"]]
    assert all(later - earlier >= 14 for (_, earlier, _), (_, later, _) in itertools.pairwise(names))
    width, height = int(picture.get("width")), int(picture.get("height"))
    assert all(x + 6.5 * len(text) < width and y < height for x, y, text in names)


@pytest.mark.parametrize(("scale", "said"), [(1.0, ["0.90", "0.25", "−1.00"]), (3.5, ["0.9", "−1.0"]), (200.0, [])])
def test_numbers_of_a_heat_map_have_as_many_decimals(scale: float, said: list[str]):
    (picture,) = still_pictures(heat_svg(np.array([[0.9, 0.25, -1.0]]), ["a"], ["b", "c", "d"], "", scale))
    assert [each.text for each in picture.iter() if each.get("fill") == "#111"] == said


def test_hover_texts_escape_tokens_and_labels():
    ranking = made_ranking(table=made_table().assign(label="<b>x", token="<i>"))
    assert all("<b>" not in text and "<i>" not in text for trace in ranking.plot_agreement().data for text in trace.text)


def test_a_point_lies_where_its_values_say():
    (picture,) = still_pictures(scatter_svg(np.array([1.0]), np.array([2.0]), "x", "y", "one point"))
    (mark,) = [path.get("d") for path in picture.iter("{http://www.w3.org/2000/svg}path") if path.get("d").endswith("h0")]
    assert mark == f"M{WHOLE[0] - RIGHT:.1f} {TOP:.1f}h0"  # the largest x and y: right and top end of the axes


@pytest.mark.parametrize(("values", "first", "last"), [([0.0, 9.7], 0, 10), ([-0.13, 0.2], -0.2, 0.2), ([], 0, 1), ([-3.0], -3, 0)])
def test_ticks_are_round_and_enclose_the_values_and_zero(values: list[float], first: float, last: float):
    ticks = nice_ticks(np.array(values))
    assert (ticks[0], ticks[-1]) == (pytest.approx(first), pytest.approx(last))
    assert 3 <= len(ticks) <= 7


def test_lines_end_where_the_axis_ends_and_every_number_beside_it_fits():
    (picture,) = still_pictures(lines_svg([Line(np.array([0.0, 500.0]), np.array([0.0, 0.0015]), "0,0,0")], "step", "share", "one line"))
    (line,) = [path.get("d") for path in picture.iter("{http://www.w3.org/2000/svg}path") if path.get("stroke-width") == "2"]
    assert line.endswith(f"L{WHOLE[0] - RIGHT:.1f} {TOP:.1f}")
    texts = {text.text: float(text.get("x")) for text in picture.iter("{http://www.w3.org/2000/svg}text")}
    assert "600" not in texts and texts["0.0015"] > 6 * len("0.0015")
