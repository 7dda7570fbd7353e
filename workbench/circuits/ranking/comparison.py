"""Two prompts side by side: the same features on both, and how much more each does on the one than on the other.

    difference(feature) = its sum over positions on the first prompt − its sum on the second

comparison = wb.compare(bench.rank(prompt, metric), bench.rank(other, other_metric))        comparison.table: one row a feature

A feature that is active nowhere on a prompt has 0 there: it adds nothing. A sum over positions grows with the length of a prompt, and an
effect is in logits of its own prompt's metric: both are said (`notes`), neither is made up for.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from workbench.circuits.ranking.ranking import ORDERS, FeatureRanking

SIDES = ("first", "second")
SAME = ("model_name", "hook_name", "sae_name", "is_start_included")  # of what can be compared feature by feature


@dataclass(frozen=True, repr=False, eq=False)
class RankingComparison:
    """Two rankings through one dictionary."""

    first: FeatureRanking
    second: FeatureRanking

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row for each feature that is active on either prompt, the largest effect_difference first: feature, label, then of each
        measure (activation, attribution, effect) …_first, …_second and …_difference, summed over positions; n_pos_first, n_pos_second.

        Signed: what comes last does more on the second prompt. NaN where an effect was measured in part, or not at all.
        """
        return differences(self.first.table, self.second.table)

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know before believing it, a sentence each."""
        said = []
        if metric_words(self.first) != metric_words(self.second):
            said.append("each prompt has a metric of its own: a difference of effects is one of different logits")
        lengths = [len(each.str_tokens) for each in (self.first, self.second)]
        if lengths[0] != lengths[1]:
            said.append(f"the prompts have {lengths[0]:,} and {lengths[1]:,} tokens: sums over positions grow with the length")
        for side, each in zip(SIDES, (self.first, self.second), strict=True):
            said += [f"of the {side} prompt, {each.caveat}"] if each.caveat else []
            n = int(each.table["effect"].isna().sum())
            said += [f"of the {side} prompt, {n:,} effects were not measured: those features have no difference"] if n else []
        return tuple(said)

    def _repr_html_(self) -> str:
        from widgets.html.batch import comparison_html

        return comparison_html(self)

    def __repr__(self) -> str:
        both = (self.first, self.second)
        lines = [f"RankingComparison: {len(self.table):,} features active on either prompt"]
        lines += [
            f"  {side}: {each.prompt!r}, {metric_words(each)} = {each.clean_metric:+.3f}" for side, each in zip(SIDES, both, strict=True)
        ]
        lines += [
            f"  effect {row.effect_first:+.3f} − ({row.effect_second:+.3f}) = {row.effect_difference:+.3f}  "
            f"{row.feature} {row.label}".rstrip()
            for row in self.table.head(10).itertuples()
        ]
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])


def compare(first: Any, second: Any) -> RankingComparison:
    """Two prompts' rankings, side by side. Raises ValueError for what is no ranking, and for rankings through different dictionaries, of
    different models, or of which one only has the start token."""
    for name, each in zip(SIDES, (first, second), strict=True):
        if not isinstance(each, FeatureRanking):
            raise ValueError(f"{name}={str(each)[:60]!r} is no ranking: expected what bench.rank(prompt, metric) gives")
    for name in SAME:
        ours, theirs = getattr(first, name), getattr(second, name)
        if ours != theirs:
            raise ValueError(f"the two rankings differ in {name}: {ours!r} and {theirs!r}; feature numbers mean the same in one SAE only")
    return RankingComparison(first, second)


def differences(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Two tables of (feature, pos) pairs → what `RankingComparison.table` says. Pure."""
    sums = [_summed(table).add_suffix(f"_{side}") for table, side in zip((first, second), SIDES, strict=True)]
    both = pd.concat(sums, axis=1)  # of an index of features: those of either
    labels = pd.concat([first, second]).drop_duplicates("feature").set_index("feature")["label"]
    found: dict[str, Any] = {"feature": both.index.to_numpy(), "label": labels.reindex(both.index).fillna("").to_numpy()}
    for name in ("n_pos", *ORDERS):
        here, there = (_where_active(both, name, side) for side in SIDES)
        found |= {f"{name}_first": here, f"{name}_second": there}
        found |= {} if name == "n_pos" else {f"{name}_difference": here - there}
    table = pd.DataFrame(found).astype({f"n_pos_{side}": int for side in SIDES})
    order = ["effect_difference", "attribution_difference", "feature"]
    return table.sort_values(order, ascending=[False, False, True], kind="stable").reset_index(drop=True)


def _summed(table: pd.DataFrame) -> pd.DataFrame:
    """Per feature; a sum with an unmeasured effect in it is none."""
    groups = table.groupby("feature")
    summed = groups[list(ORDERS)].sum()
    is_unknown = table[list(ORDERS)].isna().groupby(table["feature"]).any()
    return summed.mask(is_unknown).assign(n_pos=groups.size())


def _where_active(both: pd.DataFrame, name: str, side: str) -> np.ndarray:
    """0 where the feature is not active on that prompt."""
    is_active = both[f"n_pos_{side}"].notna()
    return both[f"{name}_{side}"].where(is_active, 0.0).to_numpy(float)


def metric_words(ranking: FeatureRanking) -> str:
    """What its effects are parts of."""
    other = f"logit({ranking.baseline!r})" if ranking.baseline else "the mean logit"
    return f"logit({ranking.answer!r}) − {other}"
