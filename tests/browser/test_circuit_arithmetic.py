"""What a circuit's page computes itself is what Python computes: it prunes as Circuit.prune does, sums the edges of collapsed groups and
names what is chosen even where the picture is crowded."""

from pathlib import Path

import numpy as np
import pytest
from made_graph import made_graph
from playwright.sync_api import Page

from widgets.html.circuit import circuit_data
from widgets.html.standalone import as_json
from workbench.circuits.graph.circuit import Circuit

pytestmark = pytest.mark.browser
STATIC = Path(__file__).parents[2] / "widgets/static/circuit"
CUT = """([data, nodes, edges, pinned]) => {
  const bytes = (text) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  const traits = JSON.parse(data, (key, value) => (value?.["@bytes"] == null ? value : bytes(value["@bytes"])));
  const { graph, row } = unpack({ get: (name) => traits[name] });
  const isPinned = new Uint8Array(graph.n);
  for (const id of pinned) isPinned[row.get(id)] = 1;
  const cut = cutGraph(graph, nodes, edges, isPinned);
  return [[...cut.nodes], [...cut.edges], [...cut.influence]];
}"""


@pytest.mark.parametrize("seed", range(4))
def test_what_the_page_prunes_is_what_prune_gives(page: Page, seed: int):
    circuit = made_graph(60, 500, seed=seed)
    if seed == 1:  # ties: many equal strengths
        circuit = Circuit(**{**vars(circuit), "edges": circuit.edges.assign(change=np.sign(circuit.edges["change"]))})
    if seed == 2:  # what no answer is made of
        circuit = Circuit(
            **{**vars(circuit), "edges": circuit.edges[~circuit.edges["target"].str.startswith("logit")].reset_index(drop=True)}
        )
    page.add_script_tag(content=(STATIC / "circuit_cut.js").read_text() + (STATIC / "circuit_links.js").read_text())
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


AT_THE_EDGE = """() => {
  const context = document.createElement("canvas").getContext("2d");
  const rows = [0, 1, 2, 3, 4, 5];
  const [px, py] = [[394, 372, 394, 394, 372, 372], [60, 60, 42, 78, 42, 78]].map((values) => Float32Array.from(values));
  const name = (i) => `a feature of the long name ${i}`;
  const scene = { width: 400, height: 300, px, py, radius: new Float32Array(6).fill(8), nodes: rows, name };
  const right = ({ x, text }) => x + context.measureText(text).width;
  return [0, 1].map((n_must) => placeNames(context, scene, rows, 24, n_must).map((each) => [each.text, each.x, right(each)]));
}"""


def test_what_is_chosen_has_its_name_in_the_picture_even_at_a_crowded_edge(page: Page):
    page.add_script_tag(content=(STATIC / "circuit_layout.js").read_text() + (STATIC / "circuit_canvas.js").read_text())
    free, chosen = page.evaluate(AT_THE_EDGE)
    assert chosen[0][0].endswith("name 0") and chosen[0][1] > 0 and chosen[0][2] < 400
    assert len(free) <= len(chosen) < 6, "all others give way"


JOINED = """([sources, targets, weights, end, n]) => {
  const order = Int32Array.from(weights.keys()).sort((a, b) => Math.abs(weights[a]) - Math.abs(weights[b]));
  const data = { n, n_edges: weights.length, sources, targets, weights: Float32Array.from(weights), order };
  const found = linksOf(data, weights.map(() => 1), end.map(() => 1).concat([1, 1]), end, 1e9);
  return [[...found.sources], [...found.targets], [...found.weights]];
}"""


@pytest.mark.parametrize("seed", range(3))
def test_edges_of_collapsed_groups_are_summed_and_stand_in_order_among_the_others(page: Page, seed: int):
    page.add_script_tag(content=(STATIC / "circuit_cut.js").read_text() + (STATIC / "circuit_links.js").read_text())
    rng, n, n_edges = np.random.default_rng(seed), 12, 60
    sources, targets = rng.integers(0, n, (2, n_edges))
    weights = rng.integers(-6, 7, n_edges).astype(float)  # many are equal, some sums are 0
    end = np.arange(n)
    end[[1, 4, 7]], end[[2, 3]] = n, n + 1  # two groups
    found = page.evaluate(JOINED, [sources.tolist(), targets.tolist(), weights.tolist(), end.tolist(), n])
    sums: dict[tuple[int, int], float] = {}
    plain: list[tuple[int, int, float]] = []
    for u, v, weight in zip(end[sources].tolist(), end[targets].tolist(), weights.tolist(), strict=True):
        if u != v and weight and max(u, v) >= n:
            sums[u, v] = sums.get((u, v), 0.0) + weight
        elif u != v and weight:
            plain.append((u, v, weight))
    expected = sorted([*plain, *((u, v, weight) for (u, v), weight in sums.items() if weight)])
    assert sorted(zip(*found, strict=True)) == expected
    assert (np.diff(np.abs(found[2])) >= 0).all(), "the weakest first: the strongest are drawn last, and kept where there are too many"
