"""The small things that a feature's page is made of: examples, intervals, labels, neighbors, promoted tokens. Whatever reads or writes an
index, labels or ratings shares them."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Example:
    """A window of a text. The start token is left out."""

    str_tokens: list[str]
    activations: list[float]  # the feature's, one a token
    peak: int  # which of the tokens it is shown for
    text: int  # the text's place in the corpus
    is_cut: tuple[bool, bool]  # does the text go on before, after?
    first: int = 0  # the window's first token, counted from where the text begins, or the part of it that the model read at once

    @property
    def activation(self) -> float:
        """The feature's at the peak, in units of x."""
        return self.activations[self.peak]


class Label(NamedTuple):
    """What a feature means, as somebody or something says."""

    text: str
    score: float | None = None  # how well it fits, by its origin's own measure
    origin: str = ""  # "answer key", "token statistics", the name of a model, "a person"

    def __str__(self) -> str:
        """With its score, as tables show it."""
        return self.text if self.score is None else f"{self.text} {self.score:.2f}"

    @property
    def is_human(self) -> bool:
        """Such a label is replaced by a person's only."""
        return self.origin.startswith("a person")


class TokenLogit(NamedTuple):
    """A token, and what a feature's decoder row adds to its logit, one unit of activation."""

    token: str
    logit: float


class Neighbor(NamedTuple):
    """A feature whose decoder row points nearly the same way."""

    feature: int
    cosine: float  # of the decoder directions
    label: str


class Correlate(NamedTuple):
    """A neuron whose activation goes with a feature's, over tokens."""

    neuron: str  # "blocks.2.mlp 113"
    correlation: float  # Pearson


class FeatureScore(NamedTuple):
    """How well a feature reads what it is called, and how much clamping it writes that; None where it is not known."""

    input: float | None = None
    output: float | None = None


class Interval(NamedTuple):
    """A slice of a feature's range of activations, in units of x: [low, high)."""

    low: float
    high: float
    n_active: int  # tokens at which the activation lies in it
    examples: list[Example]  # drawn at random from those
    ratings: tuple[float, ...] = ()  # share of the specificity ratings 0, 1, 2, 3, where measured


def parsed_labels(saved: Any, path: Path) -> dict[str, dict[int, Label]]:
    """SAE → feature → label, of what an index's labels.json holds. Raises ValueError where that is something else."""
    with _saying(path, "labels"):
        return {sae: {int(i): _label(each) for i, each in labels.items()} for sae, labels in saved.items()}


def _label(each: Any) -> Label:
    label = Label(**each)
    if not isinstance(label.text, str) or not isinstance(label.origin, str) or not _is_number(label.score, or_none=True):
        raise TypeError(f"{str(each)[:60]} is no label")
    return label


def parsed_neurons(saved: Any, path: Path) -> dict[int, list[Correlate]]:
    """Feature → neurons like it, of what an index keeps of them."""
    with _saying(path, "neurons"):
        found = {int(i): [Correlate(*each) for each in some] for i, some in saved.items()}
        if not all(isinstance(each.neuron, str) and _is_number(each.correlation) for some in found.values() for each in some):
            raise TypeError("a neuron's name or correlation is none")
        return found


def parsed_scores(saved: Any, path: Path) -> tuple[dict[int, FeatureScore], str]:
    """(feature → its two scores, what they are), of what an index keeps of them."""
    with _saying(path, "scores"):
        found, basis = {int(i): FeatureScore(*each) for i, each in saved["scores"].items()}, saved["basis"]
        if not isinstance(basis, str) or not all(_is_number(score, or_none=True) for pair in found.values() for score in pair):
            raise TypeError("a score is no number")
        return found, basis


def _is_number(value: Any, or_none: bool = False) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf
    return is_number or (or_none and value is None)


@contextmanager
def _saying(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise ValueError(f"{path} holds no {what} that can be read ({error}): delete it, or copy it again") from None
