"""Every public name says what one gets of it."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FRAMEWORK = {"forward", "close", "set_state"}  # torch and ipywidgets say what these are; ours do the same for their part
Node = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def public(tree: ast.Module | ast.ClassDef, owner: str = "") -> Iterator[tuple[str, Node, bool]]:
    """(dotted name, its definition, is it a method of a class with a base?) of all that has no underscore in front."""
    for node in tree.body:
        if isinstance(node, Node) and not node.name.startswith("_") and "overload" not in map(ast.unparse, node.decorator_list):
            yield owner + node.name, node, isinstance(tree, ast.ClassDef) and bool(tree.bases)
            if isinstance(node, ast.ClassDef):
                yield from public(node, f"{owner}{node.name}.")


def test_every_public_name_has_a_docstring():
    """A method says it in the class that it overrides; a property's setter in its getter."""
    found = [
        (path.relative_to(ROOT), name, node, may_inherit)
        for package in ("workbench", "widgets")
        for path in sorted((ROOT / package).rglob("*.py"))
        for name, node, may_inherit in public(ast.parse(path.read_text(encoding="utf-8")))
    ]
    said_above = FRAMEWORK | {node.name for _, name, node, _ in found if "." in name and ast.get_docstring(node)}
    silent = [
        f"{path}:{node.lineno} {name}"
        for path, name, node, may_inherit in found
        if not ast.get_docstring(node) and not (may_inherit and node.name in said_above)
    ]
    assert not silent, "\n".join(silent)


def test_every_file_says_what_it_is_for():
    silent = [
        path
        for package in ("workbench", "widgets")
        for path in (ROOT / package).rglob("*.py")
        if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent
