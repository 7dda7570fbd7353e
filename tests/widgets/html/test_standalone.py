"""Any widget as one file: what is in it, without a browser; tests/browser/test_explorer_page.py opens one."""

import base64
import gzip
import json
import re
from pathlib import Path

import pytest
import traitlets
from made_ranking import made_ranking, made_table

from widgets import RankingTable
from widgets.html.standalone import WIDGET, as_json, packed, page
from widgets.panes.pane import Pane

HOSTILE = "</script><script>window.hacked=1</script> @@STATE@@ \u202e"


def state(html: str) -> list[dict]:
    found = re.search(r'<script type="application/gzip" id="state">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    return json.loads(gzip.decompress(base64.b64decode(found[1])))


def test_no_text_can_end_the_script_that_holds_it_or_stand_for_a_piece_of_the_page():
    html = page(RankingTable(made_ranking(table=made_table().assign(label=HOSTILE), prompt=HOSTILE), query=HOSTILE), title=HOSTILE)
    assert html.count("<script") == html.count("</script>") == 2
    (table,) = state(html)
    assert table["state"]["query"] == HOSTILE and "\\u202e" in table["state"]["view"]["rows"][0]["label"]


def test_the_page_may_load_nothing():
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page(RankingTable(made_ranking())))
    assert policy is not None and policy[1].startswith("default-src 'none';")
    assert "http" not in policy[1]


def test_widgets_inside_of_a_widget_come_along_each_under_its_name():
    class Pair(Pane):
        _esm, _css = "export default { render() {} }", ".pair {}"
        inner = traitlets.List().tag(sync=True, to_json=lambda inner, _: [WIDGET + each.model_id for each in inner])

    tables = [RankingTable(made_ranking(), feature=9), RankingTable(made_ranking(), feature=41)]
    first, *others = state(page(Pair(inner=tables)))
    assert first["state"]["inner"] == [WIDGET + each["name"] for each in others]
    assert [each["state"]["feature"] for each in others] == [9, 41]
    assert all(each["data"]["rows"]["feature"] for each in others)


def test_bytes_travel_as_base64_and_what_is_no_data_is_refused():
    assert json.loads(as_json({"points": memoryview(b"\x00\xff<")})) == {"points": {"@bytes": base64.b64encode(b"\x00\xff<").decode()}}
    with pytest.raises(TypeError, match="a trait holds a set"):
        as_json({"seen": {1}})


def test_one_view_is_one_file_to_the_byte_whenever_it_is_saved():
    value = {"tokens": [HOSTILE]}
    assert packed(value) == packed(value) and base64.b64decode(packed(value))[4:8] == bytes(4)  # gzip's place for the time


def test_a_file_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    table = RankingTable(made_ranking())
    before = table.to_html(tmp_path / "view.html").read_text()
    monkeypatch.setattr("workbench.files.os.replace", lambda *paths: (_ for _ in ()).throw(OSError("no room")))
    with pytest.raises(OSError, match="no room"):
        table.to_html(tmp_path / "view.html")
    assert (tmp_path / "view.html").read_text() == before and len(list(tmp_path.iterdir())) == 1


def test_a_folder_is_no_file_to_save_to_and_nothing_is_left_beside_it(tmp_path: Path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match="folder is a folder: expected a file's name, such as .*page.html"):
        RankingTable(made_ranking()).to_html(tmp_path / "folder")
    with pytest.raises(ValueError, match="nowhere does not exist"):
        RankingTable(made_ranking()).to_html(tmp_path / "nowhere" / "page.html")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
