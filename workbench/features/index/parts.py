"""The small things that a feature's page is made of: examples, intervals, labels, neighbors, promoted tokens. Whatever reads or writes an
index, labels or ratings shares them."""

from dataclasses import dataclass
from typing import NamedTuple


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
