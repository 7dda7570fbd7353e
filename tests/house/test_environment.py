"""One environment, said in three files that may not drift apart: pyproject.toml, constraints.txt, environment.yml."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import workbench

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NEEDED = [Requirement(line) for line in PROJECT["dependencies"]]
TESTING = [Requirement(line) for line in PROJECT["optional-dependencies"]["test"]]
EXTRAS = [Requirement(line) for name, lines in PROJECT["optional-dependencies"].items() if name != "test" for line in lines]
NOT_IMPORTED = {"jupyterlab"}  # started as a program by `workbench lab`
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
    assert str(requirement.specifier).startswith(">="), "a lower bound, nothing else"
    assert requirement.specifier.contains(pins()[canonicalize_name(requirement.name)])


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
    code = "import time; start = time.process_time(); import workbench, sys; print(time.process_time() - start, *sys.modules)"
    seconds, *modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert float(seconds) < 0.3
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
