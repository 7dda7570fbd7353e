"""A feature's page as HTML: complete, in inline styles only, with every text, token and label shown as text."""

import html
import re

import pytest
from made_page import ARABIC, HOSTILE, made_example, made_page

from widgets.html.card import card_html, cards_html, examples_html
from widgets.html.pages import feature_page, search_page, search_row
from workbench.features.index.parts import Correlate, Interval, Label


def text_of(markup: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", markup))


def tags(markup: str) -> set[str]:
    return set(re.findall(r"<(\w+)", markup))


def test_a_page_shows_what_method_md_asks_for():
    text = text_of(card_html(made_page()))
    for expected in (
        "Lakers players",
        "feature 1,234 of 4k · label by answer key, score 0.87",
        "of 1,234,567 tokens",
        "largest activation 7.50",
        "atlas · blocks.3.hook_resid_pre · start token left out",
        "Promotes",
        "Suppresses",
        "Nearest in 1k",
        "Nearest in 4k",
        "Top 20 texts",
        "From strong to weak",
        "7.00 to 7.50",
    ):
        assert expected in text, expected


def test_only_what_an_untrusted_notebook_keeps_is_used():
    markup = card_html(made_page())
    assert tags(markup) == {"div", "span", "b", "table", "tr", "td", "details", "summary"}
    assert "class=" not in markup and "onclick" not in markup


@pytest.mark.parametrize("tokens", [HOSTILE, [token * 3 for token in HOSTILE]], ids=["once", "three times"])
def test_hostile_tokens_are_text(tokens: list[str]):
    page = made_page(tokens=tokens, label=Label("</td><script>alert(1)</script>", 0.5, '"><b>'), model_name="<i>", hook_name="<u>")
    page = page.__class__(**{**vars(page), "sae_name": "<s>", "neurons": [Correlate("<p>", 0.5)]})
    for markup in (card_html(page), cards_html([page, page]), feature_page(page, [1], [2], {1, 2})):
        assert tags(markup) <= {*tags(card_html(made_page())), *tags(feature_page(made_page(), [1], [2], {1, 2}))}
        assert markup.count("<td") == markup.count("</td>") and markup.count("<div") == markup.count("</div>")
        shown = text_of(markup)
        assert "<script>window.hacked=1</script>" in shown and "<bos>" in shown and "\\u202e" in shown and "⏎" in shown
    assert all(character not in card_html(page) for character in "\u202e\x00\x07")


def test_a_search_page_holds_hostile_rows_as_json():
    page = made_page(tokens=HOSTILE, label=Label("</script><script>alert(1)</script>"))
    markup = search_page([search_row(page)], {"<b>": "<script>"})
    assert markup.count("<script") == 2 and markup.count("</script>") == 2


def test_every_bar_says_what_it_counts():
    page = made_page()
    titles = re.findall(r'title="([\d.]+) to ([\d.]+): ([\d,]+) tokens?"', card_html(page))
    assert len(titles) == 60  # up to the last bin that is not empty
    assert [int(n.replace(",", "")) for _, _, n in titles] == page.histogram[:60]
    assert titles[0][:2] == ("0.00", "0.12") and titles[59][1] == "7.50"


def test_tokens_are_shaded_by_activation_and_say_it():
    markup = examples_html([made_example([" the", " Lakers", " of"], strength=4.0)], scale=8.0)
    assert re.search(r'rgba\(44,123,182,0\.31\)[^>]*font-weight:700" title="4.00"> Lakers<', markup)
    assert re.search(r'rgba\(44,123,182,0\.18\)[^>]*" title="2.00"> of<', markup)
    assert "… the<span" in markup  # not active: not marked; the text began before the window


def test_a_right_to_left_text_keeps_its_own_direction():
    assert '<div dir="auto"' in examples_html([made_example(ARABIC)], 8.0)
    assert "".join(ARABIC) in text_of(examples_html([made_example(ARABIC)], 8.0))


def test_a_megabyte_of_label_is_cut():
    markup = card_html(made_page(label=Label("x" * 1_000_000)))
    assert len(markup) < len(card_html(made_page())) + 10_000 and "…" in markup


def test_a_feature_that_is_never_active_has_a_page():
    page = made_page(label=Label(""), n_active=0, max_act=0.0, histogram=[0] * 64, top=[], intervals=[])
    text = text_of(card_html(page))
    assert "Feature 1234" in text and "no label" in text and "active on none of 1,234,567 tokens" in text and "No examples" in text


def test_where_nothing_reaches_the_logits_the_page_says_so():
    assert "not in the residual stream" in text_of(card_html(made_page(promoted=None, suppressed=None)))


def test_neurons_and_ratings_have_their_place():
    page = made_page(
        neurons=[Correlate("blocks.2.mlp 113", 0.42)], intervals=[Interval(7, 7.5, 9, [made_example(["a", "b"])], (0, 0, 0.25, 0.75))]
    )
    text = text_of(card_html(page))
    assert "blocks.2.mlp 113" in text and "+0.42" in text
    assert "rated 0: 0%, 1: 0%, 2: 25%, 3: 75%" in text


def test_neighbors_are_linked_where_they_have_a_page():
    markup = feature_page(made_page(), [], [7], {2, 3})
    assert re.findall(r'href="(\d+)\.html" style', markup) == ["2", "3"]  # of its own SAE only
    assert 'href="7.html" rel="next"' in markup and "prev" not in markup


def test_pages_stand_side_by_side():
    markup = cards_html([made_page(1), made_page(2)])
    assert markup.count("display:inline-block;vertical-align:top;width:520px") == 2
    assert "feature 1 of 4k" in text_of(markup) and "feature 2 of 4k" in text_of(markup)
