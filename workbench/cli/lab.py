"""workbench lab: JupyterLab on the explorer, or on a notebook."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

EXPLORER = Path("explore.ipynb")


def lab(
    notebook: Annotated[
        Path | None, typer.Argument(help="A notebook of yours. [default: explore.ipynb here, made where there is none]")
    ] = None,
    model: Annotated[str, typer.Option(help="For a new explore.ipynb: a hub name, a local folder, or the bundled atlas.")] = "atlas",
    sae: Annotated[str | None, typer.Option(help="For a new explore.ipynb: the SAE's folder; for the atlas, one of its widths.")] = None,
) -> None:
    """Open JupyterLab on the explorer: the whole workbench on one screen. Or on a notebook."""
    if notebook is not None and not notebook.exists():
        raise ValueError(f"{notebook} does not exist")
    if notebook is None and not EXPLORER.exists():
        EXPLORER.write_text(explorer_notebook(model, sae), encoding="utf-8")
    raise typer.Exit(subprocess.call([sys.executable, "-m", "jupyterlab", str(notebook or EXPLORER)]))


def explorer_notebook(model: str, sae: str | None) -> str:
    """A notebook of two cells, as nbformat 4.5 wants it."""
    load = f"bench = wb.load({model!r}{'' if sae is None else f', sae={sae!r}'})"
    sources = [f"import workbench as wb\nfrom widgets import explore\n\n{load}", "explorer = explore(bench)\nexplorer"]
    empty = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": []}
    cells = [{**empty, "id": name, "source": source} for name, source in zip(("load", "explore"), sources, strict=True)]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return json.dumps({"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}, indent=1) + "\n"
