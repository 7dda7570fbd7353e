"""What a search found → HTML: how many features each filter took away, the features that are left, and what each does on the prompts.

Inline styles, tables and <details> only; everything from prompts, tokens and labels is escaped.
"""

from html import escape
from typing import Any

import pandas as pd

from widgets.html.card import label_html
from widgets.marks import FAINT, bar_html, cell_html, heading_html, highlights_html, number, table_html

N_ROWS = 20
SMALL = f"font-size:12px;{FAINT}"
RIGHT = "text-align:right;white-space:nowrap"


def found_html(found: Any) -> str:
    """A Found as a block: the search, its filters, its features."""
    parts = [heading_html(escape(f"Features {found.wants}"), escape(found.note)), _filters(found.removed)]
    if not len(found.table):
        parts.append("<div><b>No feature passes.</b> The lines above say which filter removed how many.</div>")
    else:
        parts += [_table(found.table.head(N_ROWS)), _prompts(found)]
        n_more = found.n_passed - min(N_ROWS, len(found.table))
        parts.append(f'<div style="{SMALL};margin-top:6px">and {n_more:,} more</div>' if n_more else "")
    return f'<div style="max-width:1080px;font-size:13px;line-height:1.45">{"".join(parts)}</div>'


def _filters(removed: Any) -> str:
    rows = []
    for each in removed:
        left = each.n_before - each.n_removed
        counts = [f"{each.n_before:,}", f"−{each.n_removed:,}", f"<b>{left:,}</b>"]
        rows.append([cell_html(escape(each.filter)), *(cell_html(count, RIGHT) for count in counts)])
    head = [
        cell_html(name, f"font-weight:600;{RIGHT if i else ''}", "th") for i, name in enumerate(("filter", "before", "removed", "left"))
    ]
    return table_html(rows, head) if rows else ""


def _table(table: pd.DataFrame) -> str:
    numbers = [name for name in table if name not in ("feature", "label", "sae") and pd.api.types.is_numeric_dtype(table[name])]
    texts = [name for name in table if name not in ("feature", "label", *numbers)]
    known = [name for name in numbers if table[name].notna().any()]
    scale = {name: float(table[name].abs().max()) for name in known}
    rows = []
    for row in table.to_dict("records"):
        cells = [cell_html(f"{row['feature']:,}", RIGHT), cell_html(label_html(str(row["label"])), "min-width:120px")]
        cells += [cell_html(escape(str(row[name]))) for name in texts]
        for name in known:
            cells.append(cell_html(_number(table[name].dtype, name, row[name], scale[name]), RIGHT))
        rows.append(cells)
    head = [cell_html(name, f"font-weight:600;{RIGHT}", "th") for name in ("feature",)]
    head += [cell_html(name, "font-weight:600;text-align:left", "th") for name in ("label", *texts)]
    head += [cell_html(escape(name.replace("_", " ")), f"font-weight:600;{RIGHT}", "th") for name in known]
    return f'<div style="overflow-x:auto;margin-top:8px">{table_html(rows, head)}</div>'


def _number(dtype: Any, name: str, value: float, scale: float) -> str:
    if pd.api.types.is_integer_dtype(dtype):
        return f"{value:,}"
    return bar_html(value, scale, is_signed=False) if name == "score" else number(value, False, scale)


def _prompts(found: Any) -> str:
    """Each of the first features on each prompt, shaded; the first one open."""
    if found.codes is None:
        return ""
    parts = []
    for at, row in enumerate(found.table.head(N_ROWS // 2).to_dict("records")):
        acts = [found.codes.activations(i, row["feature"]) for i in range(len(found.codes.prompts))]
        scale = max(max(each) for each in acts)
        rows = []
        for i, (tokens, each) in enumerate(zip(found.codes.str_tokens, acts, strict=True)):
            sign = "+" if i < found.n_positive else "−"
            shaded = highlights_html(tokens, {pos: act for pos, act in enumerate(each) if act > 0}, scale, found.codes.first, False)
            cells = [cell_html(sign, f"width:12px;{FAINT}"), cell_html(number(max(each), False, scale), f"width:52px;{RIGHT}")]
            rows.append([*cells, cell_html(shaded)])
        name = label_html(str(row["label"]) or "no label")
        summary = f'<summary style="padding:3px 0">{row["feature"]:,} <span style="{SMALL}">{name}</span></summary>'
        parts.append(f"<details{' open' * (at == 0)}>{summary}{table_html(rows)}</details>")
    return heading_html("On the prompts", "+ positive, − negative; the largest activation, the tokens shaded by it") + "".join(parts)


def probes_html(probes: Any) -> str:
    """Probes as a block: the verdict, the picture, every classifier, the features that were chosen, what to beware of."""
    about = f"{probes.n_positive:,} texts against {probes.n_negative:,}, judged on texts that they did not see; 95 % intervals"
    parts = [heading_html("Which classifier tells them apart", escape(about)), f"<div><b>{escape(probes.verdict)}</b></div>"]
    parts += [f'<div style="{SMALL}">{escape(note)}</div>' for note in probes.notes]
    parts.append(f'<div style="margin-top:8px">{probes.plot()._still}</div>')
    rows = []
    for row in probes.table.to_dict("records"):
        cells = [cell_html(escape(row["reads"])), cell_html(f"{row['n_inputs']:,}", RIGHT)]
        for name, low, high in (("auroc", "low", "high"), ("shifted", "shifted_low", "shifted_high")):
            if name in row:
                cells.append(cell_html(f"<b>{row[name]:.3f}</b> {row[low]:.3f}–{row[high]:.3f}", RIGHT))
        rows.append(cells)
    names = ["reads", "inputs", "AUROC", *(["AUROC, shifted texts"] if "shifted" in probes.table else [])]
    head = [cell_html(name, f"font-weight:600;{RIGHT if i else 'text-align:left'}", "th") for i, name in enumerate(names)]
    parts.append(f'<div style="overflow-x:auto;margin-top:8px">{table_html(rows, head)}</div>')
    chosen = [
        [
            cell_html(f"{row['feature']:,}", RIGHT),
            cell_html(label_html(str(row["label"])), "min-width:120px"),
            cell_html(f"{row['share_of_parts']:.0%}", RIGHT),
            cell_html(number(row["weight"]), RIGHT),
        ]
        for row in probes.features.to_dict("records")
    ]
    names = ("feature", "label", "chosen in", "weight")
    head = [cell_html(name, f"font-weight:600;{'text-align:left' if name == 'label' else RIGHT}", "th") for name in names]
    parts.append(f'<div style="overflow-x:auto;margin-top:8px">{table_html(chosen, head)}</div>')
    return f'<div style="max-width:1080px;font-size:13px;line-height:1.45">{"".join(parts)}</div>'
