"""The shell: tables and JSON on stdout, one line on stderr for what was typed wrong, exit status 0, 2 or 130."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import nbformat
import pytest
from made_folders import PROMPT
from made_ranking import made_ranking

from widgets.marks import number
from workbench import benches, cli
from workbench.circuits.ranking.ranking import ORDERS
from workbench.cli.act import Order, print_tables


def rank_args(options_of_both: Sequence[str], *options: str, answer: str = " Sacramento", baseline: str = " Albany") -> list[str]:
    return ["rank", PROMPT, "--answer", answer, "--baseline", baseline, *options_of_both, *options]


def test_rank_prints_a_table_for_each_order_and_the_agreement(options_of_both: list[str], capsys: pytest.CaptureFixture[str]):
    options = ["--by", "effect", "--by", "attribution", "--by", "activation", "--top", "3"]
    assert cli.main(rank_args(options_of_both, *options)) == 0
    out = capsys.readouterr().out
    assert [line.strip() for line in out.splitlines() if "largest by" in line] == [
        f"The 3 largest by {order}" for order in reversed(ORDERS)
    ]
    assert "Why ' Sacramento' rather than ' Albany'?" in out
    assert "Agreement with the measured effect" in out


def test_what_was_not_measured_is_a_dash_without_a_rank(options_of_both: list[str], capsys: pytest.CaptureFixture[str]):
    assert cli.main(rank_args(options_of_both, "--ablate", "1", "--top", "1000", "--by", "attribution")) == 0
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines() if line.split()[:1] and line.split()[0].isdigit()]
    assert len(rows) > 2 and sum("–" not in row for row in rows) == 1
    assert all(word[1:].rstrip(",").isdigit() for word in out.split() if word.startswith("#"))


def test_json_is_all_of_stdout_and_says_what_the_table_says(options_of_both: list[str], capsys: pytest.CaptureFixture[str]):
    assert cli.main(rank_args(options_of_both, "--json", "--ablate", "4")) == 0
    result = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)  # NaN is not JSON
    assert result["prompt"] == PROMPT and result["answer"] == " Sacramento"
    effects = [row["effect"] for row in result["rows"]]
    assert sum(effect is not None for effect in effects) == 4
    assert effects[:4] == sorted(effects[:4], reverse=True)
    assert result["agreement"]["n_measured"] == 4


def test_json_takes_top_and_order(options_of_both: list[str], capsys: pytest.CaptureFixture[str]):
    assert cli.main(rank_args(options_of_both, "--json", "--top", "2", "--by", "activation")) == 0
    assert [row["activation_rank"] for row in json.loads(capsys.readouterr().out)["rows"]] == [1, 2]


def test_html_is_written_beside_the_tables(options_of_both: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert cli.main(rank_args(options_of_both, "--html", str(tmp_path / "page.html"))) == 0
    assert "Kobe" in (tmp_path / "page.html").read_text()
    assert str(tmp_path / "page.html") in capsys.readouterr().out.replace("\n", "")


def test_without_a_baseline_it_is_the_mean_logit(options_of_both: list[str], capsys: pytest.CaptureFixture[str]):
    assert cli.main(["rank", PROMPT, "--answer", " Sacramento", *options_of_both]) == 0
    assert "rather than the mean logit" in capsys.readouterr().out


WRONG = {
    "answer of several tokens": (["--answer", "Sacramento"], "Did you mean ' Sacramento'?"),
    "answer is baseline": (["--answer", " Albany"], "same token"),
    "an order that is none": (["--by", "efect"], "'efect'"),
    "no rows": (["--top", "0"], "--top"),
    "no folder for the page": (["--html", "nowhere/page.html"], "does not exist"),
    "a folder for the page": (["--html", "tests"], "tests is a folder: expected a file's name, such as tests/page.html"),
    "no such SAE": (["--sae", "nowhere"], "no such folder"),
    "no such model": (["--model", "./nowhere"], "is not a Hugging Face model"),
    "an unknown option": (["--nonsense"], "--nonsense"),
    "no such device": (["--device", "gpu"], "cannot compute on device 'gpu'"),
    "a device that is not here": (["--device", "cuda:99"], "cannot compute on device 'cuda:99'"),
}


@pytest.mark.parametrize("how", WRONG)
def test_what_is_typed_wrong_is_one_line_and_exit_2(options_of_both: list[str], how: str, capsys: pytest.CaptureFixture[str]):
    options, expected = WRONG[how]
    assert cli.main(rank_args(options_of_both, *options)) == 2
    captured = capsys.readouterr()
    line = captured.err.splitlines()[-1]
    assert line.startswith("workbench: ") and expected in line
    assert captured.out == "" and "Traceback" not in captured.err


@pytest.mark.parametrize("args", [["rank"], ["rank", PROMPT], ["rnk"], ["lab", "nowhere.ipynb"], ["atlas", "nonsense"]], ids=" ".join)
def test_a_command_half_typed_is_one_line_and_exit_2(args: list[str], capsys: pytest.CaptureFixture[str]):
    assert cli.main(args) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and len(captured.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("args", "last"),
    [(["frobnicate"], "label, score, minimal, lab, doctor, atlas"), (["atlas"], "build"), (["atlas", "nonsense"], "build")],
)
def test_a_command_that_is_none_lists_those_that_there_are(args: list[str], last: str, capsys: pytest.CaptureFixture[str]):
    assert cli.main(args) == 2
    assert capsys.readouterr().err.endswith(f"{last}.\n")


def test_the_atlas_is_not_built_into_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "notes.txt").touch()
    for path in (tmp_path / "notes.txt", tmp_path / "notes.txt" / "atlas"):
        assert cli.main(["atlas", "build", str(path)]) == 2
        assert "notes.txt is a file: expected the name of a folder to write" in capsys.readouterr().err


def test_an_error_of_several_lines_becomes_one(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def fail(*args, **kwargs):
        raise OSError("first\n\n  second")

    monkeypatch.setattr(benches, "load", fail)
    assert cli.main(rank_args([])) == 2
    assert capsys.readouterr().err == "workbench: first second\n"


def test_ctrl_c_is_exit_130_without_a_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(benches, "load", interrupt)
    assert cli.main(rank_args([])) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch):
    def assert_false(*args, **kwargs):
        raise AssertionError("a bug")

    monkeypatch.setattr(benches, "load", assert_false)
    with pytest.raises(AssertionError, match="a bug"):
        cli.main(rank_args([]))


def test_lab_opens_the_explorer_and_leaves_a_notebook_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    calls: list[list[str]] = []
    monkeypatch.setattr(subprocess, "call", lambda command: calls.append(command) or 7)
    assert cli.main(["lab", "--sae", "4k"]) == 7
    notebook = nbformat.read(tmp_path / "explore.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert "wb.load('atlas', sae='4k')" in notebook.cells[1].source and "**?**" in notebook.cells[0].source
    assert cli.main(["lab"]) == 7 and nbformat.read(tmp_path / "explore.ipynb", as_version=4) == notebook
    new, again = calls
    assert new[:3] == again[:3] == [sys.executable, "-m", "jupyterlab"] and new[-1] == again[-1] == "explore.ipynb"
    runs = "--LabApp.extra_labextensions_path"
    assert any(option.startswith(runs) for option in new), "made by this command: it is run when it is opened"
    assert not any(option.startswith(runs) for option in again), "a notebook that nobody here has run waits for a click"


def test_lab_takes_a_port_no_browser_and_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    calls: list[list[str]] = []
    monkeypatch.setattr(subprocess, "call", lambda command: calls.append(command) or 0)
    for user in (0, 1000):
        monkeypatch.setattr("os.geteuid", lambda user=user: user)
        assert cli.main(["lab", "--port", "9999", "--no-browser"]) == 0
    assert {"--ServerApp.port=9999", "--no-browser", "--LabApp.default_url=/lab/tree/explore.ipynb"} <= set(calls[0])
    assert "--allow-root" in calls[0] and "--allow-root" not in calls[1]


def test_tables_at_80_columns_cut_no_label(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "80")
    ranking = made_ranking()
    print_tables(ranking, 8, [Order.effect])
    shown = capsys.readouterr().out
    assert "…" not in shown and max(map(len, shown.splitlines())) <= 80 or "Agreement" in shown
    for row in ranking.top(8).itertuples():
        assert number(row.effect) in shown and all(word in shown for word in row.label.split())


def test_small_effects_have_digits_in_the_shell(capsys: pytest.CaptureFixture[str]):
    ranking = made_ranking()
    small = {name: ranking.table[name] * 1e-5 for name in ("effect", "attribution")}
    print_tables(made_ranking(table=ranking.table.assign(**small), clean_metric=-0.00512), 3, [Order.effect])
    shown = capsys.readouterr().out
    assert "−0.00512" in shown and f"{small['effect'].max():+.2g}"[-2:] in shown and "+0.00 " not in shown


def test_help_loads_no_torch():
    code = "import sys; from workbench.cli import main; main(['--help']); print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "rank" in out and out.splitlines()[-1] == "False"


def test_python_runs_the_package_as_the_command():
    args = [sys.executable, "-m", "workbench", "--version"]
    assert subprocess.run(args, capture_output=True, text=True, check=True).stdout == "workbench 0.1.0\n"


def test_the_installed_script_says_its_version():
    script = Path(sys.executable).with_name("workbench")
    assert subprocess.run([script, "--version"], capture_output=True, text=True, check=True).stdout == "workbench 0.1.0\n"
