"""A ranking by hand arithmetic; `rank` against attribution and ablation of one pair at a time; what both refuse."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from made_folders import PROMPT
from made_ranking import made_ranking

from workbench.bench import Workbench
from workbench.circuits.metrics import logit_diff
from workbench.circuits.ranking.ablation import ablate
from workbench.circuits.ranking.attribution import attribute
from workbench.circuits.ranking.ranking import FeatureRanking, with_ranks
from workbench.model.tokens import to_tokens

METRIC = logit_diff(" Sacramento", " Albany")


def made(activation, attribution, effect, feature=None, pos=None) -> FeatureRanking:
    n = len(effect)
    table = pd.DataFrame(
        {"feature": range(n) if feature is None else feature, "pos": 1 if pos is None else pos, "token": " a", "label": ""}
    )
    return made_ranking(table=table.assign(activation=activation, attribution=attribution, effect=effect))


@pytest.fixture(scope="module")
def ranking(bench: Workbench) -> FeatureRanking:
    return bench.rank(PROMPT, METRIC, progress=False)


def test_top_puts_what_supports_the_answer_most_first_and_what_opposes_it_last():
    ranking = made([3.0, 1.0, 2.0], [0.1, -9.0, 0.2], [0.5, -9.0, 0.6])
    assert ranking.top(3)["feature"].tolist() == [2, 0, 1]
    assert ranking.top(2, by="activation")["feature"].tolist() == [0, 2]
    assert ranking.top(1, by="attribution")["feature"].tolist() == [2]


def test_top_tells_each_rows_rank_in_the_other_orders():
    row = made([3.0, 1.0, 2.0], [0.1, 0.3, 0.2], [0.5, 0.1, 0.6]).top(1).iloc[0]
    assert (row["effect_rank"], row["attribution_rank"], row["activation_rank"]) == (1, 2, 2)


def test_an_effect_that_was_not_measured_has_no_rank_and_is_in_no_top():
    ranking = made([3.0, 1.0], [0.1, 0.3], [np.nan, -1.0])
    assert ranking.top(5)["feature"].tolist() == [1]
    assert ranking.top(5, by="activation")["effect_rank"].isna().tolist() == [True, False]


def test_by_feature_sums_over_positions():
    ranking = made([1.0, 2.0, 4.0], [0.1, 0.2, 0.4], [1.0, -3.0, 0.5], feature=[7, 7, 8], pos=[1, 2, 1])
    sums = ranking.by_feature().set_index("feature")
    assert sums.loc[7, ["activation", "effect", "n_pos"]].tolist() == [3.0, -2.0, 2]
    assert sums.index.tolist() == [8, 7]
    assert sums["effect_rank"].tolist() == [1, 2]


def test_agreement_is_pearson_over_measured_pairs():
    activation, attribution, effect = [1.0, 0.0, 1.0, 50.0], [2.0, 4.0, 6.0, 99.0], [1.0, 2.0, 3.0, np.nan]
    agreement = made(activation, attribution, effect).agreement()
    assert agreement.attribution_correlation == pytest.approx(1.0)
    assert agreement.activation_correlation == pytest.approx(0.0)
    assert agreement.n_measured == 3


def test_agreement_counts_how_many_of_the_top_ten_effects_the_other_top_tens_hold():
    effect = np.arange(20.0)
    activation = np.where(np.isin(effect, [19, 18, 17]), 100.0 + effect, -effect)
    attribution = effect.copy()
    attribution[[19, 0]] = attribution[[0, 19]]
    agreement = made(activation, attribution, effect).agreement()
    assert (agreement.attribution_overlap, agreement.activation_overlap, agreement.n_top) == (9, 3, 10)


def test_agreement_says_nan_where_there_is_nothing_to_correlate():
    agreement = made([1.0], [2.0], [3.0]).agreement()
    assert np.isnan(agreement.attribution_correlation) and agreement.attribution_overlap == 1 and agreement.n_top == 1
    assert np.isnan(made([1.0, 2.0], [2.0, 2.0], [3.0, 4.0]).agreement().attribution_correlation)


@pytest.mark.parametrize(
    ("n", "by", "message"),
    [
        (3, "efect", "did you mean 'effect'"),
        (3, "label", "expected one of"),
        (0, "effect", "asks for no row"),
        (-2, "effect", "asks for no row"),
    ],
)
def test_top_refuses_what_it_cannot_order(n: int, by: str, message: str):
    with pytest.raises(ValueError, match=message):
        made_ranking().top(n, by=by)


def test_the_text_form_is_stable_and_says_what_was_left_out():
    assert repr(made_ranking()) == repr(made_ranking())
    assert "start token left out" in repr(made_ranking())
    assert "start token left out" not in repr(made_ranking(is_start_included=True))
    assert "the mean logit" in repr(made_ranking(baseline=""))


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path):
    ranking = made_ranking(table=made_ranking().table.assign(token=None))  # a token that cannot be shown
    with pytest.raises((TypeError, AttributeError)):
        ranking.to_html(tmp_path / "page.html")
    assert not list(tmp_path.iterdir())
    assert made_ranking().to_html(tmp_path / "page.html").read_text().startswith("<!doctype html>")


def test_a_page_has_a_files_name_in_a_folder_that_is_there(tmp_path: Path):
    (tmp_path / "folder").mkdir()
    for path, message in {"folder": "is a folder: expected a file's name", "nowhere/page.html": "nowhere does not exist"}.items():
        with pytest.raises(ValueError, match=message):
            made_ranking().to_html(tmp_path / path)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_rank_lists_every_active_pair_once_with_its_attribution_and_effect(bench: Workbench, ranking: FeatureRanking):
    tokens = to_tokens(bench.model, PROMPT)
    found = attribute(bench.model, bench.sae, tokens, METRIC)
    expected = {(f, p) for p, f in found.pairs.tolist() if p > 0}
    table = ranking.table
    assert set(zip(table["feature"], table["pos"], strict=True)) == expected and len(table) == len(expected)
    pairs = torch.tensor(table[["pos", "feature"]].to_numpy().copy())
    assert table["attribution"].to_numpy() == pytest.approx(found.of(pairs).numpy())
    one = pairs[len(pairs) // 2 :][:1]
    assert table["effect"].iloc[len(pairs) // 2] == pytest.approx(
        ablate(bench.model, bench.sae, tokens, METRIC, pairs=one, progress=False).item(), abs=1e-5
    )
    assert table["effect"].is_monotonic_decreasing


def test_rank_names_the_token_that_stands_at_each_position(ranking: FeatureRanking):
    assert (ranking.table["token"] == ranking.table["pos"].map(dict(enumerate(ranking.str_tokens)))).all()
    assert "".join(ranking.str_tokens[1:]) == PROMPT


def test_rank_leaves_the_start_token_out_unless_asked(bench: Workbench, ranking: FeatureRanking):
    assert ranking.table["pos"].min() == 1 and not ranking.is_start_included
    whole = bench.rank(PROMPT, METRIC, include_start=True, progress=False)
    assert whole.table["pos"].min() == 0 and whole.is_start_included


def test_rank_without_baseline_says_so(bench: Workbench):
    assert bench.rank(PROMPT, logit_diff(" Sacramento"), ablate=1, progress=False).baseline == ""


def test_rank_shows_the_labels_it_is_given(bench: Workbench):
    feature = int(bench.rank(PROMPT, METRIC, ablate=1, progress=False).table["feature"].iloc[0])
    labeled = Workbench(model=bench.model, sae=bench.sae, labels={feature: "Lakers"})
    table = labeled.rank(PROMPT, METRIC, ablate=1, progress=False).table
    assert set(table.loc[table["feature"] == feature, "label"]) == {"Lakers"}
    assert set(table.loc[table["feature"] != feature, "label"]) <= {""}


def test_rank_says_so_when_no_feature_is_active(bench: Workbench):
    silent = type(bench.sae)(bench.sae.cfg)
    silent.load_state_dict(bench.sae.state_dict())
    silent.b_enc.data.fill_(-1e9)
    with pytest.raises(ValueError, match="no feature of this SAE is active"):
        Workbench(model=bench.model, sae=silent.requires_grad_(False)).rank(PROMPT, METRIC)


def test_rank_refuses_to_measure_nothing(bench: Workbench):
    with pytest.raises(ValueError, match="ablate=0"):
        bench.rank(PROMPT, METRIC, ablate=0)


def test_ranks_count_from_the_largest_and_break_ties_by_the_tables_order():
    ranked = with_ranks(made([2.0, 5.0, 2.0], [0.0] * 3, [3.0, 2.0, 1.0]).table)
    assert ranked["activation_rank"].tolist() == [2, 1, 3]
    assert ranked["attribution_rank"].tolist() == [1, 2, 3]
