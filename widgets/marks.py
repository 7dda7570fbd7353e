"""The small pieces that every view is made of: a token, a number, a bar, a shaded text, a table.

Only what sanitizers leave standing: inline style=, tables, <details>, title=; colors with alpha on the page's own background, so that
light and dark themes both read. Tokens and labels are data: they enter escaped, with whitespace and control characters made visible.
Orange supports the answer and is underlined solid, purple opposes it and is underlined dashed: never color alone.
"""

import math
import unicodedata
from collections.abc import Mapping, Sequence
from html import escape

ORANGE, PURPLE = "230,97,0", "124,92,222"  # purple is light enough for dark pages
BLUE = "44,123,182"  # activation has no sign
RULE = "1px solid rgba(128,128,128,0.25)"
FAINT = "opacity:0.65"


def visible(token: str) -> str:
    """A token as a reader sees it: ⏎ ⇥ for whitespace, \\uXXXX for what has no picture or turns the text around."""
    if token.isprintable():  # nearly every token; said in C
        return token
    shown = {"\n": "⏎", "\r": "␍", "\t": "⇥"}
    hidden = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
    return "".join(shown.get(c) or (f"\\u{ord(c):04x}" if unicodedata.category(c) in hidden else c) for c in token)


def in_lines(token: str) -> str:
    """The same where text flows: code keeps its lines."""
    return visible(token).replace("⏎", "⏎\n")


def cut(text: str, most: int) -> str:
    """At most so many characters, an ellipsis for the rest."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def number(value: float, is_signed: bool = True, scale: float = 1.0) -> str:
    """As many decimals as a column whose largest value is `scale` needs, two at least; a true minus sign; – where nothing was measured."""
    if not math.isfinite(value):
        return "–"
    digits = min(2 - math.floor(math.log10(scale)), 9) if 0 < scale < 1 else 2  # NaN where nothing in the column was measured
    return signed(value, f"+,.{digits}f" if is_signed else f",.{digits}f")


def signed(value: float, form: str = "+.3f") -> str:
    """A number in running text, with a true minus sign; what is rounded to 0 has none."""
    text = format(value, form)
    return text.lstrip("+-") if set(text) <= set("+-0.,") else text.replace("-", "−")


def share(p: float) -> str:
    """A probability in words that fit a chip."""
    return "> 99 %" if p >= 0.995 else f"{100 * p:.0f} %" if p >= 0.01 else "< 1 %"


def plain_number(value: float) -> float | None:
    """For JSON: six significant digits are more than a page shows; None for what is no finite number."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def token_html(token: str) -> str:
    """One token as a chip: its leading space shows."""
    return (
        f'<span style="white-space:pre;font-family:monospace;font-size:11px;background-color:rgba(128,128,128,0.14);'
        f'border-radius:3px;padding:1px 3px">{escape(visible(token))}</span>'
    )


def highlights_html(str_tokens: Sequence[str], values: Mapping[int, float], scale: float, first: int = 0, is_signed: bool = True) -> str:
    """The prompt from position `first` on, with the tokens of `values` (position → number) shaded up to `scale`."""
    spans = []
    for pos, token in list(enumerate(str_tokens))[first:]:
        text, value = escape(in_lines(token)), values.get(pos, math.nan)
        if math.isfinite(value):
            title = f"position {pos}: {number(value, is_signed, scale)}"
            text = f'<span style="{shade_style(value, scale, is_signed)}" title="{title}">{text}</span>'
        spans.append(text)
    return f'<span style="white-space:pre-wrap;line-height:1.75">{"".join(spans)}</span>'


def shade_style(value: float, scale: float, is_signed: bool) -> str:
    """CSS of a token's background and underline: how dark by |value| / scale; signed: orange and solid for, purple and dashed against."""
    color, line = (BLUE, "none") if not is_signed else (ORANGE, "solid") if value > 0 else (PURPLE, "dashed")
    shade = 0.06 + 0.5 * (min(abs(value) / scale, 1.0) if scale > 0 else 0)
    return f"background-color:rgba({color},{shade:.2f});border-bottom:2px {line} rgba({color},{min(shade + 0.3, 1):.2f});padding:1px 0"


def bar_html(value: float, scale: float, is_signed: bool = True) -> str:
    """A number with a bar under it, as long as its share of `scale`."""
    share = 0 if not (math.isfinite(value) and scale > 0) else 100 * min(abs(value) / scale, 1)
    color = "128,128,128" if not is_signed else ORANGE if value > 0 else PURPLE
    bar = f'<div style="height:3px;width:{share:.0f}%;margin:2px 0 0 auto;background-color:rgba({color},0.85);border-radius:2px"></div>'
    return f'<div style="text-align:right;line-height:1.2">{number(value, is_signed, scale)}</div>{bar}'


def heading_html(text: str, note: str) -> str:
    """A heading with a note in small print. Both are markup: escape what comes from data."""
    return f'<div style="margin:20px 0 6px"><b style="font-size:14px">{text}</b> <span style="{FAINT};font-size:12px">{note}</span></div>'


def legend_html(styles: Mapping[str, tuple[str, str]]) -> str:
    """Names of lines, each with its color and dash (an SVG stroke-dasharray)."""
    spans = []
    for name, (color, dash) in styles.items():
        line = "dotted" if dash.startswith("2") else "dashed" if dash else "solid"
        swatch = f'<span style="display:inline-block;width:22px;vertical-align:middle;border-top:2px {line} rgb({color})"></span>'
        spans.append(f'<span style="margin-right:14px;white-space:nowrap">{swatch} {escape(visible(name))}</span>')
    return f'<div style="max-width:640px;font-size:12px">{"".join(spans)}</div>'


def cell_html(content: str, style: str = "", tag: str = "td", title: str = "") -> str:
    """A table's cell. `content` and `title` are markup: escape what comes from data."""
    about = f' title="{title}"' if title else ""
    return f'<{tag}{about} style="padding:4px 8px 4px 0;border:0;text-align:left;vertical-align:top;{style}">{content}</{tag}>'


def table_html(rows: Sequence[Sequence[str]], head: Sequence[str] = ()) -> str:
    """A table of cells that `cell_html` made."""
    line = f'<tr style="background:none;border-bottom:{RULE}">'
    body = "".join(f"{line}{''.join(cells)}</tr>" for cells in [head, *rows] if cells)
    return f'<table style="border-collapse:collapse;border:0;margin:0;font-size:12px">{body}</table>'


def facts_html(title: str, facts: Mapping[str, str]) -> str:
    """A result in words: what it is, then a row a fact."""
    rows = [
        [cell_html(escape(visible(name)), FAINT), cell_html(escape(visible(text)), "white-space:normal")] for name, text in facts.items()
    ]
    return f"<div><b>{escape(title)}</b>{table_html(rows)}</div>"


def sentences_html(title: str, sentences: Sequence[str]) -> str:
    """The same where each fact is a sentence."""
    return f"<div><b>{escape(title)}</b>{table_html([[cell_html(escape(visible(sentence)))] for sentence in sentences])}</div>"
