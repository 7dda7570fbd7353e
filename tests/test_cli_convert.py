"""workbench convert, scaling and plan from a shell."""

from pathlib import Path

import pytest
import torch
from foreign_saes import D_IN, HOOK, gemma_scope_1, saelens_5

from workbench import cli
from workbench.sae.sae import SAE


def test_convert_writes_a_folder_that_needs_nothing_said_any_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    case = gemma_scope_1(tmp_path / "theirs")
    out = tmp_path / "ours"
    assert cli.main(["convert", str(case.source), str(out), "--hook-name", HOOK, "--model-name", "gemma-2-2b"]) == 0
    assert f"24 features of width 8, jumprelu, at {HOOK} of gemma-2-2b" in " ".join(capsys.readouterr().out.split())
    x = torch.randn(5, D_IN, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(SAE.load(out)(x), case.forward(x), atol=2e-5, rtol=1e-5)


def test_convert_takes_the_scale_that_the_files_leave_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    case = saelens_5(tmp_path / "theirs")
    assert cli.main(["convert", str(case.source), str(tmp_path / "ours")]) == 2
    assert "give scale=" in capsys.readouterr().err
    assert not (tmp_path / "ours").exists()
    assert cli.main(["convert", str(case.source), str(tmp_path / "ours"), "--scale", str(case.given["scale"])]) == 0
    x = torch.randn(5, D_IN, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(SAE.load(tmp_path / "ours")(x), case.forward(x), atol=2e-5, rtol=1e-5)


def test_convert_does_not_write_over_an_sae(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source = str(saelens_5(tmp_path / "theirs").source)
    assert cli.main(["convert", source, source, "--scale", "1"]) == 2
    assert "already holds an SAE" in capsys.readouterr().err
