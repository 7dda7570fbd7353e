"""Through depth → static tables: which heads carry a feature's effect, each with what it reads; what the logit lens reads at each depth."""

import math
from html import escape
from typing import Any

from widgets.marks import FAINT, bar_html, cell_html, heading_html, highlights_html, number, share, table_html, token_html, visible

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
    moved = float(heads.table["moved"].sum()) if len(heads.table) else math.nan
    carried = "" if heads.pos < len(heads.str_tokens) - 1 else " From the last position no head has to carry it."
    about = (
        f"moved: the effect that is gone when the head cannot read {token}. The effect there is <b>{number(heads.effect)}</b>; "
        f"over all {len(heads.table)} heads, one at a time, {number(moved)} is moved.{carried}"
    )
    return (
        '<div style="max-width:1080px;font-size:13px;line-height:1.45">'
        f"{heading_html('Heads that move ' + escape(visible(name)), 'layer.head, the largest first')}{table_html(rows, head)}"
        f'<div style="margin-top:6px;font-size:12px;{FAINT}">{about}</div></div>'
    )


def lens_html(lens: Any, about: str) -> str:
    """A LogitLens as a block: a line a depth, its likeliest tokens, and how likely the model's own choice is there."""
    rows = []
    for own, (_, best) in zip(lens.own.itertuples(), lens.table.groupby("layer", sort=True), strict=True):
        said = " ".join(f"{token_html(row.token)} <span style='{FAINT}'>{share(row.probability)}</span>" for row in best.itertuples())
        cells = [depth_words(int(own.layer), len(lens.own)), said, f"#{own.rank:,} {share(own.probability)}"]
        rows.append([cell_html(cell) for cell in cells])
    head = [cell_html(text, "font-weight:600", "th") for text in ("depth", "would say next", f"the model's own {token_html(lens.answer)}")]
    heading = heading_html(f"After {token_html(lens.str_tokens[lens.pos])}, position {lens.pos}", escape(about))
    return f'<div style="max-width:1080px;font-size:13px">{heading}{table_html(rows, head)}</div>'


def depth_words(layer: int, n: int) -> str:
    """How deep a stream is, of n of them."""
    return "embeddings" if layer == 0 else f"block {layer - 1}" + (" (the model)" if layer == n - 1 else "")


def lens_rows(lens: Any, about: str) -> dict[str, Any]:
    """A LogitLens as plain data for a page: what each depth would say next, and where the model's own choice stands there."""
    best = dict(iter(lens.table.groupby("layer")))
    rows = [
        {
            "depth": depth_words(int(own.layer), len(lens.own)),
            "blocks": int(own.layer),
            "said": [{"token": visible(row.token), "p": float(row.probability)} for row in best[own.layer].itertuples()],
            "rank": int(own.rank),
            "p": float(own.probability),
        }
        for own in lens.own.itertuples()
    ]
    return {"token": visible(lens.str_tokens[lens.pos]), "pos": lens.pos, "answer": visible(lens.answer), "about": about, "rows": rows}
