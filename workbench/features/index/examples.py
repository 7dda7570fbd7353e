"""A feature's examples where there is no index: the texts are read at the first call."""

import tempfile
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from workbench.features.index.index import FeatureIndex, build_index
from workbench.features.index.parts import Example
from workbench.sae.dictionary import Dictionary

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


class Examples:
    """`examples(feature, n)` → the n texts in which the feature is most active, best first: a small index of its own, made at the first
    call and gone with the object."""

    def __init__(self, model: "TransformerBridge", sae: Dictionary, texts: Sequence[str]):
        self.model, self.sae, self.texts = model, sae, texts

    @cached_property
    def index(self) -> FeatureIndex:
        """The small index, in a folder that goes with the object; built at the first call."""
        self._folder = tempfile.TemporaryDirectory(prefix="workbench-examples-")
        return build_index(self.model, self.sae, self.texts, self._folder.name, progress=False)

    def __call__(self, feature: int, n: int = 10) -> list[Example]:
        return self.index.examples(feature, n)
