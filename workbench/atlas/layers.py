"""The atlas at every depth: an SAE and a transcoder at each layer, and which of their features stand for which concept.

bench.layers                       hook point → SAE, the first layer first; each is read when it is first asked for
bench.transcoders                  layer → transcoder of its MLP, likewise
layer_labels()                     hook point → feature → what it means, with its F1
transcoder_labels()                the same of transcoders, by the hook points that they read
features_of(question.steps)        concept → hook point → its features: the steps that `trace_steps` follows
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import torch

from workbench.files import read_json
from workbench.model.points import place
from workbench.sae.sae import SAE
from workbench.sae.transcoder import Transcoder

Key = TypeVar("Key")
Found = TypeVar("Found")
WEIGHTS = Path(__file__).parent / "weights"
FOLDERS = {"blocks.3.hook_resid_pre": WEIGHTS / "sae_2k"} | {folder.name: folder for folder in (WEIGHTS / "layers").glob("*")}
HOOK_NAMES = sorted(FOLDERS, key=place)
TRANSCODERS = {place(folder.name + ".mlp.hook_in")[0]: folder for folder in (WEIGHTS / "transcoders").glob("blocks.*")}  # layer → folder


class Read(Mapping[Key, Found], Generic[Key, Found]):
    """key → a dictionary, in order; each is read when it is first asked for. what: of which kind they are, and the word before a key.
    labels: hook point → feature → what it means, of these dictionaries and no others."""

    labels: Mapping[str, Mapping[int, str]] = {}

    def __init__(self, what: str, folders: Mapping[Key, Path], read: Callable[[Path], Found], known: Mapping[Key, Found] | None = None):
        self.what, self._folders, self._read, self._known = what, folders, read, dict(known or {})

    def __getitem__(self, key: Key) -> Found:
        if key not in self._known:
            if key not in self._folders:
                raise KeyError(f"the atlas has no {self.what} {key!r}; it has {', '.join(map(str, self))}")
            self._known[key] = self._read(self._folders[key])
        return self._known[key]

    def __iter__(self) -> Iterator[Key]:
        return iter(self._folders)

    def __len__(self) -> int:
        return len(self._folders)

    def __repr__(self) -> str:
        return f"{self.what} {', '.join(map(str, self))}"


def read_layers(device: str | torch.device, known: Mapping[str, SAE]) -> Read[str, SAE]:
    """hook point → SAE: 2,048 features each, before block 0 8,192."""
    return Read("SAE at", {name: FOLDERS[name] for name in HOOK_NAMES}, lambda folder: SAE.load(folder, device), known)


def read_transcoders(device: str | torch.device) -> Read[int, Transcoder]:
    """layer → transcoder, of one width at all of them; with labels by the answer key."""
    found = Read("transcoder of layer", dict(sorted(TRANSCODERS.items())), lambda folder: Transcoder.load(folder, device))
    found.labels = transcoder_labels()
    return found


def layer_labels() -> dict[str, dict[int, str]]:
    """What the features mean by the answer key: hook point → feature → "state:California 0.54", where an F1 reaches 0.5."""
    return {name: _labels(FOLDERS[name]) for name in HOOK_NAMES}


def transcoder_labels() -> dict[str, dict[int, str]]:
    """The same of the transcoders' features."""
    return {f"{folder.name}.mlp.hook_in": _labels(folder) for folder in TRANSCODERS.values()}


def _labels(folder: Path) -> dict[int, str]:
    return read_labels(folder / "labels.json")


def read_labels(file: Path) -> dict[int, str]:
    """Feature → "state:California 0.54". Raises ValueError where the file holds something else."""
    said = read_json(file)
    if not isinstance(said, dict) or not all(re.fullmatch(r"\d+", i) and isinstance(label, str) for i, label in said.items()):
        raise ValueError(f"{file} is damaged: expected features with their labels; build or copy the atlas again")
    return {int(feature): label for feature, label in said.items()}


def features_of(concepts: Sequence[str]) -> dict[str, dict[str, list[int]]]:
    """concept → hook point → the features that mean it there. Concepts that no layer has a feature for are left out."""
    found: dict[str, dict[str, list[int]]] = {concept: {} for concept in concepts}
    for name, labels in layer_labels().items():
        for feature, label in labels.items():
            concept = label.rsplit(" ", 1)[0]
            if concept in found:
                found[concept].setdefault(name, []).append(feature)
    return {concept: features for concept, features in found.items() if features}
