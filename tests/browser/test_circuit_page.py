"""The circuit in Chromium: what it prunes is Circuit.prune, hand and keys select, groups are made, labels run nothing, files open offline."""

import json
from pathlib import Path

import numpy as np
import pytest
from live_page import open_live, open_saved
from made_circuit import PROMPT, made_circuit_bench
from made_graph import made_graph
from playwright.sync_api import Page, expect

from widgets import CircuitView
from widgets.html.circuit import circuit_data
from widgets.html.standalone import as_json
from workbench.circuits.graph.circuit import Circuit
from workbench.circuits.metrics import logit_diff

pytestmark = pytest.mark.browser
STATIC = Path(__file__).parents[2] / "widgets/static/circuit"
HOSTILE = [
    "</script><img src=x onerror=window.hacked=1>",
    "<svg onload=window.hacked=1>",
    '"><script>window.hacked=1</script>',
    "javascript:window.hacked=1",
    "</title><iframe srcdoc='<script>parent.hacked=1</script>'>",
    "{{constructor.constructor('window.hacked=1')()}}",
    "' onmouseover='window.hacked=1",
    "\u202egnp.exe\u2066",
    "<style>*{display:none}</style>",
    "a\x00b\x1b[31m\ud83d",
]
CUT = """([data, nodes, edges, pinned]) => {
  const traits = JSON.parse(data, (key, value) => value?.["@bytes"] == null ? value : new DataView(Uint8Array.from(atob(value["@bytes"]), (c) => c.charCodeAt(0)).buffer));
  const { graph, row } = unpack({ get: (name) => traits[name] });
  const isPinned = new Uint8Array(graph.n);
  for (const id of pinned) isPinned[row.get(id)] = 1;
  const cut = cutGraph(graph, nodes, edges, isPinned);
  return [[...cut.nodes], [...cut.edges], [...cut.influence]];
}"""


def field(page: Page):
    return page.get_by_role("application")


def said(page: Page):
    return page.locator(".wbx-said")


def opened(page: Page, folder: Path, circuit: Circuit | None = None, **traits) -> CircuitView:
    pane = CircuitView(made_graph() if circuit is None else circuit, **traits)
    open_saved(page, pane.to_html(folder / "circuit.html"))
    page.locator(".wbx[data-paint]").wait_for()
    return pane


@pytest.mark.parametrize("seed", range(4))
def test_what_the_page_prunes_is_what_prune_gives(page: Page, seed: int):
    circuit = made_graph(60, 500, seed=seed)
    if seed == 1:  # ties: many equal strengths
        circuit = Circuit(**{**vars(circuit), "edges": circuit.edges.assign(change=np.sign(circuit.edges["change"]))})
    if seed == 2:  # what no answer is made of
        circuit = Circuit(**{**vars(circuit), "edges": circuit.edges[~circuit.edges["target"].str.startswith("logit")].reset_index(drop=True)})
    page.add_script_tag(content=(STATIC / "circuit_cut.js").read_text() + (STATIC / "circuit_scene.js").read_text())
    pinned = [circuit.nodes.query("kind == 'feature'")["node"].iloc[-1]] if seed == 3 else []
    n_kept = set()
    for node_share, edge_share in [(0.8, 0.98), (0.3, 0.98), (0.8, 0.4), (0.05, 0.05), (1.0, 1.0), (1.0, 0.5), (0.61, 1.0), (0.97, 0.83)]:
        nodes, edges, influence = page.evaluate(CUT, [as_json(circuit_data(circuit)), node_share, edge_share, pinned])
        wanted = (circuit.pin(pinned) if pinned else circuit).prune(node_share, edge_share)
        assert circuit.nodes["node"][np.array(nodes, bool)].tolist() == wanted.nodes["node"].tolist()
        kept = circuit.edges[np.array(edges, bool)]
        assert kept[["source", "target"]].to_numpy().tolist() == wanted.edges[["source", "target"]].to_numpy().tolist()
        np.testing.assert_allclose(influence, circuit.influence, rtol=1e-9, atol=1e-15)
        n_kept.add(len(wanted.edges))
    assert len(n_kept) > (4 if seed != 2 else 0)
