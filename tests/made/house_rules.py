"""The rules of the house, as complaints about a tree of files: `complaints(root)` is empty where all are kept.

Imports point only up the lists below, the way of the data, between folders and between the wings in them; no circle of files; none is
relative; what results draw themselves with needs nothing of them; a wing is small and says its question.
"""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

LAYERS = (
    "shapes files versions process given finite gelu model replay activations".split()
    + "sae features circuits bench atlas benches checks cli __main__".split()
)
VIEWS = ["marks", "rows", "figures", "html", "panes"]
WINGS = {  # in the order of the data, files that stand beside the wings included
    "workbench": LAYERS,
    "workbench/sae": (
        "config architectures dictionary parts formats sae transcoder cross_layer stack convert".split()
        + "neighborhoods evaluation evaluate evaluate_layers kernels training scaling".split()
    ),
    "workbench/features": ["index", "lists", "search", "labels", "survey", "probes", "changes"],
    "workbench/circuits": ["metrics", "acts", "intervene", "ranking", "evidence", "steering", "depth", "graph", "direct"],
    "widgets": VIEWS,
}
MOST_FILES = 14  # of a wing: one question, fourteen doors at most
PURE = ("widgets.marks", "widgets.figures", "widgets.html")  # rows in, str or Figure out: how a result object shows itself


def complaints(root: Path) -> list[str]:
    paths = [path.relative_to(root) for package in ("workbench", "widgets") for path in sorted((root / package).rglob("*.py"))]
    found = [complaint for path in paths for complaint in _of_imports(root, path)]
    found += [complaint for folder in sorted({path.parent for path in paths}) for complaint in _of_wing(root, folder)]
    return found + _circles(root, paths)


def is_below(module: str, packages: tuple[str, ...]) -> bool:
    return any(f"{module}.".startswith(f"{package}.") for package in packages)


def _module(path: Path) -> str:
    return ".".join(path.with_suffix("").parts)


def _imports(root: Path, path: Path) -> Iterator[tuple[str, bool]]:
    """(module, is it imported inside of something, where it costs nothing to import the file?), of our own; a relative one begins with a
    dot. `import_module` with a name that is written out counts too."""
    for node in ast.walk(ast.parse((root / path).read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = ["." * node.level + f"{node.module or ''}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module") and isinstance(node.args[0], ast.Constant):
            names = [str(node.args[0].value)]
        for name in names:
            if name.split(".")[0] in ("workbench", "widgets", ""):
                yield name, node.col_offset > 0


def _of_imports(root: Path, path: Path) -> Iterator[str]:
    package, own = path.parts[0], _module(path)
    is_root = len(path.parts) == 2 and path.name == "__init__.py"  # hands out names of every layer
    for module, is_lazy in _imports(root, path):
        if module.startswith("."):
            yield f"{path} imports relatively, which hides the layer: {module}"
        elif is_below(own, PURE) and module.startswith("workbench.") and not is_below(module, ("workbench.files",)):
            yield f"{path} imports {module}: what results draw themselves with needs of workbench its files only"
        elif not module.startswith(f"{package}."):
            if package == "workbench" and not (is_lazy and is_below(module, PURE)):
                yield f"{path} imports {module}: only widgets import workbench; a result draws itself inside a method"
        elif not is_root:
            yield from _upward(path, own, module)


def _upward(path: Path, own: str, module: str) -> Iterator[str]:
    for folder, wings in WINGS.items():
        inside = f"{folder.replace('/', '.')}."
        if own.startswith(inside) and module.startswith(inside):
            here, there = (name.removeprefix(inside).split(".")[0] for name in (own, module))
            if here == "__init__":
                continue
            for name in {here, there} - set(wings):
                yield f"{path}: {folder} has no place for {name!r} in the list of its wings"
            if {here, there} <= set(wings) and wings.index(there) > wings.index(here):
                yield f"{path}: {folder}/{here} imports {there}, which comes after it"


def _of_wing(root: Path, folder: Path) -> Iterator[str]:
    files = sorted((root / folder).glob("*.py"))
    if len(files) > MOST_FILES:
        yield f"{folder} has {len(files)} files, at most {MOST_FILES}: a wing asks one question"
    door = root / folder / "__init__.py"
    said = ast.get_docstring(ast.parse(door.read_text(encoding="utf-8"))) if door.is_file() else None
    if len(folder.parts) > 1 and "?" not in (said or "").split("\n")[0]:
        yield f"{folder}/__init__.py does not say in its first line which question the wing answers"


def _circles(root: Path, paths: list[Path]) -> list[str]:
    """Files that need each other, imports for types and inside of functions included."""
    files = {_module(path).removesuffix(".__init__"): path for path in paths if len(path.parts) > 2 or path.name != "__init__.py"}
    needs = {}
    for own, path in files.items():
        named = {module if module in files else module.rpartition(".")[0] for module, _ in _imports(root, path)}
        needs[own] = named & files.keys() - {own}
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        return [f"a circle of files: {' ← '.join(error.args[1])}"]
    return []
