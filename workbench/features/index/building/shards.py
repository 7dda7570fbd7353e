"""The files of an index while it is built: what it is of, its texts cut into shards, each shard's summaries; every file complete or absent.

folder/building.json             what the index is of: a build that was cut off goes on only for the same model, SAEs and texts
folder/shards/00003/             one folder for every shard of texts, gone when the index is done
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from workbench.features.index.building.windows import PEAKS, STATS, WINDOWS, Summary
from workbench.features.index.layout import RANGE
from workbench.features.index.manifest import FORMAT, DamagedIndex, reading
from workbench.files import read_json, write_whole, writing
from workbench.model.start import start_token
from workbench.sae.dictionary import Dictionary

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

N_SAMPLED = 1024  # numbers of each weight that a model's fingerprint is made of: any training step changes nearly all


@dataclass(frozen=True)
class Shard:
    """Some texts of a corpus, read and kept as one: what a killed build loses at most."""

    number: int
    first_text: int
    texts: list[str]

    @property
    def name(self) -> str:
        """Its folder's."""
        return f"{self.number:05d}"

    @cached_property
    def fingerprint(self) -> str:
        """Twelve hex digits that change with any of its texts."""
        return _digest(self.texts).hexdigest()[:12]


def shard_facts(folder: Path) -> dict[str, Any]:
    """What a shard that is done says of itself. Raises ValueError where its file is damaged."""
    said = read_json(folder / "shard.json")
    counts = [said.get(name) for name in ("n_texts", "n_tokens", "n_unknown")] if isinstance(said, dict) else [None]
    if any(type(count) is not int or count < 0 for count in counts) or not isinstance(said.get("fingerprint"), str):
        raise DamagedIndex(f"{folder / 'shard.json'} is damaged: delete {folder}, and it is read again")
    return said


class Corpus:
    """Texts cut into shards of `n_chars` characters in all, or of one more text; and, once they are through, their fingerprint."""

    def __init__(self, texts: Iterable[str], n_chars: int):
        self.texts, self.n_chars = texts, n_chars
        self.n_texts, self._hash = 0, hashlib.sha256()

    @property
    def facts(self) -> dict[str, Any]:
        """Fingerprint and number of the texts drawn so far; of all of them once it was read to its end."""
        return {"fingerprint": self._hash.hexdigest()[:12], "n_texts": self.n_texts}

    def __iter__(self) -> Iterator[Shard]:
        number = size = 0
        some: list[str] = []
        for text in self.texts:
            if not isinstance(text, str):
                raise ValueError(f"text {self.n_texts} is of type {type(text).__name__}; expected strings")
            some.append(str(text))
            size += len(text)
            self.n_texts += 1
            _digest([text], self._hash)
            if size >= self.n_chars:
                yield Shard(number, self.n_texts - len(some), some)
                number, size, some = number + 1, 0, []
        if some:
            yield Shard(number, self.n_texts - len(some), some)


def _digest(texts: Iterable[str], digest: Any = None) -> Any:
    digest = digest or hashlib.sha256()
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest


def identity(model: "TransformerBridge", saes: Mapping[str, Dictionary], n_chars: int) -> dict[str, Any]:
    """What an index is of, as its manifest says it."""
    facts = {
        name: {
            "fingerprint": sae.fingerprint(),
            "hook_name": sae.reads,
            **({"writes": sae.writes} if sae.writes != sae.reads else {}),
            "d_in": sae.cfg.d_in,
            "d_sae": sae.cfg.d_sae,
        }
        for name, sae in saes.items()
    }
    name = Path(str(model.cfg.model_name)).name
    model_facts = {"name": name, "fingerprint": model_fingerprint(model), "start_token": start_token(model).text}
    return {"format": FORMAT, "model": model_facts, "saes": facts, "shard": n_chars}


