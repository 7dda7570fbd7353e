"""Several prompts → static tables: mean effects with intervals; two side by side; what differs between two models that read them."""

from html import escape
from typing import Any

from widgets.html.card import label_html
from widgets.marks import FAINT, bar_html, cell_html, heading_html, number, table_html, token_html, visible

N_ROWS, LONGEST = 20, 160
RIGHT = "text-align:right;white-space:nowrap"


def batch_html(batch: Any) -> str:
    """A RankingBatch as a block."""
    return means_html(batch, batch.table.head(N_ROWS), "the {} largest mean effects")


def means_html(batch: Any, rows: Any, which: str) -> str:
    """Some rows of its table, in their order. which: are shown, in words; {} is how many."""
    n = len(batch.rankings)
    scale = float(rows["effect"].abs().max()) if len(rows) else 0.0
    head = [cell_html(name, f"font-weight:600;{RIGHT if i > 1 else ''}", "th") for i, name in enumerate(("feature", "label"))]
    head += [
        cell_html(name, f"font-weight:600;{RIGHT}", "th") for name in ("active on", "effect, mean", "95 % interval", "attribution, mean")
    ]
    lines = []
    for row in rows.itertuples():
        interval = _interval(row, scale)
        cells = [cell_html(str(row.feature)), cell_html(escape(visible(str(row.label)))), cell_html(f"{row.n_prompts} of {n}", RIGHT)]
        cells += [cell_html(bar_html(row.effect, scale), "width:84px"), cell_html(interval, RIGHT)]
        lines.append([*cells, cell_html(number(row.attribution, scale=scale), RIGHT)])
    about = f'<div style="font-size:12px;{FAINT}">The mean of each feature’s effect, summed over positions, over all {n} prompts.</div>'
    about += "".join(f'<div style="font-size:12px">⚠ {escape(visible(note))}</div>' for note in batch.notes)
    heading = heading_html(f"{n} prompts together", escape(which.format(len(lines))))
    return f'<div style="font-size:13px">{heading}{table_html(lines, head)}{about}</div>'


def _interval(row: Any, scale: float) -> str:
    """Of one prompt, and of what was measured in part, there is none."""
    return f"{number(row.low, scale=scale)} to {number(row.high, scale=scale)}" if row.low == row.low else "–"


def minimal_html(found: Any) -> str:
    """MinimalSets as a block: what both sets do on held-out prompts, and their features in the order in which they were taken."""
    parts = [heading_html("Which features must be active, which silent?", "chosen on half of the prompts, measured on the other half")]
    parts.append(f"<div><b>{escape(visible(found.verdict))}</b></div>")
    parts += [f'<div style="font-size:12px;{FAINT}">{escape(visible(note))}</div>' for note in found.notes]
    names = ("feature", "label", "role", "held", "chosen on", "held out", "95 % interval", "other answers changed")
    head = [cell_html(name, f"font-weight:600;{RIGHT if i > 3 else ''}", "th") for i, name in enumerate(names)]
    for title, each in (("Takes the behavior away", found.removing), ("Gives the behavior", found.giving)):
        lines = []
        for row in each.table.itertuples():
            held = row.held if row.held == "off" else f"{row.held} {number(row.level, False)}"
            cells = [cell_html(escape(visible(str(text)))) for text in (row.feature, row.label, row.role, held)]
            others = "–" if row.others != row.others else f"{row.others:.1%}"
            shares = (f"{row.share:.0%}", f"<b>{row.held_out:.0%}</b>", f"{row.low:.0%} to {row.high:.0%}", others)
            lines.append([*cells, *(cell_html(text, RIGHT) for text in shares)])
        note = "each row with all before it" if lines else "no feature does"
        parts.append(heading_html(title, note) + (f'<div style="overflow-x:auto">{table_html(lines, head)}</div>' if lines else ""))
    return f'<div style="max-width:1080px;font-size:13px;line-height:1.45">{"".join(parts)}</div>'


def changes_html(changes: Any) -> str:
    """Changes as a block: what changed and what is assumed, the features that moved most, the difference of means, the texts."""
    heading = heading_html(
        "What did tuning change?", f"{changes.n_texts:,} texts through both models, {len(changes.table):,} active features"
    )
    said = [f"<div><b>{escape(visible(changes.verdict))}</b></div>"]
    said += [f'<div style="font-size:12px;{FAINT}">{escape(visible(note))}</div>' for note in (changes.assumes, *changes.notes)]
    rows = changes.top(N_ROWS)
    known = {name: float(rows[name].abs().max()) if len(rows) else 0.0 for name in ("moved", "change", "base", "tuned")}
    lines = []
    for row in rows.itertuples():
        interval = f"{number(row.low, scale=known['change'])} to {number(row.high, scale=known['change'])}"
        means = f"{number(row.base, False, known['base'])} → {number(row.tuned, False, known['tuned'])}"
        density = f"{row.density_base:.2%} → {row.density_tuned:.2%}"
        cells = [cell_html(str(row.feature)), cell_html(escape(visible(str(row.label))))]
        cells.append(cell_html(bar_html(row.moved, known["moved"], is_signed=False), "width:64px"))
        cells.append(cell_html(bar_html(row.change, known["change"]), "width:84px"))
        lines.append([*cells, *(cell_html(text, RIGHT) for text in (interval, means, density, f"{row.q:.1g}"))])
    names = ("feature", "label", "moved", "change, mean", "95 % interval", "activation, mean", "density", "q")
    head = [cell_html(name, f"font-weight:600;{RIGHT if i > 1 else ''}", "th") for i, name in enumerate(names)]
    parts = [heading, *said, f'<div style="overflow-x:auto;margin-top:8px">{table_html(lines, head)}</div>' if lines else ""]
    dense = [
        [cell_html(str(row.feature)), cell_html(escape(visible(str(row.label)))), cell_html(number(row.cosine), RIGHT)]
        for row in changes.dense.itertuples()
    ]
    about = f"{changes.mean_share:.0%} of what texts’ activations differ by; decoder rows along it"
    far = [[cell_html(number(row.distance, False), RIGHT), cell_html(escape(visible(row.text[:LONGEST])))] for row in _first(changes.texts)]
    views = [
        ("The difference of means", about, dense),
        ("The texts that are read most differently", "1: as far as activations lie from their mean", far),
    ]
    if changes.crosscoder is not None:
        views.insert(1, ("A dictionary of both models", _crosscoder_note(changes.crosscoder), _crosscoder_rows(changes.crosscoder)))
    if changes.effects is not None:
        views.insert(0, ("Effects on what follows", "of the features whose attribution differs most", _effect_rows(changes.effects)))
    for name, note, cells in views:
        parts.append(f"<details><summary>{name} <span style='{FAINT};font-size:12px'>{note}</span></summary>{table_html(cells)}</details>")
    return f'<div style="max-width:1080px;font-size:13px">{"".join(parts)}</div>'


