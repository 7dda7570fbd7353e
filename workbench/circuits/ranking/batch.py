"""Many prompts ranked together: which features matter over all of them, how sure that is, and on how many prompts each one is active.

    batch = bench.rank_many(prompts, metric)                batch.table: one row a feature; batch.rankings: one each

A feature's effect on a prompt is its effect summed over positions, 0 where it is active nowhere. The interval is Student's t of the mean
over prompts, 95 %: it says how far another draw of such prompts would move the mean, nothing of other prompts.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
import pandas as pd
from scipy.special import stdtrit
from tqdm.auto import tqdm

from workbench.circuits.metrics import Metric, resolve
from workbench.circuits.ranking.comparison import metric_words
from workbench.circuits.ranking.ranking import FeatureRanking, as_ranking, rank
from workbench.circuits.ranking.together import groups, measured_together
from workbench.files import read_text
from workbench.given import no_table, whole
from workbench.model.memory import is_out_of_memory

LEVEL = 0.95
SUMS = ("activation", "attribution", "effect")


@dataclass(frozen=True, repr=False, eq=False)
class RankingBatch:
    """Rankings of several prompts, and what they say together."""

    rankings: Sequence[FeatureRanking]

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row a feature, largest mean effect first: feature, n_prompts it is active on, means over all prompts of activation,
        attribution and effect, low and high of the effect's interval (NaN for a single prompt), label."""
        n = len(self.rankings)
        sums = pd.concat([each.by_feature().assign(prompt=i) for i, each in enumerate(self.rankings)])
        partly = [each.table["feature"][each.table["effect"].isna()] for each in self.rankings]  # at some position
        unmeasured = pd.concat(partly).unique()
        grouped = sums.groupby("feature")
        found = grouped[list(SUMS)].sum() / n
        found.insert(0, "n_prompts", grouped.size())
        squares = (sums.assign(square=sums["effect"] ** 2).groupby("feature")["square"].sum() - n * found["effect"] ** 2).clip(lower=0)
        half = stdtrit(n - 1, (1 + LEVEL) / 2) * np.sqrt(squares / (n - 1) / n) if n > 1 else np.nan
        found = found.assign(low=found["effect"] - half, high=found["effect"] + half, label=grouped["label"].first())
        found.loc[unmeasured, ["effect", "low", "high"]] = np.nan  # a mean of what was measured in part would mislead
        return found.sort_values(["effect", "attribution"], ascending=False, kind="stable").reset_index()

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know before believing it, a sentence each."""
        said, n = [], len(self.rankings)
        if len({metric_words(each) for each in self.rankings}) > 1:
            said.append("prompts have metrics of their own: a mean effect is one over different logits")
        if n == 1:
            said.append("one prompt has no interval: two at least say how far another draw would move a mean")
        others = sum(bool(each.caveat) for each in self.rankings)
        said += [f"on {others:,} of {n:,} prompts the answer is not what the model says itself"] if others else []
        partly = sum(bool(each.table["effect"].isna().any()) for each in self.rankings)
        said += [f"on {partly:,} of {n:,} prompts not all effects were measured: those features have no mean"] if partly else []
        shared = [note for note in self.rankings[0].notes if all(note in each.notes for each in self.rankings)] if n else []
        noted = sum(len(each.notes) > len(shared) for each in self.rankings)
        said += shared + ([f"{noted:,} of {n:,} rankings have notes of their own: .rankings[i].notes"] if noted else [])
        return tuple(said)

    def on_each(self, feature: SupportsIndex) -> pd.DataFrame:
        """One feature on each prompt, in their order: prompt, answer, baseline, the metric's value there (logits), then summed over
        positions activation, attribution and effect, and n_pos it is active at; 0 of each where it is active nowhere. Raises ValueError
        for what is no feature's number; how many features there are a batch does not know."""
        number = whole(feature)
        if number is None or number < 0:
            raise ValueError(f"{feature!r} is no feature: expected a whole number, 0 or more")
        found = []
        for each in self.rankings:
            rows = np.flatnonzero(each.table["feature"].to_numpy() == number)
            sums = {name: float(each.table[name].to_numpy()[rows].sum()) for name in SUMS}  # 0 of no rows, NaN where one was not measured
            about = {name: getattr(each, name) for name in ("prompt", "answer", "baseline")}
            found.append({**about, "metric": each.clean_metric, **sums, "n_pos": len(rows)})
        return pd.DataFrame(found)

    def _repr_html_(self) -> str:
        from widgets.html.batch import batch_html

        return batch_html(self)

    @staticmethod
    def _words(row: Any) -> str:
        from widgets.marks import signed

        if np.isnan(row.effect):
            return "effect not measured at all positions"
        return f"effect {signed(row.effect)}" + ("" if np.isnan(row.low) else f" ({signed(row.low)} to {signed(row.high)})")

    def __repr__(self) -> str:
        lines = [f"RankingBatch of {len(self.rankings)} prompts, {len(self.table):,} features; means over prompts, {LEVEL:.0%} intervals"]
        lines += [
            f"  {self._words(row)}  on {row.n_prompts}  {row.feature} {row.label}".rstrip() for row in self.table.head(10).itertuples()
        ]
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])


