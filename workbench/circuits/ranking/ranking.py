"""One prompt's features, ranked three ways: how active each is, its attribution, and its measured effect on the answer.

    attribution = feature_acts · (∂metric/∂x · W_dec)          first-order estimate
    effect      = metric(clean) − metric(feature set to 0 at one position)

Positive supports the answer. Scaling Monosemanticity, "Features as Computational Intermediates": activation alone says little about what
matters, attribution nearly as much as the effect; `agreement` measures this for the prompt at hand.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from workbench.circuits.metrics import Metric
from workbench.circuits.ranking.ablation import checked_precision
from workbench.circuits.ranking.measurement import Measurement, Standing
from workbench.circuits.ranking.until import CONFIDENCE, checked_confidence, n_wanted
from workbench.files import checked_file, write_text
from workbench.given import counted, whole
from workbench.model.chat import Chat
from workbench.model.start import start_token

ORDERS = ("activation", "attribution", "effect")
COLUMNS = ("feature", "pos", "token", *ORDERS, "label")
MOVED = 0.1  # of a correlation that hangs on one pair
N_TOP = 10  # the paper compares top tens


@dataclass(frozen=True)
class Agreement:
    """How well the cheap orders predict the measured one, over the (feature, position) pairs whose effect was measured."""

    attribution_correlation: float  # Pearson, with the effect; NaN where there is nothing to correlate
    activation_correlation: float
    attribution_overlap: int  # how many of the n_top largest effects are among the n_top largest attributions
    activation_overlap: int
    n_top: int  # 10, or fewer where fewer effects were measured
    n_measured: int
    attribution_rank_correlation: float  # Spearman: no single pair decides it
    activation_rank_correlation: float
    attribution_without: float  # Pearson, without the one pair that changes it most
    outlier: int  # that pair's row in `table`; −1 where there is none

    @property
    def hangs_on_one_pair(self) -> bool:
        """Does one pair decide attribution's correlation?"""
        return abs(self.attribution_without - self.attribution_correlation) > MOVED

    def __repr__(self) -> str:
        without = f" ({self.attribution_without:.2f} without row {self.outlier})" if self.hangs_on_one_pair else ""
        return (
            f"Agreement with the measured effect, over {self.n_measured:,} active (feature, position) pairs\n"
            f"  attribution: rank correlation {self.attribution_rank_correlation:5.2f}, correlation {self.attribution_correlation:5.2f}"
            f"{without}, {self.attribution_overlap} of the top {self.n_top}\n"
            f"  activation:  rank correlation {self.activation_rank_correlation:5.2f}, correlation {self.activation_correlation:5.2f}, "
            f"{self.activation_overlap} of the top {self.n_top}"
        )


