"""From a folder of shards to the index: each feature's page in rows, the texts that pages show, the vocabulary.

    features-{sae}-00000.parquet   a row a feature: how often it fires, histogram, tokens promoted and suppressed, neighbors
    examples-{sae}-00000.parquet   a row a window: which text, where in it, the activations
    peaks-{sae}-00000.parquet      a row a feature: in which of the rows drawn from the corpus it is active, and how much at most
    texts-00000.parquet            the rows of tokens that windows show: a text (row >> 20), or a part of a long one
    vocabulary.parquet             what each token reads as

A file that is there is not made again.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from tqdm.auto import tqdm

from workbench.activations.rows import Row, led
from workbench.features.index.building.collect import PEAK_TOKENS
from workbench.features.index.building.logits import ENOUGH, SMALL, is_in_stream, predicted_tokens, token_logits
from workbench.features.index.building.shards import Summaries, ranges, shard_facts, write_table
from workbench.features.index.building.windows import Summary, drawn, merge, rank_within
from workbench.features.index.layout import interval_of
from workbench.features.index.manifest import MANIFEST, TABLES, reading, sha256
from workbench.files import PARTIAL, write_json
from workbench.model.tokens import to_str_tokens
from workbench.sae.dictionary import Dictionary
from workbench.sae.neighborhoods import NEIGHBOR, neighbors

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


def finish(model: "TransformerBridge", saes: Mapping[str, Dictionary], folder: Path, facts: Mapping[str, Any], progress: bool) -> None:
    """Write the index's files from its shards', the manifest last, with `facts`: what it is of."""
    shards = sorted(path for path in (folder / "shards").glob("*") if path.suffix != PARTIAL)  # there is none of no texts
    counts = [shard_facts(shard) for shard in shards]
    sizes, unknown = [count["n_tokens"] for count in counts], {"n_unknown": sum(count["n_unknown"] for count in counts)}
    n_tokens, read = sum(sizes), [shard for shard, size in zip(shards, sizes, strict=True) if size]
    if not n_tokens:
        raise ValueError(f"the {facts['corpus']['n_texts']:,} texts hold no tokens but start tokens: there is nothing to read")
    rows, is_predicted = rows_with_peaks(read), predicted_tokens(model, _some_rows(model, read))
    bar = tqdm(total=sum(sae.cfg.d_sae for sae in saes.values()), desc="tokens and neighbors", unit="feature", disable=not progress)
    for name, sae in saes.items():
        parts = [Summaries(shard, name) for shard in read]
        for n, (_, n_features) in enumerate(ranges(sae.cfg.d_sae)):
            files = [folder / f"{kind}-{name}-{n:05d}.parquet" for kind in ("examples", "features", "peaks")]
            if not all(file.exists() for file in files):
                summary = merge([part.read(n) for part in parts])
                write_table(files[0], examples_table(name, summary))
                write_table(files[1], features_table(model, saes, name, summary, n_tokens, is_predicted))
                write_table(files[2], peaks_table(name, summary, rows), ascending="texts")
            bar.update(n_features)
    bar.close()
    _write_texts(folder, read)
    _write_vocabulary(model, folder / "vocabulary.parquet")
    paths = [path for path in sorted(folder.glob("*.parquet")) if path.name.startswith(TABLES)]  # a map may be beside them
    files, sums = {path.name: path.stat().st_size for path in paths}, {path.name: sha256(path) for path in paths}
    counts = {"n_tokens": n_tokens, **unknown, "n_rows_with_peaks": len(rows)}
    write_json(folder / MANIFEST, {**facts, **counts, "files": files, "sha256": sums})


def rows_with_peaks(shards: Iterable[Path]) -> np.ndarray:
    """Their numbers, ascending. Every shard drew of its own rows as if it were all there is."""
    table = pa.concat_tables([_read(shard / "drawn.parquet") for shard in shards])
    rows, lengths = table["row"].to_numpy(), table["n_tokens"].to_numpy()
    return np.sort(rows[drawn(rows, lengths, PEAK_TOKENS)])


def _read(path: Path, columns: list[str] | None = None) -> pa.Table:
    with reading(path):
        return pq.read_table(path, columns=columns, page_checksum_verification=True)


def _some_rows(model: "TransformerBridge", shards: Iterable[Path]) -> list[Row]:
    """The first rows of the texts, as many as show what a model of a small vocabulary predicts."""
    found, n = [], 0
    for shard in shards if model.cfg.d_vocab <= SMALL else ():
        for ids in _read(shard / "texts.parquet")["tokens"].to_pylist():
            if ids and n <= 2 * ENOUGH * SMALL:
                found.append(led(model, ids))
                n += len(ids)
    return found


def features_table(
    model: "TransformerBridge", saes: Mapping[str, Dictionary], name: str, summary: Summary, n_tokens: int, is_predicted: Any
) -> pa.Table:
    """One row per feature: how often and how strongly it is active, what it promotes and suppresses, what is near it."""
    sae, n = saes[name], len(summary.n_active)
    columns: dict[str, Any] = {"sae": [name] * n, **{field: summary.stats()[field] for field in ("feature", "n_active", "max_act")}}
    columns["density"] = summary.n_active / n_tokens
    columns["histogram"] = summary.stats()["histogram"]
    if is_in_stream(sae.writes):
        found = token_logits(model, sae.W_dec[summary.first : summary.first + n], is_predicted=is_predicted)
        columns |= {field: pa.array(list(values)) for field, values in vars(found).items()}
    else:
        columns |= {field: pa.nulls(n, pa.list_(pa.int32())) for field in ("promoted", "suppressed")}
        columns |= {field: pa.nulls(n, pa.list_(pa.float32())) for field in ("promoted_logits", "suppressed_logits")}
    columns["neighbors"] = pa.array(neighbors(saes, name, summary.first, n), pa.list_(NEIGHBOR))
    return pa.table(columns)


def examples_table(name: str, summary: Summary) -> pa.Table:
    """One row per window, ranked within its feature and interval, the best first."""
    windows = summary.windows
    group = windows["feature"].to_numpy().astype(np.int64) * 32 + windows["interval"].to_numpy()
    rank = pa.array(rank_within(group).astype(np.int8))
    return windows.drop_columns(["draw"]).add_column(0, "sae", pa.array([name] * len(windows), pa.string())).add_column(3, "rank", rank)


def peaks_table(name: str, summary: Summary, rows: np.ndarray) -> pa.Table:
    """texts: places among `rows`. intervals: of each peak, as an example's interval; those in the lowest one are left out."""
    feature, row, peak = (summary.peaks[column].to_numpy() for column in ("feature", "row", "peak"))
    interval = interval_of(peak, summary.max_act[feature - summary.first])
    text = np.searchsorted(rows, row).clip(max=len(rows) - 1)
    kept = np.flatnonzero((rows[text] == row) & (interval > 0))
    kept = kept[np.lexsort((text[kept], feature[kept]))]
    n = len(summary.n_active)
    ends = np.append(0, np.cumsum(np.bincount(feature[kept] - summary.first, minlength=n))).astype(np.int32)
    columns = {"sae": [name] * n, "feature": np.arange(summary.first, summary.first + n, dtype=np.int32)}
    lists = {"texts": text[kept].astype(np.int32), "intervals": interval[kept].astype(np.uint8)}
    return pa.table({**columns, **{field: pa.ListArray.from_arrays(ends, values) for field, values in lists.items()}})


def _write_texts(folder: Path, shards: Iterable[Path]) -> None:
    """Of every shard the rows that some window shows."""
    examples = folder.glob("examples-*.parquet")
    shown = np.unique(np.concatenate([_read(path, ["row"])["row"].unique() for path in examples]))
    for shard in shards:
        file = folder / f"texts-{shard.name}.parquet"
        if not file.exists():
            texts = _read(shard / "texts.parquet")
            write_table(file, texts.filter(pc.is_in(texts["row"], pa.array(shown))))


def _write_vocabulary(model: "TransformerBridge", path: Path) -> None:
    if not path.exists():
        tokens = range(min(model.cfg.d_vocab, len(model.tokenizer)))  # models pad their vocabulary
        strings = to_str_tokens(model, torch.tensor(tokens))
        write_table(path, pa.table({"token": pa.array(tokens, pa.int32()), "str_token": pa.array(strings, pa.string())}))
