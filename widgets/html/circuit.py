"""A circuit → HTML that a notebook shows: the picture, and the list that says the same in words. No script; labels enter escaped.

`circuit_data`: the same for the pane and the page that opens offline, in which the ES module draws and prunes (static/circuit).
"""

import math
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from widgets.figures.circuit import node_sizes, node_words, plot_circuit
from widgets.html.standalone import STATIC, Part, document
from widgets.marks import FAINT, bar_html, cell_html, heading_html, number, plain_number, table_html, token_html, visible

N_NODES, N_EDGES = 20, 4  # of the list; of each node's in- and outgoing edges
MOST_EDGES = 400_000  # that a page holds, 16 bytes each: of more, those that carry the most influence
SCRIPTS = [f"circuit/circuit_{name}" for name in ("cut", "links", "layout", "scene", "edges", "canvas", "svg", "words", "side", "hand")]
SCRIPTS = ["shared/copy", "shared/picture", *SCRIPTS, "circuit/circuit"]  # after shared/pane
TRAITS = dict(
    feature=None,
    node="",
    group="",
    marked=[],
    collapsed=[],
    together={},
    node_share=0.8,
    edge_share=0.98,
    query="",
    view=[],
    progress={"stage": ""},
    moved={},
    page={},
    with_page=False,
    home="",
    question={},
    waiting="",
)  # a circuit that was just opened


def circuit_html(circuit: Any) -> str:
    """A Circuit as a block; it shows where no script runs."""
    rather = f" rather than {token_html(circuit.baseline)}" if circuit.baseline else ""
    title = f"Which features make {token_html(circuit.answer)}{rather}?"
    notes = "".join(f'<div style="margin-top:4px">⚠ {escape(visible(note))}</div>' for note in circuit.notes)
    return (
        '<div style="max-width:1080px;font-size:13px;line-height:1.45">'
        f'<div style="font-size:20px;font-weight:600;line-height:1.3">{title}</div>{_about(circuit)}{notes}'
        f'<div style="margin-top:10px;overflow-x:auto">{plot_circuit(circuit)}</div>'
        f"{_list(circuit)}{_groups(circuit)}{_footnote(circuit)}</div>"
    )


def circuit_page(circuit: Any) -> str:
    """The same as one page that opens offline and stays alive; where no script runs it is the still picture and the list."""
    script = "".join((STATIC / f"{name}.js").read_text() for name in ("shared/pane", *SCRIPTS))
    style = "".join((STATIC / f"{name}.css").read_text() for name in ("shared/pane", "circuit/circuit"))
    offline = (STATIC / "circuit/circuit_offline.js").read_text()
    part = Part("circuit", script, style, TRAITS | circuit_data(circuit), offline, {"pages": {}})
    return document(f"Circuit: {circuit.prompt}", [part], without_scripts=circuit_html(circuit))


def circuit_data(circuit: Any) -> dict[str, Any]:
    """What the module draws. nodes: a list a column, texts with whitespace and control characters visible; edges: bytes, int32 sources,
    int32 targets (rows of nodes), float64 strengths (Circuit.strength), float32 weights; wanted: [row, share] of the logits."""
    notes = [visible(note) for note in circuit.notes]
    if (is_constant := circuit.nodes["kind"] == "constant").any():
        circuit = circuit.only(circuit.nodes.loc[~is_constant, "node"])
        notes.append("biases, position embeddings and the like stand at no token: .nodes and .closure have them")
    if len(circuit.edges) > MOST_EDGES:
        n_edges, order = len(circuit.edges), np.argsort(-np.abs(np.nan_to_num(circuit.edges["weight"].to_numpy(float))), kind="stable")
        circuit = circuit.only(circuit.nodes["node"], np.isin(np.arange(n_edges), order[:MOST_EDGES]))
        notes.append(f"here are the {MOST_EDGES:,} edges of largest |weight| of {n_edges:,}: shares and pruning are of these")
    nodes, rows = circuit.nodes, {node: i for i, node in enumerate(circuit.nodes["node"])}
    found = nodes[nodes["kind"] != "logit"]  # logits are the metric itself: of what is direct, they alone have an effect
    names = list(dict.fromkeys(nodes["hook_name"]))
    texts = {name: [visible(str(text)) for text in nodes[name].fillna("")] for name in ("token", "label")}
    numbers = {name: [plain_number(value) for value in nodes[name]] for name in ("activation", "effect", "attribution")}
    whole = {name: [int(value) for value in nodes[name]] for name in ("layer", "pos", "feature")}
    ends = [circuit.edges[name].map(rows).to_numpy(np.int32) for name in ("source", "target")]
    weights = circuit.edges["weight"].fillna(0.0).to_numpy(np.float32)
    return dict(
        about=dict(
            prompt=visible(circuit.prompt),
            answer=visible(circuit.answer),
            baseline=visible(circuit.baseline),
            model=visible(circuit.model_name),
            way=circuit.way,
            metric=plain_number(circuit.clean_metric),
            notes=notes,
            can_measure=circuit.lens is not None,
            sized_by=next((name for name in ("effect", "attribution") if (found[name].fillna(0) != 0).any()), "influence"),
        ),
        tokens=[visible(token) for token in circuit.str_tokens],
        hook_names=[visible(name) for name in names],
        nodes=dict(
            id=nodes["node"].tolist(),
            kind=nodes["kind"].tolist(),
            hook=[names.index(name) for name in nodes["hook_name"]],
            size=[plain_number(value) for value in node_sizes(circuit)],
            **whole,
            **texts,
            **numbers,
        ),
        edges=b"".join([*(each.tobytes() for each in ends), circuit.strength.astype(np.float64).tobytes(), weights.tobytes()]),
        wanted=[[rows[node], float(share)] for node, share in circuit.wanted.items() if node in rows],
        groups={name: list(members) for name, members in circuit.groups.items()},
        pinned=list(circuit.pinned),
    )