def model_fingerprint(model: "TransformerBridge") -> str:
    """Twelve hex digits that change with the weights; from a sample of each, in bfloat16, so that every precision gives the same."""
    digests = []
    for weight in model.original_model.parameters():
        at = torch.linspace(0, weight.numel() - 1, min(N_SAMPLED, weight.numel()), dtype=torch.float64).long()
        sample = weight.detach()[torch.unravel_index(at.to(weight.device), weight.shape)] if weight.ndim else weight.detach()
        numbers = sample.to(torch.bfloat16).float().cpu().numpy()
        digests.append(hashlib.sha256(str(tuple(weight.shape)).encode() + numbers.tobytes()).hexdigest())
    return hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()[:12]


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any], path: str = "") -> list[str]:
    """Where two manifests differ, in words."""
    found = []
    for name in [*theirs, *(name for name in ours if name not in theirs)]:
        mine, other = ours.get(name), theirs.get(name)
        if isinstance(mine, Mapping) and isinstance(other, Mapping):
            found += differences(mine, other, f"{path}{name} ")
        elif mine != other:
            found.append(f"{path}{name} is {_word(mine)}, there {_word(other)}")
    return found


def _word(value: Any) -> str:
    return "absent" if value is None else "another" if isinstance(value, Mapping) else str(value)


class Summaries:
    """The summaries of one SAE's features in one folder, a range of features at a time."""

    def __init__(self, folder: Path, sae_name: str):
        self.folder, self.sae_name = folder, sae_name
        paths = [folder / f"{sae_name}-{kind}.parquet" for kind in ("stats", "windows", "peaks")]
        with reading(folder):
            self.files = [pq.ParquetFile(path, page_checksum_verification=True) for path in paths]

    def read(self, n: int) -> Summary:
        """The n-th range's; see `ranges`."""
        with reading(self.folder):
            return Summary.of(*(file.read_row_group(n) for file in self.files))

    @staticmethod
    def write(folder: Path, sae_name: str, summaries: Iterable[Summary]) -> None:
        """One row group a summary, in the order of `ranges`; read back one at a time."""
        how: dict[str, Any] = dict(compression="zstd", write_page_checksum=True)
        with (
            writing(folder),
            pq.ParquetWriter(folder / f"{sae_name}-stats.parquet", STATS, **how) as stats,
            pq.ParquetWriter(folder / f"{sae_name}-windows.parquet", WINDOWS, **how) as windows,
            pq.ParquetWriter(folder / f"{sae_name}-peaks.parquet", PEAKS, **how) as peaks,
        ):
            for summary in summaries:
                stats.write_table(summary.stats())
                windows.write_table(summary.windows, row_group_size=max(1, len(summary.windows)))
                peaks.write_table(summary.peaks, row_group_size=max(1, len(summary.peaks)))


def ranges(d_sae: int) -> list[tuple[int, int]]:
    """(first feature, number of features) of each range; a range is a row group."""
    return [(first, min(RANGE, d_sae - first)) for first in range(0, d_sae, RANGE)]


def write_table(path: Path, table: pa.Table, ascending: str = "") -> None:
    """Parquet, small: activations in byte planes, everything else by dictionary. ascending: a column of lists of ascending numbers, of
    which the differences are written."""
    is_list = {field.name: pa.types.is_list(field.type) for field in table.schema}
    kinds = {field.name: field.type.value_type if is_list[field.name] else field.type for field in table.schema}
    leaf = {name: f"{name}.list.element" if is_list[name] else name for name in kinds}
    planes = [leaf[name] for name, kind in kinds.items() if pa.types.is_floating(kind)]
    plain = [path for name, path in leaf.items() if path not in planes and name != ascending]
    options: dict[str, Any] = dict(compression="zstd", use_byte_stream_split=planes or False, use_dictionary=plain)
    options["write_page_checksum"] = True
    if ascending:
        options["column_encoding"] = {leaf[ascending]: "DELTA_BINARY_PACKED"}
    write_whole(path, lambda partial: pq.write_table(table, partial, **options))
