"""A CheckReport → HTML: a table with a row a check, the verdict as a word beside its sign. Inline styles only."""

from collections.abc import Iterator
from html import escape
from typing import Any

from widgets.html.standalone import still_document
from widgets.marks import BLUE, FAINT, ORANGE, cell_html, table_html, visible

RED, GREEN = "214,48,72", "34,146,94"  # both readable on white and on a dark page as a frame; the word is in the page's own color
SIGNS = {"ok": ("✓", GREEN), "note": ("i", BLUE), "warning": ("!", ORANGE), "error": ("✕", RED)}
HEAD = ("", "check", "figure", "what it means, and what to do")


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
