"""What is active at which tokens of some texts, and what is in play there: what specificity, sensitivity and completeness are read from.

    texts → tokens → activations at hook points → units' activations above 0     (n_tokens, n_units), of features or of neurons
                   → an answer key                                               (n_tokens, n_concepts)

All of it stays in memory, the active entries only: for thousands of texts. An index (index.py) reads as many as there are.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from scipy import sparse
from tqdm.auto import tqdm

from workbench.activations.rows import as_batch, batches, led
from workbench.features.index.building.collect import ELEMENTS, Entries, active
from workbench.features.index.layout import AFTER, BEFORE
from workbench.features.index.parts import Example
from workbench.model.head import Head
from workbench.model.start import start_token
from workbench.model.tokens import without_surrogates
from workbench.sae.dictionary import Dictionary
from workbench.shapes import Activations, FeatureActs

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

N_TOKENS = 4096  # in a forward pass

# (a text, the character at which each of its tokens ends) → the concepts in play at each token; the atlas's is atlas.Text.concepts_at
Key = Callable[[Any, list[int]], Sequence[Collection[str]]]


class Units(NamedTuple):
    """Numbers that are read off activations at a hook point, active where they are above 0."""

    hook_name: str
    encode: Callable[[Activations], FeatureActs]

    @classmethod
    def of(cls, sae: Dictionary) -> "Units":
        """The features of an SAE or a transcoder."""
        return cls(sae.reads, lambda x: sae.encode(x.to(sae.W_dec.dtype)))


@dataclass(frozen=True)
class TaggedTexts:
    """Texts as tokens, start tokens left out, one after the other. A text is cut where the model reads no further."""

    ids: np.ndarray  # (n_tokens)
    bounds: np.ndarray  # (n_texts + 1) where each text begins
    concepts: list[str]
    present: sparse.csc_matrix  # (n_tokens, n_concepts) bool: is it in play?
    vocabulary: Callable[[np.ndarray], list[str]]  # ids → what they read as

    @property
    def n_texts(self) -> int:
        """How many texts there are."""
        return len(self.bounds) - 1

    @cached_property
    def text(self) -> np.ndarray:
        """(n_tokens) which text each token is in."""
        return np.repeat(np.arange(self.n_texts), np.diff(self.bounds))

    @cached_property
    def column(self) -> dict[str, int]:
        """Each concept's column of `present`."""
        return {concept: i for i, concept in enumerate(self.concepts)}

    def tokens_with(self, concept: str) -> np.ndarray:
        """The tokens at which a concept is in play, ascending. Raises ValueError for one that never is."""
        if concept not in self.column:
            raise ValueError(f"{concept!r} is not in play in these {self.n_texts:,} texts")
        at = self.column[concept]
        return self.present.indices[self.present.indptr[at] : self.present.indptr[at + 1]]

    @cached_property
    def texts_with(self) -> sparse.csc_matrix:
        """(n_texts, n_concepts) bool: is it in play at any token?"""
        return _by_text(self.present, self.text, self.n_texts)


@dataclass(frozen=True)
class Activity:
    """Some units' activations at every token of a corpus."""

    corpus: TaggedTexts
    acts: sparse.csc_matrix  # (n_tokens, n_units), in each column the tokens ascend
    name: str = ""

    def of(self, unit: int) -> tuple[np.ndarray, np.ndarray]:
        """(tokens, activations) where the unit is active."""
        first, last = self.acts.indptr[unit : unit + 2]
        return self.acts.indices[first:last], self.acts.data[first:last]

    @cached_property
    def max_act(self) -> np.ndarray:
        """(n_units) the largest activation of each."""
        return np.asarray(self.acts.max(axis=0).todense()).ravel()

    @cached_property
    def n_active(self) -> np.ndarray:
        """(n_units) tokens at which each is active."""
        return np.diff(self.acts.indptr)

    @property
    def n_alive(self) -> int:
        """Units that were active at least once."""
        return int((self.n_active > 0).sum())

    @cached_property
    def peaks(self) -> sparse.csc_matrix:
        """(n_texts, n_units) each unit's largest activation in each text."""
        return _by_text(self.acts, self.corpus.text, self.corpus.n_texts)

    def example(self, unit: int, token: int) -> Example:
        """The window around a token, as an index would show it."""
        corpus, text = self.corpus, int(self.corpus.text[token])
        first = max(int(corpus.bounds[text]), token - BEFORE)
        last = min(int(corpus.bounds[text + 1]), token + AFTER + 1)
        at, acts = self.of(unit)
        low, high = np.searchsorted(at, (first, last))
        activations = np.zeros(last - first)
        activations[at[low:high] - first] = acts[low:high]
        is_cut = bool(first > corpus.bounds[text]), bool(last < corpus.bounds[text + 1])
        words = corpus.vocabulary(corpus.ids[first:last])
        return Example(words, activations.tolist(), token - first, text, is_cut, first - int(corpus.bounds[text]))


