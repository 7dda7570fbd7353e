"""What a search found: the features, best first; how many each filter removed; where on the prompts each feature is active."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from workbench.features.index.parts import FeatureScore
from workbench.sae.config import checked_feature

if TYPE_CHECKING:
    from workbench.features.search.codes import Codes


class Removed(NamedTuple):
    """What one filter took away."""

    filter: str
    n_before: int
    n_removed: int


@dataclass(frozen=True, repr=False, eq=False)
class Found:
    """`.table`: one row a feature, best first. `.removed`: what each filter took away. `.why(feature)`: what it does on the prompts."""

    wants: str  # what was searched for, in words
    table: pd.DataFrame  # feature, score, …, label
    removed: Sequence[Removed] = ()
    codes: "Codes | None" = None  # of the prompts that were searched with; the positive ones come first
    n_positive: int = 0
    note: str = ""  # how sure it is

    @property
    def n_passed(self) -> int:
        """How many features passed every filter; the table may show fewer."""
        return self.removed[-1].n_before - self.removed[-1].n_removed if self.removed else len(self.table)

    def why(self, feature: int) -> pd.DataFrame:
        """One row a prompt: the token at which the feature is most active on it, and how active. No token where it is silent."""
        if self.codes is None:
            raise ValueError("this search read no prompts")
        checked_feature(feature, self.codes.acts.shape[1])
        rows: list[dict[str, Any]] = []
        for i, (prompt, tokens) in enumerate(zip(self.codes.prompts, self.codes.str_tokens, strict=True)):
            acts = self.codes.activations(i, feature)
            pos = max(range(len(acts)), key=acts.__getitem__)
            kind = "positive" if i < self.n_positive else "negative"
            rows.append(
                dict(prompt=prompt, kind=kind, token=tokens[pos] if acts[pos] else "", pos=pos if acts[pos] else -1, activation=acts[pos])
            )
        return pd.DataFrame(rows, columns=["prompt", "kind", "token", "pos", "activation"])

    def _repr_html_(self) -> str:
        from widgets.html.find import found_html

        return found_html(self)

    def __repr__(self) -> str:
        from widgets.marks import signed

        lines = [f"Found: features {self.wants}", *(f"  {removed_text(each)}" for each in self.removed)]
        lines += [f"  {self.note}"] if self.note else []
        if not len(self.table):
            return "\n".join([*lines, "  no feature passes"])
        for row in self.table.head(10).to_dict("records"):
            numbers = "  ".join(
                f"{name} {signed(value, '.3g')}" for name, value in row.items() if isinstance(value, float) and value == value
            )
            lines.append(f"  feature {row['feature']}  {numbers}  {row['label']}".rstrip())
        return "\n".join(lines)


def removed_text(removed: Removed) -> str:
    """One filter's share in words."""
    return f"{removed.filter}: {removed.n_removed:,} of {removed.n_before:,} removed, {removed.n_before - removed.n_removed:,} left"


def table_of(
    features: np.ndarray,
    score: np.ndarray,
    columns: Mapping[str, np.ndarray],
    labels: Mapping[int, str],
    density: Float[np.ndarray, "d_sae"] | None,
) -> pd.DataFrame:
    """The table that every search gives: feature, score, the search's own columns, density (NaN without an index), label."""
    dense = np.nan if density is None else density[features]
    words = [labels.get(int(feature), "") for feature in features]
    return pd.DataFrame({"feature": features, "score": score, **columns, "density": dense, "label": words})


def with_scores(found: Found, scores: Mapping[int, FeatureScore]) -> Found:
    """With input_score and output_score of each feature, NaN where one has none; as it is where none are known at all."""
    if not scores:
        return found
    table, pairs = found.table.copy(), [scores.get(int(feature), FeatureScore()) for feature in found.table["feature"]]
    for name in FeatureScore._fields:
        values = [getattr(pair, name) for pair in pairs]
        table.insert(table.columns.get_loc("label"), f"{name}_score", [float("nan") if each is None else each for each in values])
    return replace(found, table=table)
