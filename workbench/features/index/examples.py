"""A feature's examples: the places in texts where it is active, with its activation at every token around."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from workbench.sae.sae import SAE

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

    from workbench.features.index.index import FeatureIndex


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
        return self.activations[self.peak]


class Examples:
    """`examples(feature, n)` → the n texts in which the feature is most active, best first: a small index of its own, made at the first
    call and gone with the object."""

    def __init__(self, model: "TransformerBridge", sae: SAE, texts: Sequence[str]):
        self.model, self.sae, self.texts = model, sae, texts

    @cached_property
    def index(self) -> "FeatureIndex":
        from workbench.features.index.index import build_index

        self._folder = tempfile.TemporaryDirectory(prefix="workbench-examples-")
        return build_index(self.model, self.sae, self.texts, self._folder.name, progress=False)

    def __call__(self, feature: int, n: int = 10) -> list[Example]:
        return self.index.examples(feature, n)
