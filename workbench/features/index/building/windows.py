"""From active entries to what a feature's page shows of them, and how several such summaries become one. Pure numpy and arrow.

kept of each feature   how often it is active, its maximum, a histogram, the windows around its 20 largest activations (one a row of
                       tokens: a text, or a part of a long one) and around 4 activations drawn at random from each of 8 to 16 evenly spaced
                       intervals between 0 and its maximum
bins                   64 bins of [0, 2^e), 2^e the power of two just above the feature's maximum; an interval is 4 bins wide. A larger
                       maximum makes bins twice as wide: two become one, exactly. So texts can be read once, in any grouping.
peaks                  its largest activation in each of some rows, the same rows for every feature
draws                  an entry's random number is a hash of (its row's tokens, position, feature): the entries with the lowest numbers
                       in an interval are a uniform sample of it, and of two samples' union. A row that recurs is drawn once.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from scipy import sparse

from workbench.features.index.layout import AFTER, BEFORE, N_BINS, N_INTERVALS, RANGE, TOP

N_TOP, N_DRAWN = 20, 4  # of each feature; of each interval
STEP = np.uint64(0x9E3779B97F4A7C15)  # splitmix64's (Steele, Lea and Flood, 2014): 2⁶⁴ over the golden ratio

STATS = pa.schema(
    {"feature": pa.int32(), "n_active": pa.int64(), "max_act": pa.float32(), "histogram": pa.list_(pa.int64())},
)
WINDOWS = pa.schema(
    {
        "feature": pa.int32(),
        "interval": pa.int8(),
        "activation": pa.float32(),
        "draw": pa.uint64(),
        "row": pa.int64(),
        "pos": pa.int32(),
        "first": pa.int32(),  # the window's first token; its n-th active token stands at first + offsets[n]
        "offsets": pa.list_(pa.uint8()),
        "activations": pa.list_(pa.float32()),
    }
)
PEAKS = pa.schema({"feature": pa.int32(), "row": pa.int64(), "peak": pa.float32()})


@dataclass(frozen=True)
class Run:
    """Some rows of tokens, one after the other."""

    bounds: np.ndarray  # (n_rows + 1) where each row begins among the tokens
    numbers: np.ndarray  # (n_rows) the rows' numbers in the corpus, in any order
    hashes: np.ndarray  # (n_rows) uint64, of their tokens
    is_new: np.ndarray  # (n_rows) False for a row that stood in the shard before: it counts, but is not shown again
    keeps_peaks: np.ndarray  # (n_rows) bool

    @cached_property
    def row(self) -> np.ndarray:
        """(n_tokens) which row each token is in."""
        return np.repeat(np.arange(len(self.numbers)), np.diff(self.bounds))

    @cached_property
    def order(self) -> np.ndarray:
        """(n_rows) each row's place among them by number."""
        return np.argsort(np.argsort(self.numbers))


@dataclass(frozen=True)
class Summary:
    """Of features `first`, `first` + 1, …"""

    first: int
    n_active: np.ndarray  # (n,)
    max_act: np.ndarray  # (n,) float32
    histogram: np.ndarray  # (n, N_BINS)
    windows: pa.Table  # sorted by feature, interval (the largest first), then best first
    peaks: pa.Table

    def stats(self) -> pa.Table:
        """What is kept of it beside windows and peaks: one row per feature."""
        histogram = pa.ListArray.from_arrays(np.arange(len(self.n_active) + 1, dtype=np.int32) * N_BINS, self.histogram.ravel())
        feature = np.arange(self.first, self.first + len(self.n_active), dtype=np.int32)
        return pa.table([feature, self.n_active, self.max_act, histogram], schema=STATS)

    @classmethod
    def of(cls, stats: pa.Table, windows: pa.Table, peaks: pa.Table) -> "Summary":
        """From what `stats`, `windows` and `peaks` were written as."""
        histogram = stats["histogram"].combine_chunks().flatten().to_numpy().reshape(-1, N_BINS)
        return cls(int(stats["feature"][0].as_py()), stats["n_active"].to_numpy(), stats["max_act"].to_numpy(), histogram, windows, peaks)