def rank_many(
    bench: Any,
    prompts: Iterable[str] | Path,
    metric: Metric | Sequence[Metric],
    ablate: int | None = None,
    progress: bool = True,
    precision: str = "exact",
) -> RankingBatch:
    """Each prompt ranked, all by one metric or each by its own. prompts: texts, or the path of a file with one a line.

    Raises ValueError, naming the prompt, for one that cannot be ranked, and where there are not as many metrics as prompts.
    """
    texts = [line for line in read_text(prompts).splitlines() if line.strip()] if isinstance(prompts, Path) else prompts
    if isinstance(texts, str):
        raise ValueError(f"{texts!r} is one prompt: expected a list of prompts, or pathlib.Path of a file with one a line")
    texts = list(no_table(texts, "prompts"))
    if isinstance(metric, str) or not isinstance(metric, Metric | Iterable):
        resolve(bench.model, metric)  # which says what an answer alone lacks
    metrics = [metric] * len(texts) if isinstance(metric, Metric) else list(metric)
    if not texts or len(metrics) != len(texts):
        raise ValueError(f"{len(texts)} prompts and {len(metrics)} metrics: expected one prompt at least, and one metric, or one for each")
    rankings: dict[int, FeatureRanking] = {}
    with tqdm(total=len(texts), desc="ranking", unit="prompt", disable=not progress) as bar:
        for group in _groups(bench, texts, ablate, precision):
            for i, ranking in _together(bench, texts, metrics, group, ablate):
                rankings[i] = ranking
                bar.update()
            for i in group:
                if i in rankings:
                    continue
                try:
                    rankings[i] = rank(bench, texts[i], metrics[i], ablate=ablate, progress=False, precision=precision)
                except ValueError as error:
                    raise ValueError(f"prompt {i}, {str(texts[i])[:60]!r}: {error}") from None
                bar.update()
    return RankingBatch([rankings[i] for i in range(len(texts))])


def _groups(bench: Any, texts: Sequence[str], ablate: int | None, precision: str) -> list[list[int]]:
    """Those to measure together; each alone where something is wrong, which its own ranking says."""
    alone = [[i] for i in range(len(texts))]
    if precision != "exact" or (ablate is not None and (whole(ablate) or 0) < 1):
        return alone
    try:
        return groups(bench.model, texts)
    except ValueError:
        return alone


def _together(
    bench: Any, texts: Sequence[str], metrics: Sequence[Metric], group: Sequence[int], ablate: int | None
) -> Iterator[tuple[int, FeatureRanking]]:
    """The rankings of a group, by number; it ends early where something is wrong with one of them, or together they take too much."""
    if len(group) == 1:
        return
    some = [texts[i] for i in group], [metrics[i] for i in group]
    try:
        for i, found in zip(group, measured_together(bench.model, bench.sae, *some, ablate), strict=True):
            yield i, as_ranking(bench, found)
    except (ValueError, RuntimeError, MemoryError) as error:
        if not (isinstance(error, ValueError) or is_out_of_memory(error)):
            raise
