"""JupyterLab on a folder of its own, on this machine only, for the end-to-end test and the screenshots."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat

NEWS = '{"fetchNews": "false", "checkForUpdates": false}'  # JupyterLab would ask whether it may look for them
DARK = '{"theme": "JupyterLab Dark"}'
OPENED = """async () => { await window.jupyterapp.shell.currentWidget.context.ready; }"""
READY = """async () => { const w = window.jupyterapp.shell.currentWidget; await w.context.ready; await w.sessionContext.ready; }"""
RESTART = """async () => { await window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart(); }"""
SHUT_DOWN = """async () => { await window.jupyterapp.shell.currentWidget.sessionContext.shutdown(); }"""
RUN_CODE = (
    """async (code) => { await window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.requestExecute({ code }).done; }"""
)
RUN_ALL = """void window.jupyterapp.commands.execute("notebook:run-all-cells")"""
CLEAR = """void window.jupyterapp.commands.execute("notebook:clear-all-cell-outputs")"""
HIDE_FILES = """void window.jupyterapp.commands.execute("application:toggle-left-area")"""


def write_notebook(path: Path, *cells: str) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)


@contextmanager
def jupyterlab(folder: Path, is_dark: bool = False) -> Iterator[str]:
    """Its address, while it runs; notebooks lie in folder/notebooks."""
    settings = folder / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text(NEWS)
    if is_dark:
        (settings / "themes.jupyterlab-settings").write_text(DARK)
    own = {name: str(folder / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")}
    own |= {"JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"), "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces")}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [f"--port={port}", "--ip=127.0.0.1", "--no-browser", "--allow-root", "--IdentityProvider.token=", "--expose-app-in-browser"]
    options += ["--LabApp.extension_manager=readonly", f"--ServerApp.root_dir={folder / 'notebooks'}"]
    environment = {**os.environ, **own, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with (folder / "lab.log").open("w") as log:
        server = subprocess.Popen([sys.executable, "-m", "jupyterlab", *options], env=environment, stdout=log, stderr=log)
    try:
        wait_for(f"http://127.0.0.1:{port}/api", server)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)


def wait_for(address: str, server: subprocess.Popen, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while server.poll() is None and time.monotonic() < end:
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"JupyterLab did not come up in {seconds:.0f} s")
