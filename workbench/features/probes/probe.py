"""Is a feature worth using, or does a probe do better? Linear classifiers of two sets of texts, by what they read.

    probes = probe(bench, positive, negative, shifted=(positive2, negative2))
    activation      logistic regression on x at the SAE's hook point          what the features are made of
    all features    the same on every feature
    k features      the same on the k best
    one feature     a single feature's activation, as it is
    neurons         the same as the activation, on the last MLP before

Each is judged on texts that it did not see, with an interval (classify.py), and on texts of another kind, where `shifted` gives some. A
feature is no better a classifier for being a feature: "Are sparse autoencoders useful?" (Kantamneni et al., 2025, arXiv 2502.16681) finds
probes on activations ahead nearly everywhere, "Using dictionary learning features as classifiers" (Bricken et al., 2024) not always.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from workbench.features.probes.classify import MOST_STEPS, Choice, Fitted, chosen, drawn, parts
from workbench.features.probes.reads import Reads, read
from workbench.given import no_table, whole
from workbench.model.chat import Chat, written
from workbench.model.start import reading_notes

FEWEST, ENOUGH = 10, 30  # texts of each class
N_PARTS = 5
SHOWN_TOKENS = 5


@dataclass(frozen=True, repr=False, eq=False)
class Probes:
    """`table`: a row a classifier: reads, n_inputs, auroc, low, high and, where there are shifted texts, shifted, shifted_low, shifted_high
    (95 % intervals). `differences`: each beside the activation's. `features`: feature, share of the parts that chose it, weight, label."""

    table: pd.DataFrame
    differences: pd.DataFrame
    features: pd.DataFrame
    n_positive: int
    n_negative: int
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """Which reads better, the activation or the features, and by how much."""
        return " ".join(_verdict(self.table, self.differences, kind) for kind in ("", "shifted") if kind in ("", *self.table.columns))

    def plot(self) -> Any:
        """AUROC with its interval, a row a classifier, shifted texts beside."""
        from widgets.figures.features import plot_probes

        return plot_probes(self.table)

    def _repr_html_(self) -> str:
        from widgets.html.find import probes_html

        return probes_html(self)

    def __repr__(self) -> str:
        about = f"Probes of {self.n_positive:,} texts against {self.n_negative:,}, judged on texts that they did not see"
        numbers = self.table.to_string(index=False, float_format="{:.3f}".format)
        return "\n".join(
            [about, *(f"  {line}" for line in numbers.splitlines()), f"  {self.verdict}", *(f"  {note}" for note in self.notes)]
        )


def probe(
    bench: Any,
    positive: Iterable[str] | Iterable[Chat],
    negative: Iterable[str] | Iterable[Chat],
    shifted: tuple[Iterable[str], Iterable[str]] | None = None,
    *,
    k: int = 10,
    seed: int = 0,
    progress: bool = True,
) -> Probes:
    """Judge classifiers that tell positive texts from negative ones. shifted: positive and negative texts of another kind (another topic,
    phrasing, language), on which a classifier of all the others is judged. k: how many features the third classifier has.

    Raises ValueError for fewer than ten texts of a kind, for a text that stands in two sets, and for what is empty or too long.
    """
    if not 1 < (whole(k) or 0) <= bench.sae.cfg.d_sae:
        raise ValueError(f"k={k!r}: expected how many features one classifier reads, 2 to {bench.sae.cfg.d_sae:,}")
    sets = _checked(bench.model, (positive, negative), shifted)
    texts, ends = [text for some in sets for text in some], np.cumsum([len(some) for some in sets])
    reads = read(bench.model, bench.sae, texts, progress)
    is_positive = np.concatenate([np.full(len(some), n % 2 == 0) for n, some in enumerate(sets)])
    seen, others = np.split(np.arange(len(texts)), [ends[1]])
    beside = (reads.at(others), is_positive[others]) if shifted else None
    found = judged(reads.at(seen), is_positive[seen], beside, k=k, seed=seed, labels=bench.labels, progress=progress)
    return replace(found, notes=(*reading_notes(bench.model, bench.sae), *found.notes))