@dataclass(frozen=True, repr=False, eq=False)
class FeatureRanking:
    """Every active feature at every position of one prompt, with its activation, attribution and effect.

    `table`: one row per active (feature, position), largest effect first; effect is NaN where it was not measured.
    """

    prompt: str
    str_tokens: list[str]
    answer: str
    baseline: str  # the other token, or "" for the mean logit over the vocabulary
    clean_metric: float
    table: pd.DataFrame
    hook_name: str = ""
    model_name: str = ""
    sae_name: str = ""
    is_start_included: bool = False
    start_token: str | None = None  # what leads the prompt, "" for nothing; None: not said
    notes: tuple[str, ...] = ()  # what to know before believing it, a sentence each
    standing: Standing | None = None  # of the answer, in what the model would say itself

    def __post_init__(self):
        missing = [name for name in COLUMNS if name not in self.table]
        assert not missing, f"a ranking's table lacks {', '.join(missing)}"
        by_effect = self.table.sort_values(["effect", "attribution"], ascending=False, kind="stable")  # NaN last
        object.__setattr__(self, "table", by_effect.reset_index(drop=True))

    @cached_property
    def _ranked(self) -> pd.DataFrame:
        return with_ranks(self.table)

    def top(self, n: int, by: str = "effect") -> pd.DataFrame:
        """The n rows of `table` largest by "effect", "attribution" or "activation", with each row's rank in all three orders.

        Largest means most in favor of the answer: signed, not absolute.
        """
        _check_order(by)
        n = counted(n, "n", "row")
        ranked = self._ranked
        return ranked[ranked[f"{by}_rank"] <= n].sort_values(f"{by}_rank").reset_index(drop=True)

    def by_feature(self) -> pd.DataFrame:
        """One row per feature, summed over positions (effects: those measured), with n_pos and its rank in all three orders."""
        groups = self.table.groupby("feature", sort=False)
        summed = groups[list(ORDERS)].sum(min_count=1)
        summed.insert(0, "n_pos", groups.size())
        summed["label"] = groups["label"].first()
        ordered = summed.reset_index().sort_values(["effect", "attribution"], ascending=False, kind="stable")
        return with_ranks(ordered.reset_index(drop=True))

    def agreement(self) -> Agreement:
        """Correlations of attribution and activation with the effect, and overlaps of the top tens (rows as in `table`)."""
        measured = self._ranked[self.table["effect"].notna()]
        n_top = min(N_TOP, len(measured))
        top = measured["effect_rank"] <= n_top
        without, outlier = _without_one(measured["attribution"], measured["effect"])
        return Agreement(
            attribution_correlation=_pearson(measured["attribution"], measured["effect"]),
            activation_correlation=_pearson(measured["activation"], measured["effect"]),
            attribution_overlap=int((top & (measured["attribution_rank"] <= n_top)).sum()),
            activation_overlap=int((top & (measured["activation_rank"] <= n_top)).sum()),
            n_top=n_top,
            n_measured=len(measured),
            attribution_rank_correlation=_pearson(measured["attribution"].rank(), measured["effect"].rank()),
            activation_rank_correlation=_pearson(measured["activation"].rank(), measured["effect"].rank()),
            attribution_without=without,
            outlier=outlier,
        )

    @property
    def caveat(self) -> str:
        """What to know first: an answer that the model would not give itself."""
        if self.standing is None or self.standing.rank == 1:
            return ""
        first, probability = next(iter(self.standing.next_tokens.items()))
        own = f"{self.answer!r} is not what the model says: its own first choice is {first!r}, {percent(probability)}"
        return f"{own}; {self.answer!r} comes #{self.standing.rank}, {percent(self.standing.probability)}"

    def relabeled(self, labels: Mapping[int, str]) -> "FeatureRanking":
        """The same with features called as they are now."""
        known = dict(labels)
        return replace(self, table=self.table.assign(label=[known.get(int(feature), "") for feature in self.table["feature"]]))

    def to_html(self, path: str | Path) -> Path:
        """Write the ranking as one page that needs nothing else: no network, and without scripts it still shows the lists."""
        from widgets.html.ranking import ranking_page

        path = checked_file(path)
        write_text(path, ranking_page(self))
        return path

    def plot_agreement(self):
        """Plotly: each pair's effect against its attribution and its activation. Shows as a picture where scripts do not run."""
        from widgets.figures.figures import plot_agreement

        return plot_agreement(self.table)

    def plot_ranks(self, n: int = N_TOP):
        """Plotly: where the n largest effects stand in the three orders."""
        from widgets.figures.figures import plot_ranks

        return plot_ranks(self.top(n))

    @property
    def start_words(self) -> str:
        """What became of the start token."""
        if self.start_token == "":
            return "no start token"
        named = f" {self.start_token}" if self.start_token else ""
        return f"start token{named} {'included' if self.is_start_included else 'left out'}"

    def _repr_html_(self) -> str:
        from widgets.html.ranking import ranking_html

        return ranking_html(self)

    def __repr__(self) -> str:
        from widgets.marks import signed

        start = self.start_words
        n_measured = int(self.table["effect"].notna().sum())
        other = repr(self.baseline) if self.baseline else "the mean logit"
        pairs = f"{len(self.table):,} active (feature, position) pairs, {n_measured:,} measured"
        lines = [
            f"FeatureRanking: why {self.answer!r} rather than {other}?",
            f"  {self.prompt!r}",
            f"  clean metric {signed(self.clean_metric)}; {pairs}; {start}",
        ]
        lines += [f"  {self.caveat}"] if self.caveat else []
        lines += [
            f"  effect {signed(row.effect)}  attribution {signed(row.attribution)} (#{row.attribution_rank})  "
            f"activation {row.activation:.3f} "
            f"(#{row.activation_rank})  feature {row.feature} at {row.pos} {row.token!r}  {row.label}".rstrip()
            for row in self.top(5).itertuples()
        ]
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])


