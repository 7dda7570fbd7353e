"""Many prompts ranked together → a static table: mean effects with their intervals, and on how many prompts each feature is active."""

from html import escape
from typing import Any

from widgets.marks import FAINT, bar_html, cell_html, heading_html, number, table_html, visible

N_ROWS = 20
RIGHT = "text-align:right;white-space:nowrap"


def batch_html(batch: Any) -> str:
    """A RankingBatch as a block."""
    rows, n = batch.table.head(N_ROWS), len(batch.rankings)
    scale = float(rows["effect"].abs().max()) if len(rows) else 0.0
    head = [cell_html(name, f"font-weight:600;{RIGHT if i > 1 else ''}", "th") for i, name in enumerate(("feature", "label"))]
    head += [
        cell_html(name, f"font-weight:600;{RIGHT}", "th") for name in ("active on", "effect, mean", "95 % interval", "attribution, mean")
    ]
    lines = []
    for row in rows.itertuples():
        interval = f"{number(row.low, scale=scale)} to {number(row.high, scale=scale)}"
        cells = [cell_html(str(row.feature)), cell_html(escape(visible(str(row.label)))), cell_html(f"{row.n_prompts} of {n}", RIGHT)]
        cells += [cell_html(bar_html(row.effect, scale), "width:84px"), cell_html(interval, RIGHT)]
        lines.append([*cells, cell_html(number(row.attribution, scale=scale), RIGHT)])
    about = f'<div style="font-size:12px;{FAINT}">The mean of each feature’s effect, summed over positions, over all {n} prompts.</div>'
    heading = heading_html(f"{n} prompts together", f"the {len(lines)} largest mean effects")
    return f'<div style="font-size:13px">{heading}{table_html(lines, head)}{about}</div>'
