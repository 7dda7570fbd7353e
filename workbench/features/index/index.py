"""The feature index: one pass over a corpus, written to a folder; pages, searches and surveys read it, without the model.

    index = build_index(model, sae, texts, "folder")          several SAEs at once: a list, or a dict of names
    index = FeatureIndex.open("folder")                       index.table, .feature(3), .sql("SELECT …"), .to_html([3], "pages")

A build that was cut off goes on where it stopped and gives the same files, byte for byte. Whoever only reads an index waits for no torch.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from workbench.features.index.beside import Beside
from workbench.features.index.layout import TOP, bin_width
from workbench.features.index.manifest import MANIFEST, UNFINISHED, read_manifest, reading
from workbench.features.index.own_labels import OwnLabels, stamp
from workbench.features.index.page import FeaturePage, FeaturePages
from workbench.features.index.parts import Correlate, Example, FeatureScore, Label, Neighbor
from workbench.features.index.tables import Tables, intervals
from workbench.files import made_folder, write_text
from workbench.sae.config import checked_feature

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

    from workbench.sae.dictionary import Dictionary

SHARD = 2**22  # characters of text, about a million tokens: what a killed build loses at most


def build_index(  # noqa: PLR0913 a notebook's call
    model: "TransformerBridge",
    saes: "Dictionary | Sequence[Dictionary] | Mapping[str, Dictionary]",
    texts: str | Path | Iterable[str],
    folder: str | Path,
    *,
    shard: int = SHARD,
    workers: int = 0,
    progress: bool = True,
    insist: bool = False,
) -> "FeatureIndex":
    """What every feature of the SAEs is active on, over all texts, written to `folder`. The start token is left out.

    texts: strings, each read by itself (in several parts where it is longer than the model reads), or a file or folder of them.
    Called again on a folder whose build was cut off, with the same texts, it goes on. shard: characters of text after which what was done
    is safe. workers: Ray processes that read shards side by side (extra [ray]); 0 for this process alone.
    Raises ValueError, before any compute, for SAEs that do not fit the model, for a folder that holds something else, and for more than
    memory holds, unless insist.
    """
    from workbench.features.index.building.build import build  # and with it transformer_lens, which reading an index does not need

    build(model, named(saes), texts, Path(folder), shard, workers, progress, insist)
    return FeatureIndex.open(folder)


def named(saes: "Dictionary | Sequence[Dictionary] | Mapping[str, Dictionary]") -> "dict[str, Dictionary]":
    """SAEs by name; one without a name is called by its width."""
    if isinstance(saes, Mapping):
        return dict(saes)
    several: list[Dictionary] = list(saes) if isinstance(saes, Iterable) else [saes]
    found = {str(sae.cfg.d_sae): sae for sae in several}
    if len(found) < len(several):
        raise ValueError('two SAEs have the same width: give them names, {"first": sae, "second": other}')
    return found


@dataclass(frozen=True, repr=False, eq=False)
class FeatureIndex:
    """An index on disk, seen through one of its SAEs (`sae_name`)."""

    folder: Path
    manifest: Mapping[str, Any]
    sae_name: str

    @classmethod
    def open(cls, folder: str | Path, sae: str | None = None) -> "FeatureIndex":
        """Raises ValueError for a folder that is no index, is unfinished, lacks a file of it or has one of another size. What is in
        the files is compared with the manifest's SHA-256 when each is first read."""
        folder = Path(folder)
        if not (folder / MANIFEST).is_file():
            there = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) if folder.is_dir() else "no such folder"
            if (folder / UNFINISHED).is_file():
                raise ValueError(f"{folder} is an unfinished index: build_index with the same model, SAEs and texts goes on with it")
            raise ValueError(f"{folder} is not an index: {MANIFEST} is missing (found: {there or 'an empty folder'})")
        manifest = read_manifest(folder)
        return cls(folder, manifest, next(iter(manifest["saes"]))).with_sae(sae)

    def with_sae(self, name: str | None) -> "FeatureIndex":
        """The same index seen through another of its SAEs."""
        if name not in (None, *self.manifest["saes"]):
            raise ValueError(f"no SAE is called {name!r} in this index; there is {', '.join(self.manifest['saes'])}")
        return self if name in (None, self.sae_name) else replace(self, sae_name=name)

    def of(self, model: "TransformerBridge", sae: "Dictionary") -> "FeatureIndex":
        """The index seen through `sae`. Raises ValueError, saying which fingerprint differs, if it is not of this SAE and model."""
        from workbench.features.index.building.shards import model_fingerprint
        from workbench.model.start import other_note

        theirs, ours = self.manifest["model"], model_fingerprint(model)
        if theirs["fingerprint"] != ours:
            raise ValueError(f"this index is of another model: of {theirs['name']} {theirs['fingerprint']}, this model is {ours}")
        if "start_token" in theirs and (other := other_note(model, theirs["start_token"], "this index")):
            raise ValueError(other)
        if not self.has(sae):
            known = ", ".join(f"{name} {fingerprint}" for fingerprint, name in self._names.items())
            raise ValueError(f"this index is of another SAE: of {known}, this SAE is {sae.fingerprint()}")
        return self.with_sae(self.name_of(sae))

    def name_of(self, sae: "Dictionary") -> str:
        """What the index calls an SAE that it has."""
        return self._names[sae.fingerprint()]

    def has(self, sae: "Dictionary") -> bool:
        """Is the index of this SAE, among others?"""
        return sae.fingerprint() in self._names

    @property
    def _names(self) -> dict[str, str]:
        return {facts["fingerprint"]: name for name, facts in self.manifest["saes"].items()}

    @property
    def d_sae(self) -> int:
        """How many features the SAE has that is looked through."""
        return self.manifest["saes"][self.sae_name]["d_sae"]

    def sql(self, query: str, *parameters: Any) -> pd.DataFrame:
        """DuckDB on the tables features, examples, peaks, texts and vocabulary; those of all SAEs, told apart by their column sae."""
        return self._tables.sql(query, *parameters)

    @property
    def table(self) -> pd.DataFrame:
        """One row per feature: feature, label, density, n_active, max_act, and the tokens it promotes most; input_score and output_score,
        where `save_scores` was given some."""
        known = self.__dict__.get("_labeled")
        if known is None or known[0] is not self.labels():
            labels = self.labels()
            table = self._unlabeled.copy()
            table.insert(1, "label", [labels[feature].text if feature in labels else "" for feature in table["feature"]])
            if scores := self.scores():
                pairs = [scores.get(feature, FeatureScore()) for feature in table["feature"]]
                table[["input_score", "output_score"]] = np.array(pairs, dtype=np.float64)
            known = self.__dict__["_labeled"] = labels, table
        return known[1]

    @cached_property
    def _unlabeled(self) -> pd.DataFrame:
        columns = "feature, density, n_active, max_act, promoted[1:5] AS promoted"
        table = self.sql(f"SELECT {columns} FROM features WHERE sae = ? ORDER BY feature", self.sae_name)
        table["promoted"] = table["promoted"].map(self._tables.str_tokens)
        return table

    def feature(self, feature: int, with_examples: bool = True) -> FeaturePage:
        """The feature's page. Its example texts take longest to read: without them `top` and each interval's examples are empty."""
        row = self._tables.row(self.sae_name, self._checked(feature))
        windows = self._tables.windows(self.sae_name, int(feature)) if with_examples else {}
        with reading(self.folder / f"features-{self.sae_name}"):
            page = self._page(int(feature), row, windows)
            return page if with_examples else replace(page, has_examples=False)

    def _page(self, feature: int, row: Mapping[str, Any], windows: Mapping[int, list[Example]]) -> FeaturePage:
        width = bin_width(row["max_act"])
        return FeaturePage(
            feature=int(feature),
            sae_name=self.sae_name,
            label=self.labels().get(int(feature), Label("")),
            n_active=int(row["n_active"]),
            n_tokens=self.manifest["n_tokens"],
            max_act=float(row["max_act"]),
            bin_width=width,
            histogram=row["histogram"],
            top=windows.get(TOP, []),
            intervals=intervals(row["histogram"], width, windows),
            promoted=self._tables.token_logits(row["promoted"], row["promoted_logits"]),
            suppressed=self._tables.token_logits(row["suppressed"], row["suppressed_logits"]),
            neighbors=self._neighbors(row["neighbors"]),
            model_name=self.manifest["model"]["name"],
            hook_name=self.manifest["saes"][self.sae_name]["hook_name"],
            neurons=self._beside.neurons.get(int(feature), []),
            scores=self.scores().get(int(feature), FeatureScore()),
            scored=self._basis(int(feature)),
        )

    def _basis(self, feature: int) -> str:
        """What the feature's scores are; scores are of what it was called when it was scored, not of a person's own words."""
        label, before, basis = self.labels().get(feature), self._index_labels.get(feature), self._beside.scores.basis
        is_other = label is not None and label.is_human and (before is None or before.text != label.text)
        return f"{basis}; of the label before, {before.text if before else 'none'}" if is_other else basis

    def read_ahead(self, feature: int) -> None:
        """Reads what the feature's page needs; it opens faster then."""
        self._tables.row(self.sae_name, self._checked(feature))
        self._tables.windows(self.sae_name, int(feature))

    def features(self, features: Iterable[int]) -> FeaturePages:
        """The pages of several features."""
        return FeaturePages([self.feature(feature) for feature in features])

    def examples(self, feature: int, n: int = 10) -> list[Example]:
        """The n texts in which the feature is most active, best first."""
        return self._tables.windows(self.sae_name, self._checked(feature)).get(TOP, [])[:n]

    def to_html(self, features: Iterable[int], folder: str | Path, progress: bool = True) -> Path:
        """Write a folder of pages that needs nothing else; its first page, with a search box, is returned."""
        from widgets.html.pages import feature_page, search_page, search_row

        features, folder, rows = [self._checked(feature) for feature in features], made_folder(folder), []
        known = set(features)
        for i, feature in enumerate(tqdm(features, desc="pages", unit="page", disable=not progress)):
            page = self.feature(feature)
            write_text(folder / f"{feature}.html", feature_page(page, features[max(0, i - 1) : i], features[i + 1 : i + 2], known))
            rows.append(search_row(page))
        write_text(folder / "index.html", search_page(rows, self.facts()))
        return folder / "index.html"

    def labels(self, sae: str | None = None) -> dict[int, Label]:
        """What features mean, as far as somebody or something said: feature → label. A person's own stand over the index's."""
        sae, laid = sae or self.sae_name, self.__dict__.setdefault("_laid_over", {})
        if laid.get(sae, (None,))[0] != stamp():
            own = OwnLabels().of(self.manifest["saes"][sae]["fingerprint"]) if sae in self.manifest["saes"] else {}
            laid[sae] = stamp(), {**self._beside.labels.get(sae, {}), **own}
        return laid[sae][1]

    @property
    def _index_labels(self) -> dict[int, Label]:
        """The index's own, without a person's."""
        return self._beside.labels.get(self.sae_name, {})

    def label_texts(self) -> dict[int, str]:
        """Those of the index itself, each with its score, for a Workbench, which lays a person's own over them."""
        return {feature: str(label) for feature, label in self._index_labels.items()}

    def save_labels(self, labels: Mapping[int, Label]) -> None:
        """Add labels of this SAE's features, or replace them; an empty one takes a label away. A person's (origin "a person") go to the
        person's own file (own_labels.py) and stand over all others, the others beside the index."""
        labels = {self._checked(i): label for i, label in labels.items()}
        if own := {i: label for i, label in labels.items() if label.is_human}:
            OwnLabels().put(self.manifest["saes"][self.sae_name]["fingerprint"], own)
        if others := {i: label for i, label in labels.items() if not label.is_human}:
            self._beside.save_labels(others)
            self.__dict__.pop("_laid_over", None)

    def save_neurons(self, neurons: Mapping[int, Sequence[Correlate]]) -> None:
        """Add the neurons that are most like features of this SAE: their pages show them."""
        self._beside.save_neurons({self._checked(i): some for i, some in neurons.items()})

    def scores(self) -> dict[int, FeatureScore]:
        """Feature → how well it reads what it is called and how much it writes that, as far as `save_scores` was told."""
        return self._beside.scores.of

    def save_scores(self, scores: Mapping[int, FeatureScore], basis: str) -> None:
        """Keep the two scores of features of this SAE, in place of any before: its table, pages and searches show them. basis: what they
        are, in words. Raises ValueError for an index inside of the installed package: copy it, or build one of your own."""
        self._beside.save_scores({self._checked(i): score for i, score in scores.items()}, basis)
        self.__dict__.pop("_labeled", None)

    def facts(self) -> dict[str, str]:
        """What this index is, in words: the rows of its repr."""
        saes, corpus, model = self.manifest["saes"], self.manifest["corpus"], self.manifest["model"]
        unknown = self._unknown_words()
        widths = {f"SAE {name}": f"{facts['d_sae']:,} features at {facts['hook_name']}" for name, facts in saes.items()}
        if len(saes) > 1:
            widths[f"SAE {self.sae_name}"] += " (the one looked through)"
        return {
            "model": f"{model['name']} ({model['fingerprint']})",
            **widths,
            "corpus": f"{self.manifest['n_tokens']:,} tokens of {corpus['n_texts']:,} texts ({corpus['fingerprint']})",
            "start": _start_words(model.get("start_token")),
            **({"unknown": unknown} if unknown else {}),
            "labels": f"{len(self.labels()):,} features" if self.labels() else "none",
            **({"scores": f"{len(self.scores()):,} features, {self._beside.scores.basis}"} if self.scores() else {}),
        }

    def _unknown_words(self) -> str:
        if not (n := self.manifest.get("n_unknown", 0)):
            return ""
        from workbench.model.tokens import unknown_note

        return unknown_note(n, self.manifest["n_tokens"], "its texts")

    def __repr__(self) -> str:
        return "\n".join([f"FeatureIndex {self.folder}", *(f"  {name:<10}{text}" for name, text in self.facts().items())])

    def _repr_html_(self) -> str:
        from widgets.marks import facts_html

        return facts_html("FeatureIndex", self.facts())

    @cached_property
    def _beside(self) -> Beside:
        return Beside(self.folder, self.sae_name)

    @cached_property
    def _tables(self) -> Tables:
        return Tables(self.folder, list(self.manifest["files"]), self.manifest.get("sha256", {}))

    def _neighbors(self, neighbors: Sequence[Mapping[str, Any]]) -> dict[str, list[Neighbor]]:
        found: dict[str, list[Neighbor]] = {}
        labels = {sae: self.labels(sae) for sae in {each["sae"] for each in neighbors}}
        for each in neighbors:
            label = labels[each["sae"]].get(each["feature"], Label(""))
            found.setdefault(each["sae"], []).append(Neighbor(each["feature"], each["cosine"], label.text))
        return found

    def _checked(self, feature: int) -> int:
        return checked_feature(feature, self.d_sae, self.sae_name)


def _start_words(start: str | None) -> str:
    if start is None:
        return "start tokens, left out"
    return f"{start!r} led every text, left out" if start else "no start token"
