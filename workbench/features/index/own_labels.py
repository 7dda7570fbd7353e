"""A person's labels: a file of theirs, laid over whatever an index says. No index, and no installed package, is ever written to.

    own = OwnLabels()                                       the file in the person's data folder, or the one that WORKBENCH_LABELS names
    own.put(sae, {1234: Label("Lakers players")})           sae: an SAE's fingerprint, the same under any index
    own.of(sae); own.undo(sae, 1234); own.write("mine.json"); own.add("theirs.json")

Of each feature all its labels are kept, the last one counts; an empty one gives back what the index says.
"""

import json
import os
from collections.abc import Callable, ItemsView, Iterator, Mapping, ValuesView
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from platformdirs import user_data_path

from workbench.features.index.parts import Label
from workbench.features.index.watchers import Watchers
from workbench.files import PATIENCE, checked_file, locked, made_folder, read_text, write_json

A_PERSON = "a person"
FORMAT = 1
Said = dict[str, dict[str, list[dict[str, str]]]]  # SAE → feature → all that was said of it
changes = Watchers()  # of any label
_n_changes = 0  # in this process: what was laid over is laid over anew


def labels_file() -> Path:
    """Where a person's labels are."""
    return Path(os.environ.get("WORKBENCH_LABELS") or user_data_path("circuit-workbench") / "labels.json")


def stamp() -> tuple[int, str | None]:
    """Another one after every change."""
    return _n_changes, os.environ.get("WORKBENCH_LABELS")


class OwnLabels:
    """A person's labels of all SAEs, in their file."""

    def __init__(self, path: str | Path | None = None):
        self.path = labels_file() if path is None else Path(path)

    def of(self, sae: str) -> dict[int, Label]:
        """Feature → the label that counts."""
        last = {int(i): said[-1] for i, said in self._read().get(sae, {}).items()}
        return {i: Label(each["text"], None, each["origin"]) for i, each in last.items() if each["text"]}

    def put(self, sae: str, labels: Mapping[int, Label]) -> None:
        """From now on these count; an empty one gives back what the index says."""
        with self._changed() as known:
            self._put(known, sae, labels)

    def _put(self, known: Said, sae: str, labels: Mapping[int, Label]) -> None:
        for feature, label in labels.items():
            said = known.setdefault(sae, {}).setdefault(str(int(feature)), [])
            if said or label.text:  # nothing is taken away where nothing was
                when = datetime.now(UTC).isoformat(timespec="seconds")
                said.append({"text": label.text, "origin": label.origin or A_PERSON, "when": when})

    def undo(self, sae: str, feature: int) -> None:
        """Takes back the last thing that was said of the feature. Raises ValueError where there is none."""
        with self._changed() as known:
            said = known.get(sae, {}).get(str(int(feature)), [])
            if not said:
                raise ValueError(f"nothing to take back: feature {feature} has no label of yours")
            said.pop()

    def add(self, path: str | Path) -> int:
        """Lays the labels of another such file over these; returns how many changed something."""
        return self.add_text(read_text(Path(path)), str(path))

    def add_text(self, text: str, name: str = "the text") -> int:
        """The same from what such a file holds."""
        theirs, n_new = _parsed(text, name), 0
        with self._changed() as known:
            for sae, features in theirs.items():
                for feature, said in features.items():
                    here = known.setdefault(sae, {}).setdefault(feature, [])
                    if not here or here[-1]["text"] != said[-1]["text"]:
                        here.append(said[-1])
                        n_new += 1
        return n_new

    def write(self, path: str | Path) -> Path:
        """A copy to share."""
        path = checked_file(path)
        write_json(path, {"format": FORMAT, "saes": self._read()})
        return path

    def as_text(self) -> str:
        """What `write` writes."""
        return json.dumps({"format": FORMAT, "saes": self._read()}, indent=1, ensure_ascii=False)

    def _read(self) -> Said:
        return _parsed(read_text(self.path), str(self.path)) if self.path.exists() else {}

    @contextmanager
    def _changed(self) -> Iterator[Said]:
        """What was said so far, written again at the end: another process's labels are not lost."""
        with locked(made_folder(self.path.parent), PATIENCE):
            known = self._read()
            yield known
            self._write(known)
        changes.tell()

    def _write(self, known: Mapping[str, Any]) -> None:
        global _n_changes
        kept = {sae: {i: said for i, said in of.items() if said} for sae, of in known.items()}
        write_json(self.path, {"format": FORMAT, "saes": kept})
        _n_changes += 1


def _parsed(text: str, name: str) -> Said:
    try:
        found = json.loads(text)
        saes = {sae: {str(int(i)): [_entry(each) for each in said] for i, said in of.items() if said} for sae, of in found["saes"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{name} holds no labels that can be read ({error}): expected what OwnLabels().write gives") from None
    if found.get("format") != FORMAT:
        raise ValueError(f"{name} has format {found.get('format')!r}, this version reads {FORMAT}")
    return saes


def _entry(each: Any) -> dict[str, str]:
    return {"text": str(each["text"]), "origin": str(each.get("origin", A_PERSON)), "when": str(each.get("when", ""))}


class LaidOver(Mapping[int, str]):
    """Labels as they are shown, feature → text: a person's over those that are known otherwise, as of now."""

    def __init__(self, known: Mapping[int, str], sae: Callable[[], str]):
        """sae: gives the fingerprint, when there is something to lay over."""
        self.known = known.known if isinstance(known, LaidOver) else known
        self._sae, self._stamp, self._shown = sae, None, {}

    @property
    def _now(self) -> dict[int, str]:
        if self._stamp != stamp():
            own = OwnLabels()
            over = {i: label.text for i, label in own.of(self._sae()).items()} if own.path.is_file() else {}
            self._shown, self._stamp = {**self.known, **over}, stamp()
        return self._shown

    def __getitem__(self, feature: int) -> str:
        return self._now[feature]

    def __iter__(self) -> Iterator[int]:
        return iter(self._now)

    def __len__(self) -> int:
        return len(self._now)

    def get(self, feature: int, default: Any = None) -> Any:
        """As of a dict."""
        return self._now.get(feature, default)

    def items(self) -> ItemsView[int, str]:
        """As of a dict, all of one moment: to ask anew for each of a dictionary's labels takes longer than to read them."""
        return self._now.items()

    def values(self) -> ValuesView[str]:
        """The same."""
        return self._now.values()
