"""Labels for features: proposed from half of a feature's examples, scored on the other half, kept beside the index.

    labeling = label_features(index, TokenLabeller())                             offline: rules over tokens
    labeling = label_features(index, ModelLabeller(Endpoint("gpt-…")))            a language model, which is also asked for the scores
    labeling.table                                                                feature, label, score, detection, fuzzing, n_held_out

The answer key's labels (`workbench index` saves the atlas's) are F1 scores over texts. They survive a rebuild of the index. A person's
label stands over all of these, in a file of the person's own: bench.label(1234, "Lakers players").
"""

import random
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from html import escape
from itertools import islice
from typing import Any, Protocol, runtime_checkable

import pandas as pd
from tqdm.auto import tqdm

from workbench.features.index.index import FeatureIndex
from workbench.features.index.parts import Example, Label
from workbench.features.labels.meanings import Evidence, Meaning, Scores, score

N_POOL = 60  # features whose windows stand for "other texts"
N_SAVED = 256  # labels after which they are written to disk; a labeller with a costly answer keeps it itself
COLUMNS = ("feature", "label", "score", "detection", "fuzzing", "n_held_out")


@runtime_checkable
class Labeller(Protocol):
    """What `label_features` needs of whoever proposes labels."""

    @property
    def origin(self) -> str:
        """What a label says it is by."""
        ...

    @property
    def n_parallel(self) -> int:
        """Features to work at, at once."""
        ...

    def propose(self, evidence: Evidence) -> Meaning:
        """Raises ValueError where none can be had; what is done by then is kept."""
        ...


@dataclass(frozen=True, repr=False, eq=False)
class Labeling:
    """What a labeller found. `.table`: one row a feature."""

    table: pd.DataFrame
    origin: str
    n_by_person: int  # features left alone, because a person named them

    def __repr__(self) -> str:
        n, scored = len(self.table), self.table["score"].dropna()
        middle = (
            f"; score {scored.median():.2f} in the median, ≥ 0.8 for {(scored >= 0.8).mean():.0%} (0.5 is guessing)" if len(scored) else ""
        )
        named = f"; {self.n_by_person:,} with a person's label left alone" if self.n_by_person else ""
        return f"{n:,} features labelled by {self.origin}{middle}{named}"

    def _repr_html_(self) -> str:
        best = self.table.nlargest(20, "score").round(2)
        return f"<div>{escape(repr(self))}; the best:{best.to_html(index=False, border=0, justify='left')}</div>"  # pandas escapes too


def label_features(index: FeatureIndex, labeller: Labeller, features: Sequence[int] | None = None, *, progress: bool = True) -> Labeling:
    """Propose a label for each of the features, score it, keep it in the index. By default: every feature that was ever active.

    However it ends, what is done is kept; with the same labeller it goes on from there. Raises ValueError, with what went wrong, when the
    labeller gives up.
    """
    known, rows, unsaved = index.labels(), [], {}
    table = index.table
    wanted = table["feature"][table["n_active"] > 0].tolist() if features is None else [int(feature) for feature in features]
    todo = [feature for feature in wanted if feature not in known or not known[feature].is_human]
    evidence = gathered(index, todo)
    bar = tqdm(total=len(todo), desc=f"labels by {labeller.origin}", unit="feature", disable=not progress)
    try:
        for feature, meaning, scores in _side_by_side(labeller, evidence):
            label = Label(meaning.text, scores.mean, labeller.origin)
            rows.append((feature, label.text, label.score, *scores))
            unsaved[feature] = label
            if len(unsaved) == N_SAVED:
                index.save_labels(unsaved)
                unsaved = {}
            bar.update()
    except ValueError as error:
        raise ValueError(f"{error} ({len(rows):,} of {len(todo):,} labels are done and kept: the same call goes on)") from None
    finally:
        bar.close()
        index.save_labels(unsaved)
    return Labeling(pd.DataFrame(rows, columns=list(COLUMNS)).astype({"score": float}), labeller.origin, len(wanted) - len(todo))


def gathered(index: FeatureIndex, features: Sequence[int]) -> Iterator[Evidence]:
    """The evidence of each feature that was ever active."""
    pool = other_windows(index)
    for feature in features:
        page = index.feature(feature)
        if page.top:
            yield Evidence.of(page, pool)


def other_windows(index: FeatureIndex) -> list[Example]:
    """Windows of features drawn at random, of each text one: what a feature's own are set against."""
    active = index.table["feature"][index.table["n_active"] > 0].tolist()
    found: dict[int, Example] = {}
    for feature in random.Random(0).sample(active, min(N_POOL, len(active))):
        for interval in index.feature(feature).intervals:
            for example in interval.examples:
                found.setdefault(example.text, example)
    return list(found.values())


def _side_by_side(labeller: Labeller, evidence: Iterator[Evidence]) -> Iterator[tuple[int, Meaning, Scores]]:
    """As many features at once as the labeller wants, in their order. An error ends it; features before it are done."""
    with ThreadPoolExecutor(labeller.n_parallel) as pool:
        waiting: list[Future[Any]] = [pool.submit(_one, labeller, each) for each in islice(evidence, labeller.n_parallel)]
        try:
            while waiting:
                yield waiting.pop(0).result()
                waiting += [pool.submit(_one, labeller, each) for each in islice(evidence, 1)]
        finally:
            pool.shutdown(cancel_futures=True)


def _one(labeller: Labeller, evidence: Evidence) -> tuple[int, Meaning, Scores]:
    meaning = labeller.propose(evidence)
    return evidence.feature, meaning, score(meaning, evidence)
