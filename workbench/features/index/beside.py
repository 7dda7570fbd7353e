"""What becomes known of features after their index was built, in JSON files beside the index's own: labels, neurons, the two scores.

    beside = Beside(folder, "8k")
    beside.save_labels({3: Label("Lakers players", 0.94, "answer key")}); beside.labels["8k"][3]

Such a file survives a rebuild of the index. Several processes may add to one: each reads it anew, under a lock, before it writes.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from workbench.features.index.parts import Correlate, FeatureScore, Label
from workbench.files import PATIENCE, check_outside, locked, read_json, write_json

LABELS = "labels.json"


class Scores(NamedTuple):
    """Feature → how well it reads what it is called and how much it writes that; and what these numbers are, in words."""

    of: dict[int, FeatureScore]
    basis: str


class Beside:
    """The files beside an index, as they are for one of its SAEs. Each is read when it is first asked for."""

    def __init__(self, folder: Path, sae_name: str):
        self.folder, self.sae_name = folder, sae_name
        self._neuron_file, self._score_file = (folder / f"{what}-{sae_name}.json" for what in ("neurons", "scores"))

    @cached_property
    def labels(self) -> dict[str, dict[int, Label]]:
        """SAE → feature → what it means; of all SAEs, since they name each other's features as neighbors."""
        file = self.folder / LABELS
        return _parsed_labels(read_json(file), file) if file.exists() else {}

    @cached_property
    def neurons(self) -> dict[int, list[Correlate]]:
        """Feature → the neurons that are most like it."""
        return _parsed_neurons(read_json(self._neuron_file), self._neuron_file) if self._neuron_file.exists() else {}

    @cached_property
    def scores(self) -> Scores:
        """The two scores of those features that have some."""
        return _parsed_scores(read_json(self._score_file), self._score_file) if self._score_file.exists() else Scores({}, "")

    def save_labels(self, labels: Mapping[int, Label]) -> None:
        """Adds to those that are there, or replaces them; an empty one takes a label away."""
        with self._anew("labels"):
            merged = {**self.labels.get(self.sae_name, {}), **labels}
            saved = {**self.labels, self.sae_name: {i: label for i, label in merged.items() if label.text}}
            write_json(self.folder / LABELS, {sae: {str(i): label._asdict() for i, label in of.items()} for sae, of in saved.items()})

    def save_neurons(self, neurons: Mapping[int, Sequence[Correlate]]) -> None:
        """Adds to those that are there, or replaces them."""
        with self._anew("neurons"):
            write_json(self._neuron_file, {str(i): list(some) for i, some in {**self.neurons, **neurons}.items()})

    def save_scores(self, scores: Mapping[int, FeatureScore], basis: str) -> None:
        """In place of any before. Raises ValueError inside of the installed package."""
        check_outside(self._score_file)
        with self._anew("scores"):
            write_json(self._score_file, {"basis": basis, "scores": {str(i): list(score) for i, score in scores.items()}})

    @contextmanager
    def _anew(self, what: str) -> Iterator[None]:
        """Before: another process may have added some. After: what was read is no more what is there."""
        with locked(self.folder, PATIENCE):
            self.__dict__.pop(what, None)
            try:
                yield
            finally:
                self.__dict__.pop(what, None)


def _parsed_labels(saved: Any, path: Path) -> dict[str, dict[int, Label]]:
    with _saying(path, "labels"):
        return {sae: {int(i): _label(each) for i, each in labels.items()} for sae, labels in saved.items()}


def _label(each: Any) -> Label:
    label = Label(**each)
    if not isinstance(label.text, str) or not isinstance(label.origin, str) or not _is_number(label.score, or_none=True):
        raise TypeError(f"{str(each)[:60]} is no label")
    return label


def _parsed_neurons(saved: Any, path: Path) -> dict[int, list[Correlate]]:
    with _saying(path, "neurons"):
        found = {int(i): [Correlate(*each) for each in some] for i, some in saved.items()}
        if not all(isinstance(each.neuron, str) and _is_number(each.correlation) for some in found.values() for each in some):
            raise TypeError("a neuron's name or correlation is none")
        return found


def _parsed_scores(saved: Any, path: Path) -> Scores:
    with _saying(path, "scores"):
        found, basis = {int(i): FeatureScore(*each) for i, each in saved["scores"].items()}, saved["basis"]
        if not isinstance(basis, str) or not all(_is_number(score, or_none=True) for pair in found.values() for score in pair):
            raise TypeError("a score is no number")
        return Scores(found, basis)


def _is_number(value: Any, or_none: bool = False) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf
    return is_number or (or_none and value is None)


@contextmanager
def _saying(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise ValueError(f"{path} holds no {what} that can be read ({error}): delete it, or copy it again") from None
