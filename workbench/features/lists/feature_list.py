"""Features that a person keeps, each with a note, in one JSON file of theirs: beside the notebook, unless they name another place.

    kept = wb.FeatureList(bench)                            ./kept_features.json; FeatureList(bench, "lakers.json")
    kept.keep(574, "the team, not the player")              kept.note(574, "…"); kept.remove(574)
    kept.table; kept.others                                 this dictionary's; those of other dictionaries, which the file holds too
    kept.beside(574, 77)                                    two pages side by side
    kept.to_html("lakers.html"); kept.to_csv("lakers.csv")  the pages as one offline file; the table

A feature's number means something in one dictionary only: every entry carries its SAE's fingerprint, and only those of the bench's own SAE
are this list's. The file is read at each call and written whole or not at all, so that several notebooks may use one.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from tqdm.auto import tqdm

from workbench.features.index.page import FeaturePages
from workbench.features.index.watchers import Watchers
from workbench.files import PATIENCE, checked_file, locked, made_folder, read_text, spreadsheet, write_json, write_text
from workbench.sae.config import checked_feature

FORMAT = 1
FILE = "kept_features.json"  # where the notebook is: a kernel runs in its notebook's folder
changes = Watchers()  # of any list
OTHERS = ["sae_name", "model_name", "feature", "label", "note", "kept"]


class Entry(NamedTuple):
    """One feature that was kept."""

    sae: str  # fingerprint of the dictionary
    feature: int
    note: str
    label: str  # as it was called when it was kept: of another dictionary nothing else is known
    sae_name: str
    model_name: str
    kept: str  # when, in UTC


class FeatureList:
    """A person's features of one dictionary, in a file that may hold those of others beside them."""

    def __init__(self, bench: Any, path: str | Path = FILE):
        """bench: whose SAE's features are kept. Raises ValueError for a place that cannot be a file, or lies in the installed package."""
        self.bench, self.path = bench, checked_file(path).absolute()

    @property
    def entries(self) -> list[Entry]:
        """Of this dictionary, in the order of keeping. Raises ValueError, in one sentence, for a file that is damaged."""
        return [each for each in self._read() if each.sae == self._sae]

    @property
    def features(self) -> list[int]:
        """Their numbers."""
        return [each.feature for each in self.entries]

    @property
    def table(self) -> pd.DataFrame:
        """One row a feature, in the order of keeping: feature, label (as it is now), note, density and max_act (NaN without an index),
        kept (when, UTC)."""
        entries, index = self.entries, self.bench.index
        labels = [self.bench.labels.get(each.feature, "") for each in entries]
        rows = pd.DataFrame(entries, columns=list(Entry._fields)).assign(label=labels)[["feature", "label", "note", "kept"]]
        known = pd.DataFrame({"density": float("nan"), "max_act": float("nan")}, index=rows["feature"])
        if index is not None and len(rows):
            known = index.table.set_index("feature")[["density", "max_act"]].reindex(rows["feature"])
        for at, name in enumerate(("density", "max_act"), 3):
            rows.insert(at, name, known[name].to_numpy(float))
        return rows

    @property
    def others(self) -> pd.DataFrame:
        """What the file holds of other dictionaries: sae_name, model_name, feature, label (as it was then), note, kept."""
        theirs = [each for each in self._read() if each.sae != self._sae]
        return pd.DataFrame(theirs, columns=list(Entry._fields))[OTHERS]

    def keep(self, feature: int, note: str | None = None) -> None:
        """Add a feature, or change its note; without a note, one that is kept already stays as it is."""
        feature = checked_feature(feature, self.bench.sae.cfg.d_sae)
        with self._changed() as entries:
            at = self._place(entries, feature)
            if at is None:
                label, now = self.bench.labels.get(feature, ""), datetime.now(UTC).isoformat(timespec="seconds")
                model = self.bench.name or str(self.bench.model.cfg.model_name)
                entries.append(Entry(self._sae, feature, note or "", label, self.bench.sae_name, model, now))
            elif note is not None:
                entries[at] = entries[at]._replace(note=note)

    def note(self, feature: int, note: str) -> None:
        """What is noted of a kept feature from now on. Raises ValueError for one that is not kept."""
        self._check_kept(feature)
        self.keep(feature, note)

    def remove(self, feature: int) -> Entry:
        """Take it out of the list; returns what stood there. Raises ValueError for a feature that is not kept."""
        self._check_kept(feature)
        with self._changed() as entries:
            at = self._place(entries, int(feature))
            assert at is not None, feature
            return entries.pop(at)

    def put_back(self, entry: Entry) -> None:
        """An entry that `remove` gave, as it was, at the end of the list; what is kept again meanwhile stays as it is."""
        with self._changed() as entries:
            if self._place(entries, entry.feature) is None:
                entries.append(entry)

    def beside(self, *features: int) -> FeaturePages:
        """The pages of two kept features, or several, side by side. Raises ValueError for one that is not kept."""
        for feature in features:
            self._check_kept(feature)
        return self.bench.features(features)

    def to_html(self, path: str | Path, progress: bool = True) -> Path:
        """Write one page that needs nothing else: the list, then each feature's page. Raises ValueError for an empty list."""
        path = checked_file(path)
        write_text(path, self.page(progress))
        return path

    def page(self, progress: bool = True) -> str:
        """That page as a text."""
        from widgets.html.pages import list_page

        rows = self.table.to_dict("records")
        if not rows:
            raise ValueError(f"{self.path.name} holds no feature of {self._named}: keep some first")
        features = tqdm(self.features, desc="pages", unit="page", disable=not progress)
        pages = [self.bench.feature(feature) for feature in features]
        return list_page(self._named, rows, pages, self.others.to_dict("records"))

    def to_csv(self, path: str | Path) -> Path:
        """Write the table; texts that a spreadsheet would take for formulas are quoted."""
        path = checked_file(path)
        write_text(path, self.csv())
        return path

    def csv(self) -> str:
        """That file as a text."""
        return spreadsheet(self.table, ("label", "note"))

    def json(self) -> str:
        """What the file holds, all dictionaries: another person's FeatureList reads it."""
        return json.dumps({"format": FORMAT, "entries": [each._asdict() for each in self._read()]}, indent=1, ensure_ascii=False)

    @property
    def _sae(self) -> str:
        return self.bench.sae.fingerprint()

    @property
    def _named(self) -> str:
        return f"SAE {self.bench.sae_name} of {self.bench.name or self.bench.model.cfg.model_name}"

    def _place(self, entries: Sequence[Entry], feature: int) -> int | None:
        return next((i for i, each in enumerate(entries) if (each.sae, each.feature) == (self._sae, feature)), None)

    def _check_kept(self, feature: int) -> None:
        feature, kept = checked_feature(feature, self.bench.sae.cfg.d_sae), self.features
        if feature not in kept:
            there = ", ".join(map(str, kept[:8])) + (" …" if len(kept) > 8 else "") or "none yet"
            raise ValueError(f"feature {feature} is not in {self.path.name}; of this dictionary it holds {there}")

    def _read(self) -> list[Entry]:
        entries = parsed(read_text(self.path), str(self.path)) if self.path.exists() else []
        d_sae = self.bench.sae.cfg.d_sae
        if entries and (wrong := [each.feature for each in entries if each.sae == self._sae and each.feature >= d_sae]):
            raise ValueError(f"{self.path} lists feature {wrong[0]:,} of this dictionary, which has 0 to {d_sae - 1:,}")
        return entries

    @contextmanager
    def _changed(self) -> Iterator[list[Entry]]:
        """What is kept, written again at the end: another notebook's entries are not lost."""
        with locked(made_folder(self.path.parent), PATIENCE):
            entries = self._read()
            yield entries
            write_json(self.path, {"format": FORMAT, "entries": [each._asdict() for each in entries]})
        changes.tell()

    def _repr_html_(self) -> str:
        from widgets.html.pages import list_html

        return list_html(self._named, self.path.name, self.table.to_dict("records"), self.others.to_dict("records"))

    def __repr__(self) -> str:
        rows, n_others = self.table, len(self.others)
        lines = [f"FeatureList {self.path.name}: {len(rows)} features of {self._named}"]
        lines += [" ".join(f"  {row.feature:>6} {row.label}  {row.note}".splitlines()).rstrip() for row in rows.itertuples()]
        return "\n".join([*lines, *([f"  and {n_others} of other dictionaries (.others)"] if n_others else [])])


def parsed(text: str, name: str) -> list[Entry]:
    """The entries of such a file. Raises ValueError, naming it, for what is none."""
    try:
        found = json.loads(text)
        entries = [_entry(each) for each in found["entries"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{name} holds no feature list that can be read ({error}): expected what FeatureList writes") from None
    if found.get("format") != FORMAT:
        raise ValueError(f"{name} has format {found.get('format')!r}, this version reads {FORMAT}")
    return entries


def _entry(each: Any) -> Entry:
    feature = each["feature"]
    if type(feature) is not int or feature < 0:
        raise ValueError(f"{str(feature)[:40]!r} is no feature")
    texts = {name: each.get(name, "") for name in ("note", "label", "sae_name", "model_name", "kept")} | {"sae": each["sae"]}
    if wrong := [name for name, text in texts.items() if not isinstance(text, str)]:
        raise ValueError(f"{wrong[0]} of feature {feature} is no text")
    return Entry(feature=feature, **texts)
