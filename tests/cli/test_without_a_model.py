"""What needs an index only waits for no torch: a second instead of ten."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from workbench import atlas
from workbench.atlas.layers import WEIGHTS
from workbench.cli import main

INDEX = WEIGHTS / "index"
ASKED = """
import sys
from workbench.cli import main

code = main(sys.argv[1:])
print(*{"torch", "transformers"} & set(sys.modules))
sys.exit(code)
"""


@pytest.mark.parametrize("command", [("page", INDEX, 5), ("page", INDEX, 5, "--html"), ("find", "--label", "Lakers"), ("label", INDEX, 5)])
def test_no_torch_is_imported(command: tuple[object, ...], tmp_path: Path):
    args = [str(each) for each in command]
    if args[0] == "label":
        args[1] = str(shutil.copytree(INDEX, tmp_path / "index"))
    if args[-1] == "--html":
        args.append(str(tmp_path / "pages"))
    ran = subprocess.run([sys.executable, "-c", ASKED, *args], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == ""


def test_a_search_by_label_finds_what_the_bench_finds(capsys: pytest.CaptureFixture[str]):
    assert main(["find", "--label", "lakers team", "--json", "--top", "5"]) == 0
    table = atlas.load().find_by_label("lakers team", top=5).table
    assert json.loads(capsys.readouterr().out)["rows"] == json.loads(table.to_json(orient="records", double_precision=15))
    assert len(table)


def test_an_index_of_any_sae_is_searched_alone(capsys: pytest.CaptureFixture[str]):
    assert main(["find", "--label", "french", "--index", str(INDEX)]) == 0
    assert "language:French" in capsys.readouterr().out
