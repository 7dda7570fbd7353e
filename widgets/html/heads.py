"""Which heads carry a feature's effect → a static table: each head's share, and the prompt shaded by what it reads at the last position."""

import math
from html import escape
from typing import Any

from widgets.marks import FAINT, bar_html, cell_html, heading_html, highlights_html, number, table_html, token_html, visible

N_HEADS = 6


def heads_html(heads: Any, n_heads: int = N_HEADS) -> str:
    """A HeadEffects as a block; it shows where no script runs."""
    name = f"{heads.label} ({heads.feature})" if heads.label else f"feature {heads.feature}"
    token = token_html(heads.str_tokens[heads.pos])
    longest = max([abs(heads.effect), *heads.table["moved"].abs()])
    rows = []
    for row, pattern in zip(heads.table.head(n_heads).itertuples(), heads.patterns, strict=False):
        reads = {pos: float(value) for pos, value in enumerate(pattern[-1]) if value >= 0.005}
        cells = [f"{row.layer}.{row.head}", bar_html(row.moved, longest), number(row.attention, is_signed=False)]
        shaded = highlights_html(heads.str_tokens, reads, 1.0, is_signed=False)
        rows.append([*(cell_html(cell, "width:72px") for cell in cells), cell_html(shaded)])
    head = [cell_html(text, "font-weight:600", "th") for text in ("head", "moved", "attention", "what it reads at the last position")]
    share = float(heads.table["moved"].sum()) if len(heads.table) else math.nan
    carried = "" if heads.pos < len(heads.str_tokens) - 1 else " From the last position no head has to carry it."
    about = (
        f"moved: the effect that is gone when the head cannot read {token}. The effect there is <b>{number(heads.effect)}</b>; "
        f"over all {len(heads.table)} heads, one at a time, {number(share)} is moved.{carried}"
    )
    return (
        '<div style="max-width:1080px;font-size:13px;line-height:1.45">'
        f"{heading_html('Heads that move ' + escape(visible(name)), 'layer.head, the largest first')}{table_html(rows, head)}"
        f'<div style="margin-top:6px;font-size:12px;{FAINT}">{about}</div></div>'
    )
