"""Features that read what they are called and do not write it, or write it and do not read it, by the two scores that an index keeps.

    gap = place in reading − place in writing            places from 0 (last) to 1 (first) among the features that have both scores

The two scores are of different kinds, so places are compared, not values. Neither a model nor torch is needed.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from jaxtyping import Float

from workbench.features.index.index import FeatureIndex
from workbench.features.index.parts import FeatureScore
from workbench.features.search.found import Found, table_of, with_scores
from workbench.given import counted

DOES = {"reads": "that read what they are called and do not write it", "writes": "that write what they are called and do not read it"}


def gaps(reads: pd.Series, writes: pd.Series) -> pd.Series:
    """Each feature's place by the one score less its place by the other, −1 to 1: positive where it reads better."""
    return reads.rank(pct=True) - writes.rank(pct=True)


def parted(
    does: str, scores: Mapping[int, FeatureScore], labels: Mapping[int, str], density: Float[np.ndarray, "d_sae"] | None, top: int = 20
) -> Found:
    """The features in which the two scores part most, one way: of those that have both. Raises ValueError where no feature has."""
    if does not in DOES:
        raise ValueError(f"does={does!r}: expected 'reads' or 'writes', what the features do well")
    top = counted(top, "top", "feature")
    known = {i: each for i, each in scores.items() if each.input is not None and each.output is not None}
    if not known:
        raise ValueError("the index keeps no scores of these features: score them first (wb.score_features, workbench score)")
    table = pd.DataFrame(list(known.values()), index=list(known), dtype=np.float64)
    gap = gaps(table["input"], table["output"]) * (1 if does == "reads" else -1)
    best = gap[gap > 0].sort_values(ascending=False, kind="stable").head(top)
    found = table_of(best.index.to_numpy(np.int64), best.to_numpy(), {}, labels, density)
    good, bad = ("reading", "writing") if does == "reads" else ("writing", "reading")
    note = f"the score: its place in {good} what it is called less that in {bad} it, among {len(known):,} features (1: first, 0: last)"
    return with_scores(Found(DOES[does], found, note=note), scores)


def parted_in(index: FeatureIndex, does: str, top: int = 20) -> Found:
    """In an index by itself, with a person's own labels laid over: what `bench.find_parted` finds with it."""
    labels = {feature: str(label) for feature, label in index.labels().items()}
    return parted(does, index.scores(), labels, index.table["density"].to_numpy(), top)
