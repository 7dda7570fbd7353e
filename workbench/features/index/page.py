"""What is known of one feature, as a notebook shows it.

page = bench.feature(1234)               page.top, page.intervals, page.promoted, page.neighbors, page.table
pages = bench.features([1234, 77])       several, side by side
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from workbench.features.index.parts import Correlate, Example, FeatureScore, Interval, Label, Neighbor, TokenLogit


@dataclass(frozen=True, repr=False, eq=False)
class FeaturePage:
    """One feature of one SAE. `.table`: one row per example."""

    feature: int
    sae_name: str
    label: Label
    n_active: int
    n_tokens: int  # read for the index, the start tokens left out
    max_act: float
    bin_width: float
    histogram: list[int]  # bin b counts activations in [b, b + 1) · bin_width, zeros left out
    top: list[Example]
    intervals: list[Interval]  # the highest first
    promoted: list[TokenLogit] | None  # None where the hook point is not in the residual stream
    suppressed: list[TokenLogit] | None
    neighbors: Mapping[str, list[Neighbor]]  # by SAE
    model_name: str = ""
    hook_name: str = ""
    neurons: list[Correlate] = field(default_factory=list)
    scores: FeatureScore = FeatureScore()
    scored: str = ""  # what the scores are
    has_examples: bool = True  # were they asked for?
    notes: tuple[str, ...] = ()  # what to know of all activations of this SAE on this model (reading_notes)

    @property
    def density(self) -> float:
        """Share of the tokens at which it is active."""
        return self.n_active / self.n_tokens

    @property
    def table(self) -> pd.DataFrame:
        """group ("top" or the interval), activation, token, window, text (its place in the corpus)."""
        groups = [("top", self.top), *((f"{i.low:.3g} – {i.high:.3g}", i.examples) for i in self.intervals)]
        rows = [(name, e.activation, e.str_tokens[e.peak], "".join(e.str_tokens), e.text) for name, examples in groups for e in examples]
        return pd.DataFrame(rows, columns=["group", "activation", "token", "window", "text"])

    def plot_neighbors(self, n: int = 6) -> Any:
        """This feature in the middle, its n nearest of each dictionary around it, the nearer the more alike, with labels."""
        from widgets.figures.survey import plot_neighborhood

        rows = [(name, *near) for name, some in self.neighbors.items() for near in some[:n]]
        said = f"feature {self.feature} of {self.sae_name} {self.label.text}"
        return plot_neighborhood(pd.DataFrame(rows, columns=["sae", "feature", "cosine", "label"]), said)

    def _repr_html_(self) -> str:
        from widgets.html.card import card_html

        return card_html(self)

    def __repr__(self) -> str:
        label = " ".join(filter(None, [self.label.text, _in_brackets(self.label)])) or "no label"
        lines = [
            f"Feature {self.feature} of {self.sae_name}: {label}",
            f"  active on {self.n_active:,} of {self.n_tokens:,} tokens (start tokens left out), max_act {self.max_act:.3f}",
        ]
        if any(score is not None for score in self.scores):
            lines.append(f"  {scores_text(self.scores)} ({self.scored})")
        lines += [f"  {e.activation:8.3f}  {_shown(e)!r}" for e in self.top[:5]]
        for name, tokens in (("promotes", self.promoted), ("suppresses", self.suppressed)):
            lines += [f"  {name} " + " ".join(repr(each.token) for each in tokens[:5])] if tokens else []
        return "\n".join(lines + [f"  {note}" for note in self.notes])


@dataclass(frozen=True, repr=False, eq=False)
class FeaturePages:
    """Several features side by side. `.table`: one row per feature."""

    pages: Sequence[FeaturePage]

    def __iter__(self) -> Iterator[FeaturePage]:
        return iter(self.pages)

    @property
    def table(self) -> pd.DataFrame:
        """feature, sae_name, density, n_active, max_act, label; input_score and output_score where one is known."""
        columns = ("feature", "sae_name", "density", "n_active", "max_act")
        rows = [{name: getattr(page, name) for name in columns} | {"label": page.label.text} for page in self.pages]
        table = pd.DataFrame(rows, columns=[*columns, "label"])
        if any(page.scored for page in self.pages):
            table[["input_score", "output_score"]] = np.array([page.scores for page in self.pages], dtype=np.float64)
        return table

    def _repr_html_(self) -> str:
        from widgets.html.card import cards_html

        return cards_html(self.pages)

    def __repr__(self) -> str:
        return "\n".join(map(repr, self.pages))


def scores_text(scores: FeatureScore) -> str:
    """Both in words."""
    said = [f"{name} score {score:.2f}" for name, score in zip(FeatureScore._fields, scores, strict=True) if score is not None]
    return ", ".join(said).replace("-", "−")


def _in_brackets(label: Label) -> str:
    parts = [label.origin, "" if label.score is None else f"{label.score:.2f}"]
    return f"({', '.join(filter(None, parts))})" if any(parts) else ""


def _shown(example: Example, n: int = 8) -> str:
    """The tokens up to the peak, the peak in double angle brackets."""
    before = "".join(example.str_tokens[max(0, example.peak - n) : example.peak])
    return f"{before}«{example.str_tokens[example.peak]}»" + "".join(example.str_tokens[example.peak + 1 : example.peak + 4])