def _about(circuit: Any) -> str:
    kinds = circuit.nodes["kind"].value_counts()
    counts = [
        f"{kinds[kind]:,} {name}" for kind, name in (("feature", "features"), ("error", "errors"), ("token", "tokens")) if kind in kinds
    ]
    scores = circuit.scores
    known = [f"metric {number(circuit.clean_metric)}"] if math.isfinite(circuit.clean_metric) else []
    known += [*counts, f"{len(circuit.edges):,} {circuit.way} edges"]
    if math.isfinite(scores.completeness) and "error" in kinds:  # of a graph without its errors both are 1, whatever was left out
        known.append(f"replacement {scores.replacement:.2f}, completeness {scores.completeness:.2f}")
    model = [visible(circuit.model_name)] if circuit.model_name else []
    return (
        f'<div style="margin-top:4px">{escape(visible(circuit.prompt))}</div>'
        f'<div style="font-size:12px;{FAINT}">{escape(" · ".join([*known, *model]))}</div>'
    )


def _list(circuit: Any) -> str:
    """The strongest nodes, each with what it comes from and what it goes to, in words."""
    top = circuit.top(N_NODES)
    by = top.attrs["by"]
    names = {row["node"]: node_words(row | {"effect": math.nan}) for row in circuit.nodes.to_dict("records")}
    longest = float(top[by].abs().max()) if len(top) else 0.0
    into, out = circuit.edges.groupby("target", sort=False), circuit.edges.groupby("source", sort=False)
    rows = []
    for row in top.to_dict("records"):
        edges = [_edges(group, row["node"], column, names) for group, column in ((into, "source"), (out, "target"))]
        cells = [cell_html(bar_html(row[by], longest), "width:80px"), cell_html(escape(names[row["node"]]), "width:260px")]
        rows.append([*cells, *(cell_html(text, "font-size:12px") for text in edges)])
    head = [cell_html(text, "font-weight:600", "th") for text in (by, "node", "comes from", "goes to")]
    return heading_html("In words", f"the {len(top)} nodes of largest |{by}|; numbers of edges are weights") + table_html(rows, head)


def _edges(groups: Any, node: str, column: str, names: dict[str, str]) -> str:
    if node not in groups.groups:
        return f'<span style="{FAINT}">nothing in this graph</span>'
    mine: pd.DataFrame = groups.get_group(node)
    strongest = mine.loc[mine["weight"].abs().sort_values(ascending=False, kind="stable").index[:N_EDGES]]
    lines = [f"{number(row['weight'])} {escape(names[row[column]])}" for row in strongest.to_dict("records")]
    more = len(mine) - len(strongest)
    return "<br>".join(lines) + (f'<br><span style="{FAINT}">and {more:,} more</span>' if more else "")


def _groups(circuit: Any) -> str:
    if not circuit.groups:
        return ""
    order = sorted(circuit.groups.items(), key=lambda each: -len(each[1]))[:N_NODES]
    rows = [[cell_html(escape(visible(name)), "font-weight:600"), cell_html(escape(", ".join(members)))] for name, members in order]
    return heading_html("Groups", f"{len(circuit.groups):,}, the largest first") + table_html(rows)


def _footnote(circuit: Any) -> str:
    if circuit.way == "direct":
        says = "The weight of an edge is a direct effect on its target."
    else:
        says = (
            "Effect: the metric that is lost without the node. The weight of an edge: how much of the target's activation is lost without "
            "the source, times what the target's activation does to the metric."
        )
    says += " Orange and solid supports the answer, purple and dashed opposes it."
    return f'<div style="margin-top:14px;font-size:12px;{FAINT}">{says}</div>'


def swap_html(swap: Any) -> str:
    """A Swap: the wanted token's probability before and after, at each place, beside the control's."""
    right = "text-align:right;width:110px"
    names = ("hook point", "first token then", "before", "after", "control", "first answer then", "off · on")
    head = [cell_html(name, "font-weight:600" + (";" + right if i > 1 else ""), "th") for i, name in enumerate(names)]
    rows = []
    for row in swap.table.itertuples():
        bars = [
            cell_html(bar_html(value, 1.0, is_signed=False), right) for value in (row.before, row.probability, row.control, row.original)
        ]
        first = [cell_html(escape(row.hook_name)), cell_html(token_html(row.answer))]
        rows.append([*first, *bars, cell_html(f"{row.n_off} · {row.n_on}", right)])
    return (
        '<div style="max-width:1080px;font-size:13px;line-height:1.45">'
        f'<div style="font-size:20px;font-weight:600">From {token_html(swap.before)} to {token_html(swap.wanted)}?</div>'
        f'<div style="margin-top:4px">{escape(visible(swap.prompt))}</div>'
        f"{heading_html('At each place alone', 'probability of the wanted token')}{table_html(rows, head)}"
        f'<div style="margin-top:10px;font-size:12px;{FAINT}">Control: as long a change along random features. '
        "Off · on: how many features were active and are off, and how many are on.</div></div>"
    )
