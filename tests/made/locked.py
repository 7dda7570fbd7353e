"""requirements.lock: every package of an installation at its version, with the hash of its file, from pip's own report. `make lock` writes
it for the machine at hand, `make install-locked` installs from it and from nothing else.

    pip install --dry-run --ignore-installed --report - -c constraints.txt -e '.[test]' | python tests/made/locked.py > requirements.lock

A hash is of one file, and torch's builds differ by processor and index: so a lock belongs to whoever installs, and is not kept here.
"""

import json
import sys
from typing import Any


def lock(report: dict[str, Any]) -> str:
    """`pip install --require-hashes -r` of it installs what the report lists. Raises ValueError for a package that is no single file with a
    SHA-256, the project itself left out."""
    lines = []
    for each in report["install"]:
        where, name, version = each["download_info"], each["metadata"]["name"], each["metadata"]["version"]
        if "dir_info" in where:
            continue  # the project itself
        digest = where.get("archive_info", {}).get("hashes", {}).get("sha256")
        if not digest:
            raise ValueError(f"{name} {version} has no SHA-256: it comes from {where['url'].split('?')[0].rsplit('/', 1)[-1]}")
        lines.append(f"{name}=={version} --hash=sha256:{digest}")
    return "\n".join(sorted(lines, key=str.lower)) + "\n"


if __name__ == "__main__":
    sys.stdout.write(lock(json.load(sys.stdin)))
