"""How many features an answer needs: sets that grow in a ranking's three orders, the smallest that keeps a share, pairs that interact.

    kept(S) = metric(S alone) / metric       lost(S) = effect(S) / metric       interaction(a, b) = effect({a, b}) − effect(a) − effect(b)

Members are rows of a ranking: (feature, position) pairs, or features at every position (`by_feature`). Random orders stand beside.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from workbench.circuits.evidence.sets import FeatureSets
from workbench.circuits.metrics import Metric
from workbench.circuits.ranking.ranking import ORDERS

RANDOM = "random"
DENSE_SIZES, GROWTH = 32, 1.15  # every size up to here, then each 15 % larger


@dataclass(frozen=True, repr=False, eq=False)
class SetCurves:
    """`table`: one row per order, draw and size: only (metric with the set alone), kept (its share), effect (what is lost without it),
    lost (its share)."""

    prompt: str
    metric: Metric
    clean_metric: float
    floor: float  # the metric with every feature switched off
    table: pd.DataFrame
    is_error_kept: bool = False  # in sets alone

    def smallest(self, share: float = 0.8) -> pd.DataFrame:
        """The smallest measured size of each order whose set keeps the share, and the smallest without which it is lost. For random orders
        the median over draws; NaN where no size does."""
        found = {}
        for name, column in (("keeps", "kept"), ("loses", "lost")):
            sizes = self.table["size"].where(self.table[column] >= share)
            draws = sizes.groupby([self.table["order"], self.table["draw"]], sort=False).min().fillna(np.inf)
            found[name] = draws.groupby(level=0, sort=False).median().replace(np.inf, np.nan)
        return pd.DataFrame(found).rename_axis("order").reset_index()

    def plot(self):
        """Plotly: kept and lost shares against the size of the set, a line for each order; random orders as their median."""
        from widgets.figures.act import plot_set_curves

        return plot_set_curves(self.table)

    def _repr_html_(self) -> str:
        from widgets.html.act import set_curves_html

        return set_curves_html(self)

    def __repr__(self) -> str:
        from widgets.marks import signed

        sizes = self.smallest().set_index("order")
        lines = [f"SetCurves of {self.prompt!r}: metric {signed(self.clean_metric)}, {signed(self.floor)} without any feature"]
        lines += [f"  by {order:<12} 80 % kept by {row.keeps:g}, lost without {row.loses:g}" for order, row in sizes.iterrows()]
        return "\n".join(lines)


def set_curves(sets: FeatureSets, rows: pd.DataFrame, n_random: int = 10, seed: int = 0, progress: bool = True) -> SetCurves:
    """Sets that grow by effect, attribution and activation, and in n_random random orders, measured both ways at every size.

    rows: a ranking's table (pairs), or its by_feature(). Raises ValueError where the metric has no share to keep.
    """
    _check_share(sets)
    unit, rng, orders = _unit_of_pair(sets, rows), np.random.default_rng(seed), []
    for order in reversed(ORDERS):
        orders.append((order, 0, rows[order].to_numpy(float, na_value=-np.inf).argsort(kind="stable")[::-1]))  # not measured: last
    orders += [(RANDOM, draw, rng.permutation(len(rows))) for draw in range(n_random)]
    sizes, parts, masks = _sizes(len(rows)), [], []
    sets.check(len(orders) * len(sizes))
    for order, draw, sequence in orders:
        place = np.full(len(rows) + 1, len(rows))  # pairs that belong to no row (unit −1) never come
        place[sequence] = np.arange(len(rows))
        at = torch.from_numpy(place).to(unit)[unit]
        masks.append(at[None] < torch.tensor(sizes).to(unit)[:, None])
        parts.append(pd.DataFrame({"order": order, "draw": draw, "size": sizes}))
    chosen, table = torch.cat(masks), pd.concat(parts, ignore_index=True)
    only = sets.clean_metric - sets.effects_of_only(chosen, progress).numpy()
    effect = sets.effects(chosen, progress).numpy()
    table = table.assign(only=only, kept=only / sets.clean_metric, effect=effect, lost=effect / sets.clean_metric)
    return SetCurves(sets.prompt, sets.metric, sets.clean_metric, sets.floor, table, sets.keep_error)


def smallest_set(sets: FeatureSets, rows: pd.DataFrame, share: float = 0.8, progress: bool = True) -> pd.DataFrame:
    """The rows of a set that keeps `share` of the metric, found greedily: at each step the row whose joining keeps most.

    One row a step, in the order of choice, with `only` and `kept` after it. Each step measures every row that is left: give the hundred
    largest of a long ranking. Raises ValueError where all rows together do not reach the share.
    """
    _check_share(sets)
    if not 0 < share <= 1:
        raise ValueError(f"share={share}: expected a share of the metric, above 0 and at most 1")
    unit = _unit_of_pair(sets, rows)
    sets.check(len(rows))
    members = unit[None] == torch.arange(len(rows)).to(unit)[:, None]
    chosen, left, kept, steps = sets.none()[0], list(range(len(rows))), -np.inf, []
    while kept < share:
        if not left:
            best = max((step["kept"] for step in steps), default=0.0)
            raise ValueError(
                f"no set of these {len(rows)} rows reaches {share:.0%} of the metric; the best kept {best:.0%}: give more rows"
            )
        only = sets.clean_metric - sets.effects_of_only(chosen | members[left], progress).numpy()
        best = int(only.argmax())
        chosen, row, kept = chosen | members[left[best]], left.pop(best), float(only[best] / sets.clean_metric)
        steps.append(rows.iloc[row].to_dict() | {"only": float(only[best]), "kept": kept})
    shown = [name for name in ("feature", "pos", "token", "label", "only", "kept") if name in steps[0]]
    return pd.DataFrame(steps)[shown]


def interactions(sets: FeatureSets, rows: pd.DataFrame | Sequence[int]) -> pd.DataFrame:
    """Every two of the rows (or features): effect of each, joint effect, interaction = joint − sum. Below 0: they carry the same, or back
    each other up after the fact; above 0: each makes up for the other's loss. Largest |interaction| first.
    """
    table = pd.DataFrame(rows if isinstance(rows, pd.DataFrame) else {"feature": list(rows)})
    names = [tuple(row) for row in table[["feature", "pos"] if "pos" in table else ["feature"]].itertuples(index=False)]
    if len(set(names)) < 2:
        raise ValueError(f"an interaction needs two different members, got {len(set(names))}")
    members = torch.stack([sets.set_of([feature] if not pos else [(pos[0], feature)]) for feature, *pos in names])
    first, second = np.array(list(combinations(range(len(names)), 2))).T
    effects = sets.effects(torch.cat([members, members[first] | members[second]])).numpy()
    single, joint = effects[: len(names)], effects[len(names) :]
    shown = [name[0] if len(name) == 1 else f"{name[0]} at {name[1]}" for name in names]
    found = pd.DataFrame({"first": [shown[i] for i in first], "second": [shown[i] for i in second]})
    found = found.assign(effect_first=single[first], effect_second=single[second], joint=joint)
    found["interaction"] = found["joint"] - found["effect_first"] - found["effect_second"]
    return found.sort_values("interaction", key=abs, ascending=False, kind="stable").reset_index(drop=True)


def _unit_of_pair(sets: FeatureSets, rows: pd.DataFrame) -> Int[Tensor, "n_pairs"]:
    """The row that each of the sets' pairs belongs to; −1 where none."""
    if not len(rows):
        raise ValueError("no rows: expected a ranking's table, or its by_feature()")
    pairs, d_sae = sets.pairs.cpu().numpy(), sets.sae.cfg.d_sae
    here = pairs[:, 1] + (d_sae * pairs[:, 0] if "pos" in rows else 0)
    keys = rows["feature"].to_numpy() + (d_sae * rows["pos"].to_numpy() if "pos" in rows else 0)
    if len(np.unique(keys)) < len(keys):
        raise ValueError("a row stands twice: expected every pair, or every feature, once")
    order = keys.argsort()
    at = np.searchsorted(keys[order], here).clip(max=len(keys) - 1)
    return torch.from_numpy(np.where(keys[order][at] == here, order[at], -1)).to(sets.pairs.device)


def _check_share(sets: FeatureSets) -> None:
    from widgets.marks import signed

    if sets.clean_metric <= 0:
        raise ValueError(
            f"the metric is {signed(sets.clean_metric)}: the model does not prefer this answer, so there is no share of it to keep"
        )


def _sizes(n: int) -> list[int]:
    """0 to n: every size at first, then ever wider steps."""
    sizes = list(range(min(n, DENSE_SIZES) + 1))
    while sizes[-1] < n:
        sizes.append(min(n, int(np.ceil(sizes[-1] * GROWTH))))
    return sizes
