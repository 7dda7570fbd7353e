"""The static report: hostile text stays text, nothing in it that untrusted notebooks strip, sign never by color alone."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from made_ranking import made_ranking, made_table

from widgets.html.ranking import ranking_html, ranking_page
from widgets.marks import highlights_html, number, signed, visible

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"' @@STATE@@ \u202egnol"


class Tags(HTMLParser):
    def __init__(self, html: str):
        super().__init__()
        self.tags, self.attributes = [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs


def hostile_ranking():
    table = made_table().assign(token=HOSTILE, label=HOSTILE)
    texts = dict(prompt=HOSTILE, answer=HOSTILE, baseline=HOSTILE, model_name=HOSTILE, sae_name=HOSTILE, hook_name=HOSTILE)
    return made_ranking(table=table, str_tokens=[HOSTILE] * 14, **texts)


def test_the_report_has_only_what_untrusted_notebooks_keep():
    found = Tags(ranking_html(made_ranking()))
    assert set(found.tags) <= {"div", "span", "b", "br", "table", "tr", "th", "td", "img", "details", "summary"}
    assert {name for name, _ in found.attributes} <= {"class", "style", "title", "src", "width", "height", "alt"}
    assert all(value.startswith("data:image/svg+xml;base64,") for name, value in found.attributes if name == "src")
    assert "var(" not in ranking_html(made_ranking())  # JupyterLab's sanitizer drops a color that is a variable


def test_hostile_text_adds_no_tag_and_no_attribute_to_the_report():
    plain, hostile = Tags(ranking_html(made_ranking())), Tags(ranking_html(hostile_ranking()))
    assert set(hostile.tags) == set(plain.tags)
    assert {name for name, _ in hostile.attributes} == {name for name, _ in plain.attributes}


def test_hostile_text_cannot_leave_the_pages_data_or_fill_its_template():
    page = ranking_page(hostile_ranking())
    assert Tags(page).tags.count("script") == 2
    assert page.count("alert(1)") and "<script>alert" not in page
    assert page.count('id="state"') == 1


def test_whitespace_and_invisible_characters_are_made_visible():
    assert visible("a\n\tb\r") == "a⏎⇥b␍"
    assert visible("\u202e\u200b\x00") == "\\u202e\\u200b\\u0000"
    assert visible(" <bos> é 東 👍") == " <bos> é 東 👍"


def test_sign_is_a_line_style_as_well_as_a_color():
    html = highlights_html(["a", "b", "c"], {0: 1.0, 1: -1.0}, scale=1.0)
    assert re.search(r"230,97,0.*2px solid.*>a<", html)
    assert re.search(r"124,92,222.*2px dashed.*>b<", html)
    assert html.endswith(">b</span>c</span>")


def test_shading_grows_with_the_value_and_stops_at_the_scale():
    shades = [
        float(re.findall(r"background-color:rgba\(230,97,0,([\d.]+)\)", highlights_html(["a"], {0: value}, 2.0))[0])
        for value in (0.5, 2.0, 9.0)
    ]
    assert shades[0] < shades[1] == shades[2]


def test_the_report_says_what_was_left_out_and_what_was_measured():
    assert "start token left out" in ranking_html(made_ranking()) and "every effect measured" in ranking_html(made_ranking())
    assert "&lt;|endoftext|&gt;" not in ranking_html(made_ranking())
    assert "&lt;|endoftext|&gt;" in ranking_html(made_ranking(is_start_included=True))
    table = made_table()
    table.loc[5:, "effect"] = np.nan
    assert "5 effects measured" in ranking_html(made_ranking(table=table))


def test_the_report_shows_where_each_row_stands_in_the_other_orders():
    ranking = made_ranking()
    ranks = ranking.top(1).iloc[0]
    assert f'{ranks["activation_rank"]}<br><span style="opacity:0.65;font-size:10px">▼{ranks["activation_rank"] - 1}<' in ranking_html(
        ranking
    )


@pytest.mark.parametrize("n_rows", [1, 2])
def test_a_ranking_of_one_or_two_pairs_still_shows(n_rows: int):
    assert "Lakers players" in ranking_page(made_ranking(table=made_table(n_rows)))


def test_numbers_have_true_minus_signs_and_the_decimals_that_their_column_needs():
    assert [number(-1.234), number(1234.5), number(float("nan")), number(0.5, is_signed=False)] == ["−1.23", "+1,234.50", "–", "0.50"]
    assert [number(0.00123, scale=0.02), number(0.02, scale=0.02)] == ["+0.0012", "+0.0200"]
    assert [number(-0.0004), number(0.0004), signed(-0.0004), signed(0.0), signed(-1e-9, ".3g")] == [
        "0.00",
        "0.00",
        "0.000",
        "0.000",
        "−1e−09",
    ]
    assert signed(-float("inf")) == "−inf"


def test_six_pairs_have_no_top_ten():
    few = made_ranking(table=made_table().head(6))
    assert "only 6 pairs were measured" in ranking_html(few) and "among its top" not in ranking_html(few)
    assert "among its top 10" in ranking_html(made_ranking())
