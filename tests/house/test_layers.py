"""Every line has one home, and what it needs stands before it: the rules are in tests/made/house_rules.py."""

from pathlib import Path

import pytest
from house_rules import MOST_FILES, complaints

ROOT = Path(__file__).parents[2]
APART = {"house", "browser", "faults", "made", "pages"}  # of no folder: the whole tree, the whole page, any file, what tests share
HOUSE = {  # the smallest that keeps the rules
    "workbench/files.py": "",
    "workbench/model/__init__.py": '"""What is a model?"""',
    "workbench/model/model.py": "from workbench import files",
    "workbench/features/__init__.py": '"""What is a feature?"""',
    "workbench/features/index/__init__.py": '"""When is it active?"""',
    "workbench/features/index/index.py": "def page():\n    from widgets.html import card",
    "workbench/features/search/__init__.py": '"""Which one is it?"""',
    "workbench/features/search/search.py": "from workbench.features.index.index import page",
    "workbench/features/search/ways.py": "from workbench.features.search.search import page",
    "widgets/html/__init__.py": '"""How does it look?"""',
    "widgets/html/card.py": "from workbench.files import write_text",
}


def test_the_house_keeps_its_rules():
    assert not complaints(ROOT)


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        ({"workbench/model/model.py": "from workbench.features.index import index"}, "workbench/model imports features, which comes after"),
        ({"workbench/model/model.py": "def late():\n    import workbench.features"}, "workbench/model imports features, which comes after"),
        (
            {"workbench/features/index/index.py": "from workbench.features.search import search"},
            "features/index imports search, which comes",
        ),
        ({"workbench/features/search/ways.py": "from .search import page"}, "imports relatively"),
        ({"workbench/helpers.py": "from workbench import files"}, "workbench has no place for 'helpers'"),
        ({f"workbench/model/part_{i}.py": "" for i in range(MOST_FILES - 1)}, f"workbench/model has {MOST_FILES + 1} files"),
        ({"workbench/features/search/__init__.py": '"""Searches."""'}, "features/search/__init__.py does not say in its first line which"),
        ({"workbench/features/search/__init__.py": ""}, "features/search/__init__.py does not say in its first line which"),
        ({"widgets/html/card.py": "from workbench.model.model import load"}, "needs of workbench its files only"),
        ({"workbench/model/model.py": "from widgets.html import card"}, "only widgets import workbench"),
        ({"workbench/features/search/search.py": "from workbench.features.search.ways import page"}, "a circle of files"),
        ({"workbench/features/search/search.py": "def late():\n    from workbench.features.search import ways"}, "a circle of files"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_each_rule_catches_what_breaks_it(broken: dict[str, str], complaint: str, tmp_path: Path):
    """And nothing is said of the house before."""
    for name, text in HOUSE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert not complaints(tmp_path)
    for name, text in broken.items():
        (tmp_path / name).write_text(text)
    found = complaints(tmp_path)
    assert any(complaint in each for each in found), found


def test_tests_stand_where_what_they_test_stands():
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        folder = path.parent.relative_to(ROOT / "tests")
        if folder.parts and folder.parts[0] not in APART:
            assert (ROOT / "workbench" / folder).is_dir() or (ROOT / folder).is_dir(), f"{path} tests a folder that is not there"
