"""An index's Parquet files, read through DuckDB: as SQL tables, and as the parts of a feature's page."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from glob import escape
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from workbench.features.examples import Example
from workbench.features.page import Interval, TokenLogit
from workbench.features.windows import AFTER, N_BINS, N_INTERVALS, PART_BITS, RANGE

NAMES = ("features", "examples", "texts", "vocabulary")  # a file belongs to the table that its name begins with


class Tables:
    def __init__(self, folder: Path, files: Sequence[str]):
        self.folder, self.connection = folder, duckdb.connect()
        self.connection.execute("SET parquet_metadata_cache = true")  # many small files: their heads are read once
        for name in NAMES:
            paths = [escape(str(folder / file)).replace("'", "''") for file in files if file.startswith(name)]
            quoted = ", ".join(f"'{path}'" for path in paths)
            self.connection.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet([{quoted}], hive_partitioning = false)")

    def sql(self, query: str, *parameters: Any) -> pd.DataFrame:
        return self.connection.execute(query, parameters).df()

    def of_feature(self, name: str, sae_name: str, feature: int) -> pd.DataFrame:
        """A feature's rows of `features` or `examples`: only the file that holds its range is opened."""
        file = self.folder / f"{name}-{sae_name}-{feature // RANGE:05d}.parquet"
        return self.sql("SELECT * FROM read_parquet(?, hive_partitioning = false) WHERE feature = ?", escape(str(file)), feature)

    def windows(self, sae_name: str, feature: int) -> dict[int, list[Example]]:
        """A feature's examples by interval, TOP among them."""
        rows = self.of_feature("examples", sae_name, feature).sort_values(["interval", "rank"])
        numbers = [int(row) for row in rows["row"].unique()]
        query = "SELECT * FROM texts WHERE row IN (SELECT unnest(?::BIGINT[]))"
        texts: dict[int, Any] = {text.row: text for text in self.sql(query, numbers).itertuples()}
        found: dict[int, list[Example]] = {}
        for row in rows.itertuples():
            whole, last = texts[row.row], row.pos + AFTER + 1
            str_tokens = self.str_tokens(whole.tokens[row.first : last])
            activations = np.zeros(len(str_tokens), dtype=np.float32)
            activations[row.offsets.astype(int)] = row.activations
            text, n_part = divmod(row.row, 2**PART_BITS)
            is_cut = n_part > 0 or row.first > 0, bool(whole.goes_on) or last < len(whole.tokens)
            example = Example(str_tokens, activations.tolist(), row.pos - row.first, text, is_cut, int(row.first))
            found.setdefault(row.interval, []).append(example)
        return found

    def token_logits(self, tokens: Any, logits: Any) -> list[TokenLogit] | None:
        """None where the table has no tokens."""
        return list(map(TokenLogit, self.str_tokens(tokens), logits.tolist())) if isinstance(tokens, np.ndarray) else None

    def str_tokens(self, tokens: Any) -> list[str]:
        """What tokens read as; models pad their vocabulary with some that have no text."""
        known = self._vocabulary
        return [known[token] if token < len(known) else f"<token {token}>" for token in (tokens if isinstance(tokens, np.ndarray) else [])]

    @cached_property
    def _vocabulary(self) -> list[str]:
        return self.sql("SELECT str_token FROM vocabulary ORDER BY token")["str_token"].tolist()


def intervals(histogram: np.ndarray, bin_width: float, windows: Mapping[int, list[Example]]) -> list[Interval]:
    """The highest first; those in which the feature was never active are left out."""
    width = N_BINS // N_INTERVALS * bin_width
    counts = histogram.reshape(N_INTERVALS, -1).sum(1).tolist()
    return [Interval(i * width, (i + 1) * width, counts[i], windows.get(i, [])) for i in reversed(range(N_INTERVALS)) if counts[i]]
