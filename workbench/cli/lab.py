"""workbench lab: JupyterLab on the running explorer, or on a notebook.

JupyterLab runs no cell by itself. A small extension, which only this command's own server is shown, runs the explorer's notebook when it is
opened: one that was just made, or that the person has run before (Jupyter's own signature says so). Anybody else's waits for a click.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from workbench.files import write_text

EXPLORER = Path("explore.ipynb")
SCOPE = "workbench-lab"
WORDS = """# Explore

Why does the model say what it says? The cell below opens the whole workbench on one screen.

- **Choose a row** of the ranking: its page opens beside it. **Enter** in the question ranks another one; *questions …* has some.
- **Find**, **Steer**, **Map** and **Attention** look at the same feature. **?** says what the keys do.
- **Copy as Python** writes what you see as code."""
# A federated extension as JupyterLab loads it, written by hand: one plugin, which waits for the notebook and runs it once.
PLUGIN = """const path = @@PATH@@;
const plugin = {
  id: "workbench-lab:run",
  autoStart: true,
  activate: (app) => {
    let isDone = false;
    const look = async () => {
      const context = app.shell.currentWidget?.context;
      if (isDone || context?.path !== path || !context.sessionContext) return;
      isDone = true;
      await context.ready;
      await context.sessionContext.ready;
      app.commands.execute("notebook:run-all-cells");
    };
    app.restored.then(look);
    app.shell.currentChanged?.connect(look);
  },
};
window._JUPYTERLAB = window._JUPYTERLAB || {};
window._JUPYTERLAB["workbench-lab"] = { init: () => {}, get: async () => () => ({ __esModule: true, default: plugin }) };
"""


def lab(
    notebook: Annotated[
        Path | None, typer.Argument(help="A notebook of yours. [default: explore.ipynb here, made where there is none]")
    ] = None,
    model: Annotated[str, typer.Option(help="For a new explore.ipynb: a hub name, a local folder, or the bundled atlas.")] = "atlas",
    sae: Annotated[str | None, typer.Option(help="For a new explore.ipynb: the SAE's folder; for the atlas, one of its widths.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Where JupyterLab listens. [default: 8888, or the next free]")] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open it in the browser.")] = True,
) -> None:
    """Open JupyterLab on the explorer, running: the whole workbench on one screen. Or on a notebook."""
    if notebook is not None and not notebook.exists():
        raise ValueError(f"{notebook} does not exist")
    is_new = notebook is None and not EXPLORER.exists()
    if is_new:
        write_text(EXPLORER, explorer_notebook(model, sae))
    with tempfile.TemporaryDirectory(prefix="workbench-lab-") as folder:
        options = [] if port is None else [f"--ServerApp.port={port}", "--ServerApp.port_retries=0"]
        options += [] if browser else ["--no-browser"]
        options += ["--allow-root"] if getattr(os, "geteuid", lambda: 1)() == 0 else []  # in a container everybody is root
        opened = notebook or EXPLORER
        options += [f"--LabApp.default_url=/lab/tree/{quote(opened.name)}"]  # also in the address that is printed
        if notebook is None and (is_new or is_trusted(EXPLORER)):
            write_extension(Path(folder), str(EXPLORER))
            options += [f"--LabApp.extra_labextensions_path={folder}"]
        raise typer.Exit(subprocess.call([sys.executable, "-m", "jupyterlab", *options, str(opened)]))


def is_trusted(notebook: Path) -> bool:
    """Has this person run it? Jupyter signs what its owner has run."""
    import nbformat
    from nbformat.sign import NotebookNotary

    try:
        return bool(NotebookNotary().check_signature(nbformat.read(notebook, as_version=4)))
    except (OSError, ValueError):  # none that can be read: JupyterLab says what is wrong with it
        return False


def write_extension(folder: Path, path: str) -> None:
    """The extension that runs the notebook at `path`, seen from the server's folder."""
    home = folder / SCOPE
    (home / "static").mkdir(parents=True)
    about = {"name": SCOPE, "version": "0.1.0", "jupyterlab": {"_build": {"load": "static/remoteEntry.js", "extension": "./extension"}}}
    (home / "package.json").write_text(json.dumps(about), encoding="utf-8")
    (home / "static" / "remoteEntry.js").write_text(PLUGIN.replace("@@PATH@@", json.dumps(path)), encoding="utf-8")


def explorer_notebook(model: str, sae: str | None) -> str:
    """A word on what to try and a cell, as nbformat 4.5 wants them."""
    load = f"bench = wb.load({model!r}{'' if sae is None else f', sae={sae!r}'})"
    source = f"import workbench as wb\nfrom widgets import explore\n\n{load}\nexplorer = explore(bench)\nexplorer"
    hidden = {"jupyter": {"source_hidden": True}}  # a click shows it: the explorer comes first
    cells = [
        {"cell_type": "markdown", "id": "words", "metadata": {}, "source": WORDS},
        {"cell_type": "code", "execution_count": None, "metadata": hidden, "outputs": [], "id": "explore", "source": source},
    ]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return json.dumps({"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}, indent=1) + "\n"