def summarize(acts: sparse.csc_matrix, run: Run, first: int, n: int) -> Summary:
    """The summary of features first … first + n − 1 of `acts` (tokens of the run, d_sae), the active entries only."""
    starts = acts.indptr[first : first + n + 1].astype(np.int64)
    token, act = acts.indices[starts[0] : starts[-1]].astype(np.int64), acts.data[starts[0] : starts[-1]]
    n_active, starts = np.diff(starts), starts[:-1] - starts[0]
    feature = np.repeat(np.arange(n), n_active)
    max_act = np.zeros(n, dtype=np.float32)
    if len(act):
        max_act[n_active > 0] = np.maximum.reduceat(act, starts[n_active > 0])
    assert np.isfinite(max_act).all(), f"feature {first + int(np.argmin(np.isfinite(max_act)))} has an infinite activation"
    bins = (np.ldexp(act, -np.frexp(max_act)[1][feature]) * N_BINS).astype(np.int64)  # exact: powers of two
    histogram = np.bincount(feature * N_BINS + bins, minlength=n * N_BINS).reshape(n, N_BINS)

    row = run.row[token]
    draw = draws(run.hashes[row], token - run.bounds[row], first + feature)
    shown = np.flatnonzero(run.is_new[row])
    top, drawn = _largest(feature, row, act, shown, run), _lowest(feature, bins * N_INTERVALS // N_BINS, draw, shown)
    kept = np.concatenate([top, drawn])
    interval = np.concatenate([np.full(len(top), TOP), bins[drawn] * N_INTERVALS // N_BINS])

    begin = np.maximum(run.bounds[row[kept]], token[kept] - BEFORE)
    end = np.minimum(run.bounds[row[kept] + 1], token[kept] + AFTER + 1)
    n_tokens = run.bounds[-1]
    place = feature * n_tokens + token  # ascending, so that one binary search finds every window's entries at once
    low, high = (np.searchsorted(place, feature[kept] * n_tokens + edge) for edge in (begin, end))
    ends = np.cumsum(high - low)
    inside = np.arange(ends[-1] if len(ends) else 0) + np.repeat(low - (ends - (high - low)), high - low)
    edges, origin = np.append(0, ends).astype(np.int32), run.bounds[row[kept]]
    columns = [first + feature[kept], interval, act[kept], draw[kept], run.numbers[row[kept]], token[kept] - origin, begin - origin]
    offsets = (token[inside] - np.repeat(begin, high - low)).astype(np.uint8)
    ragged = [pa.ListArray.from_arrays(edges, offsets), pa.ListArray.from_arrays(edges, act[inside])]
    typed = [column.astype(field.type.to_pandas_dtype()) for column, field in zip(columns, WINDOWS, strict=False)]
    peaks = _peaks(first + feature, row, act, run)
    return Summary(first, n_active, max_act, histogram, _sorted(pa.table([*typed, *ragged], schema=WINDOWS)), peaks)


def merge(parts: list[Summary]) -> Summary:
    """One summary of the texts of several; of the same features."""
    first, n = parts[0].first, len(parts[0].n_active)
    max_act = np.max([part.max_act for part in parts], axis=0)
    exponent = np.frexp(max_act)[1]
    histogram, tables = np.zeros(n * N_BINS, dtype=np.int64), []
    for part in parts:
        shift = np.where(part.n_active > 0, exponent - np.frexp(part.max_act)[1], 0).clip(max=N_BINS)
        to = np.arange(n)[:, None] * N_BINS + (np.arange(N_BINS) >> shift[:, None])
        histogram += np.bincount(to.ravel(), weights=part.histogram.ravel(), minlength=n * N_BINS).astype(np.int64)
        interval = part.windows["interval"].to_numpy().astype(np.int64)
        # an interval of a range twice as wide is the old number halved: two old ones fall into one, none is cut
        wider = np.where(interval == TOP, TOP, interval >> shift[part.windows["feature"].to_numpy() - first])
        tables.append(part.windows.set_column(1, WINDOWS.field("interval"), pa.array(wider.astype(np.int8))))
    windows, peaks = _sorted(pa.concat_tables(tables).combine_chunks()), pa.concat_tables([part.peaks for part in parts])
    return Summary(first, np.sum([part.n_active for part in parts], axis=0), max_act, histogram.reshape(n, N_BINS), windows, peaks)


def _largest(feature: np.ndarray, row: np.ndarray, act: np.ndarray, shown: np.ndarray, run: Run) -> np.ndarray:
    """Indices of entries: the peaks of each feature's N_TOP rows of largest peak; the earlier row or token where equal."""
    if not len(shown):
        return shown
    feature, row, act = feature[shown], row[shown], act[shown]
    starts = np.flatnonzero(np.append(True, (np.diff(feature) != 0) | (np.diff(row) != 0)))
    lengths = np.diff(np.append(starts, len(act)))
    peaks = np.maximum.reduceat(act, starts)
    at_peak = np.flatnonzero(act == np.repeat(peaks, lengths))
    segment = np.repeat(np.arange(len(starts)), lengths)[at_peak]
    peak = at_peak[np.append(True, np.diff(segment) != 0)]  # the first one in each row
    falling = np.uint64(2**31) - peaks.view(np.uint32).astype(np.uint64)  # positive floats are ordered as their bits are
    assert len(run.numbers) < 2**22 and feature[-1] < RANGE, "more rows or features than a sort key of 64 bits holds"
    group, earlier = feature[peak].astype(np.uint64), run.order[row[peak]].astype(np.uint64)
    order = np.argsort((group << np.uint64(54)) | (falling << np.uint64(22)) | earlier)
    return shown[peak[order[rank_within(feature[peak[order]]) < N_TOP]]]


def _peaks(feature: np.ndarray, row: np.ndarray, act: np.ndarray, run: Run) -> pa.Table:
    """The largest of each feature's entries in each row that keeps its peaks."""
    kept = np.flatnonzero(run.keeps_peaks[row])
    feature, row, act = feature[kept], row[kept], act[kept]
    starts = np.flatnonzero(np.append(True, (np.diff(feature) != 0) | (np.diff(row) != 0))[: len(act)])
    peaks = np.maximum.reduceat(act, starts) if len(act) else act
    return pa.table([feature[starts].astype(np.int32), run.numbers[row[starts]], peaks], schema=PEAKS)


def _lowest(feature: np.ndarray, interval: np.ndarray, draw: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Indices of entries: the N_DRAWN lowest draws of each feature's intervals."""
    group = feature[shown] * N_INTERVALS + interval[shown]  # 14 bits: RANGE · N_INTERVALS; draws have the other 50
    order = np.argsort((group.astype(np.uint64) << np.uint64(50)) | draw[shown])
    return shown[order[rank_within(group[order]) < N_DRAWN]]


def _sorted(windows: pa.Table) -> pa.Table:
    """Best first: by activation among the largest, by draw in an interval; of a row that recurs the first; N_TOP and N_DRAWN of them."""
    feature, interval, draw, row = (windows[name].to_numpy() for name in ("feature", "interval", "draw", "row"))
    group = feature.astype(np.int64) * (N_INTERVALS + 1) + interval + 1
    order = np.lexsort((row, draw, group))
    order = order[np.append(True, (np.diff(group[order]) != 0) | (np.diff(draw[order]) != 0))[: len(order)]]
    quality = np.where(interval == TOP, -windows["activation"].to_numpy().astype(np.float64), draw.astype(np.float64))
    order = order[np.lexsort((row[order], quality[order], group[order]))]
    rank = rank_within(group[order])
    return windows.take(pa.array(order[rank < np.where(interval[order] == TOP, N_TOP, N_DRAWN)]))


def rank_within(group: np.ndarray) -> np.ndarray:
    """0, 1, 2, … within each run of equal values."""
    at = np.arange(len(group))
    is_first = np.append(True, np.diff(group) != 0)[: len(group)]
    return at - np.maximum.accumulate(np.where(is_first, at, 0)) if len(group) else at


def draws(hashes: np.ndarray, pos: np.ndarray, feature: np.ndarray) -> np.ndarray:
    """Random numbers of 50 bits, of the row's hash, the position and the feature."""
    return _splitmix(hashes ^ (pos.astype(np.uint64) << np.uint64(32)) ^ (feature.astype(np.uint64) + STEP)) >> np.uint64(14)


def drawn(numbers: np.ndarray, lengths: np.ndarray, n_tokens: int) -> np.ndarray:
    """(n_rows) bool: rows drawn at random until they hold n_tokens. Each row's chance is a hash of its number: of what is drawn of all
    texts, every part of them draws its share, and perhaps more."""
    order = np.argsort(_splitmix(numbers.astype(np.uint64) + STEP))
    is_drawn = np.zeros(len(numbers), dtype=bool)
    is_drawn[order] = np.cumsum(lengths[order]) - lengths[order] < n_tokens
    return is_drawn


def _splitmix(mixed: np.ndarray) -> np.ndarray:
    """A hash of 64 bits, the same however texts are cut up and read. Constants as published."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))
