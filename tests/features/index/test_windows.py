"""What is kept of a feature's activations: exact counts and maxima, the largest windows, uniform draws; the same in any grouping."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from workbench.features.index.building.windows import N_DRAWN, N_TOP, Run, Summary, drawn, merge, summarize
from workbench.features.index.layout import AFTER, BEFORE, N_BINS, N_INTERVALS, TOP, bin_width, interval_of

N_FEATURES = 7


def made(n_texts: int = 300, seed: int = 0, length: int = 50) -> tuple[np.ndarray, Run]:
    """Random activations (tokens, N_FEATURES), a tenth of them active, feature 3 never, and the texts they belong to."""
    rng = np.random.default_rng(seed)
    bounds = np.append(0, np.cumsum(rng.integers(1, length, n_texts)))
    acts = rng.gamma(0.5, 3.0, (bounds[-1], N_FEATURES)).astype(np.float32) * (rng.random((bounds[-1], N_FEATURES)) < 0.1)
    acts[:, 3] = 0
    hashes = rng.integers(0, 2**63, n_texts).astype(np.uint64)
    return acts, run_of(bounds, hashes, np.arange(n_texts) % 3 == 0)


def run_of(bounds: np.ndarray, hashes: np.ndarray, keeps_peaks: np.ndarray | None = None) -> Run:
    n = len(bounds) - 1
    return Run(bounds, np.arange(n), hashes, np.ones(n, dtype=bool), np.zeros(n, dtype=bool) if keeps_peaks is None else keeps_peaks)


def part(acts: np.ndarray, run: Run, first: int, last: int) -> Summary:
    """The summary of the texts first … last − 1 alone."""
    low, high = run.bounds[first], run.bounds[last]
    of_rows = (getattr(run, name)[first:last] for name in ("numbers", "hashes", "is_new", "keeps_peaks"))
    return summarize(sparse.csc_matrix(acts[low:high]), Run(run.bounds[first : last + 1] - low, *of_rows), 0, N_FEATURES)


def whole(acts: np.ndarray, run: Run) -> Summary:
    return part(acts, run, 0, len(run.numbers))


def rows(summary: Summary, feature: int, interval: int) -> list[dict]:
    return [row for row in summary.windows.to_pylist() if row["feature"] == feature and row["interval"] == interval]


def same(one: Summary, other: Summary) -> bool:
    arrays = all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("n_active", "max_act", "histogram"))
    peaks = (summary.peaks.sort_by([("feature", "ascending"), ("row", "ascending")]) for summary in (one, other))
    return arrays and one.windows.equals(other.windows) and next(peaks).equals(next(peaks))


def test_counts_maxima_and_histograms_are_those_of_the_dense_matrix():
    acts, run = made()
    summary = whole(acts, run)
    assert summary.n_active.tolist() == (acts > 0).sum(0).tolist()
    assert summary.max_act.tolist() == acts.max(0).tolist()
    for feature in range(N_FEATURES):
        active, width = acts[acts[:, feature] > 0, feature], float(bin_width(acts[:, feature].max()))
        expected = np.histogram(active, bins=np.arange(N_BINS + 1) * width)[0]
        assert summary.histogram[feature].tolist() == expected.tolist()
        assert feature == 3 or 32 <= np.flatnonzero(expected).max() < N_BINS  # the maximum lies in the upper half


def test_the_largest_windows_are_the_texts_of_largest_peak():
    acts, run = made()
    peaks = np.maximum.reduceat(acts, run.bounds[:-1])
    for feature in (0, 6):
        texts = np.argsort(-peaks[:, feature], kind="stable")[:N_TOP]
        top = rows(whole(acts, run), feature, TOP)
        assert [row["row"] for row in top] == texts.tolist()
        assert [row["activation"] for row in top] == peaks[texts, feature].tolist()


def test_a_window_holds_the_activations_around_its_token_and_stops_at_the_text_s_ends():
    acts, run = made()
    windows = whole(acts, run).windows.to_pylist()
    assert any(row["first"] > 0 for row in windows)
    for row in windows:
        text = acts[run.bounds[row["row"]] : run.bounds[row["row"] + 1], row["feature"]]
        assert text[row["pos"]] == row["activation"] and row["first"] == max(0, row["pos"] - BEFORE)
        expected = text[row["first"] : row["pos"] + AFTER + 1]
        assert row["offsets"] == np.flatnonzero(expected).tolist()
        assert row["activations"] == expected[expected > 0].tolist()


def test_drawn_windows_lie_in_their_interval_and_are_all_of_a_small_one():
    acts, run = made()
    summary = whole(acts, run)
    for feature in (0, 1, 2):
        width = float(bin_width(summary.max_act[feature])) * N_BINS / N_INTERVALS
        for interval in range(N_INTERVALS):
            inside = (acts[:, feature] > 0) & (acts[:, feature] >= interval * width) & (acts[:, feature] < (interval + 1) * width)
            drawn = rows(summary, feature, interval)
            assert len(drawn) == min(N_DRAWN, inside.sum())
            places = [run.bounds[row["row"]] + row["pos"] for row in drawn]
            assert inside[places].all() and len(set(places)) == len(places)


def test_peaks_are_those_of_the_rows_that_keep_theirs():
    acts, run = made()
    peaks = {(row["feature"], row["row"]): row["peak"] for row in whole(acts, run).peaks.to_pylist()}
    maxima = {
        (feature, row): acts[run.bounds[row] : run.bounds[row + 1], feature].max()
        for feature in range(N_FEATURES)
        for row in range(0, 300, 3)
    }
    assert peaks == {place: peak for place, peak in maxima.items() if peak > 0}


def test_what_is_drawn_of_all_rows_is_drawn_of_every_part_of_them():
    lengths = np.random.default_rng(0).integers(1, 100, 3000)
    numbers = np.arange(3000) << 20
    of_all = drawn(numbers, lengths, 20_000)
    assert 20_000 <= lengths[of_all].sum() < 20_100
    assert np.abs(np.add.reduceat(of_all, range(0, 3000, 300)) - of_all.mean() * 300).max() < 5 * np.sqrt(300 * 0.13)
    for first, last in ((0, 10), (5, 1500), (1500, 3000)):
        assert (drawn(numbers[first:last], lengths[first:last], 20_000) >= of_all[first:last]).all()
    assert drawn(numbers, lengths, 10**6).all() and drawn(numbers, lengths, 1).sum() == 1


def test_an_activation_s_interval_is_the_one_that_its_windows_stand_in():
    acts, run = made()
    for row in whole(acts, run).windows.to_pylist():
        interval = interval_of(np.array([row["activation"]]), acts[:, row["feature"]].max()[None])[0]
        assert row["interval"] in (TOP, interval)
    assert interval_of(np.array([0.0, 8.0, 100.0, 1.0]), np.array([7.0, 7.0, 7.0, 0.0])).tolist() == [0, 15, 15, 15]
    assert interval_of(np.array([0.0, 0.03]), np.zeros(2)).tolist() == [0, 15]  # of one that never was active: weak, too, it is the largest


def test_draws_are_uniform_over_the_tokens_of_an_interval():
    """One interval of 40 tokens, 500 corpora: each token is drawn about as often as any other."""
    n, times = 40, np.zeros(40)
    acts = sparse.csc_matrix(np.full((n, 1), 1.5, dtype=np.float32))
    for seed in range(500):
        hashes = np.random.default_rng(seed).integers(0, 2**63, 4).astype(np.uint64)
        run = run_of(np.arange(5) * 10, hashes)
        for row in rows(summarize(acts, run, 0, 1), 0, 12):
            times[row["row"] * 10 + row["pos"]] += 1
    expected = 500 * N_DRAWN / n
    assert times.sum() == 500 * N_DRAWN
    assert np.abs(times - expected).max() < 5 * np.sqrt(expected)


@pytest.mark.parametrize("cuts", [[0, 300], [0, 150, 300], [0, 1, 2, 3, 100, 299, 300], list(range(0, 301, 10))], ids=len)
def test_any_grouping_of_the_texts_gives_the_same_summary(cuts: list[int]):
    acts, run = made()
    acts *= np.repeat(np.geomspace(1e-3, 1e3, 300), np.diff(run.bounds))[:, None].astype(np.float32)  # maxima grow: bins become wider
    parts = [part(acts, run, first, last) for first, last in zip(cuts, cuts[1:], strict=False)]
    assert same(merge(parts), whole(acts, run))
    assert same(merge([merge(parts[:2]), *parts[:1:-1]]), whole(acts, run))


def test_a_text_that_recurs_is_shown_once_and_counted_every_time():
    acts, run = made(n_texts=30, length=20)
    twice = np.concatenate([acts, acts])
    fresh = run_of(np.append(run.bounds, run.bounds[-1] + run.bounds[1:]), np.tile(run.hashes, 2))
    again = replace(fresh, is_new=np.arange(60) < 30)
    together, apart = whole(twice, again), merge([whole(acts, run), part(twice, again, 30, 60)])
    assert together.n_active.tolist() == (2 * whole(acts, run).n_active).tolist() == apart.n_active.tolist()
    assert together.windows.equals(whole(acts, run).windows)
    # each half a shard of its own: both look new
    assert merge([whole(acts, run), part(twice, fresh, 30, 60)]).windows.equals(whole(acts, run).windows)


def test_features_that_are_never_active_and_texts_without_tokens_give_empty_rows():
    run = run_of(np.array([0, 0, 5, 5]), np.arange(3).astype(np.uint64), np.ones(3, dtype=bool))
    summary = summarize(sparse.csc_matrix((5, 4), dtype=np.float32), run, 0, 4)
    assert summary.n_active.tolist() == [0] * 4 and len(summary.windows) == len(summary.peaks) == 0 and not summary.histogram.any()
    assert same(merge([summary, summary]), summary)
    acts = np.zeros((5, 4), dtype=np.float32)
    acts[2, 1] = 0.75
    row = summarize(sparse.csc_matrix(acts), run, 0, 4).windows.to_pylist()[0]
    assert (row["feature"], row["row"], row["pos"], row["activation"]) == (1, 1, 2, 0.75)


def test_ranges_of_features_are_summarized_as_the_whole_is():
    acts, run = made()
    full, some = whole(acts, run), summarize(sparse.csc_matrix(acts), run, 4, 3)
    assert some.n_active.tolist() == full.n_active[4:].tolist()
    assert some.windows.to_pylist() == [row for row in full.windows.to_pylist() if row["feature"] >= 4]


def test_activations_too_small_for_a_normal_number_are_counted():
    acts = np.zeros((5, 1), dtype=np.float32)
    acts[1] = 1e-42
    run = run_of(np.array([0, 5]), np.ones(1, dtype=np.uint64))
    assert summarize(sparse.csc_matrix(acts), run, 0, 1).histogram.sum() == 1