def judged(
    reads: Reads,
    y: np.ndarray,
    shifted: tuple[Reads, np.ndarray] | None = None,
    *,
    k: int = 10,
    seed: int = 0,
    labels: Mapping[int, str] | None = None,
    progress: bool = True,
) -> Probes:
    """`probe` of texts that are read already. y, of shifted texts too: which are positive."""
    folds, rows, draws, of_shifted, features = parts(y, N_PARTS, seed), [], {}, {}, pd.DataFrame()
    unfinished = Counter[str]()
    kinds = _kinds(reads, k)
    with tqdm(total=len(kinds) * N_PARTS, desc="probing", unit="fit", disable=not progress, delay=2) as bar:
        for name, (pools, choice) in kinds.items():
            scores, voted = [], Counter[int]()
            for train, test in folds:
                pool, fitted = chosen({pool: x[train] for pool, x in pools.items()}, y[train], choice, seed)
                scores.append(fitted.scores(pools[pool][test]))
                voted.update(fitted.columns.tolist())
                unfinished[name] += not fitted.is_converged
                bar.update()
            draws[name] = drawn([y[test] for _, test in folds], scores, seed)
            rows.append({"reads": name, "n_inputs": len(fitted.columns), **_with_interval("", draws[name])})
            pool, fitted = chosen(pools, y, choice, seed)
            unfinished[name] += not fitted.is_converged
            if choice.n_columns == k:
                features = _features(voted, fitted, labels or {})
            if shifted is not None:
                there = _kinds(shifted[0], k)[name][0][pool]
                of_shifted[name] = drawn([shifted[1]], [fitted.scores(there)], seed)
                rows[-1] |= _with_interval("shifted", of_shifted[name])
    table = pd.DataFrame(rows)
    notes = [*_notes(table, reads.tokens, y), *(_unfinished(name, n) for name, n in unfinished.items() if n)]
    return Probes(table, _differences(draws, of_shifted), features, int(y.sum()), int((~y).sum()), tuple(notes))


def _kinds(reads: Reads, k: int) -> dict[str, tuple[dict[str, Any], Choice]]:
    """Name → what it reads, in each way of pooling, and how many columns of it."""
    features = (("all features", None), (f"{k} features", k), ("one feature", 1))
    kinds: dict[str, tuple[dict[str, Any], Choice]] = {"activation": (reads.activation, Choice())}
    kinds |= {name: (reads.features, Choice(n)) for name, n in features}
    return kinds | ({"neurons": (reads.neurons, Choice())} if reads.neurons else {})


def _checked(model: Any, sets: Sequence[Iterable[Any]], shifted: Sequence[Iterable[Any]] | None) -> list[list[str]]:
    """The texts of all sets: positive, negative and, of another kind, positive and negative."""
    if shifted is not None and (isinstance(shifted, str) or len(tuple(shifted)) != 2):
        raise ValueError("shifted is a pair: (positive texts, negative texts) of another kind")
    found: list[list[str]] = []
    where: dict[str, str] = {}
    for name, some in zip(("positive", "negative", "shifted positive", "shifted negative"), [*sets, *(shifted or ())], strict=False):
        if isinstance(some, str):
            raise ValueError(f"the {name} texts are one string: expected several texts, ['…', '…']")
        texts = [written(model, each) for each in no_table(some, f"{name} texts")]
        if len(texts) < FEWEST:
            raise ValueError(
                f"{len(texts)} {name} texts: a probe is judged on texts that it did not see, give {FEWEST} or more of each kind"
            )
        for text in texts:
            if text in where:
                raise ValueError(f"{text[:80]!r} stands among the {where[text]} and the {name} texts: what was learned from cannot judge")
        if len(set(texts)) < len(texts):
            twice = Counter(texts).most_common(1)[0]
            raise ValueError(f"{twice[0][:80]!r} stands {twice[1]} times among the {name} texts: what was learned from cannot judge")
        where |= dict.fromkeys(texts, name)
        found.append(texts)
    return found


def _with_interval(name: str, draws: np.ndarray) -> dict[str, float]:
    low, high = np.quantile(draws[1:], [0.025, 0.975])
    first, prefix = (name, f"{name}_") if name else ("auroc", "")
    return {first: float(draws[0]), f"{prefix}low": float(low), f"{prefix}high": float(high)}


