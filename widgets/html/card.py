"""A feature's page as HTML: what it is called, how often it fires, where, what it promotes, what is near it. One, or several side by side.

Inline styles, tables and <details> only: it shows in untrusted notebooks and without scripts, on light and dark pages. Everything
from texts, tokens and labels is escaped.
"""

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from widgets.marks import (
    BLUE,
    FAINT,
    RULE,
    bar_html,
    cell_html,
    heading_html,
    in_lines,
    number,
    shade_style,
    table_html,
    token_html,
    visible,
)

WIDTH, HEIGHT = 600, 84  # of the histogram; where there is less room it takes what there is
MOST_CHARS = 300  # of a label; the rest is in its title
SMALL = f"{FAINT};font-size:12px"
DRAWN = "drawn at random from evenly spaced intervals of activation"
CUT = "max-width:150px;overflow:hidden;text-overflow:ellipsis;white-space:nowrap"
NARROW = "padding:2px 8px 2px 0;white-space:nowrap"
ACTIVATION, WINDOW = "width:52px;text-align:right;padding:3px 10px 3px 0;opacity:0.8", "padding:3px 0"
ABOUT_LOGITS = "what the direction alone adds to the logits, past the final norm; what later blocks do with it is not in it"
COLUMN = "display:inline-block;vertical-align:top;width:520px;max-width:100%;margin:0 24px 24px 0"
BLOCK = "display:inline-block;vertical-align:top;margin:0 28px 0 0"


def card_html(page: Any, link: Callable[[str, int], str] = lambda sae, feature: "") -> str:
    """A FeaturePage as a block. link: (SAE, feature) → the address of its page, "" where there is none."""
    return block_html(first_html(page) + rest_html(page, link))


def block_html(html: str) -> str:
    """What holds a page's parts."""
    return f'<div style="max-width:1080px;font-size:13px;line-height:1.45">{html}</div>'


def first_html(page: Any) -> str:
    """The parts that fill a screen: which feature it is, how often it is active, what it promotes. They need no example texts."""
    return _head(page) + _histogram(page) + _tokens(page)


def rest_html(page: Any, link: Callable[[str, int], str]) -> str:
    """The parts that follow: neighbors, neurons, the example texts."""
    weaker = heading_html("From strong to weak", DRAWN) + intervals_html(page) if page.intervals and page.has_examples else ""
    return _neighbors(page, link) + _neurons(page) + _top(page) + weaker + _footnote()


def cards_html(pages: Sequence[Any]) -> str:
    """Several side by side, as many as fit."""
    columns = [f'<div style="{COLUMN}">{card_html(page)}</div>' for page in pages]
    return f"<div>{''.join(columns)}</div>"


def label_html(text: str) -> str:
    """A label in its own reading direction; a very long one is cut."""
    text = visible(text)
    title = f' title="{escape(text[: 10 * MOST_CHARS])}"' if len(text) > MOST_CHARS else ""
    return f'<span dir="auto"{title}>{escape(text[:MOST_CHARS])}{"…" if title else ""}</span>'


def _head(page: Any) -> str:
    label = page.label
    title = label_html(label.text) if label.text else f"Feature {page.feature}"
    said = [f"by {visible(label.origin)}" if label.origin else "", "" if label.score is None else f"score {label.score:.2f}"]
    said = f"label {', '.join(filter(None, said))}" if any(said) else "" if label.text else "no label"
    below = " · ".join(filter(None, [f"feature {page.feature:,} of {visible(page.sae_name)}", said]))
    active = f"<b>{page.n_active:,}</b> of {page.n_tokens:,} tokens ({100 * page.density:.3g} %)"
    active = active if page.n_active else f"<b>none</b> of {page.n_tokens:,} tokens"
    scored = _scores(page)
    source = " · ".join([*(visible(name) for name in (page.model_name, page.hook_name) if name), "start token left out"])
    notes = "".join(f'<div style="margin-top:4px">⚠ {escape(visible(note))}</div>' for note in page.notes)
    return (
        f'<div style="font-size:20px;font-weight:600;line-height:1.3;overflow-wrap:break-word">{title}</div>'
        f'<div style="{SMALL}">{escape(below)}</div>'
        f'<div style="margin-top:4px">active on {active} · largest activation <b>{number(page.max_act, False)}</b>{scored}</div>'
        f'<div style="{SMALL}">{escape(source)}</div>{notes}'
    )


def _scores(page: Any) -> str:
    """How well it reads what it is called, how much it writes that; what these are in the title."""
    known = [(name, score) for name, score in zip(("input", "output"), page.scores, strict=True) if score is not None]
    title = escape(visible(page.scored))
    return "".join(f' · <span title="{title}">{name} score <b>{number(score, False)}</b></span>' for name, score in known)


