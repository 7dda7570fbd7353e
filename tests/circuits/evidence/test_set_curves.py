"""Curves of sets are what single sets give; the smallest sets that keep a share; interactions."""

import numpy as np
import pandas as pd
import pytest
from made_bench import made_bench, sparse_sae

from workbench.circuits.evidence.set_curves import SetCurves, interactions, set_curves, smallest_set
from workbench.circuits.evidence.sets import FeatureSets
from workbench.circuits.metrics import logit_diff
from workbench.circuits.ranking.ranking import rank
from workbench.model.tokens import to_tokens

PROMPT = "the cat sat on the mat and"
TEXTS = ["the dog ran to the cat", "the mat on the dog", "and the cat ran"]
METRIC = logit_diff(5, 7)


@pytest.fixture
def favored(model):
    """(sets, ranking) of an answer that the model prefers: the metric's answer is its top token."""
    bench = made_bench(model, sparse_sae(), TEXTS)
    metric = logit_diff(int(model(to_tokens(model, PROMPT))[0, -1].argmax()))
    return FeatureSets(bench, PROMPT, metric), rank(bench, PROMPT, metric, progress=False)


def test_curves_hold_what_single_sets_give(favored):
    sets, ranking = favored
    for rows in (ranking.table, ranking.by_feature()):
        curves = set_curves(sets, rows, n_random=2, progress=False)
        table = curves.table.set_index(["order", "draw", "size"]).sort_index()
        for order in ("effect", "attribution", "activation"):
            top = rows.sort_values(order, ascending=False, kind="stable").head(5)
            assert table.loc[(order, 0, 5), "only"] == pytest.approx(sets.keep_only(top), abs=1e-4)
            assert table.loc[(order, 0, 5), "effect"] == pytest.approx(sets.ablate(top), abs=1e-4)
            assert table.loc[(order, 0, 0), "only"] == pytest.approx(sets.floor, abs=1e-4)
            assert table.loc[(order, 0, 0), "effect"] == 0.0
            assert table.loc[(order, 0, len(rows)), "effect"] == pytest.approx(sets.ablate(rows), abs=1e-4)
        assert not np.allclose(table.loc["random", 0]["only"], table.loc["random", 1]["only"])


def made_curves(**changed) -> SetCurves:
    parts = []
    for order, draw, kept in [("effect", 0, [0, 0.9, 0.7, 1]), ("random", 0, [0, 0.1, 0.8, 1]), ("random", 1, [0, 0, 0.1, 0.2])]:
        parts.append(pd.DataFrame({"order": order, "draw": draw, "size": range(4), "kept": kept, "lost": [0, 0.1, 0.2, 0.8]}))
    table = pd.concat(parts, ignore_index=True)
    table = table.assign(only=4 * table["kept"], effect=4 * table["lost"])
    fields = dict(prompt="<b>the", metric=logit_diff("<i>", "x"), clean_metric=4.0, floor=0.0, table=table)
    return SetCurves(**(fields | changed))


def test_the_smallest_size_is_the_first_that_keeps_the_share():
    sizes = made_curves().smallest(0.8).set_index("order")
    assert sizes.loc["effect", "keeps"] == 1 and sizes.loc["effect", "loses"] == 3
    assert np.isnan(sizes.loc["random", "keeps"]), "half of the draws never keep it"
    assert made_curves().smallest(0.05).set_index("order").loc["random", "keeps"] == 1.5


def test_curves_show_themselves_without_markup_from_the_prompt():
    curves = made_curves()
    html = curves._repr_html_()
    assert "<b>the" not in html and "&lt;b&gt;the" in html and "&lt;i&gt;" in html and html.count("<img") == 2
    figure = curves.plot()
    assert len(figure.data) == 4 and list(figure.data[1].y) == [0, 0.05, 0.45, 0.6], "random: the median over draws"
    assert "80 % kept by 1" in repr(curves)


def test_the_greedy_set_takes_at_each_step_what_keeps_most(favored):
    sets, ranking = favored
    rows = ranking.top(12, by="attribution")
    found = smallest_set(sets, rows, share=0.3, progress=False)
    left, chosen = [tuple(pair) for pair in rows[["pos", "feature"]].to_numpy().tolist()], []
    for step in found.itertuples():
        best = max(left, key=lambda pair: sets.keep_only([*chosen, pair]))
        assert sets.keep_only([*chosen, (step.pos, step.feature)]) == pytest.approx(sets.keep_only([*chosen, best]), abs=1e-4)
        chosen.append((step.pos, step.feature))
        left.remove(chosen[-1])
        assert step.only == pytest.approx(sets.keep_only(chosen), abs=1e-4)
    assert found["kept"].iloc[-1] >= 0.3 and (found["kept"].iloc[:-1] < 0.3).all()


def test_a_share_that_cannot_be_reached_is_said(favored, model):
    sets, ranking = favored
    with pytest.raises(ValueError, match="no set of these 3 rows reaches 100%"):
        smallest_set(sets, ranking.table.tail(3), share=1.0, progress=False)
    with pytest.raises(ValueError, match="share=80.0: expected a share"):
        smallest_set(sets, ranking.table, share=80.0, progress=False)
    against = FeatureSets(sets.bench, PROMPT, logit_diff(int(model(to_tokens(model, PROMPT))[0, -1].argmin())))
    with pytest.raises(ValueError, match="does not prefer this answer"):
        set_curves(against, ranking.table, progress=False)
    with pytest.raises(ValueError, match="a row stands twice"):
        set_curves(sets, pd.concat([ranking.table, ranking.table]), progress=False)
    with pytest.raises(ValueError, match="no rows"):
        set_curves(sets, ranking.table.head(0), progress=False)


def test_an_interaction_is_the_joint_effect_less_the_single_ones(favored):
    sets, ranking = favored
    for rows in (ranking.top(4), ranking.by_feature().head(4), ranking.by_feature()["feature"].head(3).tolist()):
        table = interactions(sets, rows)
        n = len(rows)
        assert len(table) == n * (n - 1) // 2 and table["interaction"].abs().is_monotonic_decreasing
        first = table.iloc[0]
        names = [[int(part) for part in str(table[which][0]).split(" at ")][::-1] for which in ("first", "second")]
        members = [tuple(name) if len(name) == 2 else name[0] for name in names]
        assert first["joint"] == pytest.approx(sets.ablate(members), abs=1e-4)
        assert first["interaction"] == pytest.approx(sets.ablate(members) - sum(sets.ablate([m]) for m in members), abs=1e-4)
    with pytest.raises(ValueError, match="two different members"):
        interactions(sets, [int(ranking.table["feature"][0])])
