"""Imports point only up the list of folders, the way of the data; widgets/ imports workbench/, never the other way."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = ["shapes", "files", "gemm", "model", "tail", "replay", "head", "texts", "rows", "activations", "shards"]
LAYERS += ["sae", "features", "circuits", "atlas", "bench", "cli", "__main__"]
DRAWINGS = ("html", "html_act", "html_evaluate", "html_find", "html_heads", "html_survey", "marks", "card", "page_html")
DRAWINGS += ("figures", "figures_act", "figures_features", "figures_scaling", "figures_train")
PURE = {f"widgets.{name}" for name in DRAWINGS}  # rows in, str or Figure out: how a result object shows itself
LAZY = {(layer, drawing) for layer in LAYERS for drawing in PURE}  # allowed inside a function only
LAZY |= {("atlas", "workbench.bench")}  # atlas.load() gives the object that a notebook holds


def imports(path: Path) -> list[tuple[str, bool]]:
    """(module, is it imported inside a function?), relative imports refused: they would hide the layer."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.col_offset > 0) for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}:{node.lineno} imports relatively"
            found += [(f"{node.module}.{alias.name}", node.col_offset > 0) for alias in node.names]
    return [(".".join(name.split(".")[:2]), is_lazy) for name, is_lazy in found if name.split(".")[0] in ("workbench", "widgets")]


@pytest.mark.parametrize("path", sorted((ROOT / "workbench").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_up_the_list(path: Path):
    layer = path.relative_to(ROOT / "workbench").parts[0].removesuffix(".py")
    if layer == "__init__":  # the package root re-exports from every layer
        return
    for module, is_lazy in imports(path):
        if (layer, module) in LAZY and is_lazy:
            continue
        package, _, target = module.partition(".")
        assert package == "workbench" and target in LAYERS, f"{path.name} imports {module}"
        assert LAYERS.index(target) <= LAYERS.index(layer), f"{layer} imports {target}, which comes after it"


@pytest.mark.parametrize("module", sorted(PURE))
def test_what_results_draw_themselves_with_needs_no_workbench(module: str):
    path = ROOT / f"{module.replace('.', '/')}.py"
    assert not [name for name, _ in imports(path) if name.startswith("workbench")]
