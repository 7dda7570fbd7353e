"""An Evaluation → HTML: its numbers, how often features fire, and on the atlas what they mean. A CheckReport → HTML: a row a check, the
verdict as a word beside its sign. Inline styles and a picture only."""

import math
from collections.abc import Iterator
from html import escape
from typing import Any

import numpy as np

from widgets.figures.svg import BOTTOM, INK, LEFT, RIGHT, TOP, WHOLE, svg_img
from widgets.html.standalone import still_document
from widgets.marks import BLUE, FAINT, ORANGE, cell_html, heading_html, table_html, visible

SMALL = f"font-size:12px;{FAINT}"
RED, GREEN = "214,48,72", "34,146,94"  # both readable on white and on a dark page as a frame; the word is in the page's own color
SIGNS = {"ok": ("✓", GREEN), "note": ("i", BLUE), "warning": ("!", ORANGE), "error": ("✕", RED)}
HEAD = ("", "check", "figure", "what it means, and what to do")


def evaluation_html(evaluation: Any) -> str:
    """An Evaluation's measures as a table, with the histogram of densities."""
    losses = evaluation.losses
    rows = {
        "active features a token (l0)": f"{evaluation.l0:,.1f}",
        "variance explained": f"{_percent(evaluation.explained_variance)} (fvu {evaluation.fvu:.3f})",
        "dead features": f"{_percent(evaluation.dead)}: active on none of {evaluation.n_tokens:,} tokens",
    }
    if losses.n_tokens:
        rows |= {
            "loss recovered": f"{_percent(losses.recovered)} against zeros, {_percent(losses.recovered_mean)} against the mean",
            "next-token loss": f"{losses.clean:.3f}; with {evaluation.hat} {losses.spliced:.3f}, with zeros {losses.zero:.3f}, "
            f"with the mean {losses.mean:.3f} (over {losses.n_tokens:,} tokens)",
        }
    table = table_html([[cell_html(name), cell_html(f"<b>{value}</b>")] for name, value in rows.items()])
    about = " · ".join(filter(None, (evaluation.model_name, evaluation.place, "start tokens left out")))
    title = f"{len(evaluation.table):,} features over {evaluation.n_tokens:,} tokens"
    return (
        f'<div style="max-width:1080px;font-size:13px;line-height:1.45">{heading_html(title, escape(about))}{table}'
        f"{density_svg(evaluation.density_histogram())}{_truth(evaluation.truth)}</div>"
    )


def density_svg(histogram: Any) -> str:
    """Bars: how many features (up) are active on which share of the tokens (right, log scale)."""
    low, high = (np.log10(histogram[name].to_numpy()) for name in ("low", "high"))
    (width, height), counts = WHOLE, histogram["n_features"].to_numpy()
    bottom = height - BOTTOM
    tallest = max(1, counts.max(initial=0))

    def across(value: float) -> float:
        return LEFT + (value - low[0]) / (high[-1] - low[0]) * (width - LEFT - RIGHT)

    body = [
        f'<path d="M{LEFT} {bottom}H{width - RIGHT}" stroke="{INK}"/>',
        _text(LEFT - 36, 12, f"features (tallest bar {tallest:,})", "start"),
    ]
    for left, right, n in zip(map(across, low), map(across, high), counts, strict=True):
        high_bar = (bottom - TOP) * n / tallest
        body.append(
            f'<rect x="{left:.1f}" y="{bottom - high_bar:.1f}" width="{right - left - 1:.1f}" height="{high_bar:.1f}" fill="rgb({BLUE})"/>'
        )
    decades = range(math.ceil(low[0]), math.floor(high[-1] + 1e-9) + 1)
    body += [_text(across(decade), bottom + 14, f"{10.0**decade:g}", "middle") for decade in decades]
    body.append(_text(width - RIGHT, height - 4, "density: share of tokens that a feature is active on", "end"))
    most = int(counts.argmax())
    alt = f"Features by density; most, {tallest:,}, between {10 ** low[most]:.2g} and {10 ** high[most]:.2g}"
    return svg_img("".join(body), width, height, alt)


def _truth(truth: Any) -> str:
    if not len(truth):
        return ""
    head = [cell_html(name, "font-weight:600", "th") for name in ("kind of concept", "concepts", "mean F1", "with a feature of F1 ≥ 0.5")]
    cells = [[row.kind, f"{row.n_concepts:,}", f"{row.f1:.2f}", _percent(row.found)] for row in truth.itertuples()]
    note = "best F1 of any feature with the concept, text by text"
    return heading_html("By the answer key", note) + table_html([[cell_html(escape(cell)) for cell in row] for row in cells], head)


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{share:.1%}"


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{INK}">{escape(text)}</text>'


def check_html(report: Any) -> str:
    """What was checked, as a table."""
    head = [cell_html(name, "font-weight:600", "th") for name in HEAD]
    rows = [list(_cells(row)) for row in report.table.itertuples()]
    title = f'<b style="font-size:14px">Check of {escape(visible(report.name))}</b>'
    note = f'<span style="{FAINT};font-size:12px">{escape(report.summary())}</span>'
    body = f'<div style="margin:0 0 6px">{title} {note}</div>{table_html(rows, head)}'
    return f'<div style="max-width:1080px;font-size:13px;line-height:1.45">{body}</div>'


def check_page(report: Any) -> str:
    """The same as a document that opens offline."""
    return still_document(f"Check of {report.name}", check_html(report))


def _cells(row: Any) -> Iterator[str]:
    sign, color = SIGNS[row.verdict]
    chip = f"border:1px solid rgb({color});background-color:rgba({color},0.16);border-radius:8px;padding:1px 7px;white-space:nowrap"
    yield cell_html(f'<span style="{chip}"><b>{sign}</b> {row.verdict}</span>')
    yield cell_html(f"<b>{escape(row.check)}</b>", "white-space:nowrap")
    yield cell_html(
        escape(visible(row.figure)), "min-width:170px;max-width:300px;overflow-wrap:anywhere;white-space:normal;padding-right:16px"
    )
    yield cell_html(escape(visible(row.meaning)), "overflow-wrap:anywhere;white-space:normal")
