"""The survey of a dictionary → HTML: how a feature splits, as a list that opens; all features of several dictionaries, as a picture.

Inline styles, <details> and an <img> only; everything from labels is escaped.
"""

from html import escape
from typing import Any

import numpy as np

from widgets.figures.svg import svg_img
from widgets.html.card import label_html
from widgets.marks import BLUE, FAINT, ORANGE, PURPLE, cell_html, cut, heading_html, legend_html, number, table_html, visible

SMALL = f"font-size:12px;{FAINT}"
COLORS = (ORANGE, PURPLE, BLUE, "0,128,96", "128,128,128")
WIDTH, HEIGHT, EDGE = 640, 480, 8
N_POINTS = 12_000  # drawn: ten bytes each, and more only overlap
N_CHILDREN, N_NAMED, N_CLUSTERS = 12, 14, 12


def splitting_html(splitting: Any) -> str:
    """A Splitting as a nested list, the nearest first."""
    counts = " → ".join(f"{n} in {escape(visible(sae))}" for sae, n in splitting.counts.items())
    heading = heading_html(f"Feature {splitting.root.feature:,} in larger dictionaries", counts)
    return f'<div style="max-width:1080px;font-size:13px;line-height:1.6">{heading}{_branch(splitting.root)}</div>'


def _branch(branch: Any) -> str:
    share = "" if branch.cosine == 1 else f"cosine {number(branch.cosine, False)} · "
    about = f'<span style="{SMALL}">{share}{100 * branch.density:.2g} % of tokens</span>'
    name = f'<span style="{FAINT}">{escape(visible(branch.sae))}</span> {branch.feature:,} <b>{label_html(branch.label)}</b> {about}'
    if not branch.children:
        return f'<div style="margin-left:16px">{name}</div>'
    n_more = len(branch.children) - N_CHILDREN
    rest = f'<div style="margin-left:16px;{SMALL}">and {n_more:,} more</div>' if n_more > 0 else ""
    below = "".join(map(_branch, branch.children[:N_CHILDREN])) + rest
    return f'<details open style="margin-left:16px"><summary>{name}</summary>{below}</details>'


def scores_html(scores: Any) -> str:
    """FeatureScores as a block: how far reading and writing go together, the picture, the features in which they part."""
    heading = heading_html(f"What {len(scores.table):,} features read and write", escape(scores.basis))
    parts = [heading, f"<div><b>{escape(scores.verdict)}</b></div>"]
    parts += [f'<div style="{SMALL}">{escape(note)}</div>' for note in scores.notes]
    apart = scores.apart()
    if not len(apart):
        return f'<div style="max-width:1080px;font-size:13px;line-height:1.45">{"".join(parts)}</div>'
    right, rows = "text-align:right;white-space:nowrap", []
    for row in apart.to_dict("records"):
        numbers = [cell_html(number(row[name], name == "gap"), right) for name in ("input", "output", "gap")]
        named = cell_html(label_html(str(row["label"]) or "no label"), "min-width:120px")
        rows.append([cell_html(escape(row["does"])), cell_html(f"{row['feature']:,}", right), named, *numbers])
    names = ("", "feature", "label", "input", "output", "gap")
    head = [cell_html(name, f"font-weight:600;{right if name not in ('', 'label') else 'text-align:left'}", "th") for name in names]
    parts += [
        f'<div style="margin-top:8px">{scores.plot()._still}</div>',
        heading_html("Where the two part", "by the share of features ahead of"),
    ]
    parts.append(f'<div style="overflow-x:auto">{table_html(rows, head)}</div>')
    return f'<div style="max-width:1080px;font-size:13px;line-height:1.45">{"".join(parts)}</div>'


def map_html(mapping: Any) -> str:
    """A FeatureMapping as a picture, a color for each dictionary, the largest clusters named; below it what they hold."""
    table, clusters = mapping.table, mapping.clusters
    saes = list(dict.fromkeys(table["sae"]))
    colors = {sae: COLORS[i % len(COLORS)] for i, sae in enumerate(saes)}
    note = f"{mapping.method} of decoder directions; near each other: they point the same way. Distances across the map mean little."
    legend = legend_html({f"{sae}: {int((table['sae'] == sae).sum()):,}": (color, "") for sae, color in colors.items()})
    heading = heading_html(f"{len(table):,} features, {len(clusters):,} clusters", escape(note))
    picture = map_svg(table, colors, mapping.regions)
    return f'<div style="max-width:1080px;font-size:13px">{heading}{picture}{legend}{_clusters(clusters, saes)}</div>'


def map_svg(table: Any, colors: dict[str, str], regions: Any) -> str:
    """Points, the widest dictionary at the bottom; the names of the regions that most features bear, where they lie."""
    every = max(1, -(-len(table) // N_POINTS))
    low, high = table[["x", "y"]].min().to_numpy(float), table[["x", "y"]].max().to_numpy(float)
    span = np.maximum(high - low, 1e-9)

    def at(points: Any) -> np.ndarray:
        share = (points[["x", "y"]].to_numpy(float) - low) / span
        return np.stack([EDGE + share[:, 0] * (WIDTH - 2 * EDGE), HEIGHT - EDGE - share[:, 1] * (HEIGHT - 2 * EDGE)], axis=1)

    body = []
    widest_first = sorted(colors, key=lambda sae: -int((table["sae"] == sae).sum()))
    for i, sae in enumerate(widest_first):
        points = at(table[table["sae"] == sae].iloc[::every])
        path = "".join(f"M{x:.0f} {y:.0f}h0" for x, y in points)
        style = f'stroke="rgb({colors[sae]})" stroke-width="{3 + 0.5 * i:.1f}" stroke-linecap="round" stroke-opacity="0.75"'
        body.append(f'<path d="{path}" {style}/>')
    taken: list[tuple[float, float]] = []
    said: set[str] = set()  # of several regions of one name the largest
    for (x, y), name in zip(at(regions), regions["name"], strict=True):
        if name in said or len(taken) == N_NAMED or any(abs(x - other_x) < 150 and abs(y - other_y) < 18 for other_x, other_y in taken):
            continue
        taken.append((x, y))
        said.add(name)
        anchor = "start" if x < 80 else "end" if x > WIDTH - 80 else "middle"
        shown = cut(visible(str(name)), 30)
        width = 7.3 * len(shown) + 10  # of the tag under the name: no ink reads on points of five colors; its gray glares on no page
        left = x - {"start": 5, "middle": width / 2, "end": width - 5}[anchor]
        tag = f'x="{left:.0f}" y="{y - 11:.0f}" width="{width:.0f}" height="15" rx="3"'
        body.append(f'<rect {tag} fill="#5b616b" fill-opacity="0.92"/>')
        body.append(f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" fill="#fff" font-weight="600">{escape(shown)}</text>')
    return svg_img("".join(body), WIDTH, HEIGHT, f"A map of {len(table):,} features")


def _clusters(clusters: Any, saes: list[str]) -> str:
    if not len(clusters):
        return ""
    style = "text-align:right;white-space:nowrap"
    head = [
        cell_html(escape(visible(name)), f"font-weight:600;{style if i else ''}", "th")
        for i, name in enumerate(["labels", "features", *saes])
    ]
    rows = []
    for row in clusters.head(N_CLUSTERS).to_dict("records"):
        counts = [cell_html(f"{row.get(sae, 0):,}", style) for sae in ["n_features", *saes]]
        rows.append([cell_html(label_html(row["label"] or "no label that most share")), *counts])
    return heading_html("The largest clusters", "by the label, or the two, that half of the labeled features in each bear") + table_html(
        rows, head
    )
