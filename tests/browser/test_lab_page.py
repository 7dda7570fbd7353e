"""`workbench lab` in a folder of its own: JupyterLab opens on the explorer, which runs without a click and offers first questions."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_lab import NEWS, wait_for
from playwright.sync_api import Browser, expect

pytestmark = [pytest.mark.browser, pytest.mark.slow]
TOKEN = "made-for-this-test"


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    settings = tmp_path / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text(NEWS)
    own = {name: str(tmp_path / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")}
    own |= {"JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings"), "JUPYTERLAB_WORKSPACES_DIR": str(tmp_path / "workspaces")}
    own |= {"JUPYTER_TOKEN": TOKEN, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "work").mkdir()
    with (tmp_path / "lab.log").open("w") as log:
        command = [sys.executable, "-m", "workbench", "lab", "--port", str(port), "--no-browser"]
        server = subprocess.Popen(command, cwd=tmp_path / "work", env=os.environ | own, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(f"http://127.0.0.1:{port}/api", server)
        yield f"http://127.0.0.1:{port}/lab/tree/explore.ipynb?token={TOKEN}"
    finally:
        os.killpg(server.pid, 15)
        server.wait(30)


def test_it_opens_on_the_running_explorer(address: str, chromium: Browser):
    page = chromium.new_page(viewport={"width": 1280, "height": 720})
    page.goto(address)
    expect(page.locator('.wbq[data-stage="done"]')).to_be_visible(timeout=240_000)
    expect(page.locator(".wbr tbody tr").first).to_have_attribute("aria-selected", "true")
    examples = page.get_by_label("Questions asked before, and to begin with").locator("option").all_inner_texts()
    assert len(examples) > 5
    page.close()
