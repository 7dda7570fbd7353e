"""How a feature splits: which features of the larger dictionaries a feature of a smaller one becomes.

    a feature's parent = the feature of the next smaller dictionary nearest to it by decoder cosine, if that is at least MIN_COSINE
                         (dictionaries of one width are no steps from one another)

Scaling Monosemanticity, "Feature Survey": one San Francisco feature in the smallest dictionary, 2 in the next, 11 in the largest. Read from
an index of several dictionaries of one hook point, without the model.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pandas as pd

from workbench.features.index.index import FeatureIndex
from workbench.sae.config import checked_feature

MIN_COSINE = 0.5  # of 1,024 random directions of width 160 the nearest comes to 0.26, of width 768 to 0.12


@dataclass(frozen=True)
class Branch:
    """A feature and those of the next larger dictionary that are nearest to it."""

    sae: str
    feature: int
    cosine: float  # with its parent; 1 for the first
    density: float
    label: str
    children: list["Branch"] = field(default_factory=list)  # nearest first

    def walk(self, depth: int = 0) -> Iterator[tuple[int, "Branch"]]:
        """(depth, branch) of itself and of all below it."""
        yield depth, self
        for child in self.children:
            yield from child.walk(depth + 1)


@dataclass(frozen=True, repr=False, eq=False)
class Splitting:
    """`.root`: the feature with the features that it becomes. `.table`: one row for each of them."""

    root: Branch
    saes: list[str]  # from the feature's own to the largest

    @property
    def counts(self) -> dict[str, int]:
        """How many features it is in each dictionary."""
        found = [branch.sae for _, branch in self.root.walk()]
        return {sae: found.count(sae) for sae in self.saes}

    @property
    def table(self) -> pd.DataFrame:
        """One row per feature of the tree: depth, sae, feature, parent (−1 for the first), cosine with it, density, label."""
        columns = ["depth", "sae", "feature", "parent", "cosine", "density", "label"]
        rows = [(0, self.root.sae, self.root.feature, -1, 1.0, self.root.density, self.root.label)]
        for depth, branch in self.root.walk():
            rows += [(depth + 1, each.sae, each.feature, branch.feature, each.cosine, each.density, each.label) for each in branch.children]
        return pd.DataFrame(rows, columns=columns).sort_values("depth", kind="stable").reset_index(drop=True)

    def _repr_html_(self) -> str:
        from widgets.html.survey import splitting_html

        return splitting_html(self)

    def __repr__(self) -> str:
        counts = ", ".join(f"{n} in {sae}" for sae, n in self.counts.items())
        lines = [f"Splitting of feature {self.root.feature}: {counts}"]
        for depth, branch in self.root.walk():
            lines.append(f"{'  ' * (depth + 1)}{branch.sae} {branch.feature}  cosine {branch.cosine:.2f}  {branch.label}".rstrip())
        return "\n".join(lines)


def splitting(index: FeatureIndex, feature: int, min_cosine: float = MIN_COSINE) -> Splitting:
    """The tree of a feature of the index's SAE. Raises ValueError where the index has no larger dictionary of its hook point."""
    known, own = index.manifest["saes"], index.manifest["saes"][index.sae_name]
    larger = [name for name, facts in known.items() if facts["hook_name"] == own["hook_name"] and facts["d_sae"] > own["d_sae"]]
    if not larger:
        raise ValueError(f"{index.sae_name} is the largest dictionary at {own['hook_name']} in this index, which has {', '.join(known)}")
    checked_feature(feature, own["d_sae"], index.sae_name)
    saes = [index.sae_name, *sorted(larger, key=lambda name: known[name]["d_sae"])]
    levels = [_branches(index, saes[0], {feature: 1.0})]
    parents: list[tuple[int, dict[int, int]]] = []
    for sae in saes[1:]:
        smaller = max(level for level, name in enumerate(saes[: len(levels)]) if known[name]["d_sae"] < known[sae]["d_sae"])
        found = _children(index, saes[smaller], sae, list(levels[smaller]), min_cosine)
        parents.append((smaller, dict(zip(found["feature"], found["parent"], strict=True))))
        levels.append(_branches(index, sae, dict(zip(found["feature"], found["cosine"], strict=True))))
    for level in range(len(saes) - 1, 0, -1):  # the largest dictionary first
        smaller, of = parents[level - 1]
        for child, parent in of.items():
            branch = levels[smaller][parent]
            levels[smaller][parent] = replace(branch, children=[*branch.children, levels[level][child]])
    return Splitting(levels[0][feature], saes)


def _children(index: FeatureIndex, smaller: str, sae: str, parents: list[int], min_cosine: float) -> pd.DataFrame:
    """feature, parent, cosine: the features of `sae` whose nearest one in `smaller` is among `parents`."""
    nearest = "SELECT feature, list_filter(neighbors, lambda each: each.sae = ?)[1] AS nearest FROM features WHERE sae = ? AND n_active > 0"
    query = f"SELECT feature, nearest.feature AS parent, nearest.cosine AS cosine FROM ({nearest}) "
    query += "WHERE nearest.cosine >= ? AND nearest.feature IN (SELECT unnest(?::INTEGER[])) ORDER BY cosine DESC, feature"
    return index.sql(query, smaller, sae, min_cosine, parents)


def _branches(index: FeatureIndex, sae: str, cosines: dict[int, float]) -> dict[int, Branch]:
    query = "SELECT feature, density FROM features WHERE sae = ? AND feature IN (SELECT unnest(?::INTEGER[]))"
    density = index.sql(query, sae, list(cosines)).set_index("feature")["density"]
    labels = index.labels(sae)
    return {
        int(i): Branch(sae, int(i), float(cosine), float(density[i]), labels[i].text if i in labels else "")
        for i, cosine in cosines.items()
    }
