"""Clamp a group and see what else moves: as its edges predict it, beside what is measured.

    lost[u] = 1 − value / act_u                                 of a member: the share of its activation that goes
    lost[v] = Σ_u change[u → v] · lost[u] / act_v               of any other feature, from place to place
    predicted_v = act_v · (1 − lost[v])                         0 at least: no activation is below
    predicted metric = clean − Σ_u weight[u → logits] · lost[u]

First order: every edge was measured (or attributed) with its source alone switched off, and what goes through errors or features that
wake up is in no edge. Where both columns agree, the graph says what happens; where they do not, it leaves something out.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from workbench.circuits.graph.pruning import strength


@dataclass(frozen=True, repr=False, eq=False)
class Clamped:
    """`table`: a row for each other feature, in the order of how far it moves: node, hook_name, pos, token, feature, label, clean,
    predicted, measured (its activation; measured NaN where no model is at hand).

    metric, predicted_metric, clean_metric: NaN where not known. own: the sum of the members' own effects, each switched off alone (only
    for value 0).
    """

    members: tuple[str, ...]
    value: float
    table: pd.DataFrame
    clean_metric: float
    predicted_metric: float
    metric: float
    own: float

    @property
    def agreement(self) -> float:
        """Correlation of how far the others move, predicted with measured; NaN for fewer than three that move."""
        moves = self.table[["predicted", "measured"]].sub(self.table["clean"], axis=0)
        moves = moves[(moves != 0).any(axis=1)].dropna()
        is_known = len(moves) > 2 and (moves.std() > 0).all()
        return float(np.corrcoef(moves["predicted"], moves["measured"])[0, 1]) if is_known else math.nan

    def __repr__(self) -> str:
        from widgets.marks import signed

        lines = [f"Clamped: {len(self.members)} nodes at {self.value:g}"]
        lines += [f"  metric {signed(self.clean_metric)}; predicted {signed(self.predicted_metric)}, measured {signed(self.metric)}"]
        for row in self.table.head(8).itertuples():
            moved = f"{row.clean:.3f} → predicted {row.predicted:.3f}, measured {row.measured:.3f}"
            lines.append(f"  {row.node:<14} {moved}  {row.label}".rstrip())
        return "\n".join(lines)


def clamp_group(circuit: Any, members: Sequence[str], value: float | Real = 0.0) -> Clamped:
    """Raises ValueError for what cannot be clamped, in one sentence."""
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value) or value < 0:
        raise ValueError(f"value={value!r}: expected the activation to clamp to, a finite number, 0 or more; 0 switches off")
    value = float(value)
    nodes = circuit.nodes
    is_member = nodes["node"].isin(set(members)).to_numpy()
    kinds = set(nodes["kind"][is_member])
    if kinds & {"logit", "constant"}:
        raise ValueError("a group with logits or constants cannot be clamped: they are the answer itself, and the model")
    if value and kinds - {"feature"}:
        raise ValueError("tokens and errors have no activation to clamp to: they can be switched off only, at value 0")
    lost, predicted = _predicted(circuit, is_member, value)
    acts, is_other = nodes["activation"].to_numpy(dtype=float), (nodes["kind"] == "feature").to_numpy() & ~is_member
    table = nodes.loc[is_other, ["node", "hook_name", "pos", "token", "feature", "label"]].reset_index(drop=True)
    then = np.maximum(acts * (1 - lost), 0.0)[is_other]
    table = table.assign(clean=acts[is_other], predicted=then, measured=math.nan)
    metric = math.nan
    if circuit.lens is not None:
        metric, found = circuit.lens.clamped(nodes, members, value)
        _, clean = circuit.lens.clamped(nodes, (), 0.0)  # read in the same way: rounding is no move
        table["clean"], table["measured"] = (_at(table, each) for each in (clean, found))
        table["predicted"] = np.maximum(table["clean"].to_numpy() * (1 - lost[is_other]), 0.0)
    moved = table[["predicted", "measured"]].sub(table["clean"], axis=0).abs().max(axis=1)
    table = table.loc[moved.sort_values(ascending=False, kind="stable").index].reset_index(drop=True)
    own = float(nodes["effect"][is_member].sum(skipna=False)) if value == 0 else math.nan
    return Clamped(tuple(members), float(value), table, circuit.clean_metric, circuit.clean_metric - predicted, metric, own)


def _predicted(circuit: Any, is_member: np.ndarray, value: float) -> tuple[np.ndarray, float]:
    """(the share of each node's activation that is lost, how much of the metric), by the edges."""
    nodes, edges = circuit.nodes, circuit.edges
    kind, acts = nodes["kind"].to_numpy(), nodes["activation"].to_numpy(dtype=float)
    is_feature = kind == "feature"
    n_unknown = int((is_feature & ~(acts > 0)).sum())
    if n_unknown:
        raise ValueError(f"{n_unknown:,} features of this circuit have no activation: without it their edges predict nothing")
    row = {node: i for i, node in enumerate(nodes["node"])}
    source, target = (edges[name].map(row).to_numpy(dtype=np.int64) for name in ("source", "target"))
    passes = is_feature[target] & ~is_member[target]  # nothing is known of what goes into an error, and a member stays where it was put
    shares = np.nan_to_num(strength(edges)[passes]) / acts[target[passes]]
    matrix = sparse.csr_matrix((shares, (target[passes], source[passes])), shape=(len(nodes), len(nodes)))
    step = np.where(is_member, np.where(is_feature, 1 - value / np.where(is_feature, acts, 1.0), 1.0), 0.0)
    lost = np.zeros(len(nodes))
    for _ in range(len(nodes) + 1):  # at most as many steps as a path has nodes
        if not step.any():
            break
        lost, step = lost + step, matrix @ step
    else:
        raise ValueError("the graph has a cycle: a prediction has no end there")
    sign = np.where(kind == "logit", 1.0, 0.0)  # weights into the baseline say already what they do to the metric
    if circuit.way == "direct":  # there weights are of each logit by itself, and there may be more of them than the metric has
        asked = [row[node] for node in list(circuit.wanted)[: 2 if circuit.baseline else 1] if node in row]
        sign[:] = 0.0
        sign[asked] = [1.0, -1.0][: len(asked)]
    weight = np.nan_to_num(edges["weight"].to_numpy(dtype=float))
    return lost, float((weight * sign[target] * lost[source]).sum())


def _at(table: pd.DataFrame, acts: dict[str, Any]) -> np.ndarray:
    """The activations of the table's features."""
    found = np.full(len(table), math.nan)
    for hook_name, mine in table.groupby("hook_name").indices.items():
        rows = table.iloc[mine]
        found[mine] = acts[hook_name][rows["pos"].tolist(), rows["feature"].tolist()].double().cpu().numpy()
    return found
