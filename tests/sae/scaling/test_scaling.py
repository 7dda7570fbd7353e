"""Scaling laws: what was planted in the runs is found, what the grid does not enclose is said, a sweep goes on where it stopped."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from made_runs import LRS, PLANTED, PRODUCTS, WIDTHS, planted_runs

from workbench.sae.scaling import sweep as scaling
from workbench.sae.scaling.optima import find_optima, valley_floor
from workbench.sae.scaling.power_law import PowerLaw
from workbench.sae.scaling.sweep import Grid, ScalingLaws, sweep


def test_planted_exponents_are_found_exactly_where_there_is_no_noise():
    laws = ScalingLaws(planted_runs())
    assert len(laws.inside) == len(PRODUCTS)
    for name, exponent in PLANTED.items():
        assert laws.law(name).exponent.value == pytest.approx(exponent, abs=1e-6)


def test_a_law_that_bends_towards_a_floor_is_said_and_a_straight_one_is_not():
    straight, runs = ScalingLaws(planted_runs()), planted_runs()
    assert straight.bend == pytest.approx(0, abs=1e-6) and not any("bends" in sentence for sentence in straight.describe())
    bent = ScalingLaws(runs.assign(loss=runs["loss"] + runs["loss"].min()))
    assert bent.bend > 0.02 and any(sentence.startswith("the loss bends") for sentence in bent.describe())


def test_planted_exponents_lie_within_their_intervals():
    """Each interval holds the truth in about nine of ten sweeps; in forty, thirty at least (all but certain at 0.9, hopeless at 0.5)."""
    held, widths = dict.fromkeys(PLANTED, 0), dict.fromkeys(PLANTED, 0.0)
    for seed in range(40):
        laws = ScalingLaws(planted_runs(noise=0.004, seed=seed))
        for name, exponent in PLANTED.items():
            interval = laws.law(name).exponent
            held[name] += interval.low <= exponent <= interval.high
            widths[name] = max(widths[name], interval.high - interval.low)
    assert all(count >= 30 for count in held.values()), held
    assert all(width < 0.25 for width in widths.values()), widths


def test_a_new_optimum_lies_within_the_predicted_interval():
    held = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        compute = np.geomspace(1e10, 1e12, 7)
        law = PowerLaw("loss", compute, 3e3 * compute**-0.3 * np.exp(0.1 * rng.standard_normal(7)))
        there = law.at(1e13)
        held += there.low <= 3e3 * 1e13**-0.3 * np.exp(0.1 * rng.standard_normal()) <= there.high
        assert there.low < there.value < there.high
    assert 165 <= held <= 195  # 180 expected


def test_the_interval_widens_beyond_the_data():
    compute = np.geomspace(1e10, 1e12, 7)
    law = PowerLaw("loss", compute, compute**-0.3 * (1 + 0.05 * np.sin(np.arange(7.0))))
    spans = [np.log(law.at(c).high / law.at(c).low) for c in (1e11, 1e13, 1e15)]
    assert spans[0] < spans[1] < spans[2]
    assert law.at(1e11).value == pytest.approx(law.scale * 1e11**law.exponent.value)


def test_three_optima_are_too_few_for_a_law():
    with pytest.raises(ValueError, match="a power law of loss needs 4 optima at different compute, not 3"):
        PowerLaw("loss", np.array([1.0, 2.0, 4.0]), np.array([3.0, 2.0, 1.0]))


def test_the_floor_of_a_valley_lies_between_the_runs():
    tried = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    floor = valley_floor(tried, np.exp(0.1 * np.log(tried / 5) ** 2), "lr")
    assert (floor.at, floor.loss, floor.edge) == (pytest.approx(5), pytest.approx(1), "")


@pytest.mark.parametrize(
    ("losses", "edge"),
    [([3.0, 2.0, 1.0], "the largest lr tried, 4"), ([1.0, 2.0, 3.0], "the smallest lr tried, 1"), ([1.0], "the only lr tried, 1")],
)
def test_a_floor_at_the_end_of_what_was_tried_is_said(losses: list[float], edge: str):
    floor = valley_floor(np.array([1.0, 2.0, 4.0][: len(losses)]), np.array(losses), "lr")
    assert (floor.edge, floor.loss) == (edge, min(losses))


def test_optima_at_the_edge_of_the_grid_are_told_and_left_out_of_the_fits():
    """Too few wide SAEs: from some compute on, the widest one tried is the best."""
    laws = ScalingLaws(planted_runs(widths=[2**n for n in range(3, 11)]))
    outside = laws.optima[laws.optima["edge"] != ""]
    assert 0 < len(outside) < len(PRODUCTS) and set(outside["edge"]) == {"the largest n_features tried, 1024"}
    assert laws.law("n_features").exponent.value == pytest.approx(0.65, abs=1e-6)
    assert repr(laws).count("not in the fits: at ") == len(outside)
    figure = laws.plot_sizes()
    rings = [trace for trace in figure.data if trace.marker.symbol == "circle-open"]
    assert [len(trace.x) for trace in rings] == [len(outside)] * 2
    assert "edge" in figure._repr_mimebundle_()["text/html"]


def test_an_lr_at_the_edge_is_told_too():
    optima = find_optima(planted_runs(lrs=LRS[-3:]))
    assert "the smallest lr tried" in optima["edge"].iloc[-1]


def test_figures_show_a_curve_for_each_width_and_the_envelope_with_its_fit():
    runs = planted_runs(noise=0.004)
    figure = ScalingLaws(runs).plot_loss()
    names = [trace.name for trace in figure.data]
    assert [name for name in names if name.endswith("features")] == [f"{width:,} features" for width in WIDTHS]
    optimum = next(trace for trace in figure.data if trace.name == "optimum")
    assert len(optimum.x) == len(PRODUCTS) and (np.diff(optimum.y) < 0).all()
    fit = next(trace for trace in figure.data if trace.name == "fit" and trace.line.dash == "solid")
    assert fit.x[0] == pytest.approx(12 * 16 * 64 * 2**12) and fit.x[-1] == pytest.approx(12 * 16 * 64 * 2**20)
    assert len(re.findall("<img", figure._repr_mimebundle_()["text/html"])) == 1
    assert "loss at λ = 5 ∝ compute^−0.12" in repr(figure)


# The sweep ---------------------------------------------------------------------------------------------------------------------------


class Planted:
    """Activations made of known directions, the same ones from every stream."""

    hook_name, model_name, d_in, scale = "blocks.0.hook_resid_pre", "planted", 8, 1.0

    def __iter__(self) -> Iterator[torch.Tensor]:
        rng = torch.Generator().manual_seed(0)
        directions = torch.randn(20, 8, generator=rng)
        for _ in range(400):
            yield 2 * ((torch.rand(32, 20, generator=rng) < 0.1) * torch.rand(32, 20, generator=rng)) @ directions


GRID = Grid(n_features=[4, 8, 16], feature_steps=[160, 320], lrs=[1e-3, 4e-3], n_steps=(10, 80))


def lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_grid_holds_every_size_within_its_steps():
    sizes = {(cfg.d_sae, cfg.n_steps) for cfg in GRID.configs()}
    assert sizes == {(4, 40), (8, 20), (16, 10), (4, 80), (8, 40), (16, 20)}
    assert [cfg.n_steps for cfg in GRID.configs()] == sorted(cfg.n_steps for cfg in GRID.configs())
    with pytest.raises(ValueError, match="no run of this grid has 1,000 to 2,000 steps"):
        Grid([4], [64], [1e-3], n_steps=(1000, 2000)).configs()


def test_each_run_of_a_sweep_is_a_row_with_its_loss_at_lambda_5(tmp_path: Path):
    laws = sweep(Planted, GRID, tmp_path / "runs.jsonl", progress=False)
    rows = lines(tmp_path / "runs.jsonl")
    assert len(rows) == len(laws.runs) == 12
    assert {(row["l1"], row["batch"], row["d_in"], row["model_name"]) for row in rows} == {(5.0, 32, 8, "planted")}
    assert all(row["loss"] > 0 for row in rows)
    same = scaling.train_many(Planted(), [GRID.configs()[0]], progress=False)[0]
    assert rows[0]["loss"] == same.cfg.metadata["loss"]  # trained beside others, it learned from the same activations


def test_a_sweep_that_was_stopped_goes_on_and_ends_with_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sweep(Planted, GRID, tmp_path / "whole.jsonl", at_once=3, progress=False)
    trained, real = [], scaling.train_many

    def stops_after_two(stream, configs, progress):
        if len(trained) == 2:
            raise KeyboardInterrupt
        trained.append(len(configs))
        return real(stream, configs, progress=progress)

    monkeypatch.setattr(scaling, "train_many", stops_after_two)
    with pytest.raises(KeyboardInterrupt):
        sweep(Planted, GRID, tmp_path / "runs.jsonl", at_once=3, progress=False)
    assert len(lines(tmp_path / "runs.jsonl")) == 6
    monkeypatch.setattr(scaling, "train_many", lambda *args, **kwargs: trained.append(len(args[1])) or real(*args, **kwargs))
    sweep(Planted, GRID, tmp_path / "runs.jsonl", at_once=3, progress=False)
    assert trained == [3, 3, 3, 3]
    assert lines(tmp_path / "runs.jsonl") == lines(tmp_path / "whole.jsonl")
    sweep(Planted, GRID, tmp_path / "runs.jsonl", progress=False)
    assert trained == [3, 3, 3, 3]  # nothing is trained twice


def test_runs_of_another_stream_are_not_mixed_in(tmp_path: Path):
    file = tmp_path / "runs.jsonl"
    sweep(Planted, Grid([4], [160], [1e-3], n_steps=(10, 80)), file, progress=False)
    before = file.read_text()
    other = type("Other", (Planted,), {"model_name": "other"})
    with pytest.raises(ValueError, match="would mix runs of model_name other and planted"):
        sweep(other, Grid([8], [160], [1e-3], n_steps=(10, 80)), file, progress=False)
    assert file.read_text() == before


@pytest.mark.parametrize(
    ("content", "message"), [("{", "line 1, is not JSON"), ('{"loss": 1}', "is no run of a sweep: it lacks n_features")]
)
def test_a_file_that_is_no_sweep_says_which_line(tmp_path: Path, content: str, message: str):
    (tmp_path / "runs.jsonl").write_text(content)
    with pytest.raises(ValueError, match=message):
        ScalingLaws.read(tmp_path / "runs.jsonl")


def test_too_few_optima_are_said_where_a_sweep_shows_itself(tmp_path: Path):
    laws = sweep(Planted, Grid([4, 8], [160], [1e-3], n_steps=(10, 80)), tmp_path / "runs.jsonl", progress=False)
    assert "no fits: 0 optima lie inside the grid, 4 are needed" in repr(laws)
    assert "no fits" in laws._repr_html_()
    with pytest.raises(ValueError, match="there is no law of 'l0'; there is loss, n_features, n_steps, lr"):
        laws.law("l0")
