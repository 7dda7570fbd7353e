"""docs/architecture.md leads to what there is: every path it names is a file, every function it names stands in the file before it."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
A_LINK = re.compile(r"\]\(([^)#]+)\)")
A_CHANGE = re.compile(r"^\| \*\*(?:an? )(.+?)\*\* \|(.+)\|(.+)\|$", re.M)
NAMED = re.compile(r"\]\(([^)#]+\.py)\) `([\w.]+)`(?:, `(\w+)`)?")


@pytest.mark.parametrize("link", sorted(set(A_LINK.findall(PAGE))))
def test_every_path_it_names_exists(link: str):
    assert (ROOT / "docs" / link).exists()


@pytest.mark.parametrize(("file", "names"), [(file, names) for file, *names in NAMED.findall(PAGE)], ids=str)
def test_every_function_it_names_stands_in_its_file(file: str, names: list[str]):
    text = (ROOT / "docs" / file).read_text(encoding="utf-8")
    for name in filter(None, names):
        assert re.search(rf"\b(def|class) {name.split('.')[-1]}\b|^{name}\b", text, re.M), name


def test_the_ten_changes_name_files_and_what_holds_them():
    changes = A_CHANGE.findall(PAGE)
    assert len(changes) == 10
    for change, here, held in changes:
        assert A_LINK.search(here), change
        assert A_LINK.search(held) or "status" in held, change


def test_every_wing_is_on_it():
    for door in (*(ROOT / "workbench").rglob("__init__.py"), *(ROOT / "widgets").rglob("__init__.py")):
        folder = door.parent.relative_to(ROOT)
        assert len(folder.parts) == 1 or f"](../{folder.as_posix()}/" in PAGE, folder


def test_the_readme_leads_to_it_and_to_its_words():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "(docs/architecture.md)" in readme and "(docs/architecture.md#words)" in readme and "\n## Words\n" in PAGE
