"""Several features as one: the rows that are marked, groups with names, what each is worth when it is switched off together.

    pane = GroupPane(bench, marked=[[574, 13], [574, 10]])      [feature, position] pairs; position −1: wherever it is active
    pane.run().wait(); pane.table                               FeatureSets.measure of every group: effect together beside the sum

A dictionary splits what is one thing to the model: near copies have small effects each and a large one together. Those of cosine > COPY at
one position are offered as one.
"""

from typing import Any

import numpy as np
import pandas as pd
import torch
import traitlets

from widgets.marks import visible
from widgets.panes.jobs import SETTING, Job
from widgets.panes.pane import WorkingPane, module, style
from workbench.circuits.evidence.sets import FeatureSets
from workbench.circuits.metrics import logit_diff

COPY = 0.95  # cosine of decoder rows
MARKED = "marked"  # the name of the rows that are marked and have none yet
N_COPIES = 8  # groups of near copies offered


class GroupPane(WorkingPane):
    """Marked rows and named groups of a ranking, and what each is worth together."""

    _esm = module("shared/copy", "group/group")
    _css = style("group/group")
    kept = ("feature", "marked", "groups")
    maker = "GroupPane(bench)"

    marked = traitlets.List(traitlets.List(traitlets.Int()), help="[feature, position] of the rows that are marked").tag(sync=True)
    groups = traitlets.Dict(help="name → [feature, position] pairs").tag(sync=True)
    copies = traitlets.List(read_only=True, help="near copies: name, pairs, cosine").tag(sync=True)
    names = traitlets.Dict(read_only=True, help="feature → label").tag(sync=True)
    view = traitlets.Dict(read_only=True, help="what was measured").tag(sync=True)
    ranking = traitlets.Any(None, help="the FeatureRanking whose rows are grouped")

    def __init__(self, bench: Any, **traits: Any):
        self._bench, self.table = bench, pd.DataFrame()
        super().__init__(bench.model, **traits)

    @traitlets.validate("groups")
    def _check_names(self, proposal: Any) -> Any:
        if MARKED in proposal["value"]:
            raise traitlets.TraitError(f"{MARKED!r} are the rows that have no group yet: call the group something else")
        return proposal["value"]

    @traitlets.observe("ranking")
    def _offer(self, change: Any = None) -> None:
        measured = self.ranking is not None and bool(self.ranking.table["effect"].notna().all())
        if self.ranking is None or measured:  # once, when it is whole
            self.set_trait("copies", [] if self.ranking is None else near_copies(self._bench.sae, self.ranking.table))

    @traitlets.observe("marked", "groups", "ranking", "copies")
    def _name(self, change: Any = None) -> None:
        pairs = [
            *self.marked,
            *(pair for group in self.groups.values() for pair in group),
            *(p for each in self.copies for p in each["pairs"]),
        ]
        labels = self._bench.labels
        self.set_trait("names", {str(feature): visible(labels.get(feature, "")) for feature, _ in pairs})

    def relabel(self) -> None:
        """What is grouped, called as it is now."""
        self._name()

    def work(self, job: Job) -> None:
        ranking, sets = self.ranking, {**self.groups, **({MARKED: self.marked} if self.marked else {})}
        if ranking is None:
            raise ValueError("no prompt was ranked yet: groups are made of its rows")
        members = {name: rows_of(ranking.table, pairs) for name, pairs in sets.items()}
        members = {name: rows for name, rows in members.items() if len(rows)}
        if not members:
            raise ValueError("nothing of it is active on this prompt: mark rows of the ranking (Space, or Ctrl+click)")
        metric = logit_diff(ranking.answer, ranking.baseline or None)
        table = FeatureSets(self._bench, ranking.prompt, metric).measure(members)
        singles = [float(rows["effect"].sum()) for rows in members.values()]
        with SETTING:
            if not job.is_cancelled:
                self.table = table.assign(singles=singles)
                rows = [
                    {"name": visible(row.set), "n_features": int(row.n_features), "n_pairs": int(row.n_pairs), "effect": row.effect,
                     "singles": row.singles, "lost": row.lost, "only": row.only}
                    for row in self.table.itertuples()
                ]  # fmt: skip
                about = {"prompt": visible(ranking.prompt), "metric": ranking.clean_metric, "sets": {k: list(v) for k, v in sets.items()}}
                self.set_trait("view", {"rows": rows, **about})

    def to_python(self) -> str:
        if not self.groups and not self.marked:
            return ""
        sets = {**self.groups, **({MARKED: self.marked} if self.marked else {})}
        pairs = {name: [[pos, feature] for feature, pos in each if pos >= 0] or [f for f, _ in each] for name, each in sets.items()}
        lines = [f"    {name!r}: {each!r}," for name, each in pairs.items()]
        metric = "wb.logit_diff(ranking.answer, ranking.baseline or None)"
        made = "from workbench.circuits.evidence.sets import FeatureSets\n\ngroups = FeatureSets(bench, ranking.prompt, "
        return "\n".join([f"{made}{metric}).measure({{", *lines, "})"])

    def static_html(self) -> str:
        return self.table.to_html(index=False, border=0, float_format="{:.3g}".format) if len(self.table) else ""

    def __repr__(self) -> str:
        return f"GroupPane: {len(self.marked)} rows marked, {len(self.groups)} groups"


def rows_of(table: pd.DataFrame, pairs: list[list[int]]) -> pd.DataFrame:
    """The rows of a ranking that the pairs mean; position −1 means every row of the feature."""
    wanted, everywhere = {(f, p) for f, p in pairs}, {f for f, p in pairs if p < 0}
    is_meant = [(f, p) in wanted or f in everywhere for f, p in zip(table["feature"], table["pos"], strict=True)]
    return table[is_meant]


def near_copies(sae: Any, table: pd.DataFrame) -> list[dict[str, Any]]:
    """Groups of rows at one position whose directions nearly agree, the largest effects together first."""
    found = []
    for pos, rows in table.groupby("pos"):
        features = rows["feature"].to_numpy()
        unit = torch.nn.functional.normalize(sae.W_dec[torch.tensor(features)].detach().float(), dim=1)
        alike, left = (unit @ unit.T > COPY).cpu().numpy(), set(range(len(features)))
        while left:
            first = min(left)
            mine = sorted(i for i in left if alike[first, i])
            left -= {first, *mine}
            if len(mine) > 1:
                effect = float(rows["effect"].to_numpy()[mine].sum())
                token = visible(str(rows["token"].iloc[0]))
                found.append({"token": token, "pairs": [[int(features[i]), int(pos)] for i in mine], "effect": effect})
    return sorted(found, key=lambda each: -abs(np.nan_to_num(each["effect"])))[:N_COPIES]
