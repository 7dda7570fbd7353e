"""A plan follows the laws it rests on, keeps to its budget, and says what it needs and how far it reaches."""

import pytest
from made_runs import planted_runs

from workbench.sae.scaling.plan import GPUS, USED, duration, plan
from workbench.sae.scaling.sweep import ScalingLaws
from workbench.sae.training.budget import budget

LAWS = ScalingLaws(planted_runs())
FLOPS = 12.0 * 16 * 64 * 2**18  # inside what was planted: d_in 16, batches of 64


def test_within_the_sweep_a_plan_is_its_optimum():
    made = plan(16, FLOPS, batch=64, laws=LAWS, devices=["h100"])
    best_n, grown = 64 * 64**0.65, 64
    assert made.d_sae == pytest.approx(best_n, abs=128) and made.d_sae % 256 == 0
    assert made.lr == pytest.approx(1e-2 * grown**-0.2) and made.loss.value == pytest.approx(40 * grown**-0.12)
    assert not any("carried" in sentence or "batches" in sentence for sentence in made.basis)


@pytest.mark.parametrize(("d_in", "flops"), [(16, FLOPS), (4096, 1e20), (768, 3e17)])
def test_a_plan_spends_its_budget_and_no_more(d_in: int, flops: float):
    made = plan(d_in, flops, laws=LAWS, devices=["h100"])
    spent = budget(d_in, made.d_sae, made.n_steps, made.batch).flops
    assert 0.5 * flops < spent <= flops


def test_a_plan_says_what_it_rests_on_and_how_far_it_is_carried():
    text = repr(plan(4096, 1e20, laws=LAWS, devices=["h100"]))
    assert f"from the laws of {len(LAWS.runs)} runs at blocks.0.hook_resid_pre of made" in text
    assert "-fold beyond the compute of these runs" in text
    assert "carried from d_in 16 to 4,096" in text
    assert "lr found with batches of 64" in text


def test_features_are_sharded_where_one_device_cannot_hold_them():
    made = plan(8192, 1e18, batch=64, laws=LAWS, devices=["h100", "l4"])
    small, large = made.table.set_index("device").loc["l4"], made.table.set_index("device").loc["h100"]
    assert small.n_devices > large.n_devices > 1
    for row in (small, large):
        assert row.memory_gb <= USED * row.has_gb
        halved = budget(8192, made.d_sae, made.n_steps, made.batch, int(row.n_devices) // 2)
        assert halved.memory / 1e9 > USED * row.has_gb  # half as many would not do
    assert "sharded over" in repr(made)
    alone = plan(768, 1e13, batch=64, laws=LAWS, devices=["h100"])
    assert alone.table["n_devices"].item() == 1 and "sharded" not in repr(alone)


def test_time_is_flops_over_the_rate_of_all_devices():
    row = plan(768, 1e18, laws=LAWS, devices=["h100"]).table.iloc[0]
    assert row.n_devices > 1 and row.hours * row.n_devices == pytest.approx(1e18 / GPUS["h100"].rate / 3600)


def test_this_machines_cpu_is_measured():
    row = plan(64, 1e12, laws=LAWS, devices=["cpu"]).table.iloc[0]
    assert row.device == "cpu" and 0 < row.hours < 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(devices=["tpu"]), "no device is called 'tpu' here; there is cpu, l4"),
        (dict(flops=0.0), "all must be positive"),
        (dict(flops=1e3), "are less than one step of 4,096 tokens"),
    ],
)
def test_what_cannot_be_planned_says_why(changed: dict, message: str):
    with pytest.raises(ValueError, match=message):
        plan(**{"d_in": 768, "flops": 1e18, "laws": LAWS, "devices": ["h100"]} | changed)


@pytest.mark.parametrize(
    ("hours", "text"), [(1 / 7200, "0.5 s"), (0.2, "12 min"), (3.14, "3.14 h"), (100.0, "4.17 days"), (9e4, "10.3 years")]
)
def test_durations_read_well(hours: float, text: str):
    assert duration(hours) == text
