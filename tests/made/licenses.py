"""docs/licenses.md: every package that an installation brings, with its license, as its own metadata say it. `make licenses` writes it.

    python -m licenses > docs/licenses.md

Names without versions: what is listed is what pip resolves on the machine that writes it, without CUDA's libraries.
"""

import re
from collections import defaultdict
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import Requirement

FAMILIES = {  # how a license is named in metadata → its family; the first that is found in the text
    "MPL": "MPL-2.0",
    "Mozilla": "MPL-2.0",
    "Apache": "Apache-2.0",
    "BSD": "BSD",
    "0BSD": "BSD",
    "Project Jupyter Contributors": "BSD",
    "MIT": "MIT",
    "ISC": "ISC",
    "PSF": "PSF-2.0",
    "Python Software Foundation": "PSF-2.0",
}
COMPATIBLE = {*FAMILIES.values()}  # with MIT, for what is installed beside it and not copied into it
STRICT = re.compile(r"\b[AL]?GPL|GNU|SSPL|Commons Clause|[Pp]roprietary|non-?commercial", re.IGNORECASE)
HEAD = """# Licenses of what is installed with the workbench

Written by `make licenses` from the packages' own metadata. The workbench itself is MIT. None of these is copied into it; all may be used by
software under any license. MPL-2.0 asks that changes of its own files stay open, which nobody here makes.

A build of torch for CUDA brings NVIDIA's libraries too, under NVIDIA's own terms.
"""


def closure(name: str) -> dict[str, Distribution]:
    """Normalized name → every installed package that this one needs, itself left out."""
    found: dict[str, Distribution] = {}
    asked: dict[str, frozenset[str]] = {}
    waiting = [(name, frozenset[str]())]
    while waiting:
        one, extras = waiting.pop()
        key = re.sub(r"[-_.]+", "-", one).lower()
        if key in asked and extras <= asked[key]:
            continue
        asked[key] = asked.get(key, frozenset()) | extras
        try:
            found[key] = distribution(one)
        except PackageNotFoundError:  # of another system
            continue
        for line in found[key].requires or []:
            needed = Requirement(line)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras or {""}):
                waiting.append((needed.name, frozenset(needed.extras)))
    return {key: one for key, one in found.items() if key != re.sub(r"[-_.]+", "-", name).lower()}


def license_of(one: Distribution) -> str:
    """One line, as the package says it."""
    said = one.metadata.get("License-Expression") or ""
    classifiers = [
        line.split(" :: ")[-1] for line in one.metadata.get_all("Classifier") or [] if line.startswith("License :: OSI Approved :: ")
    ]
    first_line = next(iter((one.metadata.get("License") or "").strip().splitlines()), "")
    return said or ", ".join(classifiers) or first_line


def family(license_text: str) -> str:
    """Raises ValueError for a license that is not known to be compatible."""
    if STRICT.search(license_text) or not (known := [name for word, name in FAMILIES.items() if word in license_text]):
        raise ValueError(f"{license_text!r} is no license that is known here to be compatible with MIT")
    return known[0]


def page() -> str:
    """docs/licenses.md"""
    by_family: dict[str, list[str]] = defaultdict(list)
    for name, one in sorted(closure("circuit-workbench").items()):
        by_family[family(license_of(one))].append(name)
    lists = [f"\n**{each}** ({len(names)}): {', '.join(names)}\n" for each, names in sorted(by_family.items())]
    return HEAD + "".join(lists)


if __name__ == "__main__":
    print(page(), end="")
