"""The atlas at every depth: an SAE and a transcoder at each layer, and which of their features stand for which concept.

bench.layers                       hook point → SAE, the first layer first; each is read when it is first asked for
bench.transcoders                  layer → transcoder of its MLP, likewise
layer_labels()                     hook point → feature → what it means, with its F1
transcoder_labels()                the same of transcoders, by the hook points that they read
features_of(question.steps)        concept → hook point → its features: the steps that `trace_steps` follows
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch

from workbench.model.points import place
from workbench.sae.sae import SAE
from workbench.sae.transcoder import Transcoder

WEIGHTS = Path(__file__).parent / "weights"
FOLDERS = {"blocks.3.hook_resid_pre": WEIGHTS / "sae_2k"} | {folder.name: folder for folder in (WEIGHTS / "layers").glob("*")}
HOOK_NAMES = sorted(FOLDERS, key=place)
TRANSCODERS = dict(enumerate(sorted((WEIGHTS / "transcoders").glob("blocks.*"))))  # layer → folder


class Layers(Mapping[str, SAE]):
    """hook point → SAE, of one width at all of them."""

    def __init__(self, device: str | torch.device, known: Mapping[str, SAE]):
        self.device, self._known = device, dict(known)

    def __getitem__(self, hook_name: str) -> SAE:
        if hook_name not in self._known:
            if hook_name not in FOLDERS:
                raise KeyError(f"the atlas has no SAE at {hook_name!r}; it has {', '.join(HOOK_NAMES)}")
            self._known[hook_name] = SAE.load(FOLDERS[hook_name], self.device)
        return self._known[hook_name]

    def __iter__(self) -> Iterator[str]:
        return iter(HOOK_NAMES)

    def __len__(self) -> int:
        return len(HOOK_NAMES)

    def __repr__(self) -> str:
        return f"Layers, an SAE at each of {', '.join(HOOK_NAMES)}"


class Transcoders(Mapping[int, Transcoder]):
    """layer → transcoder, of one width at all of them."""

    def __init__(self, device: str | torch.device):
        self.device, self._known = device, dict[int, Transcoder]()

    def __getitem__(self, layer: int) -> Transcoder:
        if layer not in self._known:
            self._known[layer] = Transcoder.load(TRANSCODERS[layer], self.device)
        return self._known[layer]

    def __iter__(self) -> Iterator[int]:
        return iter(TRANSCODERS)

    def __len__(self) -> int:
        return len(TRANSCODERS)


def layer_labels() -> dict[str, dict[int, str]]:
    """What the features mean by the answer key: hook point → feature → "state:California 0.54", where an F1 reaches 0.5."""
    return {name: _labels(FOLDERS[name]) for name in HOOK_NAMES}


def transcoder_labels() -> dict[str, dict[int, str]]:
    """The same of the transcoders' features."""
    return {f"{folder.name}.mlp.hook_in": _labels(folder) for folder in TRANSCODERS.values()}


def _labels(folder: Path) -> dict[int, str]:
    return {int(feature): label for feature, label in json.loads((folder / "labels.json").read_text()).items()}


def features_of(concepts: Sequence[str]) -> dict[str, dict[str, list[int]]]:
    """concept → hook point → the features that mean it there. Concepts that no layer has a feature for are left out."""
    found: dict[str, dict[str, list[int]]] = {concept: {} for concept in concepts}
    for name, labels in layer_labels().items():
        for feature, label in labels.items():
            concept = label.rsplit(" ", 1)[0]
            if concept in found:
                found[concept].setdefault(name, []).append(feature)
    return {concept: features for concept, features in found.items() if features}