def rank(  # noqa: PLR0913 as bench.rank
    bench: Any,
    prompt: str | Chat,
    metric: Metric,
    ablate: int | None = None,
    until: str | None = None,
    confidence: float = CONFIDENCE,
    include_start: bool = False,
    progress: bool = True,
    insist: bool = False,
    precision: str = "exact",
) -> FeatureRanking:
    """Every active feature at every position of `prompt`, with activation, attribution and measured effect on `metric`.

    ablate=200 measures only the 200 pairs of largest |attribution|; until="top 10" as many as it takes to be certain of the ten largest
    effects, to a confidence; by default all are measured. precision="delta": faster where the device multiplies 16 bits faster, with an
    error that a note states. The start token's features are left out unless asked for. Raises ValueError for what cannot be ranked
    (prompt, answer, SAE, nothing active) before anything is ablated, and where the memory that it takes is not there, unless insist.
    """
    if ablate is not None and (whole(ablate) or 0) < 1:
        raise ValueError(f"ablate={ablate!r} measures nothing: expected how many pairs to ablate, or None for all of them")
    if ablate is not None and until is not None:
        raise ValueError(f"ablate={ablate} says how many pairs to measure, until={until!r} when to stop: give one of the two")
    if checked_precision(precision) != "exact" and until is not None:
        raise ValueError(f"until={until!r} is certain of exact effects only: leave precision={precision!r} out")
    n_top, confidence = None if until is None else n_wanted(until), checked_confidence(confidence)
    found = Measurement(bench.model, bench.sae, prompt, metric, include_start, n_measured=ablate, insist=insist, say=progress)
    if n_top is None:
        found.measure(ablate, precision=precision, progress=progress)
    else:
        found.measure_until(n_top, confidence, progress=progress)
    return as_ranking(bench, found)


def as_ranking(bench: Any, found: Measurement) -> FeatureRanking:
    """What was measured so far, named as the bench names it."""
    return FeatureRanking(
        prompt=found.prompt,
        str_tokens=found.str_tokens,
        answer=found.answer,
        baseline=found.baseline,
        clean_metric=found.attributions.metric,
        table=found.table(bench.labels),
        hook_name=bench.sae.writes,
        model_name=bench.name or str(bench.model.cfg.model_name),
        sae_name=bench.sae_name,
        is_start_included=found.is_start_included,
        start_token=start_token(bench.model).text,
        notes=found.notes,
        standing=found.standing,
    )


def with_ranks(table: pd.DataFrame) -> pd.DataFrame:
    """`table` with activation_rank, attribution_rank and effect_rank: 1 is the largest; no rank where there is no effect."""
    ranks = {f"{by}_rank": table[by].rank(ascending=False, method="first").astype("Int64") for by in ORDERS}
    return table.assign(**ranks)


def _check_order(by: str) -> None:
    if by not in ORDERS:
        near = difflib.get_close_matches(str(by), ORDERS, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"cannot order by {by!r}: expected one of {', '.join(map(repr, ORDERS))}{hint}")


def _pearson(x: pd.Series, y: pd.Series) -> float:
    is_constant = len(x) < 2 or x.std() == 0 or y.std() == 0
    return float("nan") if is_constant else float(np.corrcoef(x, y)[0, 1])


def _without_one(x: pd.Series, y: pd.Series) -> tuple[float, int]:
    """Pearson's correlation without the one row that changes it most, and that row's index: sums over all, less its own part."""
    whole = _pearson(x, y)
    if len(x) < 4 or not np.isfinite(whole):
        return whole, -1
    a, b = (values.to_numpy(float) - values.mean() for values in (x, y))
    n = len(a) - 1
    covariance = (a * b).sum() - a * b - a * b / n  # the means move as well: the rest sums to −a and −b
    spread = [(values**2).sum() - values**2 - values**2 / n for values in (a, b)]
    with np.errstate(divide="ignore", invalid="ignore"):
        without = covariance / np.sqrt(np.clip(spread[0], 0, None) * np.clip(spread[1], 0, None))
    moved = np.where(np.isfinite(without), np.abs(without - whole), 0.0)
    row = int(moved.argmax())
    return (float(without[row]), int(x.index[row])) if moved[row] > 0 else (whole, -1)


def percent(p: float) -> str:
    """A probability in words."""
    return "> 99 %" if p >= 0.995 else f"{p:.0%}".replace("%", " %") if p >= 0.01 else "< 1 %"
