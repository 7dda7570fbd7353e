"""One environment, said in three files that may not drift apart: pyproject.toml, constraints.txt, environment.yml."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from lowest import lowest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import workbench
from workbench import versions
from workbench.versions import TESTED, _numbers, untested

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NEEDED = [Requirement(line) for line in PROJECT["dependencies"]]
TESTING = [Requirement(line) for line in PROJECT["optional-dependencies"]["test"]]
EXTRAS = [Requirement(line) for name, lines in PROJECT["optional-dependencies"].items() if name != "test" for line in lines]
NOT_IMPORTED = {"jupyterlab"}  # started as a program by `workbench lab`
INSIDES = {"transformer-lens", "transformers"}  # bounded above too: what is taken from their insides moves between releases
PACKAGES = ("workbench", "widgets")


def pins() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines), "only name==version: the registry is pip's business"
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}


def test_conda_gets_the_same_packages_and_bounds_as_pip():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    plain, by_pip = [entry for entry in conda if isinstance(entry, str)], conda[-1]["pip"]
    assert plain == [f"python{PROJECT['requires-python']}", "pip"]
    assert by_pip == ["-c constraints.txt", *(str(requirement) for requirement in NEEDED + TESTING), "-e ."]


@pytest.mark.parametrize("requirement", NEEDED + TESTING, ids=str)
def test_the_tested_version_lies_within_the_bound(requirement: Requirement):
    signs = {bound.operator for bound in requirement.specifier}
    assert signs == {">="} or (signs == {">=", "<"} and requirement.name in INSIDES), "a lower bound, nothing else"
    assert requirement.specifier.contains(pins()[canonicalize_name(requirement.name)])


def test_the_oldest_version_that_was_tested_is_the_lower_bound():
    bounds = lowest((ROOT / "pyproject.toml").read_text())
    assert {name: oldest for name, (oldest, _) in TESTED.items()} == {name: as_released(bounds[name], name) for name in TESTED}
    assert set(TESTED) == {requirement.name for requirement in NEEDED}


def as_released(bound: str, name: str) -> str:
    """2.13 → 2.13.0 where that is how the package writes its releases."""
    return TESTED[name][0] if _numbers(bound) == _numbers(TESTED[name][0]) else bound


def test_the_docs_show_what_was_tested():
    rows = [line.strip("| ").split(" | ") for line in (ROOT / "docs/versions.md").read_text().splitlines() if line.startswith("| ")][1:]
    assert {name: (oldest, newest) for name, oldest, newest in rows} == TESTED


@pytest.mark.parametrize("name", TESTED)
def test_the_pinned_version_is_one_that_loading_does_not_warn_of(name: str):
    assert not untested({name: pins()[canonicalize_name(name)]})


@pytest.mark.parametrize(
    ("there", "is_outside"), [("5.20.9", True), ("5.21.0", False), ("5.24.7", False), ("5.25.0", True), ("6.0.0rc1", True)]
)
def test_a_version_outside_is_named_with_what_was_tested(there: str, is_outside: bool):
    assert untested({"transformers": there}) == [f"transformers {there} (5.21.0 to 5.24.0 were)"] * is_outside


def test_one_warning_names_what_lies_outside(monkeypatch):
    monkeypatch.setattr(versions, "version", lambda name: "99.0" if name in ("torch", "pandas") else TESTED[name][1])
    with pytest.warns(
        versions.UntestedVersion, match=r"not tested with torch 99.0 \(.*\), pandas 99.0 \(.* were\): if numbers surprise you"
    ) as seen:
        versions.warn_untested.__wrapped__()
    assert len(seen) == 1


def test_torch_is_pinned_to_a_version_of_any_build():
    assert re.fullmatch(r"\d+\.\d+\.\d+", pins()["torch"])  # 2.13.0, not 2.13.0+cpu: pip's settings choose the build


CALLED = {"sklearn": "scikit-learn", "umap": "umap-learn", "yaml": "pyyaml"}  # packages whose module has another name


def imported() -> set[str]:
    trees = [ast.parse(path.read_text()) for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    named = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    tops = {name.split(".")[0] for name in plain | named}
    return {canonicalize_name(CALLED.get(name, name)) for name in tops - set(sys.stdlib_module_names) - set(PACKAGES)}


def test_what_is_imported_is_declared_and_what_is_declared_is_imported():
    needed, extras = ({canonicalize_name(requirement.name) for requirement in lines} for lines in (NEEDED, EXTRAS))
    assert imported() - extras == needed - NOT_IMPORTED


def test_importing_workbench_loads_neither_torch_nor_transformer_lens():
    code = "import workbench, sys; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "transformer_lens", "pandas", "numpy"} & set(modules)


@pytest.mark.parametrize("name", workbench.__all__)
def test_every_public_name_is_there(name: str):
    assert getattr(workbench, name) is not None
    assert name in dir(workbench)


def test_a_name_that_is_not_there_lists_those_that_are():
    with pytest.raises(AttributeError, match="workbench has no 'nonsense'; it has .*logit_diff"):
        _ = workbench.nonsense


def test_ci_does_nothing_but_chromium_and_make_test():
    script = ROOT / ".ci/run"
    assert script.stat().st_mode & 0o111, "not executable"
    subprocess.run(["bash", "-n", script], check=True)
    assert "set -euo pipefail" in script.read_text()
    assert script.read_text().rstrip().endswith("\nmake test")
