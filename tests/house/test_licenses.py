"""Everything that is installed with the workbench may be: docs/licenses.md lists it, and no license asks more of us than ours."""

import re
import tomllib
from pathlib import Path

import pytest
from licenses import COMPATIBLE, family
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]


def test_every_dependency_is_listed_under_a_license_that_is_compatible():
    lists = dict(re.findall(r"^\*\*(\S+)\*\* \(\d+\): (.*)$", (ROOT / "docs" / "licenses.md").read_text(), re.MULTILINE))
    assert set(lists) <= COMPATIBLE
    listed = {name for names in lists.values() for name in names.split(", ")}
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    missing = {re.sub(r"[-_.]+", "-", Requirement(line).name).lower() for line in asked} - listed
    assert not missing, f"make licenses: docs/licenses.md lacks {missing}"
    assert len(listed) > 100


@pytest.mark.parametrize(
    ("said", "means"), [("BSD-3-Clause AND MIT", "BSD"), ("ISC License (ISCL)", "ISC"), ("Mozilla Public License 2.0 (MPL 2.0)", "MPL-2.0")]
)
def test_a_license_is_read_as_packages_say_it(said: str, means: str):
    assert family(said) == means


@pytest.mark.parametrize("said", ["", "UNKNOWN", "GPL-3.0-only", "GNU Affero General Public License v3", "LGPL-2.1", "proprietary"])
def test_a_license_that_asks_more_is_found(said: str):
    with pytest.raises(ValueError, match="no license that is known here"):
        family(said)
