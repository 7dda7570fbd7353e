"""workbench doctor: what a bug report needs to say of the machine."""

import json
from dataclasses import asdict
from typing import Annotated

import typer


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Versions beside the tested ones, processor, memory, devices, the atlas's files, the environment: one page for a bug report."""
    from workbench.checks.doctor import examine

    found = examine()
    if as_json:
        print(json.dumps({"facts": [asdict(fact) for fact in found.facts], "problems": found.problems}, ensure_ascii=False, indent=1))
    else:
        print(found)
