"""A circuit as a still picture: tokens from left to right, layers from bottom to top, edges as wide as their weight.

Circles are features, sized by |effect|; squares are errors; below stand the tokens, above the answer and the baseline. What supports the
answer is orange and solid, what opposes it purple and dashed. Of a large graph the strongest nodes and edges are drawn, and it says so.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from widgets.figures.svg import INK, svg_img, svg_text
from widgets.marks import ORANGE, PURPLE, number, visible

N_NODES, N_EDGES = 60, 160  # beyond them a picture is ink
CELL, ROW, LEFT, TOP, BOTTOM = 15, 64, 74, 34, 40  # pixels: a node's place in a column, a layer, and the margins
SMALLEST, LARGEST = 2.5, 9.0  # radius
N_CHARS, LETTER = 14, 6.5  # of a token that is written; pixels of a letter, on average


def plot_circuit(circuit: Any) -> str:
    """An <img> that survives an untrusted notebook."""
    body, width, height, alt = _drawn(circuit)
    return svg_img(body, width, height, alt)


def circuit_svg(circuit: Any) -> str:
    """The same as an SVG file's text."""
    body, width, height, alt = _drawn(circuit)
    return svg_text(f"<title>{escape(alt)}</title>{body}", width, height) + "\n"


def _drawn(circuit: Any) -> tuple[str, int, int, str]:
    nodes, edges = shown(circuit)
    at, width, height = _layout(nodes, [_token(circuit.str_tokens, pos) for pos in range(len(circuit.str_tokens))])
    longest = float(edges["weight"].abs().max()) if len(edges) else 1.0
    largest = float(nodes["size"].max()) or 1.0
    lines = [_edge(at[row.source], at[row.target], row.weight / longest) for row in edges.itertuples() if row.weight]
    marks = [_node(row, at[row["node"]], math.sqrt(row["size"] / largest)) for row in nodes.to_dict("records")]
    left_out = len(circuit.nodes) - len(nodes), len(circuit.edges) - len(edges)
    note = f"the strongest {len(nodes):,} of {len(circuit.nodes):,} nodes and {len(edges):,} of {len(circuit.edges):,} edges"
    texts = _tokens(nodes, circuit.str_tokens, at, height) + _layers(nodes, at)
    texts += [f'<text x="{LEFT}" y="14" fill="{INK}">{note}</text>'] if any(left_out) else []
    alt = f"Circuit of {len(circuit.nodes):,} nodes and {len(circuit.edges):,} edges" + (f"; drawn are {note}" if any(left_out) else "")
    return "".join([*lines, *marks, *texts]), width, height, alt


def shown(circuit: Any, n_nodes: int = N_NODES, n_edges: int = N_EDGES) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What is drawn: tokens, logits, and the nodes of largest |effect| (or what is known instead); their edges of largest |weight|."""
    nodes = circuit.nodes.assign(size=node_sizes(circuit))
    nodes = nodes[nodes["kind"] != "constant"]  # those stand at no token
    is_frame = nodes["kind"].isin(("token", "logit"))
    nodes = pd.concat([nodes[is_frame], nodes[~is_frame].nlargest(n_nodes, "size")]).sort_index()
    names = set(nodes["node"])
    edges = circuit.edges[circuit.edges["source"].isin(names) & circuit.edges["target"].isin(names)]
    order = edges["weight"].abs().sort_values(ascending=False, kind="stable").index[:n_edges]
    return nodes, edges.loc[order[::-1]]  # the strongest on top


def node_sizes(circuit: Any) -> np.ndarray:
    """|effect|, or |attribution| where it was not measured; influence where neither is known of any node."""
    nodes = circuit.nodes
    size = nodes["effect"].abs().fillna(nodes["attribution"].abs())
    size = size if (size.fillna(0) > 0).any() else circuit.influence.reset_index(drop=True)
    return size.fillna(0.0).to_numpy(dtype=float)


def _token(str_tokens: Sequence[str], pos: int) -> str:
    """As it is written below its column."""
    return visible(str_tokens[pos])[:N_CHARS] if pos < len(str_tokens) else str(pos)


def _layout(nodes: pd.DataFrame, said: Sequence[str]) -> tuple[dict[str, tuple[float, float]], int, int]:
    """node → (x, y), and the picture's size: a column a position, as wide as its fullest layer and the token below it need."""
    rows = {layer: i for i, layer in enumerate(sorted(nodes["layer"].unique()))}
    per_cell = nodes.groupby(["layer", "pos"]).size()
    counts = per_cell.groupby("pos").max() if len(per_cell) else pd.Series(dtype=int)
    n_pos = max(len(said), int(nodes["pos"].max()) + 1)
    words = [round(8 + LETTER * len(said[pos].strip())) if pos < len(said) else 0 for pos in range(n_pos)]
    widths = [max(46, 18 + CELL * int(counts.get(pos, 0)), words[pos]) for pos in range(n_pos)]
    begins = [LEFT + sum(widths[:i]) for i in range(len(widths))]
    height = TOP + ROW * len(rows) + BOTTOM
    at = {}
    for (layer, pos), mine in nodes.groupby(["layer", "pos"]):
        for i, node in enumerate(mine["node"]):
            x = begins[pos] + widths[pos] / 2 + CELL * (i - (len(mine) - 1) / 2)
            at[node] = (x, height - BOTTOM - ROW * (rows[layer] + 0.5))
    return at, LEFT + sum(widths) + 10, height


