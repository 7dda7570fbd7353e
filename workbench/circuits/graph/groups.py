"""Groups of nodes that stand for one thing: offered, then named and edited by a person.

A dictionary splits what is one thing to the model: features 337, 1779 and 1531 of the atlas at " of" have cosine 0.99, small effects
each and a large one together. Two nodes belong together where they share

    a label       "state:California 0.61" and "state:California 0.54", at whatever place and position
    a direction   cosine of their decoder rows > 0.9, at one place and position
    their edges   to the next place up to scale: cosine of their rows of changes > 0.9, at one place and position

A node without a label takes that of what it is most alike. A group is named after its label, else after its largest member. Groups are no
more than names for sets of nodes: what they do together is measured (`Circuit.effect_of`). A group can be grown along the edges: features
that are made of its members belong to it, whatever they are called.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from workbench.circuits.graph.pruning import strength

ALIKE = 0.9


def offered_groups(circuit: Any, cosine: float = ALIKE) -> Any:
    """The circuit with the groups that its labels, directions and edges suggest; groups of one node are none."""
    features = circuit.nodes[circuit.nodes["kind"] == "feature"].reset_index(drop=True)
    names = features["label"].map(concept).to_numpy(dtype=object)
    alike = _alike(circuit, features, cosine)
    for i, j, _ in sorted(alike, key=lambda each: -each[2]):  # a node without a label takes that of what it is most alike
        names[i], names[j] = names[i] or names[j], names[j] or names[i]
    joins = [(i, j) for i, j, _ in alike if not names[i] and not names[j]]
    rows, columns = np.array(joins, dtype=int).reshape(-1, 2).T
    graph = sparse.coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(features), len(features)))
    _, component = connected_components(graph, directed=False)
    groups: dict[str, tuple[str, ...]] = {}
    for name, mine in features.groupby(np.where(names == "", [f" {number}" for number in component], names), sort=False):
        if len(mine) > 1:
            groups[str(name) if not str(name).startswith(" ") else _unused(_name(mine), groups)] = tuple(mine["node"])
    return replace(circuit, groups=groups)


def concept(label: str) -> str:
    """A label without its score: "state:California 0.54" → "state:California"."""
    return re.sub(r"(?<=.) -?\d+\.\d\d$", "", label)  # as Label writes it: other numbers are the words' own


def _alike(circuit: Any, features: pd.DataFrame, cosine: float) -> list[tuple[int, int, float]]:
    """(row, row, cosine) of pairs at one place and position, by their directions or by their edges, whichever is more alike."""
    changes, found = _changes(circuit, features), []
    for (hook_name, _), mine in features.groupby(["hook_name", "pos"]).groups.items():
        rows = np.asarray(mine)
        alike = _cosines(changes[rows])
        if circuit.lens is not None:
            W_dec = circuit.lens.saes[hook_name].W_dec[features["feature"].to_numpy()[rows]].detach().double().cpu().numpy()
            alike = np.maximum(alike, _cosines(W_dec))
        pairs = zip(*np.triu(alike > cosine, 1).nonzero(), strict=True)
        found += [(int(rows[i]), int(rows[j]), float(alike[i, j])) for i, j in pairs]
    return found


def _changes(circuit: Any, features: pd.DataFrame) -> sparse.csr_matrix:
    """Rows: the features; columns: all nodes; what each changes there."""
    row = {node: i for i, node in enumerate(features["node"])}
    column = {node: i for i, node in enumerate(circuit.nodes["node"])}
    edges = circuit.edges[circuit.edges["source"].isin(row) & circuit.edges["change"].notna()]
    edges = edges if len(edges) else circuit.edges[circuit.edges["source"].isin(row)]
    places = edges["source"].map(row).to_numpy(dtype=np.int64), edges["target"].map(column).to_numpy(dtype=np.int64)
    return sparse.csr_matrix((np.nan_to_num(strength(edges)), places), shape=(len(features), len(column)))


def _cosines(rows: sparse.csr_matrix | np.ndarray) -> np.ndarray:
    dense = rows if isinstance(rows, np.ndarray) else rows[:, rows.getnnz(axis=0) > 0].toarray()
    unit = dense / np.maximum(np.linalg.norm(dense, axis=1, keepdims=True), 1e-12)
    return unit @ unit.T


def _name(features: pd.DataFrame) -> str:
    """Of nodes without a label: the largest of them."""
    size = features["effect"].abs().fillna(features["attribution"].abs()).to_numpy()
    top = features.iloc[int(size.argmax())]
    return f"{top['feature']} and {len(features) - 1} alike at {str(top['token']).strip()!r}"


def _unused(name: str, groups: Any) -> str:
    found, n = name, 2
    while found in groups:
        found, n = f"{name} ({n})", n + 1
    return found


def members(circuit: Any, group: str | Sequence[str]) -> tuple[str, ...]:
    """The nodes that a name, a label, a node, or several of these stand for."""
    if not isinstance(group, str):
        if not len(group):
            raise ValueError("the group is empty: expected one node, label or group at least")
        return tuple(dict.fromkeys(node for each in group for node in members(circuit, each)))
    if group in circuit.groups:
        return circuit.groups[group]
    nodes = circuit.nodes
    found = nodes["node"].eq(group)
    if not found.any():
        found = nodes["label"].map(concept).eq(group) & nodes["kind"].isin(("feature", "logit"))
    if not found.any():
        import difflib

        known = [*circuit.groups, *nodes["label"].map(concept).unique(), *nodes["node"]]
        near = difflib.get_close_matches(group, [name for name in known if name], n=1, cutoff=0.5)
        raise ValueError(f"{group!r} is no group, label or node of this circuit" + (f"; did you mean {near[0]!r}?" if near else ""))
    return tuple(nodes.loc[found, "node"])


def with_group(circuit: Any, name: str, nodes: str | Sequence[str]) -> Any:
    """The circuit with one more group, the nodes taken out of others. Raises ValueError for a group without a name or a member."""
    if not isinstance(name, str) or not name.strip():
        raise ValueError("a group needs a name")
    mine = members(circuit, nodes)
    taken = set(mine)
    others = {other: tuple(node for node in has if node not in taken) for other, has in circuit.groups.items() if other != name}
    return replace(circuit, groups={**{other: has for other, has in others.items() if has}, name: mine})


def grown(circuit: Any, nodes: Sequence[str], share: float) -> tuple[str, ...]:
    """The nodes, and the features of which at least `share` of all |change| that goes into them comes from these or from such features."""
    if not 0 < share <= 1:
        raise ValueError(f"share={share}: expected the least share of a feature that the group makes, above 0 and up to 1, such as 0.1")
    row = {node: i for i, node in enumerate(circuit.nodes["node"])}
    source, target = (circuit.edges[name].map(row).to_numpy(dtype=np.int64) for name in ("source", "target"))
    into = sparse.csr_matrix((np.abs(np.nan_to_num(strength(circuit.edges))), (target, source)), shape=(len(row), len(row)))
    total = np.asarray(into.sum(1)).ravel()
    is_feature = circuit.nodes["kind"].eq("feature").to_numpy()
    is_member = circuit.nodes["node"].isin(set(nodes)).to_numpy()
    while True:
        is_made = is_feature & (total > 0) & (into @ is_member.astype(float) >= share * total)
        if not (is_made & ~is_member).any():
            return tuple(circuit.nodes.loc[is_member, "node"])
        is_member = is_member | is_made