def _effect_rows(table: Any) -> list[list[str]]:
    """Measured mean effects in both models, the largest change first."""
    names = ("feature", "label", "effect, mean, nats", "change", "95 % interval", "active in", "q")
    rows, scale = (
        [[cell_html(name, f"font-weight:600;{RIGHT if i > 1 else ''}") for i, name in enumerate(names)]],
        _largest(table, "change"),
    )
    known = max(_largest(table, "base"), _largest(table, "tuned"))
    for row in table.head(N_ROWS).itertuples():
        means = f"{number(row.base, scale=known)} → {number(row.tuned, scale=known)}"
        interval = _interval(row, scale)
        cells = [cell_html(str(row.feature)), cell_html(escape(visible(str(row.label)))), cell_html(means, RIGHT)]
        cells.append(cell_html(bar_html(row.change, scale), "width:84px"))
        rows.append([*cells, *(cell_html(text, RIGHT) for text in (interval, f"{row.n_texts:,} texts", f"{row.q:.1g}"))])
    return rows


def _largest(table: Any, name: str) -> float:
    return float(table[name].abs().max()) if len(table) else 0.0


def _crosscoder_note(table: Any) -> str:
    """Whose features are whose."""
    kinds = table["kind"].value_counts()
    return ", ".join(f"{kinds.get(kind, 0):,} {kind}" for kind in ("shared", "base only", "tuned only", "leaning"))


def _crosscoder_rows(table: Any) -> list[list[str]]:
    """The features furthest from both; an empty scale where a feature is of both."""
    names = ("feature", "whose", "share", "density", "ν, error", "ν, reconstruction", "confirmed")
    rows = [[cell_html(name, f"font-weight:600;{RIGHT if i > 1 else ''}") for i, name in enumerate(names)]]
    for row in table.head(N_ROWS).itertuples():
        scales = ["" if scale != scale else number(scale) for scale in (row.nu_error, row.nu_reconstruction)]
        right = [number(row.share, False), f"{row.density:.2%}", *scales, "yes" if row.is_confirmed else ""]
        rows.append([cell_html(str(row.feature)), cell_html(row.kind), *(cell_html(text, RIGHT) for text in right)])
    return rows


def _first(texts: Any) -> Any:
    return texts.head(N_ROWS // 2).itertuples()


def comparison_html(comparison: Any, some: Any = None, which: str = "the largest differences either way") -> str:
    """A RankingComparison as a block: the two questions, what to know first, the largest differences of either sign; or some rows of its
    table, in their order. which: they are, in words."""
    both, rows = (comparison.first, comparison.second), comparison.table
    said = []
    for side, each in zip(("First", "Second"), both, strict=True):
        other = f"logit({token_html(each.baseline)})" if each.baseline else "the mean logit"
        metric = f"logit({token_html(each.answer)}) − {other} = <b>{number(each.clean_metric)}</b>"
        said.append(f"<div><b>{side}</b> {metric} · {escape(visible(each.prompt[:LONGEST]))}</div>")
    said += [f'<div style="font-size:12px">⚠ {escape(visible(note))}</div>' for note in comparison.notes]
    measures = ("effect", "attribution", "activation")
    parts = ("first", "second", "difference")
    scales = {name: max(float(rows[f"{name}_{part}"].abs().max()) for part in parts) if len(rows) else 0.0 for name in measures}
    if some is None:
        some = rows if len(rows) <= N_ROWS else _ends(rows, N_ROWS // 2)
    lines = []
    for row in some.to_dict("records"):
        cells = [cell_html(str(row["feature"])), cell_html(label_html(str(row["label"])))]
        for name in measures:
            texts = [number(row[f"{name}_{part}"], name != "activation" or part == "difference", scales[name]) for part in parts]
            cells += [cell_html(f"<b>{text}</b>" if i == 2 else text, RIGHT) for i, text in enumerate(texts)]
        lines.append(cells)
    head = [cell_html(name, "font-weight:600", "th") for name in ("feature", "label")]
    head += [cell_html(f"{name}, {part}", f"font-weight:600;{RIGHT}", "th") for name in measures for part in ("1st", "2nd", "1st − 2nd")]
    heading = heading_html("Two prompts side by side", f"{len(rows):,} features; sums over positions, {escape(which)}")
    return f'<div style="font-size:13px">{heading}{"".join(said)}<div style="overflow-x:auto">{table_html(lines, head)}</div></div>'


def _ends(rows: Any, n: int) -> Any:
    return rows.iloc[[*range(n), *range(len(rows) - n, len(rows))]]
