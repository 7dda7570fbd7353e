"""Features by words of their labels. Neither a model nor torch is needed: an index and a person's labels say it all."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from workbench.features.index.index import FeatureIndex
from workbench.features.search.found import Found, table_of, with_scores
from workbench.given import counted


def labeled(text: str, labels: Mapping[int, str], density: Float[np.ndarray, "d_sae"] | None, top: int = 20) -> Found:
    """All words of the text, in any order and case; labels that hold little else come first."""
    top = counted(top, "top", "feature")
    words = _words(text) if isinstance(text, str) else []
    if not words:
        raise ValueError(f"{text!r} holds no word to look for in labels")
    if not labels:
        raise ValueError("no feature of this SAE has a label: label some first (workbench label)")
    best = holding(text, labels, top)
    table = table_of(np.array(list(best), dtype=np.int64), np.array(list(best.values())), {}, labels, density)
    return Found(f"whose label holds {text!r}", table, note="" if best else _near_labels(words, labels.values()))


def holding(text: str, labels: Mapping[int, str], top: int) -> dict[int, float]:
    """Feature → the share of its label that the text's words are, the largest first: of labels that hold them all."""
    words = _words(text)
    found = {i: len("".join(words)) / max(1, len(label)) for i, label in labels.items() if all(word in label.lower() for word in words)}
    return {i: found[i] for i in sorted(found, key=lambda i: (-found[i], i))[:top]} if words else {}


def labeled_in(index: FeatureIndex, text: str, top: int = 20) -> Found:
    """In an index by itself, with a person's own labels laid over: what `bench.find_by_label` finds with it."""
    labels = {feature: str(label) for feature, label in index.labels().items()}
    return with_scores(labeled(text, labels, index.table["density"].to_numpy(), top), index.scores())


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _near_labels(words: Sequence[str], labels: Iterable[str]) -> str:
    """The labels with the words that are most like these; where there is none, a few of those that there are."""
    of_word = {word: label for label in labels for word in _words(label)}
    near = [other for word in words for other in difflib.get_close_matches(word, of_word, cutoff=0.7)]
    shown = ", ".join(dict.fromkeys(repr(of_word[word]) for word in near or list(of_word)[:3]))
    return f"no label holds these words; {'the nearest are' if near else 'labels are such as'} {shown}"