@torch.no_grad()
def read_activity(
    model: "TransformerBridge",
    units: Mapping[str, Dictionary | Units],
    texts: Sequence[str],
    key: Key = lambda text, ends: [()] * len(ends),
    progress: bool = True,
) -> dict[str, Activity]:
    """The activity of several SAEs' features, or of other units, by name, from one pass over the texts. key: what is in play."""
    named = {name: Units.of(each) if isinstance(each, Dictionary) else each for name, each in units.items()}
    corpus = _corpus(model, texts, key)
    head, found = Head(model, [each.hook_name for each in named.values()]), {name: _Reading(each) for name, each in named.items()}
    with tqdm(total=len(corpus.ids), desc="reading texts", unit="token", unit_scale=True, disable=not progress, delay=2) as bar:
        for some in batches(np.diff(corpus.bounds).tolist(), N_TOKENS):
            rows = [corpus.ids[corpus.bounds[i] : corpus.bounds[i + 1]].tolist() for i in some]
            tokens, is_text = as_batch(model, [led(model, row) for row in rows])
            number = np.concatenate([np.arange(corpus.bounds[i], corpus.bounds[i + 1]) for i in some])
            acts = head(tokens)
            for reading in found.values():
                reading.add(acts[reading.units.hook_name][is_text], number)
            bar.update(len(number))
    return {name: Activity(corpus, reading.matrix(len(corpus.ids)), name) for name, reading in found.items()}


def _corpus(model: "TransformerBridge", texts: Sequence[str], key: Key) -> TaggedTexts:
    if isinstance(texts, str):
        raise ValueError("the texts are one string: expected several texts, ['…', '…'], or read_texts of a file")
    if not len(texts):
        raise ValueError("there is no text to read")
    options: dict[str, Any] = dict(add_special_tokens=False, return_offsets_mapping=True, truncation=True)
    longest = model.cfg.n_ctx - len(start_token(model).ids)
    start = list(start_token(model).ids)
    read = model.tokenizer([without_surrogates(str(text)) for text in texts], max_length=longest + len(start), **options)
    rows, offsets = [], []
    for row, spans in zip(read["input_ids"], read["offset_mapping"], strict=True):
        first = len(start) if start and row[: len(start)] == start else 0  # a text may begin with one of its own
        rows.append(row[first : first + longest])
        offsets.append(spans[first : first + longest])
    bounds = np.append(0, np.cumsum([len(row) for row in rows]))
    tags: list[Collection[str]] = []
    for text, row in zip(texts, offsets, strict=True):
        tags += (tagged := list(key(text, [end for _, end in row])))
        assert len(tagged) == len(row), f"the key tagged {len(tagged)} tokens of a text of {len(row)}"
    concepts = sorted(frozenset().union(*tags))
    column = {concept: i for i, concept in enumerate(concepts)}
    tagged_rows = np.repeat(np.arange(len(tags)), [len(each) for each in tags])
    columns = np.array([column[concept] for each in tags for concept in each], dtype=np.int64)
    present = sparse.csc_matrix((np.ones(len(tagged_rows), dtype=bool), (tagged_rows, columns)), shape=(len(tags), len(concepts)))
    present.sort_indices()
    words = model.tokenizer.batch_decode
    ids = np.array([i for row in rows for i in row], dtype=np.int64)
    return TaggedTexts(ids, bounds, concepts, present, lambda some: words([[int(i)] for i in some]))


class _Reading:
    """The active entries of some units, as texts are read."""

    def __init__(self, units: Units):
        self.units, self.n_units, self.entries = units, 0, Entries()

    def add(self, x: Activations, number: np.ndarray) -> None:
        n = max(64, ELEMENTS.get(x.device.type, 2**22) // (self.n_units or 2**14))
        for first in range(0, len(x), n):
            acts = self.units.encode(x[first : first + n])
            self.n_units = acts.shape[1]
            token, unit, act = active(acts)
            self.entries.add(number[first + token], unit, act)

    def matrix(self, n_tokens: int) -> sparse.csc_matrix:
        token, unit, act = self.entries.filled()
        matrix = sparse.csc_matrix((act, (token, unit)), shape=(n_tokens, self.n_units))
        matrix.sort_indices()
        return matrix


def _by_text(matrix: sparse.csc_matrix, text: np.ndarray, n_texts: int) -> sparse.csc_matrix:
    """The largest entry of each column in each text; where a column's tokens ascend, so do its texts."""
    column = np.repeat(np.arange(matrix.shape[1]), np.diff(matrix.indptr))
    place = column * n_texts + text[matrix.indices]
    starts = np.flatnonzero(np.append(True, np.diff(place) != 0)[: len(place)])
    largest = np.maximum.reduceat(matrix.data, starts) if len(starts) else matrix.data
    column, row = np.divmod(place[starts], n_texts)
    return sparse.csc_matrix((largest, (row, column)), shape=(n_texts, matrix.shape[1]))
