"""The map without a browser: its traits are the state, its bytes what is drawn."""

import base64
import json
import re
import struct
import zlib

import numpy as np
import pandas as pd
import pytest
from made_map import NAMES, made_map

from widgets import FeatureMap
from widgets.html.map import points_image

HOSTILE = "</script><img src=x onerror=window.hacked=1>\n\u202e"


def xy(pane: FeatureMap) -> np.ndarray:
    return np.frombuffer(pane.points, np.float32).reshape(2, -1).T


def test_the_bytes_say_where_each_feature_is_and_what_it_is():
    table = made_map()
    pane = FeatureMap(table)
    features, saes, labels = np.frombuffer(pane.numbers, np.int32).reshape(3, -1)
    texts = pane.texts.decode().split("\n")
    assert features.tolist() == table["feature"].tolist()
    assert [pane.sae_names[sae] for sae in saes] == table["sae"].tolist()
    assert [texts[label] for label in labels] == table["label"].tolist()
    assert np.frombuffer(pane.densities, np.float32) == pytest.approx(table["density"])


def test_the_map_is_moved_and_scaled_by_one_factor():
    table = made_map()
    found, given = xy(FeatureMap(table)), table[["x", "y"]].to_numpy()
    ratio = np.linalg.norm(found[1:] - found[0], axis=1) / np.linalg.norm(given[1:] - given[0], axis=1)
    assert ratio == pytest.approx(ratio[0], rel=1e-4)
    assert np.abs(found).max() == pytest.approx(1)


def test_a_density_that_is_not_known_is_no_number_in_a_still_page():
    table = made_map().assign(density=np.nan)
    assert "nan" not in FeatureMap(table, feature=int(table["feature"][0]), sae_name=table["sae"][0]).static_html()


def test_clusters_are_named_by_the_label_that_most_of_their_features_share():
    places = FeatureMap(made_map()).places
    assert {name for _, _, name in places} == set(NAMES)
    x, y, _ = next(place for place in places if place[2] == "California")
    assert x < -0.7 and y < -0.7
    assert FeatureMap(made_map().assign(label="")).places == []
    assert FeatureMap(made_map().assign(cluster=-1)).places == []


def test_a_searchs_scores_color_the_features_of_the_selected_dictionary():
    table = made_map()
    pane = FeatureMap(table, sae_name="4k")
    pane.show_scores({4: 2.5, 12: 1.0, 0: 9.0})  # feature 0 is of 1k
    scores = pd.Series(np.frombuffer(pane.scores, np.float32))
    assert pane.color_by == "score" and scores[scores.notna()].to_dict() == {4: 2.5, 12: 1.0}
    pane.show_scores(pd.DataFrame({"sae": ["1k"], "feature": [0], "score": [9.0]}))
    assert np.nansum(np.frombuffer(pane.scores, np.float32)) == 9
    with pytest.raises(ValueError, match="need a column 'score'; there are feature, effect"):
        pane.show_scores(pd.DataFrame({"feature": [1], "effect": [1.0]}))


def test_what_was_lassoed_is_a_part_of_the_table():
    pane = FeatureMap(made_map(), lassoed=[3, 7])
    assert pane.lassoed_features["feature"].tolist() == [3, 7]


def test_a_state_that_was_kept_comes_back_as_it_was_and_as_code():
    pane = FeatureMap(made_map(), feature=7, sae_name="4k", query="lakers", view=[0.5, 0.5, 3.0], lassoed=[1, 2])
    other = FeatureMap(made_map())
    other.restore(json.loads(json.dumps(pane.state())))
    assert other.state() == pane.state()
    assert pane.to_python() == "\n".join(
        [
            "FeatureMap(bench.map(),",
            "    feature=7,",
            "    sae_name='4k',",
            "    query='lakers',",
            "    view=[0.5, 0.5, 3.0],",
            "    lassoed=[1, 2],",
            ")",
        ]
    )
    with pytest.raises(ValueError, match="keeps no 'points'"):
        other.restore({"points": b""})


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (made_map().drop(columns="density"), "density is missing"),
        (made_map().assign(x=np.nan), "200 features have no place"),
    ],
)
def test_a_table_that_is_no_map_is_refused(table: pd.DataFrame, says: str):
    with pytest.raises(ValueError, match=says):
        FeatureMap(table)


def test_an_empty_map_is_a_map():
    assert repr(FeatureMap(made_map().iloc[:0])) == "FeatureMap: 0 features of no dictionary, nothing selected"
    assert "<img" in FeatureMap(made_map().iloc[:0]).static_html()


def test_one_feature_is_a_map():
    assert xy(FeatureMap(made_map().iloc[:1])).tolist() == [[0, 0]]


def test_hostile_labels_are_one_line_of_visible_text():
    pane = FeatureMap(made_map(4).assign(label=HOSTILE, sae=HOSTILE), feature=0)
    assert pane.texts.decode() == "</script><img src=x onerror=window.hacked=1>⏎\\u202e"
    assert "<img src=x" not in pane.static_html() and "&lt;img src=x" in pane.static_html()


def pixels(html: str) -> np.ndarray:
    """The picture's palette places, read by the PNG standard."""
    data, at, found = base64.b64decode(re.search(r"base64,([^\"]+)", html)[1]), 8, {}
    while at < len(data):
        (length,), kind = struct.unpack(">I", data[at : at + 4]), data[at + 4 : at + 8]
        found[kind], at = data[at + 8 : at + 8 + length], at + 12 + length
    width, height = struct.unpack(">II", found[b"IHDR"][:8])
    return np.frombuffer(zlib.decompress(found[b"IDAT"]), np.uint8).reshape(height, width + 1)[:, 1:]


def test_without_scripts_a_picture_shows_every_dictionary_and_rings_the_selection():
    pane = FeatureMap(made_map())
    image = pixels(pane.static_html())
    assert set(np.unique(image)) == {0, 1, 2}  # nothing, 1k, 4k
    pane.feature = 8
    ringed = pixels(pane.static_html())
    assert 7 in ringed and "California" in pane.static_html()
    rows, columns = np.nonzero(ringed == 7)
    assert rows.mean() > image.shape[0] / 2 and columns.mean() < image.shape[1] / 2  # y is up: low on the map is low on the picture


def test_pictures_do_not_change_from_run_to_run():
    pane = FeatureMap(made_map())
    saes = np.frombuffer(pane.numbers, np.int32).reshape(3, -1)[1]
    assert np.array_equal(points_image(xy(pane), saes), points_image(xy(pane), saes))
    assert pane._repr_mimebundle_()[0]["text/plain"] == "FeatureMap: 200 features of 1k, 4k, nothing selected"
