"""Committed notebooks are executed, top to bottom, small, and ask one question; executing them again changes nothing."""

import ast
import base64
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from notebook_claims import CLAIMS, with_claims

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
A_PICTURE = re.compile(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)")
A_PATH = re.compile(r"(?<![\w.:/])(/(home|root|Users|tmp|usr|var|opt|mnt|work)/|[A-Z]:\\\\)")


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def test_there_are_notebooks():
    assert NOTEBOOKS


def test_what_takes_their_pictures_starts_outside_of_tests():
    """Not with pytest's own paths, by which a helper that has moved would still be found."""
    subprocess.run([sys.executable, "-c", "import notebooks.pictures, notebooks.screenshots"], cwd=ROOT, check=True)


def test_the_readme_leads_to_every_notebook_with_a_picture_each():
    lines = [line for line in (ROOT / "notebooks" / "README.md").read_text().splitlines() if line.startswith("| [")]
    assert [re.findall(r"\]\((\w+\.ipynb)\)", line) for line in lines] == [[path.name] for path in NOTEBOOKS]
    for line in lines:
        (picture,) = re.findall(r'<img src="([^"]+)" width="\d+" alt="[^"]+">', line)
        assert (ROOT / "notebooks" / picture).stat().st_size < 400_000


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_it_was_executed_once_from_top_to_bottom_without_errors(path: Path):
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    kinds = {output.output_type if output.output_type != "stream" else output.name for cell in cells for output in cell.outputs}
    assert kinds <= {"execute_result", "display_data", "stdout"}


def test_the_first_cell_asks_a_question_and_the_last_one_answers_it(path: Path):
    first, *_, last = read(path).cells
    assert first.cell_type == last.cell_type == "markdown"
    assert first.source.startswith("# ") and "?" in first.source.splitlines()[0]
    assert last.source.startswith("## ") and "?" not in last.source.splitlines()[0]


def test_it_defines_nothing(path: Path):
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    for cell in code_cells(path):
        assert not [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, kinds)], cell.source


def test_its_cells_are_short_and_the_file_is_small(path: Path):
    assert max(len(cell.source.splitlines()) for cell in code_cells(path)) <= 12
    assert path.stat().st_size < 1_000_000


def test_it_names_no_absolute_path(path: Path):
    text, pictures = re.sub(A_PICTURE, "", path.read_text()), re.findall(A_PICTURE, path.read_text())
    for each in (text, *(base64.b64decode(picture).decode() for picture in pictures)):
        assert not A_PATH.search(each), A_PATH.search(each)


def test_what_it_shows_live_it_also_shows_on_a_static_page(path: Path):
    assert "widgets" not in read(path).metadata
    for cell in code_cells(path):
        for output in cell.outputs:
            data = output.get("data", {})
            assert not any("widget" in kind for kind in data)
            if any(kind not in ("text/plain", "text/html") for kind in data):
                assert "text/html" in data or any(kind.startswith("image/") for kind in data)


@pytest.mark.notebook
def test_executing_a_notebook_again_changes_no_byte(tmp_path: Path):
    made = nbformat.v4.new_notebook()
    sources = ["import sys\nsys.path[:0] = [tests]", "from made_ranking import made_ranking\nfrom widgets import RankingTable"]
    sources[0] = sources[0].replace("[tests]", repr([str(ROOT), str(ROOT / "tests/made")]))
    sources += ["ranking = made_ranking()\nranking", "RankingTable(ranking, feature=9)", "ranking.plot_ranks()"]
    made.cells = [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(made, tmp_path / "made.ipynb")
    written = []
    for _ in range(2):
        subprocess.run([sys.executable, "-m", "notebooks.execute", str(tmp_path / "made.ipynb")], cwd=ROOT, check=True)
        written.append((tmp_path / "made.ipynb").read_bytes())
    assert written[0] == written[1]
    assert b"RankingTable: " in written[0]


def test_no_cell_asserts_and_what_is_claimed_is_of_a_cell_that_is_there(path: Path):
    """What a text relies on is asserted where a reader does not stumble over it."""
    numbers = {cell.execution_count for cell in code_cells(path)}
    assert not [cell.source for cell in code_cells(path) if re.search("^ *assert ", cell.source, re.M)]
    for number, claims in CLAIMS.get(path.stem, {}).items():
        assert number in numbers and any(isinstance(node, ast.Assert) for node in ast.parse(claims).body), number


def test_an_exercise_is_not_solved_in_its_cell_and_its_answer_is_folded_away(path: Path):
    cells = read(path).cells
    for question, ask, check in zip(cells, cells[1:], cells[2:], strict=False):
        if question.cell_type == "markdown" and re.search("^## Exercise", question.source, re.M):
            assert re.fullmatch(r"[\w, ]+ = [., ]+|(\w+ = \[\]\n?)+", ask.source), ask.source
            assert question.source.count("<details><summary>The answer</summary>") == 1
            (output,) = check.outputs
            assert output.text.startswith("Put ") and output.text.endswith(", then run this cell again.\n")


def test_claims_stand_before_what_a_cell_shows_and_a_false_one_fails():
    assert with_claims("a = 1\na", "assert a == 1") == "a = 1\nassert a == 1\na"
    assert with_claims("a = 1", "assert a == 2") == "a = 1\nassert a == 2" and with_claims("a", "") == "a"
    with pytest.raises(AssertionError):
        exec(with_claims("a = 1", "assert a == 2"), {})
