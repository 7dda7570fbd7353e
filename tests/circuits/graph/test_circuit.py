"""A circuit as a notebook holds it: its tables, what it measures, what it refuses."""

import threading

import numpy as np
import pytest
import torch
from made_circuit import PLACES, PROMPT, made_circuit_bench, sparse_sae

from workbench.bench import Workbench
from workbench.circuits.graph import build
from workbench.circuits.graph.circuit import Circuit
from workbench.circuits.graph.groups import offered_groups
from workbench.circuits.graph.nodes import EDGE_COLUMNS, NODE_COLUMNS
from workbench.circuits.metrics import logit_diff
from workbench.circuits.ranking.ranking import rank

METRIC = logit_diff(5, 7)


@pytest.fixture(scope="module")
def small(model_of) -> Workbench:
    return made_circuit_bench(model_of("gpt2"))


@pytest.fixture(scope="module")
def circuit(small: Workbench) -> Circuit:
    return small.circuit(
        PROMPT, METRIC, "both", labels={PLACES[0]: {feature: f"thing {0.5 + feature / 1000:.2f}" for feature in range(64)}}
    )


def test_tables_hold_every_active_pair_error_token_and_logit_once(small, circuit):
    nodes, edges = circuit.nodes, circuit.edges
    assert list(nodes) == list(NODE_COLUMNS) and list(edges) == list(EDGE_COLUMNS)
    assert nodes["node"].is_unique and not edges.duplicated(["source", "target"]).any()
    n_pos = len(circuit.str_tokens)
    counts = nodes["kind"].value_counts()
    assert counts["token"] == n_pos - 1 and counts["error"] == len(PLACES) * (n_pos - 1) and counts["logit"] == 2
    for name, sae in small.layers.items():
        ranking = rank(_View(small.model, sae), PROMPT, METRIC, progress=False)
        mine = nodes[(nodes["hook_name"] == name) & (nodes["kind"] == "feature")].set_index(["pos", "feature"])
        wanted = ranking.table.set_index(["pos", "feature"]).loc[mine.index]
        assert len(mine) == len(ranking.table)
        for column in ("activation", "attribution", "effect"):
            np.testing.assert_allclose(mine[column], wanted[column], atol=2e-5)


class _View:
    labels: dict = {}
    name = sae_name = ""

    def __init__(self, model, sae):
        self.model, self.sae = model, sae


def test_effects_against_the_mean_equal_a_circuit_asked_for_the_mean(small, circuit):
    alone = small.circuit(PROMPT, logit_diff(5))
    np.testing.assert_allclose(alone.nodes["effect"].iloc[:-1], circuit.nodes["effect_mean"].iloc[:-2], atol=2e-5)
    assert alone.clean_metric == pytest.approx(circuit.clean_mean, abs=1e-5)
    assert alone.baseline == "" and (alone.nodes["kind"] == "logit").sum() == 1


def test_weights_are_changes_times_slopes_and_edges_lead_to_the_next_place_only(circuit):
    nodes, edges = circuit.nodes.set_index("node"), circuit.edges
    source, target = (nodes.loc[edges[name]].reset_index() for name in ("source", "target"))
    is_plain = (target["kind"] != "error").to_numpy()
    np.testing.assert_allclose((edges["change"] * target["slope"])[is_plain], edges["weight"][is_plain], atol=1e-5, rtol=1e-4)
    assert (source["pos"] <= target["pos"]).all()
    order = {"blocks.0.hook_resid_pre": 0, **{name: i + 1 for i, name in enumerate(PLACES)}, "": len(PLACES) + 1}
    assert (target["hook_name"].map(order) - source["hook_name"].map(order) == 1).all()
    assert edges.loc[~is_plain, "change"].isna().all()


def test_at_the_last_place_edges_account_for_the_whole_effect(circuit):
    closure = circuit.closure.set_index("node")
    last = circuit.nodes.loc[circuit.nodes["hook_name"] == PLACES[-1], "node"]
    np.testing.assert_allclose(closure.loc[last, "missing"], 0, atol=1e-6)
    assert np.isfinite(circuit.agreement) and circuit.agreement > 0.5


def test_pruning_keeps_tokens_and_logits_and_leads_from_somewhere_to_somewhere(circuit):
    pruned = circuit.prune(0.5, 0.9)
    assert 0 < len(pruned.nodes) < len(circuit.nodes) and 0 < len(pruned.edges) < len(circuit.edges)
    assert (pruned.nodes["kind"] == "token").sum() == (circuit.nodes["kind"] == "token").sum()
    features = pruned.nodes.loc[pruned.nodes["kind"] == "feature", "node"]
    assert features.isin(pruned.edges["source"]).all() and features.isin(pruned.edges["target"]).all()
    assert len(circuit.prune(0.9, features=5).nodes.query("kind == 'feature'")) <= 5
    assert len(circuit.prune(1.0, 1.0).nodes) <= len(circuit.nodes)
    pinned = circuit.nodes.query("kind == 'feature'")["node"].iloc[-1]
    assert pinned in set(circuit.pin(pinned).prune(0.01, features=1).nodes["node"])


