"""workbench convert, scaling and plan from a shell."""

from pathlib import Path

import pytest
import torch
from foreign_libraries import gemma_scope_1
from foreign_saes import D_IN, HOOK, saelens_5
from made_folders import made_folders
from made_runs import planted_runs
from made_transcoders import circuit_tracer_folder
from safetensors.torch import load_file

from workbench import cli
from workbench.sae.sae import SAE
from workbench.sae.scaling.plan import GPUS


def test_convert_writes_a_folder_that_needs_nothing_said_any_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    case = gemma_scope_1(tmp_path / "theirs")
    out = tmp_path / "ours"
    assert cli.main(["convert", str(case.source), str(out), "--hook-name", HOOK, "--model-name", "gemma-2-2b"]) == 0
    assert f"jumprelu, 8 → 24 features at {HOOK} of gemma-2-2b" in " ".join(capsys.readouterr().out.split())
    x = torch.randn(5, D_IN, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(SAE.load(out)(x), case.forward(x), atol=2e-5, rtol=1e-5)


def test_convert_takes_the_scale_that_the_files_leave_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    case = saelens_5(tmp_path / "theirs")
    assert cli.main(["convert", str(case.source), str(tmp_path / "ours")]) == 2
    assert "give --scale" in capsys.readouterr().err
    assert not (tmp_path / "ours").exists()
    assert cli.main(["convert", str(case.source), str(tmp_path / "ours"), "--scale", str(case.given["scale"])]) == 0
    x = torch.randn(5, D_IN, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(SAE.load(tmp_path / "ours")(x), case.forward(x), atol=2e-5, rtol=1e-5)


def test_convert_does_not_write_over_an_sae(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source = str(saelens_5(tmp_path / "theirs").source)
    assert cli.main(["convert", source, source, "--scale", "1"]) == 2
    assert "already holds something" in capsys.readouterr().err


def test_convert_goes_from_circuit_tracers_folder_to_folders_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source = circuit_tracer_folder(tmp_path / "set", has_skip=True)
    assert cli.main(["convert", str(source), str(tmp_path / "folders")]) == 0
    assert "blocks.2.ln2.hook_normalized → blocks.2.hook_mlp_out of tiny" in " ".join(capsys.readouterr().out.split())
    assert cli.main(["convert", str(tmp_path / "folders"), str(tmp_path / "back"), "--to", "circuit-tracer"]) == 0
    for layer in range(3):
        before, after = (load_file(folder / f"layer_{layer}.safetensors") for folder in (source, tmp_path / "back"))
        assert set(before) == set(after) and all(torch.equal(before[name], after[name]) for name in before)
    one = str(source / "layer_1.safetensors")
    assert cli.main(["convert", one, str(tmp_path / "one"), "--to", "sparsify"]) == 2
    assert "sparsify's transcoders are topk" in capsys.readouterr().err
    assert not (tmp_path / "one").exists()


# scaling, plan -----------------------------------------------------------------------------------------------------------------------


def test_scaling_sweeps_what_the_file_lacks_and_prints_the_laws(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model, _ = made_folders(tmp_path)
    (tmp_path / "texts.txt").write_text("\n".join(f"The capital of state {n} where Kobe played" for n in range(400)))
    grid = ["--n-features", "8,16", "--feature-steps", "800", "--lrs", "1e-3", "--batch", "32"]
    where = ["--model", str(model), "--texts", str(tmp_path / "texts.txt"), "--hook-name", "blocks.1.hook_resid_pre"]
    assert cli.main(["scaling", str(tmp_path / "runs.jsonl"), *grid, *where]) == 0
    assert "2 runs at blocks.1.hook_resid_pre" in capsys.readouterr().out
    assert len((tmp_path / "runs.jsonl").read_text().splitlines()) == 2
    assert cli.main(["scaling", str(tmp_path / "runs.jsonl")]) == 0  # only read
    assert "no fits: 0 optima lie inside the grid" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--n-features", "8,x"], "--n-features '8,x': expected numbers with commas"),
        (["--n-features", "8", "--feature-steps", "80", "--lrs", "1e-3"], "no run of this grid has 50 to 50,000 steps"),
        (["--n-features", "8", "--feature-steps", "800", "--lrs", "1e-3", "--model", "gpt2"], "--model gpt2 needs --texts and --hook-name"),
        ([], "runs.jsonl"),
    ],
)
def test_scaling_says_what_was_typed_wrong(options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["scaling", str(tmp_path / "runs.jsonl"), *options]) == 2
    assert message in capsys.readouterr().err


@pytest.fixture
def runs(tmp_path: Path) -> str:
    planted_runs().to_json(tmp_path / "planted.jsonl", orient="records", lines=True)
    return str(tmp_path / "planted.jsonl")


def test_plan_prints_size_loss_and_devices_from_a_sweep(runs: str, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["plan", "--d-in", "768", "--budget", "1e15", "--runs", runs, "--device", "h100", "--device", "l4"]) == 0
    out = capsys.readouterr().out
    for said in ("Plan for 1e+15 FLOPs", "features, ", "loss to expect at λ = 5", "of made", "× h100", "× l4"):
        assert said in out


def test_plan_takes_time_on_one_device_as_its_budget(runs: str, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["plan", "--d-in", "768", "--budget", "2h", "--runs", runs, "--device", "h100"]) == 0
    assert f"Plan for {2 * 3600 * GPUS['h100'].rate:.2g} FLOPs" in capsys.readouterr().out
    assert cli.main(["plan", "--d-in", "768", "--budget", "2h", "--runs", runs]) == 2
    assert "is a time: on which device?" in capsys.readouterr().err


def test_plan_needs_no_sweep_of_your_own(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["plan", "--d-in", "4096", "--budget", "1e18", "--device", "h100"]) == 0
    assert "of atlas" in capsys.readouterr().out