def _histogram(page: Any) -> str:
    """Bars of equal width from 0 to the maximum; heights on a log scale, each bar's numbers in its title."""
    if not page.n_active:
        return ""
    n_bins = max(b for b, n in enumerate(page.histogram) if n) + 1
    tallest = math.log1p(max(page.histogram))
    cells = []
    for b, n in enumerate(page.histogram[:n_bins]):
        height = max(2, round(HEIGHT * math.log1p(n) / tallest)) if n else 0
        low, high = (number(edge * page.bin_width, False, page.max_act) for edge in (b, b + 1))
        bar = f'<div style="height:{height}px;background-color:rgba({BLUE},0.75)"></div>'
        style = f"padding:0 1px 0 0;border:0;vertical-align:bottom;height:{HEIGHT}px"
        cells.append(f'<td style="{style}" title="{low} to {high}: {n:,} token{"s" * (n != 1)}">{bar}</td>')
    table = "border-collapse:collapse;border:0;margin:0;table-layout:fixed;width:100%;border-bottom:1px solid rgba(128,128,128,0.6)"
    right = number(n_bins * page.bin_width, False, page.max_act)
    scale = f'<div style="{SMALL}">0<span style="float:right">{right}</span></div>'
    heading = heading_html("Activations", "how many tokens, on a log scale; point at a bar")
    bars = f'<table style="{table}"><tr style="background:none">{"".join(cells)}</tr></table>'
    beside = f"display:inline-block;vertical-align:top;width:{WIDTH + 28}px;max-width:100%"  # no margin, which would come on top of 100 %
    return f'<div style="{beside}"><div style="max-width:{WIDTH}px">{heading}{bars}{scale}</div></div>'


def _tokens(page: Any) -> str:
    if page.promoted is None:
        return f'<div style="{BLOCK}">{heading_html("Tokens", "none: this hook point is not in the residual stream")}</div>'
    scale = max((abs(each.logit) for each in [*page.promoted, *page.suppressed]), default=0.0)
    lists = []
    for name, tokens in (("Promotes", page.promoted), ("Suppresses", page.suppressed)):
        rows = [
            [
                cell_html(f'<div style="{CUT}">{token_html(each.token)}</div>', NARROW),
                cell_html(bar_html(each.logit, scale), f"{NARROW};width:52px"),
            ]
            for each in tokens
        ]
        lists.append(f'<div style="{BLOCK};margin-right:16px">{heading_html(name, "")}{table_html(rows)}</div>')
    return f'<div style="{BLOCK}" title="{ABOUT_LOGITS}">{"".join(lists)}</div>'


def _neighbors(page: Any, link: Callable[[str, int], str]) -> str:
    lists = []
    for sae, neighbors in page.neighbors.items():
        rows = []
        for each in neighbors:
            address, name = link(sae, each.feature), f"{each.feature:,}"
            name = f'<a href="{escape(address)}" style="color:inherit">{name}</a>' if address else name
            cells = [cell_html(number(each.cosine, False), NARROW), cell_html(name, f"{NARROW};text-align:right")]
            rows.append([*cells, cell_html(f'<div style="{CUT}">{label_html(each.label)}</div>', NARROW)])
        heading = heading_html(f"Nearest in {escape(visible(sae))}", "cosine")
        lists.append(f'<div style="{BLOCK};margin-right:16px">{heading}{table_html(rows)}</div>')
    return f'<div style="{BLOCK}">{"".join(lists)}</div>' if lists else ""


def _neurons(page: Any) -> str:
    if not page.neurons:
        return ""
    rows = [[cell_html(number(each.correlation), NARROW), cell_html(escape(visible(each.neuron)), NARROW)] for each in page.neurons]
    return f'<div style="{BLOCK}">{heading_html("Neurons", "most correlated")}{table_html(rows)}</div>'


def _top(page: Any) -> str:
    if not page.has_examples:
        return heading_html("Texts", "left out, as was asked: with_examples=False")
    if not page.top:
        return heading_html("No examples", "it was active nowhere" if not page.n_active else "")
    n = len(page.top)
    heading = heading_html(f"Top {n} texts" if n > 1 else "The one text", "where it is most active; point at a token for its activation")
    return heading + examples_html(page.top, page.max_act)


def intervals_html(page: Any) -> str:
    """Examples of each interval of activation, the highest first, folded."""
    parts = []
    for each in page.intervals:
        low, high = (number(edge, False, page.max_act) for edge in (each.low, min(each.high, page.max_act)))
        n = f"{each.n_active:,} token{'s' * (each.n_active != 1)}"
        ratings = " · rated " + ", ".join(f"{i}: {share:.0%}" for i, share in enumerate(each.ratings)) if each.ratings else ""
        summary = f'<summary style="padding:3px 0">{low} to {high} <span style="{SMALL};margin-left:6px">{n}{ratings}</span></summary>'
        parts.append(f'<details style="border-bottom:{RULE}">{summary}{examples_html(each.examples, page.max_act)}</details>')
    return "".join(parts)


def examples_html(examples: Sequence[Any], scale: float) -> str:
    """Windows of text, one below the other, shaded up to `scale`; the token that each is shown for is bold."""
    rows = [[cell_html(number(each.activation, False, scale), ACTIVATION), cell_html(_window(each, scale), WINDOW)] for each in examples]
    return table_html(rows).replace("border-collapse", "table-layout:fixed;width:100%;border-collapse", 1)


def _window(example: Any, scale: float) -> str:
    spans = []
    for i, (token, act) in enumerate(zip(example.str_tokens, example.activations, strict=True)):
        text = escape(in_lines(token))
        if act > 0:
            weight = ";font-weight:700" if i == example.peak else ""
            text = f'<span style="{shade_style(act, scale, False)}{weight}" title="{number(act, False, scale)}">{text}</span>'
        spans.append(text)
    before, after = ("…" * is_cut for is_cut in example.is_cut)
    return f'<div dir="auto" style="white-space:pre-wrap;overflow-wrap:break-word;line-height:1.7">{before}{"".join(spans)}{after}</div>'


def _footnote() -> str:
    return (
        f'<div style="margin-top:12px;{SMALL}">Promotes and suppresses: {ABOUT_LOGITS}. A text that stands in the corpus several times '
        "is shown once and counted every time.</div>"
    )
