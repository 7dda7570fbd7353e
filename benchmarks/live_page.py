"""A widget in a page of its own with its Python behind it, as in a notebook but without one: for benchmarks and browser tests.

    open_live(page, widget, folder)      the widget's module draws in `page`; what the hand changes reaches the widget's traits in this
                                         process through playwright, and what these change reaches the page

Between page and Python lies playwright's pipe instead of Jupyter's websocket and kernel: a round trip of some milliseconds in both.
"""

import json
import threading
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from widgets import jobs, standalone

HTML = """<!doctype html><meta charset="utf-8"><meta name="color-scheme" content="light dark"><title>live</title><style>
body { margin: 24px; font: 14px/1.45 system-ui, sans-serif; background: #fff; color: #16181d; }
@media (prefers-color-scheme: dark) { body { background: #14161a; color: #e6e7ea; } }
@@STYLE@@</style><div id="widget"></div>
<script type="application/json" id="state">@@STATE@@</script><script type="module">@@SCRIPT@@</script>"""
SCRIPT = """
const bytes = (text) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
const revive = (key, value) => (value?.["@bytes"] == null ? value : bytes(value["@bytes"]));
const { module, state } = JSON.parse(document.getElementById("state").textContent, revive);
const listeners = new Map();
const fire = (event) => [...(listeners.get(event) ?? [])].forEach((listener) => listener());
let changed = {};
async function ask(question) {
  const { changes, isBusy } = JSON.parse(await window.askPython(JSON.stringify(question)), revive);
  for (const [name, value] of Object.entries(changes)) state[name] = value;
  for (const name of Object.keys(changes)) fire(`change:${name}`);
  window.answered = (window.answered ?? 0) + 1;
  if (isBusy) setTimeout(() => ask({}), 20);
}
const model = {
  widget_manager: {},
  get: (name) => state[name],
  set(name, value) {
    if (Object.is(state[name], value)) return;
    [state[name], changed[name]] = [value, value];
    fire(`change:${name}`);
  },
  save_changes() {
    const sent = changed;
    changed = {};
    ask({ set: sent });
  },
  send: (content) => ask({ send: content }),
  on: (event, listener) => listeners.set(event, [...(listeners.get(event) ?? []), listener]),
  off: (event, listener) => listeners.set(event, (listeners.get(event) ?? []).filter((each) => each !== listener)),
};
window.refresh = () => ask({});
const { default: definition } = await import(URL.createObjectURL(new Blob([module], { type: "text/javascript" })));
definition.render({ model, el: document.getElementById("widget") });
window.isDrawn = true;
"""


class Behind:
    """Python's side of the page: takes what was set, gives what has changed since it was last asked."""

    def __init__(self, widget: Any):
        self.widget, self.changed, self.lock = widget, {}, threading.Lock()
        self.names = {name for name in widget.traits(sync=True) if not name.startswith("_")} - standalone.NOT_STATE
        widget.observe(self._note)

    def answer(self, question: str) -> str:
        said = json.loads(question)
        with jobs.SETTING:
            if "set" in said:
                self.widget.set_state(said["set"])
            if "send" in said:
                self.widget._handle_custom_msg(said["send"], [])
        with self.lock:
            changes, self.changed = self.changed, {}
        is_busy = any(job.thread.is_alive() for job in list(jobs._RUNNING))
        return standalone.as_json({"changes": changes, "isBusy": is_busy})

    def _note(self, change: Any) -> None:
        if change["name"] in self.names:
            with self.lock:
                self.changed[change["name"]] = change["new"]


def open_live(page: Page, widget: Any, folder: Path) -> None:
    part = next(standalone.parts(widget))
    page.expose_function("askPython", Behind(widget).answer)
    texts = {"STYLE": part.style, "SCRIPT": SCRIPT, "STATE": standalone.as_json({"module": part.module, "state": part.state})}
    pieces = HTML.split("@@")
    (folder / "live.html").write_text("".join(piece if i % 2 == 0 else texts[piece] for i, piece in enumerate(pieces)), encoding="utf-8")
    page.goto((folder / "live.html").as_uri())
    page.wait_for_function("window.isDrawn")
