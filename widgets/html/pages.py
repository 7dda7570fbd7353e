"""Feature pages as documents: a folder, one a feature, with a first page that has a search box; a list of kept features as one page.

No network; only the search box needs scripts."""

import json
import math
from collections.abc import Container, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from widgets.html.card import MOST_CHARS, card_html, label_html
from widgets.marks import RULE, cell_html, heading_html, in_lines, number, table_html, visible

STATIC = Path(__file__).parents[1] / "static"
HEADS = ("feature", "label", "active on", "max", "input", "output", "most active on", "promotes")
NUMBERS = {
    "feature": "feature",
    "active on": "density",
    "max": "max_act",
    "input": "input",
    "output": "output",
}  # heading → what to sort by
SCORES = ("input", "output")
N_TOKENS = 5  # of each kind in a line of the first page
LIST_HEADS = ("feature", "label", "note", "density", "max")


def result_page(title: str, result: Any) -> str:
    """Anything that shows itself in a notebook, as a document that opens offline."""
    head = f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
    style = "<style>body{font-family:system-ui,sans-serif;margin:24px}:root{color-scheme:light dark}</style>"
    return f"{head}{style}</head><body>{result._repr_html_()}</body></html>"


def feature_page(page: Any, before: Sequence[int], after: Sequence[int], known: Container[int]) -> str:
    """A FeaturePage as a document. before, after: the feature whose page comes before or after, if any; known: those that have a page."""
    links = ['<a href="index.html">All features</a>']
    links += [f'<a href="{feature}.html" rel="prev">← {feature:,}</a>' for feature in before]
    links += [f'<a href="{feature}.html" rel="next">{feature:,} →</a>' for feature in after]
    card = card_html(page, lambda sae, feature: f"{feature}.html" if sae == page.sae_name and feature in known else "")
    title = visible(page.label.text)[:MOST_CHARS] or f"feature {page.feature}"
    return _document(title, f"<nav>{''.join(links)}</nav>{card}")


def search_page(rows: Sequence[Mapping[str, Any]], facts: Mapping[str, str]) -> str:
    """The first page: what the index is, and the features (`search_row` of each) that match what is typed."""
    about = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts.items())
    has_scores = any(row[name] for row in rows for name in SCORES)
    names = [name for name in HEADS if has_scores or name not in SCORES]
    heads = "".join(
        f'<th class="number" aria-sort="none"><button data-by="{NUMBERS[name]}">{name}</button></th>'
        if name in NUMBERS
        else f"<th>{name}</th>"
        for name in names
    )
    plain = " ".join(f'<a href="{row["feature"]}.html">{row["name"]}</a>' for row in rows)
    state = json.dumps({"rows": rows, "scored": has_scores}, ensure_ascii=False).replace("<", "\\u003c")
    body = (
        f"<h1>{len(rows):,} features</h1><dl>{about}</dl>"
        '<input type="search" placeholder="words of a label, tokens, or a number" aria-label="Search features">'
        f'<div id="found" role="status"></div><table class="features"><thead><tr>{heads}</tr></thead><tbody></tbody></table>'
        f"<noscript><p>Searching needs scripts; the pages do not: {plain}</p></noscript>"
        f'<script type="application/json" id="state">{state}</script><script>{(STATIC / "shared/features.js").read_text()}</script>'
    )
    return _document("Features", body)


def search_row(page: Any) -> dict[str, Any]:
    """What the first page shows and finds of a feature."""
    peaks = dict.fromkeys(visible(example.str_tokens[example.peak]) for example in page.top)
    return {
        "feature": page.feature,
        "name": f"{page.feature:,}",
        "label": visible(page.label.text)[:MOST_CHARS],
        "density": f"{100 * page.density:.3g} %",
        "max_act": number(page.max_act, False),
        **{name: "" if score is None else number(score, False) for name, score in zip(SCORES, page.scores, strict=True)},
        "sorts": {"feature": page.feature, "density": page.density, "max_act": page.max_act, **page.scores._asdict()},
        "active_on": list(peaks)[:N_TOKENS],
        "promoted": [visible(each.token) for each in (page.promoted or [])[:N_TOKENS]],
    }


def _document(title: str, body: str) -> str:
    pieces = (STATIC / "shared/features.html").read_text().split("@@")  # text, NAME, text, …: content that holds @@ is never searched
    parts = {"TITLE": escape(title), "BODY": body}
    return "".join(piece if i % 2 == 0 else parts[piece] for i, piece in enumerate(pieces))


def list_html(of: str, file: str, rows: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]]) -> str:
    """A list of kept features as a block. of: whose they are; others: the file's entries of other dictionaries."""
    lines = [[cell_html(text) for text in _list_cells(row)] for row in rows]
    head = [cell_html(name, "font-weight:600", "th") for name in LIST_HEADS]
    heading = heading_html(f"{len(rows):,} features kept", escape(f"of {visible(of)}, in {visible(file)}"))
    return f'<div style="max-width:1080px;font-size:13px">{heading}{table_html(lines, head) if lines else ""}{_others(others)}</div>'


def list_page(of: str, rows: Sequence[Mapping[str, Any]], pages: Sequence[Any], others: Sequence[Mapping[str, Any]]) -> str:
    """A list as one document: the table, each line a link to the feature's page (a FeaturePage) below it."""
    known = {page.feature for page in pages}
    lines = [[cell_html(text) for text in (f'<a href="#{row["feature"]}">{row["feature"]:,}</a>', *_list_cells(row)[1:])] for row in rows]
    head = [cell_html(name, "font-weight:600", "th") for name in LIST_HEADS]
    cards = []
    for row, page in zip(rows, pages, strict=True):
        note = f'<p dir="auto" style="white-space:pre-wrap"><b>Note</b> {escape(in_lines(str(row["note"])))}</p>' if row["note"] else ""
        card = card_html(page, lambda sae, feature, own=page.sae_name: f"#{feature}" if sae == own and feature in known else "")
        top = '<p><a href="#list">↑ all of the list</a></p>'
        cards.append(f'<section id="{page.feature}" style="margin-top:40px;border-top:{RULE}">{top}{note}{card}</section>')
    title = f"{len(rows):,} features of {visible(of)}"
    return _document(title, f'<h1 id="list">{escape(title)}</h1>{table_html(lines, head)}{_others(others)}{"".join(cards)}')


def _list_cells(row: Mapping[str, Any]) -> list[str]:
    density = "–" if math.isnan(row["density"]) else f"{100 * row['density']:.3g} %"
    note = f'<span dir="auto" style="white-space:pre-wrap">{escape(in_lines(str(row["note"])))}</span>'
    return [f"{row['feature']:,}", label_html(str(row["label"])), note, density, number(row["max_act"], False)]


def _others(others: Sequence[Mapping[str, Any]]) -> str:
    """What is said of entries that are not this dictionary's."""
    if not others:
        return ""
    said = [
        f"<li>feature {each['feature']:,} of {escape(visible(each['sae_name']))} ({escape(visible(each['model_name']))}): "
        f"{label_html(each['label'])} {escape(visible(each['note']))}</li>"
        for each in others
    ]
    about = "The file also holds features of other dictionaries, whose numbers mean nothing here:"
    return f'<p style="font-size:12px">{about}</p><ul>{"".join(said)}</ul>'
