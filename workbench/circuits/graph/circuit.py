"""The circuit: which features make which, from the tokens of a prompt to the answer. What a notebook holds of it.

nodes and edges: nodes.py says the columns. A circuit is never changed: what prunes or groups gives a new one. Built by build.py
(`bench.circuit`), or read from anybody's file (`Circuit.load`); what has to run the model needs the first.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from workbench.circuits.graph.clamping import Clamped, clamp_group
from workbench.circuits.graph.exchange import graph_json
from workbench.circuits.graph.groups import grown, members, with_group
from workbench.circuits.graph.pruning import Scores, cut, influence_of, paths_between, scores_of, strength, strongest
from workbench.circuits.graph.reading import read_graph
from workbench.files import checked_file, write_text

Group = str | Sequence[str]  # a group's name, a label, a node, or several nodes


@dataclass(frozen=True, repr=False, eq=False)
class Circuit:
    """`nodes`, `edges`: pandas. groups: name → nodes. wanted: how much each logit node counts in influence: shares,
    or the probabilities of the likeliest answers.

    way: "measured", "attributed", "both", or "direct" (weights are direct effects: a transcoder's graph, or another program's).
    notes: what was left out, in words. lens: what measures on the model; None for a file's.
    """

    nodes: pd.DataFrame
    edges: pd.DataFrame
    prompt: str
    str_tokens: list[str]
    wanted: Mapping[str, float]
    way: str = "measured"
    answer: str = ""
    baseline: str = ""  # "" for the mean logit over the vocabulary
    clean_metric: float = float("nan")
    clean_mean: float = float("nan")  # the answer's logit less the mean
    model_name: str = ""
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    pinned: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    lens: Any = None

    def prune(self, nodes: float = 0.8, edges: float = 0.98, features: int | None = None) -> "Circuit":
        """The nodes that carry `nodes` of the influence on the answer, and the edges that carry `edges` of it between them (pruning.py).

        Tokens and logits stay, and what is pinned. features: of the feature nodes at most so many, the most influential ones.
        """
        return self.only(*cut(self.nodes, self.edges, self.wanted, nodes, edges, features, self.pinned))

    def strongest(self, features: int = 30, share: float = 0.05) -> "Circuit":
        """The features of largest |effect|, on the metric or on the answer against the mean, whichever is larger (attributions where
        nothing was measured), and the edges that are at least `share` of what their target is made of among them. Tokens, logits and
        pins stay.

        What speaks for every answer of the kind, the relation that is asked for, has its effect against the mean only.
        """
        return self.only(*strongest(self.nodes, self.edges, features, share, self.pinned))

    def only(self, nodes: Iterable[str], is_edge_kept: np.ndarray | None = None) -> "Circuit":
        """Some of the nodes, and the (kept) edges between them. Raises ValueError for what is no node."""
        kept = {nodes} if isinstance(nodes, str) else set(nodes)
        if unknown := kept - set(self.nodes["node"]):
            raise ValueError(f"{sorted(map(str, unknown))[0]!r} is no node of this circuit: circuit.nodes has their names")
        edges = self.edges if is_edge_kept is None else self.edges[is_edge_kept]
        edges = edges[edges["source"].isin(kept) & edges["target"].isin(kept)].reset_index(drop=True)
        groups = {name: tuple(each for each in members if each in kept) for name, members in self.groups.items()}
        return replace(
            self,
            nodes=self.nodes[self.nodes["node"].isin(kept)].reset_index(drop=True),
            edges=edges,
            groups={name: members for name, members in groups.items() if members},
            pinned=tuple(each for each in self.pinned if each in kept),
        )

    @property
    def influence(self) -> pd.Series:
        """By node: how much of the answer goes back to it, along all paths, by shares of |change| (pruning.py)."""
        return pd.Series(influence_of(self.nodes, self.edges, self.wanted), index=pd.Index(self.nodes["node"], name="node"))

    @property
    def strength(self) -> np.ndarray:
        """By edge: what it says of its target, signed: the measured change, else the attributed one, else the weight."""
        return strength(self.edges)

    @property
    def scores(self) -> Scores:
        """replacement, completeness: how much of the influence comes from tokens rather than from errors; how little of what nodes are
        made of is error."""
        return scores_of(self.nodes, self.edges, self.wanted)

    @property
    def closure(self) -> pd.DataFrame:
        """How much of each node's measured effect its edges account for: node, effect, features (Σ weight into features and logits), rest
        (Σ weight into error nodes), missing = effect − features − rest. Nothing is normalized away.

        Of direct effects, which are shares of activations, the other way round: how much of each node's activation the edges into it
        account for: node, activation, features, rest (Σ weight from error nodes), missing (of a logit: what a soft cap takes)."""
        if self.way == "direct":
            return self._closure_of_targets()
        is_error = self.edges["target"].isin(set(self.nodes.loc[self.nodes["kind"] == "error", "node"]))
        sums = [self.edges[mask].groupby("source")["weight"].sum() for mask in (~is_error, is_error)]
        sources = self.nodes[self.nodes["kind"] != "logit"]
        features, rest = (each.reindex(sources["node"]).fillna(0.0).to_numpy() for each in sums)
        effect = sources["effect"].to_numpy()
        columns = {"node": sources["node"].to_numpy(), "effect": effect, "features": features, "rest": rest}
        return pd.DataFrame(columns | {"missing": effect - features - rest})

    def _closure_of_targets(self) -> pd.DataFrame:
        is_error = self.edges["source"].isin(set(self.nodes.loc[self.nodes["kind"] == "error", "node"]))
        targets = self.nodes[self.nodes["kind"].isin(("feature", "logit"))]
        features, rest = (
            self.edges[mask].groupby("target")["weight"].sum().reindex(targets["node"]).fillna(0.0).to_numpy()
            for mask in (~is_error, is_error)
        )
        activation = targets["activation"].to_numpy(dtype=float)
        columns = {"node": targets["node"].to_numpy(), "activation": activation, "features": features, "rest": rest}
        return pd.DataFrame(columns | {"missing": activation - features - rest})

    @property
    def agreement(self) -> float:
        """Correlation of attributed with measured changes; NaN unless both are there (edges="both")."""
        both = self.edges.dropna(subset=["change", "attributed"])
        return float(np.corrcoef(both["change"], both["attributed"])[0, 1]) if len(both) > 2 else float("nan")

    def members(self, group: Group) -> tuple[str, ...]:
        """The nodes of a group: its name, a label, a node, or several of these. Raises ValueError for what is none, or empty."""
        return members(self, group)

    def group(self, name: str, nodes: Group) -> "Circuit":
        """The circuit with one more group (or one made anew); a node is in one group at most, so others let go of it."""
        return with_group(self, name, nodes)

    def grow(self, name: str, nodes: Group | None = None, share: float = 0.1) -> "Circuit":
        """The group (or a new one of these nodes) with the features that are made of it: at least `share` of what goes into each comes from
        the group as it grows, through all layers. What labels miss is found so; what lies further down the same way is in it, too."""
        return self.group(name, grown(self, self.members(name if nodes is None else nodes), share))

    def features(self, group: Group, pos: int | None = None) -> dict[str, list[int]]:
        """The group's features by hook name, as `bench.swap` takes them; pos: only those at one position (−1: the last)."""
        mine = self.nodes[self.nodes["node"].isin(set(self.members(group))) & self.nodes["kind"].eq("feature")]
        if pos is not None:
            mine = mine[mine["pos"] == (pos if pos >= 0 else len(self.str_tokens) + pos)]
        return {str(name): sorted({int(each) for each in some}) for name, some in mine.groupby("hook_name")["feature"]}

    def ungroup(self, name: str) -> "Circuit":
        """Without that group; its nodes stay. Raises ValueError for a name that no group has."""
        if name not in self.groups:
            raise ValueError(f"no group is called {name!r}; there is {', '.join(map(repr, self.groups)) or 'none'}")
        return replace(self, groups={other: nodes for other, nodes in self.groups.items() if other != name})

    def pin(self, nodes: Group) -> "Circuit":
        """Pinned nodes are kept by `prune`, and marked in a picture and a file."""
        return replace(self, pinned=tuple(dict.fromkeys([*self.pinned, *self.members(nodes)])))

    def paths(self, source: Group, target: Group, n: int = 10) -> pd.DataFrame:
        """The n strongest paths: path (nodes), strength (the product of its edges' shares of |change| into each node), weight (of
        its last edge)."""
        return paths_between(self.nodes, self.edges, self.members(source), self.members(target), n)

    def effect_of(self, group: Group) -> float:
        """The metric that is lost without the group, all of it switched off at once: measured."""
        return self._measuring.effect_of(self.nodes, self.members(group))

    def clamp(self, group: Group, value: float | Real = 0.0) -> Clamped:
        """Which other features move, and the metric, with all of the group at `value` (an activation; 0 switches off): as the edges predict
        it beside what is measured (clamping.py). Of a file's circuit the prediction only."""
        return clamp_group(self, self.members(group), value)

    def faithfulness(self) -> pd.DataFrame:
        """Is this graph the answer? The metric with all but its features switched off, and without its features: measured (lens.py). At all
        places at once, and at each alone."""
        return self._measuring.faithfulness(self.nodes)

    @property
    def _measuring(self) -> Any:
        if self.lens is None:
            raise ValueError("this circuit comes from a file: measuring needs the model and its SAEs, as bench.circuit(…) has them")
        return self.lens

    def to_json(self, path: str | Path) -> Path:
        """In the schema of the public attribution-graph viewers: groups, names and pins included."""
        path = checked_file(path)
        write_text(path, graph_json(self))
        return path

    @classmethod
    def load(cls, path: str | Path) -> "Circuit":
        """A circuit from a JSON file in that schema, ours or anybody's. Raises ValueError, in one sentence, for what is no graph."""
        return read_graph(cls, path)

    def to_html(self, path: str | Path) -> Path:
        """One page that needs nothing else: the picture, and the list that says the same in words."""
        from widgets.html.circuit import circuit_page

        path = checked_file(path)
        write_text(path, circuit_page(self))
        return path

    def to_svg(self, path: str | Path) -> Path:
        """The picture alone, as a file."""
        from widgets.figures.circuit import circuit_svg

        path = checked_file(path)
        write_text(path, circuit_svg(self))
        return path

    def top(self, n: int = 10, by: str = "") -> pd.DataFrame:
        """The n nodes (no logits, no constants) of largest |effect|, or by another numeric column, or by "influence"; unless asked, by
        what is known."""
        some = self.nodes.assign(influence=self.influence.to_numpy())
        some = some[~some["kind"].isin(("logit", "constant"))]
        by = by or next((name for name in ("effect", "attribution") if some[name].notna().any()), "influence")
        if by not in some or not pd.api.types.is_numeric_dtype(some[by]):
            raise ValueError(f"cannot order nodes by {by!r}: expected effect, effect_mean, attribution, activation or influence")
        found = some.sort_values(by, key=abs, ascending=False, kind="stable", na_position="last").head(n).reset_index(drop=True)
        found.attrs["by"] = by
        return found

    def _repr_html_(self) -> str:
        from widgets.html.circuit import circuit_html

        return circuit_html(self)

    def __repr__(self) -> str:
        from widgets.marks import signed

        kinds = self.nodes["kind"].value_counts()
        counts = ", ".join(
            f"{kinds.get(kind, 0):,} {name}" for kind, name in (("feature", "features"), ("error", "errors"), ("token", "tokens"))
        )
        other = repr(self.baseline) if self.baseline else "the mean logit"
        known = "" if np.isnan(self.clean_metric) else f"metric {signed(self.clean_metric)}; "
        lines = [
            f"Circuit: why {self.answer!r} rather than {other}? ({self.way} edges)",
            f"  {self.prompt!r}",
            f"  {known}{counts}; {len(self.edges):,} edges; {len(self.groups)} groups",
            *(f"  {note}" for note in self.notes),
        ]
        top = self.top(5)
        for row in top.to_dict("records"):
            by = top.attrs["by"]
            lines.append(f"  {by} {signed(row[by])}  {row['node']}  {row['token']!r} ({row['pos']})  {row['label']}".rstrip())
        return "\n".join(lines)
