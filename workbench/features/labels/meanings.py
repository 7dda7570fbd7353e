"""A claim about what a feature means, and how it is tried on examples that it was not made from.

    detection   told the claim, which of some texts are the feature's, which are not? half of them are
    fuzzing     told the claim and some marked tokens, are the marks where the feature is active, or at random?
    ratings     0 irrelevant · 1 vaguely related · 2 near it, or loosely · 3 cleanly what the token is
                (Scaling Monosemanticity, "Assessing Feature Interpretability")

Both scores are balanced accuracies: 0.5 for guessing, 1 for never wrong. What a claim is tried by is whatever made it: a rule is applied,
a language model is asked.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from workbench.features.index.page import FeaturePage
from workbench.features.index.parts import Example

N_EXAMPLES = 12  # shown to whoever makes the claim, and as many held out; and as many of other features
NEAR = 4  # tokens: what counts as near the activating one


class Marked(NamedTuple):
    """A window with some of its tokens marked."""

    example: Example
    marks: list[int]


@runtime_checkable
class Meaning(Protocol):
    """A claim that can be tried."""

    @property
    def text(self) -> str: ...

    def is_in(self, examples: Sequence[Example]) -> Sequence[bool]:
        """Which of the texts is it in?"""
        ...

    def is_marked(self, marked: Sequence[Marked]) -> Sequence[bool]:
        """In which are the marked tokens what it says?"""
        ...

    def rate(self, examples: Sequence[Example]) -> Sequence[int]:
        """0 to 3: how well does it say what each example's peak is?"""
        ...


class Scores(NamedTuple):
    detection: float
    fuzzing: float  # NaN where no window has room for wrong marks
    n_held_out: int

    @property
    def mean(self) -> float | None:
        """What a label is shown with; None where nothing was held out."""
        known = [score for score in (self.detection, self.fuzzing) if not math.isnan(score)]
        return sum(known) / len(known) if known else None


@dataclass(frozen=True)
class Evidence:
    """What is known of one feature, in two halves that share no text."""

    feature: int
    shown: list[Example]
    held_out: list[Example]
    others: list[Example]  # windows of other features, for whoever makes the claim
    others_held_out: list[Example]

    @classmethod
    def of(cls, page: FeaturePage, pool: Sequence[Example]) -> "Evidence":
        """From a feature's page; others are drawn from `pool`, windows of any features, but for the texts in which this one is shown.

        In those it can still be active, without being shown: for a feature that is active in a share p of the texts, so are p of the
        others, and no score can pass 1 − p / 2.
        """
        own: dict[int, Example] = {}
        for example in [*page.top, *(example for interval in page.intervals for example in interval.examples)]:
            own.setdefault(example.text, example)
        mine, rng = list(own.values()), random.Random(page.feature)
        foreign = [example for example in pool if example.text not in own]
        drawn = rng.sample(foreign, min(len(foreign), 2 * N_EXAMPLES))
        half = len(drawn) // 2
        return cls(page.feature, mine[::2][:N_EXAMPLES], mine[1::2][:N_EXAMPLES], drawn[:half], drawn[half:])


def score(meaning: Meaning, evidence: Evidence) -> Scores:
    """Detection and fuzzing on what was held out."""
    right, wrong = marked(evidence)
    detection = _balanced(meaning.is_in, evidence.held_out, evidence.others_held_out, evidence.feature)
    return Scores(detection, _balanced(meaning.is_marked, right, wrong, evidence.feature), len(evidence.held_out))


def marked(evidence: Evidence) -> tuple[list[Marked], list[Marked]]:
    """(held-out windows marked where the feature is active, others marked as often where it is not)."""
    rng, right, wrong = random.Random(evidence.feature), [], []
    for i, example in enumerate(evidence.held_out):
        acts = np.asarray(example.activations)
        true = np.flatnonzero(acts >= 0.5 * example.activation).tolist()
        silent = np.flatnonzero(acts <= 0).tolist()
        if i % 2 and len(silent) >= len(true):
            wrong.append(Marked(example, sorted(rng.sample(silent, len(true)))))
        else:
            right.append(Marked(example, true))
    return right, wrong


def _balanced(judge, yes: Sequence, no: Sequence, seed: int) -> float:
    """The mean of the two shares that are judged right; they are judged together, shuffled."""
    if not yes or not no:
        return math.nan
    order = list(range(len(yes) + len(no)))
    random.Random(seed).shuffle(order)
    verdicts = np.empty(len(order), dtype=bool)
    verdicts[order] = judge([[*yes, *no][i] for i in order])
    return float(verdicts[: len(yes)].mean() + (~verdicts[len(yes) :]).mean()) / 2


@dataclass(frozen=True)
class Rule:
    """A claim that can be read off the tokens: `where` gives, for a window's tokens, those that it speaks of."""

    text: str

    def where(self, str_tokens: Sequence[str]) -> np.ndarray:
        raise NotImplementedError

    def is_in(self, examples: Sequence[Example]) -> list[bool]:
        return [bool(self.where(each.str_tokens).any()) for each in examples]

    def is_marked(self, marked: Sequence[Marked]) -> list[bool]:
        return [bool(self.where(each.example.str_tokens)[each.marks].mean() >= 0.5) for each in marked]

    def rate(self, examples: Sequence[Example]) -> list[int]:
        return [_rating(self.where(each.str_tokens), each.peak) for each in examples]


def _rating(where: np.ndarray, peak: int) -> int:
    if where[peak]:
        return 3
    distance = np.abs(np.flatnonzero(where) - peak).min(initial=10**9)
    return 2 if distance <= NEAR else 1 if where.any() else 0
