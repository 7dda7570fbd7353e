"""An index's Parquet files, read through DuckDB: as SQL tables, and as the parts of a feature's page."""

from collections.abc import Mapping, Sequence
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

from workbench.features.index.parts import Example, Interval, TokenLogit
from workbench.features.index.windows import AFTER, N_BINS, N_INTERVALS, PART_BITS, RANGE

MOST_KEPT = 128  # features whose rows stay in memory once they are read, 50 KB each: opening a card waits for them longest
RANGES_KEPT = 6  # files, a few MB each: asking DuckDB for one feature of a file takes as long as reading it all
NAMES = ("features", "examples", "peaks", "texts", "vocabulary")  # a file belongs to the table that its name begins with


class Tables:
    """`row(sae_name, feature)` is the feature's row of `features`; `windows(sae_name, feature)` its examples by interval, TOP among them.
    Both are kept, and shared: not to be changed. Any thread may ask."""

    def __init__(self, folder: Path, files: Sequence[str]):
        self.folder, self.connection = folder, duckdb.connect()
        self.connection.execute("SET parquet_metadata_cache = true")  # many small files: their heads are read once
        for name in NAMES:
            paths = [escape(str(folder / file)).replace("'", "''") for file in files if file.startswith(name)]
            quoted = ", ".join(f"'{path}'" for path in paths)
            self.connection.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet([{quoted}], hive_partitioning = false)")
        self.row, self.windows = lru_cache(MOST_KEPT)(self._row), lru_cache(MOST_KEPT)(self._windows)
        self._range = lru_cache(RANGES_KEPT)(self._read_range)

    def sql(self, query: str, *parameters: Any) -> pd.DataFrame:
        return self.connection.cursor().execute(query, parameters).df()  # a cursor of its own: threads do not take each other's results

    def _row(self, sae_name: str, feature: int) -> dict[str, Any]:
        (row,) = self._of_feature("features", sae_name, feature)
        return row

    def _windows(self, sae_name: str, feature: int) -> dict[int, list[Example]]:
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
        return pq.ParquetFile(self.folder / f"{name}-{sae_name}-{number:05d}.parquet").read()

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
