"""Nothing leaves the machine: every command that can do its work offline does it where no socket can be connected."""

import socket
from pathlib import Path

import pytest
import typer
from made_folders import PROMPT, tuned_from
from made_runs import planted_runs

from workbench import cli

ANSWER = ["--answer", " Sacramento", "--baseline", " Albany"]
# a server that listens; hours of training by the same loops; what `rank` runs, on texts that have to behave (test_cli_minimal.py)
ELSEWHERE = {"lab", "atlas", "minimal"}


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: socket.socket, address: object) -> None:
        if self.family != socket.AF_UNIX:  # pipes of this machine
            raise AssertionError(f"something wants to connect to {address}")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket.socket, "connect_ex", refused)
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **more: pytest.fail(f"something asks where {host} is"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


def test_every_command_runs_without_a_network(
    no_network: None, folders: tuple[Path, Path], options_of_both: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    texts, runs, index = tmp_path / "texts.txt", tmp_path / "runs.jsonl", str(tmp_path / "index")
    texts.write_text("\n\n".join([f"{PROMPT} Sacramento", "The state where Kobe Bryant played is Albany"] * 20))
    planted_runs(widths=[8, 64, 512], lrs=[1e-3, 1e-2]).to_json(runs, orient="records", lines=True)
    model, sae, read = str(folders[0]), str(folders[1]), ["--texts", str(texts)]
    commands = {
        "check": [model, "--sae", sae, *read],
        "rank": [PROMPT, *ANSWER, *options_of_both],
        "steer": [PROMPT, "--feature", "3=1", "--max-act", "3=2", "--max-new-tokens", "2", *options_of_both],
        "circuit": [PROMPT, *ANSWER, "--limit", "4"],
        "train": [
            *(str(tmp_path / "run"), "--d-sae", "8", "--n-steps", "3", "--batch", "32", "--model", model, *read),
            *("--hook-name", "blocks.1.hook_resid_pre"),
        ],
        "evaluate": [sae, "--model", model, *read],
        "convert": [sae, str(tmp_path / "converted")],
        "scaling": [str(runs)],
        "plan": ["--d-in", "64", "--budget", "1e15", "--device", "h100"],
        "index": [index, *options_of_both, *read],
        "find": [PROMPT, *options_of_both],
        "page": [index, "3"],
        "diff": [model, tuned_from(folders[0], tmp_path / "tuned"), "--sae", sae, *read],
        "label": [index, "3", "--by", "tokens"],
        "score": [index, "3", *options_of_both],
        "doctor": [],
    }
    assert set(commands) == set(typer.main.get_command(cli.app).commands) - ELSEWHERE  # pyright: ignore[reportAttributeAccessIssue]
    for name, args in commands.items():
        assert cli.main([name, *args]) in (0, 1), f"{name}: {capsys.readouterr().err}"  # 1: check finds the made model wanting