def _edge(start: tuple[float, float], end: tuple[float, float], share: float) -> str:
    color, dash = (ORANGE, "") if share > 0 else (PURPLE, ' stroke-dasharray="4 3"')
    (x1, y1), (x2, y2) = start, end
    bend = (y1 + y2) / 2
    path = f"M{x1:.1f} {y1:.1f}C{x1:.1f} {bend:.1f} {x2:.1f} {bend:.1f} {x2:.1f} {y2:.1f}"
    strength = f'stroke-width="{0.4 + 4 * abs(share):.2f}" stroke-opacity="{0.25 + 0.6 * abs(share):.2f}"'
    return f'<path d="{path}" fill="none" stroke="rgb({color})" {strength}{dash}/>'


def _node(row: Mapping[str, Any], at: tuple[float, float], share: float) -> str:
    x, y = at
    radius = SMALLEST + (LARGEST - SMALLEST) * min(share, 1.0)
    value = row["effect"] if math.isfinite(row["effect"]) else row["attribution"]
    color = "128,128,128" if not math.isfinite(value) or value == 0 else ORANGE if value > 0 else PURPLE
    dash = ' stroke-dasharray="2 2"' if color == PURPLE else ""
    style = f'fill="rgb({color})" fill-opacity="0.45" stroke="rgb({color})"{dash}'
    title = f"<title>{escape(node_words(row))}</title>"
    if row["kind"] == "feature":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" {style}>{title}</circle>'
    corner = 4 if row["kind"] == "logit" else 0
    return (
        f'<rect x="{x - radius:.1f}" y="{y - radius:.1f}" width="{2 * radius:.1f}" height="{2 * radius:.1f}" rx="{corner}" {style}>'
        f"{title}</rect>"
    )


def node_words(row: Mapping[str, Any]) -> str:
    """One node in words: what it is, where it stands, what it does."""
    token = repr(visible(str(row["token"])))
    what = {
        "feature": f"feature {row['feature']}" + (f" ({visible(str(row['label']))})" if row["label"] else ""),
        "error": visible(str(row["label"])) or "what the dictionary does not explain",
        "constant": visible(str(row["label"])),
        "token": "the token",
        "logit": "the logit of",
    }[row["kind"]]
    where = f"{what} {token}" if row["kind"] in ("token", "logit") else f"{what} at {token} ({row['pos']}), layer {row['layer']}"
    effect = f", effect {number(row['effect'])}" if math.isfinite(row["effect"]) else ""
    return where + effect


def _tokens(nodes: pd.DataFrame, str_tokens: list[str], at: Mapping[str, tuple[float, float]], height: int) -> list[str]:
    """Below each column its token; above the answer and the baseline their names."""
    texts = []
    for pos, mine in nodes.groupby("pos"):
        x = sum(at[node][0] for node in mine["node"]) / len(mine)
        texts.append(
            f'<text x="{x:.1f}" y="{height - BOTTOM + 14}" text-anchor="middle" fill="{INK}">{escape(_token(str_tokens, pos))}</text>'
        )
    for row in nodes[nodes["kind"] == "logit"].itertuples():
        x, y = at[str(row.node)]
        name = escape(visible(str(row.token))[:N_CHARS])
        anchor = "end" if row.effect > 0 or math.isnan(row.effect) else "start"
        texts.append(
            f'<text x="{x + (-12 if anchor == "end" else 12):.1f}" y="{y - 12:.1f}" text-anchor="{anchor}" fill="{INK}">{name}</text>'
        )
    return texts


def _layers(nodes: pd.DataFrame, at: Mapping[str, tuple[float, float]]) -> list[str]:
    names = {}
    for row in nodes.itertuples():
        names[at[str(row.node)][1]] = {"token": "tokens", "logit": "answer"}.get(str(row.kind), f"layer {row.layer}")
    return [f'<text x="8" y="{y + 4:.1f}" fill="{INK}">{name}</text>' for y, name in names.items()]
