"""workbench train: text in, an SAE's folder out; what was stopped goes on; one line says what was wrong."""

import json
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest
from made_models import TEXT

from workbench.activations.texts import read_texts
from workbench.cli import main
from workbench.model.model import load_model
from workbench.sae.cross_layer import CrossLayerTranscoder
from workbench.sae.evaluate import evaluate
from workbench.sae.sae import SAE
from workbench.sae.transcoder import Transcoder

HOOK_NAME = "blocks.1.hook_resid_pre"


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": TEXT[n % 20 :]}) + "\n" for n in range(300)))
    return path


@pytest.fixture
def command(folder_of, texts: Path, tmp_path: Path) -> list[str]:
    sizes = ["--d-sae", "16", "--n-steps", "30", "--batch", "64", "--checkpoint-every", "10"]
    return ["train", str(tmp_path / "out"), "--model", str(folder_of("gpt2")), "--texts", str(texts), "--hook-name", HOOK_NAME, *sizes]


def test_train_writes_an_sae_and_says_how_good_it_is(command: list[str], tmp_path: Path, capsys):
    assert main(command) == 0
    out, err = capsys.readouterr()
    sae = SAE.load(tmp_path / "out")
    assert (sae.cfg.d_sae, sae.cfg.hook_name, sae.cfg.metadata["training"]["n_steps"]) == (16, HOOK_NAME, 30)
    assert f"16 features at {HOOK_NAME}; loss {sae.cfg.metadata['loss']:.2f}, l0 " in out and "of memory" in err
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"cfg.json", "sae_weights.safetensors", "metrics.jsonl"}


def test_options_reach_the_training(command: list[str], tmp_path: Path):
    assert main([*command, "--architecture", "topk", "--k", "3", "--lr", "0.01", "--seed", "5", "--precision", "bfloat16"]) == 0
    sae = SAE.load(tmp_path / "out")
    asked = dict(architecture="topk", k=3, lr=0.01, seed=5, precision="bfloat16", l1=5.0)
    assert asked.items() <= sae.cfg.metadata["training"].items() and sae.cfg.k == 3


def test_the_same_command_goes_on_after_ctrl_c(command: list[str], tmp_path: Path, monkeypatch, capsys):
    import os
    import signal

    from workbench.sae.training.monitor import Monitor

    after_step = Monitor.after_step

    def interrupt(self: Monitor) -> None:
        after_step(self)
        if self.learners[0].n_done == 17:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(Monitor, "after_step", interrupt)
        assert main(command) == 130
    assert "stopped after step 17; the same call goes on from there" in capsys.readouterr().err
    assert (tmp_path / "out/checkpoint.safetensors").exists()
    assert main(command) == 0
    assert main([*command[:1], str(tmp_path / "unbroken"), *command[2:]]) == 0
    assert SAE.load(tmp_path / "out").fingerprint() == SAE.load(tmp_path / "unbroken").fingerprint()


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["--architecture", "gated"], "there is standard, topk, batchtopk, jumprelu"),
        (["--architecture", "topk"], "needs k"),
        (["--lr", "0"], "lr is 0"),
        (["--batch", "100000"], "fewer than one batch of 100,000"),
        (["--n-steps", "500"], "tokens, it has "),
        (["--hook-name", "blocks.9.hook_resid_pre"], "blocks.9"),
        (["--texts", "nowhere.txt"], "no such file"),
        (["--model", "atlas", "--texts", "nowhere.txt"], "no such file"),
    ],
)
def test_what_was_wrong_is_one_line_and_status_2(command: list[str], extra: list[str], words: str, capsys):
    assert main([*command, *extra]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("workbench: ") and words in line


def test_a_folder_of_another_run_is_refused(command: list[str], capsys):
    assert main(command) == 0
    assert main([*command, "--lr", "0.01"]) == 2
    assert "lr was 0.001, now it is 0.01" in capsys.readouterr().err


@pytest.mark.slow
def test_under_torchrun_two_processes_write_one_sae(command: list[str], tmp_path: Path):
    program = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--no-python"]
    subprocess.run([*program, str(Path(sys.executable).parent / "workbench"), *command], check=True, timeout=300)
    alone = ["train", str(tmp_path / "alone"), *command[2:]]
    assert main(alone) == 0
    one, other = SAE.load(tmp_path / "out"), SAE.load(tmp_path / "alone")
    assert (one.W_dec - other.W_dec).abs().max() < 1e-5


def test_train_with_predict_writes_a_transcoder_and_evaluate_judges_it(command: list[str], texts: Path, tmp_path: Path, capsys):
    place = command.index("--hook-name")
    start = [*command[:place], *command[place + 2 :], "--predict", "blocks.1.hook_mlp_out"]  # it reads that MLP's input
    assert main([*start, "--skip"]) == 0
    line = capsys.readouterr().out.strip()
    assert "16 features at blocks.1.mlp.hook_in → blocks.1.hook_mlp_out; loss " in line and "fvu " in line
    transcoder = Transcoder.load(tmp_path / "out")
    assert transcoder.cfg.has_skip and transcoder.cfg.metadata["start_token"] == "<|start|>"
    assert main([*start, "--skip"]) == 0, "done: it is read"
    capsys.readouterr()
    judged = ["evaluate", str(tmp_path / "out"), "--model", command[3], "--texts", str(texts), "--n-texts", "5"]
    assert main([*judged, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    expected = evaluate(load_model(command[3]), transcoder, islice(read_texts(texts), 5)).measures()
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert main([*judged, "--other", str(tmp_path / "out")]) == 0
    assert "median cosine 1.00, over 0.9 for 100.0%" in capsys.readouterr().out


def test_train_across_layers_writes_what_evaluate_and_circuits_take(command: list[str], texts: Path, tmp_path: Path, capsys):
    place = command.index("--hook-name")
    start = [*command[:place], *command[place + 2 :], "--cross-layer", "--architecture", "batchtopk", "--k", "4"]
    assert main(start) == 0
    line = capsys.readouterr().out.strip()
    assert "16 features at mlp.hook_in → hook_mlp_out of each of 4 blocks; loss " in line
    clt = CrossLayerTranscoder.load(tmp_path / "out")
    assert clt.cfg.architecture == "jumprelu" and clt.cfg.metadata["start_token"] == "<|start|>"
    judged = ["evaluate", str(tmp_path / "out"), "--model", command[3], "--texts", str(texts), "--n-texts", "5"]
    assert main([*judged, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["layer"] for row in rows] == [0, 1, 2, 3, "all"] and rows[-1]["n_tokens"] > 50
    assert main(judged) == 0 and "every MLP replaced at once" in capsys.readouterr().out
    assert main(["circuit", "the capital", "--model", command[3], "--transcoders", str(tmp_path / "out")]) == 0


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["--cross-layer"], "--cross-layer reads every block: name places inside of one"),
        (["--predict", "blocks.1.hook_mlp_outt"], "Did you mean 'blocks.1.hook_mlp_out'?"),
        (["--predict", HOOK_NAME], "the place that is read"),
        (["--skip"], "--skip is a transcoder's"),
    ],
)
def test_a_transcoder_s_places_are_checked(command: list[str], extra: list[str], words: str, capsys):
    assert main([*command, *extra]) == 2
    assert words in capsys.readouterr().err.strip().splitlines()[-1]


def test_what_an_unknown_output_reads_must_be_said(command: list[str], capsys):
    place = command.index("--hook-name")
    assert main([*command[:place], *command[place + 2 :], "--predict", "blocks.2.hook_resid_post"]) == 2
    assert "say what is read, --hook-name" in capsys.readouterr().err
