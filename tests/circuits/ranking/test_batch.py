"""Many prompts together: means and intervals by hand, how many, what is refused."""

from pathlib import Path

import numpy as np
import pytest
from made_models import random_sae
from scipy.stats import ttest_1samp

from widgets.marks import number
from workbench.bench import Workbench
from workbench.circuits.metrics import logit_diff

PROMPTS = ["the cat sat on the", "the dog ran to the", "a cat"]


@pytest.fixture(scope="module")
def bench(model_of) -> Workbench:
    return Workbench(model=model_of("gpt2"), sae=random_sae(), labels={3: "</td>three"})


def test_means_and_intervals_are_those_of_the_single_rankings(bench: Workbench):
    batch = bench.rank_many(PROMPTS, logit_diff(" mat"), progress=False)
    singles = [bench.rank(prompt, logit_diff(" mat"), progress=False).by_feature().set_index("feature")["effect"] for prompt in PROMPTS]
    for row in batch.table.itertuples():
        effects = np.array([float(each.get(row.feature, 0.0)) for each in singles])
        assert row.effect == pytest.approx(effects.mean(), abs=1e-6)
        assert row.n_prompts == sum(row.feature in each.index for each in singles)
        low, high = ttest_1samp(effects, 0).confidence_interval(0.95)
        assert (row.low, row.high) == (pytest.approx(low, abs=1e-5), pytest.approx(high, abs=1e-5))
    assert batch.table["effect"].is_monotonic_decreasing
    assert "3 prompts" in repr(batch) and "<td>three" not in batch._repr_html_()


def test_prompts_come_from_a_file_each_with_a_metric_of_its_own(bench: Workbench, tmp_path: Path):
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS) + "\n\n")
    metrics = [logit_diff(answer) for answer in (" mat", " dog", " cat")]
    batch = bench.rank_many(tmp_path / "prompts.txt", metrics, progress=False)
    assert [each.prompt for each in batch.rankings] == PROMPTS and [each.answer for each in batch.rankings] == [" mat", " dog", " cat"]


def test_a_feature_measured_at_some_positions_only_has_no_mean(bench: Workbench):
    batch = bench.rank_many(PROMPTS, logit_diff(" mat"), ablate=10, progress=False)
    partly = {row.feature for each in batch.rankings for row in each.table.itertuples() if np.isnan(row.effect)}
    whole = batch.table["effect"].notna()
    assert "effect not measured at all positions" in repr(batch) and "nan" not in repr(batch) + batch._repr_html_()
    assert partly and set(batch.table["feature"][~whole]) == partly and batch.table.loc[~whole, ["low", "high"]].isna().all(axis=None)
    for row in batch.table[~whole].itertuples():
        assert np.isnan(batch.on_each(row.feature)["effect"]).any()


@pytest.mark.parametrize(
    ("prompts", "metrics", "says"), [("the cat", 1, "one prompt"), ([], 1, "0 prompts"), (["a"], 2, "1 prompts and 2")]
)
def test_what_is_no_batch_is_refused(bench: Workbench, prompts, metrics: int, says: str):
    metric = logit_diff(" mat") if metrics == 1 else [logit_diff(" mat")] * metrics
    with pytest.raises(ValueError, match=says):
        bench.rank_many(prompts, metric, progress=False)


def test_a_prompt_that_cannot_be_ranked_is_named(bench: Workbench):
    with pytest.raises(ValueError, match="prompt 1, ''"):
        bench.rank_many(["the cat", ""], logit_diff(" mat"), progress=False)


def test_a_feature_on_each_prompt_adds_up_to_its_mean_and_what_to_know_is_said(bench: Workbench):
    batch = bench.rank_many(PROMPTS, [logit_diff(" mat"), logit_diff(" mat"), logit_diff(" mat", " dog")], progress=False)
    for row in batch.table.iloc[[0, -1]].itertuples():
        each = batch.on_each(row.feature)
        assert each["prompt"].tolist() == PROMPTS and each["baseline"].tolist() == ["", "", " dog"]
        assert each["effect"].mean() == pytest.approx(row.effect, abs=1e-6) and (each["n_pos"] > 0).sum() == row.n_prompts
    assert (batch.on_each(10**9)[["effect", "n_pos"]] == 0).all(axis=None)
    with pytest.raises(ValueError, match="-1 is no feature"):
        batch.on_each(-1)
    assert any("metrics of their own" in note for note in batch.notes) and "metrics of their own" in repr(batch)
    single = bench.rank_many(PROMPTS[:1], logit_diff(" mat"), ablate=2, progress=False)
    assert any("no interval" in note for note in single.notes) and any("not all effects" in note for note in single.notes)
    assert single.on_each(int(single.rankings[0].table["feature"].iloc[-1]))["effect"].isna().all()


def test_digits_of_a_column_in_which_nothing_was_measured():
    assert number(1.5, scale=float("nan")) == "+1.50" and number(float("nan"), scale=float("nan")) == "–"
