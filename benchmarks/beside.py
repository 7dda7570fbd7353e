"""A feature beside a steering vector, concept by concept: which scale stands beside a strength, who says more of the concept, how surely.

    no dearer    the largest scale that costs no more perplexity to the unsteered model: what a binary search on the scale looks for
    as far       the scale that moves the residual stream as far
    hindsight    the scale with the largest share among those no dearer: more than anybody could choose beforehand

Both wrote with the same luck, so a comparison is a paired one over samples: a concept is decided where the 95 % interval of the
difference does not hold 0, and level otherwise. benchmarks/steering.py writes; this compares and prints.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
from concepts import READINGS, VECTORS

from workbench.atlas.truth import kind_of

SANE, PAPER = (0.5, 1.0, 2.0, 3.0), (5.0, 7.0, 10.0)
STRENGTHS = (*SANE, *PAPER)
SCALES = [2.0 ** (k / 2) for k in range(-4, 12)]  # of a vector: 0.25 to 45; 1 is the distance between the two means
BANDS = {"½–3": range(len(SANE)), "5–10": range(len(SANE), len(STRENGTHS))}
MATCHES = ("no dearer", "as far", "hindsight")
MAIN, HARDEST = ("share", "32 whole", "no dearer"), ("mentions", "32 cut", "hindsight")
N_DRAWS = 2000  # of a bootstrap


@dataclass(frozen=True)
class Side:
    """What was written of one concept under its feature at every strength, or under one vector at every scale."""

    shares: dict[str, np.ndarray]  # reading → (setting, sample)
    perplexity: np.ndarray  # (setting), the median over samples
    added: np.ndarray  # (setting), the norm of what is added to the residual stream


def scale_beside(match: str, feature: Side, strength: int, vector: Side, reading: str) -> int:
    """Which of the vector's scales stands beside the feature at a strength."""
    if match == "as far":
        return int(np.abs(np.log(vector.added / feature.added[strength])).argmin())
    sane = np.flatnonzero(vector.perplexity <= feature.perplexity[strength])
    sane = sane if len(sane) else np.array([0])
    return int(sane[-1]) if match == "no dearer" else int(sane[vector.shares[reading][sane].mean(1).argmax()])


def compare(feature: Side, vectors: dict[str, Side]) -> list[dict]:
    """One row a (reading, vector, match) and band or single strength: both shares, and the interval of their difference."""
    rows, rng = [], np.random.default_rng(0)
    for reading, (name, vector), match in product(READINGS, vectors.items(), MATCHES):
        scales = [scale_beside(match, feature, strength, vector, reading) for strength in range(len(STRENGTHS))]
        ours, theirs = feature.shares[reading], vector.shares[reading][scales]
        for band, strengths in {**BANDS, **{f"{k:g}": [i] for i, k in enumerate(STRENGTHS)}}.items():
            samples = (ours - theirs)[list(strengths)].mean(0)
            low, high = np.quantile(samples[rng.integers(0, len(samples), (N_DRAWS, len(samples)))].mean(1), [0.025, 0.975])
            row = {"reading": reading, "vector": name, "match": match, "strengths": band}
            row |= {"share": ours[list(strengths)].mean(), "the vector's": theirs[list(strengths)].mean(), "low": low, "high": high}
            row |= {"perplexity": np.median(feature.perplexity[list(strengths)])}
            rows.append(row | {"scale": np.median(np.array(SCALES)[scales][list(strengths)])})
    return rows


def interval(values: np.ndarray, of: Callable = np.median, form: str = "{:.0%}") -> str:
    """A median, or mean, over concepts with its 95 % bootstrap interval."""
    draws = of(np.random.default_rng(0).choice(values, (N_DRAWS, len(values))), axis=1)
    low, high = (form.format(np.quantile(draws, q)) for q in (0.025, 0.975))
    return f"{form.format(of(values))} ({low}–{high})"


def results(rows: pd.DataFrame) -> pd.Series:
    """For how many concepts the feature says more, and for how many that is decided. The intervals are over concepts."""
    more = (rows["share"] > rows["the vector's"]).to_numpy(dtype=float)
    is_ahead, is_behind = rows["low"] > 0, rows["high"] < 0
    decided = is_ahead[is_ahead | is_behind].to_numpy(dtype=float)
    found = {"concepts": len(rows), "more": interval(more, np.mean), "ahead": f"{is_ahead.mean():.0%}"}
    found |= {"level": f"{1 - len(decided) / len(rows):.0%}", "behind": f"{is_behind.mean():.0%}"}
    found |= {"ahead, of decided": interval(decided, np.mean) if len(decided) else ""}
    return pd.Series(found | {name: f"{rows[name].median():.2%}" for name in ("share", "the vector's")})


def chosen(table: pd.DataFrame, which: tuple[str, str, str]) -> pd.DataFrame:
    return table[(table[["reading", "vector", "match"]] == which).all(axis=1)]


def by(rows: pd.DataFrame, names: str | list[str]) -> str:
    return rows.groupby(names, sort=False)[[*rows.columns]].apply(results).to_string()


def report(table: pd.DataFrame) -> None:
    """table: the rows of every concept, with concept, feature, f1 and unsteered, the concept's share where nothing steers."""
    table = table.assign(kind=table["concept"].map(kind_of))
    for reading, band in product(READINGS, BANDS):
        rows = chosen(table, (reading, *MAIN[1:])).query("strengths == @band")
        ratio = (rows["share"] / rows["unsteered"]).to_numpy()
        print(f"\n{reading}, strengths {band}: {interval(ratio, form='{:.0f}')} times the unsteered, ≥ 5 for {(ratio >= 5).mean():.0%}")
        print(f"  {interval(rows['share'].to_numpy(), form='{:.2%}')}, unsteered {rows['unsteered'].median():.3%} (medians)")
    print("\nfeature and vector; more: for how many concepts the feature has the larger share; ahead, behind: and that is decided")
    for name, about in VECTORS.items():
        print(f"  {name}: {about}")
    for band in BANDS:
        print(f"\nstrengths {band}\n{by(table[table['strengths'] == band], ['reading', 'vector', 'match'])}")
    for which in (MAIN, ("share", "32 cut", "no dearer"), HARDEST):
        rows = chosen(table, which)
        at_paper, single = rows[rows["strengths"] == "5–10"], rows[~rows["strengths"].isin(BANDS)]
        kinds = at_paper["kind"].value_counts()
        print(f"\n{', '.join(which)}: kinds at 5–10 with three concepts or more, and strengths")
        print(by(at_paper[at_paper["kind"].map(kinds) >= 3], "kind"), by(single, "strengths"), sep="\n\n")
    print("\n" + single.groupby("strengths", sort=False)[["perplexity"]].median().round(1).T.to_string())
    each = chosen(table, MAIN).query("strengths == '5–10'").drop(columns=["reading", "vector", "match", "strengths", "kind"])
    print(f"\n{', '.join(MAIN)}: each concept at 5–10; low and high: of the difference\n{each.round(4).to_string(index=False)}")
