"""Graphs of transcoders equal circuit-tracer's own of the same models: edges, influence, what pruning keeps, scores (peer/README.md)."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from workbench.circuits.direct.circuit import direct_circuit
from workbench.circuits.graph.circuit import Circuit
from workbench.model.model import load_model
from workbench.sae.stack import load_stack

PEER = Path(__file__).parent / "peer"
CASES = sorted(path.name for path in (PEER / "cases").iterdir())


@pytest.fixture(params=CASES, scope="module")
def case(request) -> tuple[Circuit, list[str], dict[str, np.ndarray]]:
    """(our circuit, the names of the peer's nodes in its order, its tensors)."""
    folder = PEER / "cases" / request.param
    transcoders = request.param.rsplit("_", 1)[0]
    peer = dict(np.load(folder / "oracle.npz"))
    model = load_model(PEER / "models" / transcoders.split("_")[0])
    ids = peer["input_tokens"].tolist()
    prompt = " ".join(model.tokenizer.convert_ids_to_tokens(ids)[1:])
    circuit = direct_circuit(model, load_stack(PEER / "transcoders" / transcoders), prompt)
    features = [f"{layer}_{feature}_{pos}" for layer, pos, feature in peer["active_features"].tolist()]
    errors = [f"error_{layer}_{pos}" for layer in range(4) for pos in range(len(ids))]
    tokens = [f"E_{token}_{pos}" for pos, token in enumerate(ids)]
    return circuit, [*features, *errors, *tokens, *(f"logit_{token}" for token in peer["logit_token_ids"].tolist())], peer


def matrix_of(circuit: Circuit, names: list[str]) -> np.ndarray:
    """[target, source] of what is no constant."""
    row = {name: i for i, name in enumerate(names)}
    edges = circuit.edges[~circuit.edges["source"].str.startswith("constant")]
    matrix = np.zeros((len(names),) * 2)
    matrix[edges["target"].map(row).to_numpy(int), edges["source"].map(row).to_numpy(int)] = edges["weight"]
    return matrix


def test_every_edge_is_the_peers(case):
    circuit, names, peer = case
    theirs = peer["adjacency_matrix"]
    np.testing.assert_allclose(matrix_of(circuit, names), theirs, atol=1e-5 * np.abs(theirs).max())
    ours = set(circuit.nodes.loc[circuit.nodes["kind"] != "constant", "node"])
    assert set(names) - ours == {f"error_{layer}_0" for layer in range(4)} and not ours - set(names)


def test_influence_pruning_and_scores_are_the_peers(case, request):
    circuit, names, peer = case
    np.testing.assert_allclose(circuit.influence.reindex(names).fillna(0.0), peer["node_influence"], atol=1e-6)
    pruned = circuit.prune(0.8, 0.98)
    is_node = np.isin(names, pruned.nodes["node"])
    assert (is_node == peer["node_mask"])[~np.isin(names, [f"error_{layer}_0" for layer in range(4)])].all()
    assert ((matrix_of(pruned, names) != 0) == peer["edge_mask"]).all()
    case_name = request.node.callspec.params["case"]
    theirs = json.loads((PEER / "cases" / case_name / "meta.json").read_text())
    assert circuit.scores.replacement == pytest.approx(theirs["replacement_score"], abs=1e-6)
    assert circuit.scores.completeness == pytest.approx(theirs["completeness_score"], abs=1e-6)


def test_the_file_that_the_peer_wrote_is_the_same_pruned_graph(case, request, tmp_path):
    circuit, names, _ = case
    case_name = request.node.callspec.params["case"]
    path = tmp_path / "graph.json"
    path.write_bytes(gzip.decompress((PEER / "cases" / case_name / "graph.json.gz").read_bytes()))
    theirs, ours = Circuit.load(path), circuit.prune(0.8, 0.98)
    renamed = {row.node: f"logit_{row.feature}" for row in theirs.nodes.itertuples() if row.kind == "logit"}
    weights = theirs.edges.replace({"target": renamed}).set_index(["source", "target"])["weight"]
    mine = ours.edges.set_index(["source", "target"])["weight"]
    assert len(weights) == len(mine)
    np.testing.assert_allclose(weights.reindex(mine.index), mine, atol=1e-5)