def _differences(draws: dict[str, np.ndarray], of_shifted: dict[str, np.ndarray]) -> pd.DataFrame:
    """A row a classifier: how much higher the activation's AUROC is, drawn together."""
    rows = []
    for name in list(draws)[1:]:
        row = {"reads": name, **_with_interval("", draws["activation"] - draws[name])}
        row["activation_is_better"] = row.pop("auroc")
        if of_shifted:
            row |= _with_interval("shifted", of_shifted["activation"] - of_shifted[name])
        rows.append(row)
    return pd.DataFrame(rows)[
        ["reads", "activation_is_better", *(name for name in rows[0] if name not in ("reads", "activation_is_better"))]
    ]


def _verdict(table: pd.DataFrame, differences: pd.DataFrame, kind: str) -> str:
    """The activation beside the best that reads features, and beside the one feature."""
    from widgets.marks import signed

    column, low, high = ("auroc", "low", "high") if not kind else (kind, f"{kind}_low", f"{kind}_high")
    by_name, more = table.set_index("reads"), differences.set_index("reads")
    of_features = [name for name in by_name.index if "feature" in name]
    best = by_name.loc[of_features, column].idxmax()
    difference, bounds = more.loc[best, kind or "activation_is_better"], (more.loc[best, low], more.loc[best, high])
    figures = f"AUROC {by_name.loc['activation', column]:.3f} against {by_name.loc[best, column]:.3f} of {best}"
    interval = f"{signed(difference)}, {signed(bounds[0])} to {signed(bounds[1])}"
    where = "On shifted texts: " if kind else ""
    if bounds[0] > 0:
        said = f"a probe on the activation is better ({figures}: {interval})"
    elif bounds[1] < 0:
        said = f"features are better than a probe on the activation ({figures}: {interval})"
    else:
        said = f"no difference can be told between a probe on the activation and features ({figures}: {interval})"
    one = f"one feature alone reaches {by_name.loc['one feature', column]:.3f}" if best != "one feature" else ""
    return f"{where}{said if where else said[0].upper() + said[1:]}{f'; {one}' if one else ''}."


def _features(voted: Counter, last: Fitted, labels: Any) -> pd.DataFrame:
    rows = [
        {"feature": int(f), "share_of_parts": voted[int(f)] / N_PARTS, "weight": float(w), "label": labels.get(int(f), "")}
        for f, w in zip(last.columns, last.weights, strict=True)
    ]
    found = pd.DataFrame(rows)
    return found.iloc[np.argsort(-found["weight"].abs(), kind="stable")].reset_index(drop=True)


def _notes(table: pd.DataFrame, tokens: Sequence[frozenset[str]], y: np.ndarray) -> list[str]:
    """Too few texts; an answer that some token gives away."""
    notes, n_few = [], min(int(y.sum()), int((~y).sum()))
    if n_few < ENOUGH:
        notes.append(f"{n_few} texts of a kind are few: intervals are wide, and say nothing of texts of another kind")
    if sure := [row.reads for row in table.itertuples() if row.low == row.high]:
        missed = 1 - 0.05 ** (1 / n_few)  # of which none among n_few is seen one time in twenty
        kinds, few = ", ".join(sure), f"where none of {n_few} texts is told wrongly, up to {missed:.0%} of all may be"
        notes.append(f"an interval without width ({kinds}) is no certainty: {few}")
    given = [_given_away(tokens, y == side) for side in (True, False)]
    told = [f"every {name} text" for name, words in zip(("positive", "negative"), given, strict=True) if words]
    if told:
        words = ", ".join(repr(word) for word in islice((word for words in given for word in words), SHOWN_TOKENS))
        notes.append(f"{words} stands in {' or '.join(told)} and in no other: a list of words would do as well")
    elif table["auroc"].max() == 1.0:
        notes.append("AUROC 1.0: look for what else tells the two sets apart (length, source, a phrase), which the probe may have learned")
    return notes


def _unfinished(name: str, n: int) -> str:
    return (
        f"{name}: in {n} of {N_PARTS + 1} fits the solver was still moving after {MOST_STEPS:,} steps; its weights are near the best ones"
    )


def _given_away(tokens: Sequence[frozenset[str]], mine: np.ndarray) -> list[str]:
    always = frozenset.intersection(*(words for words, is_mine in zip(tokens, mine, strict=True) if is_mine))
    never = frozenset().union(*(words for words, is_mine in zip(tokens, mine, strict=True) if not is_mine))
    return sorted(always - never)
