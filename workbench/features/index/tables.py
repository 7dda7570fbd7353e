"""An index's Parquet files, read through DuckDB: as SQL tables, and as the parts of a feature's page."""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, lru_cache
from glob import escape
from operator import itemgetter
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from workbench.features.index.layout import AFTER, N_BINS, N_INTERVALS, PART_BITS, RANGE
from workbench.features.index.manifest import TABLES, DamagedIndex, reading, sha256
from workbench.features.index.parts import Example, Interval, TokenLogit

MOST_KEPT = 128  # features whose rows stay in memory once they are read, 50 KB each: opening a card waits for them longest
RANGES_KEPT = 6  # files, a few MB each: asking DuckDB for one feature of a file takes as long as reading it all


class Tables:
    """`row(sae_name, feature)` is the feature's row of `features`; `windows(sae_name, feature)` its examples by interval, TOP among them.
    Both are kept, and shared: not to be changed. Any thread may ask. sums: file → SHA-256, compared when a file is first read; the files of
    an index of before there were sums have none."""

    def __init__(self, folder: Path, files: Sequence[str], sums: Mapping[str, str]):
        self.folder, self.connection = folder, duckdb.connect()
        self.files = {name: [file for file in files if file.startswith(name)] for name in TABLES}
        self._unchecked = dict(sums)
        self.connection.execute("SET parquet_metadata_cache = true")  # many small files: their heads are read once
        for name, some in self.files.items():
            quoted = ", ".join("'" + escape(str(folder / file)).replace("'", "''") + "'" for file in some)
            with reading(folder / f"{name}*"):
                self.connection.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet([{quoted}], hive_partitioning = false)")
        self.row, self.windows = lru_cache(MOST_KEPT)(self._row), lru_cache(MOST_KEPT)(self._windows)
        self._range = lru_cache(RANGES_KEPT)(self._read_range)

    def sql(self, query: str, *parameters: Any) -> pd.DataFrame:
        """A query's rows; ? in it stand for the parameters."""
        for name in TABLES:
            if re.search(rf"\b{name}\b", query, re.I):
                self._check(self.files[name])
        try:
            return self.connection.cursor().execute(query, parameters).df()  # its own cursor: threads do not take each other's results
        except duckdb.Error as error:
            is_query = isinstance(error, duckdb.ProgrammingError | duckdb.NotSupportedError) and "parquet" not in str(error).lower()
            if is_query:  # which is wrong; DuckDB has damaged Parquet among its programming errors
                raise
            raise DamagedIndex(f"{self._damaged()} is damaged ({str(error).splitlines()[0][:120]}): copy the index again") from None

    def _check(self, files: Iterable[str]) -> None:
        """Raises ValueError for one that is not as it was written."""
        for file in files:
            if (known := self._unchecked.get(file)) is not None:
                if sha256(self.folder / file) != known:
                    raise DamagedIndex(
                        f"{self.folder / file} is damaged: its SHA-256 is not the manifest's; copy it again, or build the index anew"
                    )
                self._unchecked.pop(file, None)

    def _damaged(self) -> Path:
        """The first file that cannot be read; the folder, where each can."""
        for file in (file for some in self.files.values() for file in some):
            try:
                pq.read_table(self.folder / file)
            except (pa.ArrowException, OSError, MemoryError):
                return self.folder / file
        return self.folder

    def _row(self, sae_name: str, feature: int) -> dict[str, Any]:
        with reading(self._path("features", sae_name, feature)):
            (row,) = self._of_feature("features", sae_name, feature)
            return row

    def _windows(self, sae_name: str, feature: int) -> dict[int, list[Example]]:
        with reading(self._path("examples", sae_name, feature)):
            return self._read_windows(sae_name, feature)

    def _path(self, name: str, sae_name: str, feature: int) -> Path:
        return self.folder / f"{name}-{sae_name}-{feature // RANGE:05d}.parquet"

    def _read_windows(self, sae_name: str, feature: int) -> dict[int, list[Example]]:
        rows = sorted(self._of_feature("examples", sae_name, feature), key=itemgetter("interval", "rank"))
        query = "SELECT * FROM texts WHERE row IN (SELECT unnest(?::BIGINT[]))"
        texts: dict[int, Any] = {text.row: text for text in self.sql(query, list({row["row"] for row in rows})).itertuples()}
        found: dict[int, list[Example]] = {}
        for row in rows:
            whole, first, last = texts[row["row"]], row["first"], row["pos"] + AFTER + 1
            str_tokens = self.str_tokens(whole.tokens[first:last])
            activations = np.zeros(len(str_tokens), dtype=np.float32)
            activations[row["offsets"]] = row["activations"]
            text, n_part = divmod(row["row"], 2**PART_BITS)
            is_cut = n_part > 0 or first > 0, bool(whole.goes_on) or last < len(whole.tokens)
            example = Example(str_tokens, activations.tolist(), row["pos"] - first, text, is_cut, first)
            found.setdefault(row["interval"], []).append(example)
        return found

    def _of_feature(self, name: str, sae_name: str, feature: int) -> list[dict[str, Any]]:
        """A feature's rows of `features` or `examples`, which are sorted by feature."""
        table = self._range(name, sae_name, feature // RANGE)
        first, last = np.searchsorted(table["feature"].to_numpy(), [feature, feature + 1])
        return table.slice(first, last - first).to_pylist()

    def _read_range(self, name: str, sae_name: str, number: int) -> pa.Table:
        path = self._path(name, sae_name, number * RANGE)
        self._check([path.name])
        return pq.ParquetFile(path, page_checksum_verification=True).read()

    def token_logits(self, tokens: Any, logits: Any) -> list[TokenLogit] | None:
        """None where the table has no tokens."""
        return None if tokens is None else list(map(TokenLogit, self.str_tokens(tokens), logits))

    def str_tokens(self, tokens: Any) -> list[str]:
        """What tokens read as; models pad their vocabulary with some that have no text."""
        known = self._vocabulary
        tokens = tokens if isinstance(tokens, list | np.ndarray) else []  # SQL's NULL comes as None or NaN
        return [known[token] if token < len(known) else f"<token {token}>" for token in tokens]

    @cached_property
    def _vocabulary(self) -> list[str]:
        return self.sql("SELECT str_token FROM vocabulary ORDER BY token")["str_token"].tolist()


def intervals(histogram: Sequence[int], bin_width: float, windows: Mapping[int, list[Example]]) -> list[Interval]:
    """The highest first; those in which the feature was never active are left out."""
    width = N_BINS // N_INTERVALS * bin_width
    counts = np.reshape(histogram, (N_INTERVALS, -1)).sum(1).tolist()
    return [Interval(i * width, (i + 1) * width, counts[i], windows.get(i, [])) for i in reversed(range(N_INTERVALS)) if counts[i]]