def test_the_effect_of_a_group_is_measured_with_all_of_it_switched_off_at_once(small, circuit):
    features = circuit.nodes.query("kind == 'feature'")
    for row in features.iloc[[0, len(features) // 2, -1]].itertuples():
        assert circuit.effect_of(row.node) == pytest.approx(row.effect, abs=2e-5)
    error = circuit.nodes.query("kind == 'error'").iloc[3]
    assert circuit.effect_of(error["node"]) == pytest.approx(error["effect"], abs=2e-5)
    token = circuit.nodes.query("kind == 'token'").iloc[2]
    assert circuit.effect_of(token["node"]) == pytest.approx(token["effect"], abs=2e-5)


def test_the_whole_graph_keeps_the_answer_and_an_empty_one_is_the_floor(circuit):
    found = circuit.faithfulness().set_index("where")
    assert found.loc["all places", "kept"] == pytest.approx(1, abs=1e-4)
    assert list(found.index) == ["all places", *PLACES]
    none = circuit.only(circuit.nodes.query("kind != 'feature'")["node"]).faithfulness().set_index("where")
    np.testing.assert_allclose(none["alone"], none["floor"], atol=1e-6)
    np.testing.assert_allclose(none["lost"], 0, atol=1e-6)


def test_a_circuit_of_no_node_is_empty_and_what_is_no_node_is_refused(circuit):
    nothing = circuit.only([])
    assert not len(nothing.influence) and "0 features" in repr(nothing)
    with pytest.raises(ValueError, match="'nope' is no node of this circuit"):
        circuit.only(["nope"])


def test_groups_are_offered_named_edited_and_let_go(circuit):
    assert "thing" in circuit.groups  # one label, scores apart
    one, other = circuit.groups["thing"][:2]
    edited = circuit.group("mine", [one, other])
    assert edited.groups["mine"] == (one, other) and one not in edited.groups.get("thing", ())
    assert "mine" not in edited.ungroup("mine").groups
    assert edited.members(["mine", one]) == (one, other)
    twins = offered_groups(circuit, cosine=-1.0)  # all at one place and position are alike
    assert sum(map(len, twins.groups.values())) >= sum(map(len, circuit.groups.values()))
    for wrong in ([], "nothing", "thong"):
        with pytest.raises(ValueError, match="empty|no group"):
            circuit.members(wrong)


def test_the_strongest_path_is_the_product_of_its_shares(circuit):
    answer = circuit.nodes.query("kind == 'logit'")["node"].iloc[0]
    token = circuit.nodes.query("kind == 'token'")["node"].iloc[-1]
    paths = circuit.paths(token, answer, n=3)
    assert paths["strength"].is_monotonic_decreasing and len(paths["path"][0]) == len(PLACES) + 2
    strength, path = 1.0, paths["path"][0]
    for source, target in zip(path, path[1:], strict=False):
        into = circuit.edges[circuit.edges["target"] == target].set_index("source")["change"].abs()
        rest = circuit.edges[circuit.edges["target"] == target].set_index("source")["weight"].abs()
        sizes = into.fillna(rest)
        strength *= sizes[source] / sizes.sum()
    assert paths["strength"][0] == pytest.approx(strength)


def test_attributed_edges_need_no_measuring(small):
    circuit = small.circuit(PROMPT, METRIC, "attributed")
    assert circuit.nodes.query("kind == 'feature'")["effect"].isna().all() and circuit.edges["attributed"].notna().all()
    assert len(circuit.prune().edges) and np.isfinite(circuit.scores.completeness) and np.isnan(circuit.agreement)


def test_a_limit_says_what_it_leaves_out_and_a_plan_asks_for_one(small, circuit, monkeypatch):
    limited = small.circuit(PROMPT, METRIC, limit=9)
    assert (limited.nodes["kind"] == "feature").sum() == 9 and "left out" in limited.notes[0]
    kept = limited.nodes.query("kind == 'feature'").set_index("node")["effect"]
    np.testing.assert_allclose(kept, circuit.nodes.set_index("node").loc[kept.index, "effect"], atol=1e-5)
    monkeypatch.setattr(build, "MOST_SOURCES", 10)
    with pytest.raises(ValueError, match="give limit="):
        small.circuit(PROMPT, METRIC)


def test_cancelled_is_whole_and_says_what_was_not_measured(small):
    cancel = threading.Event()
    cancel.set()
    circuit = small.circuit(PROMPT, METRIC, cancel=cancel)
    assert circuit.nodes.query("kind == 'feature'")["effect"].isna().all() and not len(circuit.edges)
    assert any("cancelled" in note for note in circuit.notes) and repr(circuit)


def test_what_is_no_circuit_is_said_before_anything_is_computed(small, model):
    one = Workbench(model=model, sae=small.sae)
    twice = [small.sae, sparse_sae(PLACES[0], 9)]
    for call, message in (
        (lambda: one.circuit(PROMPT, METRIC), "needs an SAE at two hook points"),
        (lambda: one.circuit(PROMPT, METRIC, saes=[small.sae]), "one SAE only"),
        (lambda: small.circuit(PROMPT, METRIC, saes=twice), "2 SAEs at"),
        (lambda: small.circuit(PROMPT, METRIC, "measurd"), "expected 'measured'"),
        (lambda: small.circuit(PROMPT, METRIC, limit=0), "limit=0"),
        (lambda: small.circuit(" ", METRIC), "empty"),
        (lambda: small.circuit(PROMPT, METRIC, saes=[small.sae, sparse_sae("hook_embed", 3)]), "outside the blocks"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_places_are_put_in_order_and_gaps_are_noted(small):
    backwards = small.circuit(PROMPT, METRIC, saes=list(small.layers.values())[::-1])
    assert [name for name in backwards.nodes["hook_name"].unique() if name][1:] == list(PLACES)
    assert any("more than one block" in note for note in backwards.notes)  # blocks.2.hook_resid_pre → blocks.3.hook_resid_post


def test_an_error_while_measuring_leaves_nothing_behind(small, monkeypatch):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(build, "measure_edges", stop)
    with pytest.raises(KeyboardInterrupt):
        small.circuit(PROMPT, METRIC)
    assert torch.isfinite(small.model(torch.zeros(1, 3, dtype=torch.long))).all()
