"""Imports point only up the list of folders and of the wings in them, the way of the data; widgets/ imports workbench/, never back."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYERS = ["shapes", "files", "model", "activations", "sae", "features", "circuits", "compare", "atlas", "bench", "cli", "__main__"]
VIEWS = ["marks", "figures", "html", "panes"]
WINGS = {  # in the order of the data, files that stand beside the wings included
    "workbench": LAYERS,
    "workbench/sae": [
        "architectures",
        "sae",
        "transcoder",
        "cross_layer",
        "neighborhoods",
        "formats",
        "evaluation",
        "evaluate",
        "kernels",
        "training",
        "scaling",
    ],
    "workbench/features": ["index", "search", "labels", "survey"],
    "workbench/circuits": ["metrics", "intervene", "ranking", "evidence", "steering", "graph"],
    "widgets": VIEWS,
}
MOST_FILES = 14  # of a wing: one question, a dozen doors at most
PURE = ("widgets.marks", "widgets.figures", "widgets.html")  # rows in, str or Figure out: how a result object shows itself
LAZY = {("workbench.atlas", "workbench.bench")}  # atlas.load() gives the object that a notebook holds
# SAE.load and Transcoder.load read what any library wrote
LAZY |= {(f"workbench.sae.{name}", "workbench.sae.formats") for name in ("sae", "transcoder", "cross_layer")}
FILES = [path.relative_to(ROOT) for package in ("workbench", "widgets") for path in sorted((ROOT / package).rglob("*.py"))]


def imports(path: Path) -> list[tuple[str, bool]]:
    """(module, is it imported inside a function?), relative imports refused: they would hide the layer."""
    found = []
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.col_offset > 0) for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}:{node.lineno} imports relatively"
            found += [(f"{node.module}.{alias.name}", node.col_offset > 0) for alias in node.names]
    return [(name, is_lazy) for name, is_lazy in found if name.split(".")[0] in ("workbench", "widgets")]


def is_below(module: str, packages: tuple[str, ...]) -> bool:
    return any(f"{module}.".startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_point_up_the_list(path: Path):
    package, own = path.parts[0], ".".join(path.with_suffix("").parts)
    if len(path.parts) == 2 and path.name == "__init__.py":  # a package's root hands out names of every layer
        return
    for module, is_lazy in imports(path):
        if is_lazy and any(is_below(own, (a,)) and is_below(module, (b,)) for a, b in LAZY):
            continue
        if not module.startswith(f"{package}."):
            assert package == "widgets" or (is_lazy and is_below(module, PURE)), f"{path} imports {module}"
            continue
        for folder, wings in WINGS.items():
            inside = f"{folder.replace('/', '.')}."
            if own.startswith(inside) and module.startswith(inside):
                here, there = (name.removeprefix(inside).split(".")[0] for name in (own, module))
                if here != "__init__":
                    assert there in wings and here in wings, f"{folder} has no place for {here} or {there} in the list of its wings"
                    assert wings.index(there) <= wings.index(here), f"{path}: {folder}/{here} imports {there}, which comes after it"


@pytest.mark.parametrize("path", [path for path in FILES if is_below(".".join(path.with_suffix("").parts), PURE)], ids=str)
def test_what_results_draw_themselves_with_needs_of_workbench_its_files_only(path: Path):
    assert not [name for name, _ in imports(path) if name.startswith("workbench") and not name.startswith("workbench.files.")]


@pytest.mark.parametrize("folder", sorted({path.parent for path in FILES}), ids=str)
def test_a_wing_is_small_and_says_its_question_in_one_line(folder: Path):
    files = sorted((ROOT / folder).glob("*.py"))
    assert len(files) <= MOST_FILES, f"{folder} has {len(files)} files"
    if folder.parts[0] == "workbench" or folder.parts[-1] in VIEWS:
        assert (ast.get_docstring(ast.parse((ROOT / folder / "__init__.py").read_text())) or "").strip(), (
            f"{folder} does not say its question"
        )
