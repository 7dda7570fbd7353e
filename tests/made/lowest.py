"""The lower bounds that pyproject.toml promises, as constraints for pip: `make test-oldest` installs exactly these.

python tests/made/lowest.py > constraints-oldest.txt
"""

import re
import tomllib
from pathlib import Path

BOUND = re.compile(r"([\w.-]+)(?:\[[\w,]+\])?>=([\w.]+)")


def lowest(pyproject: str) -> dict[str, str]:
    """Package → the lowest version allowed, of what is needed and of what tests need."""
    project = tomllib.loads(pyproject)["project"]
    found = [BOUND.match(line) for line in project["dependencies"] + project["optional-dependencies"]["test"]]
    assert all(found), "every package has a lower bound"
    return {each[1]: each[2] for each in found if each}


if __name__ == "__main__":
    for name, version in lowest((Path(__file__).parents[2] / "pyproject.toml").read_text()).items():
        print(f"{name}=={version}")
