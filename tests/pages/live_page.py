"""A widget in a page of its own with its Python behind it, as in a notebook but without one: for benchmarks and browser tests.

    open_live(page, widget, folder)      the module draws in `page`, and so do the widgets inside of it; what the hand changes reaches the
                                         traits in this process through playwright, and what these change reaches the page

Between page and Python lies playwright's pipe instead of Jupyter's websocket and kernel: a round trip of some milliseconds in both.
"""

import json
import threading
import time
from pathlib import Path
from typing import Any

from ipywidgets.widgets.widget import _instances
from playwright.sync_api import Page

from widgets.html import standalone
from widgets.panes import jobs

HTML = """<!doctype html><meta charset="utf-8"><meta name="color-scheme" content="light dark"><title>live</title><style>
body { margin: 24px; font: 14px/1.45 system-ui, sans-serif; background: #fff; color: #16181d; }
body.dark { background: #14161a; color: #e6e7ea; }
@media (prefers-color-scheme: dark) { body { background: #14161a; color: #e6e7ea; } }
@@STYLE@@</style><div id="widget"></div>
<script type="application/json" id="state">@@STATE@@</script><script type="module">@@SCRIPT@@</script>"""
SCRIPT = """
const bytes = (text) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
const revive = (key, value) => (value?.["@bytes"] == null ? value : bytes(value["@bytes"]));
const parts = JSON.parse(document.getElementById("state").textContent, revive);
async function ask(question) {
  const { changes, isBusy } = JSON.parse(await window.askPython(JSON.stringify(question)), revive);
  const known = Object.entries(changes).filter(([name]) => parts[name]);
  for (const [name, values] of known) Object.assign(parts[name].state, values);
  for (const [name, values] of known) for (const trait of Object.keys(values)) models[name].fire(`change:${trait}`);
  window.answered = (window.answered ?? 0) + 1;
  if (isBusy) setTimeout(() => ask({}), 20);
}
function model(name, state) {
  const listeners = new Map();
  let changed = {};
  return {
    widget_manager: {},
    fire: (event) => [...(listeners.get(event) ?? [])].forEach((listener) => listener()),
    get: (trait) => state[trait],
    set(trait, value) {
      if (Object.is(state[trait], value)) return;
      [state[trait], changed[trait]] = [value, value];
      this.fire(`change:${trait}`);
    },
    save_changes() {
      const sent = changed;
      changed = {};
      ask({ name, set: sent });
    },
    send: (content) => ask({ name, send: content }),
    on: (event, listener) => listeners.set(event, [...(listeners.get(event) ?? []), listener]),
    off: (event, listener) => listeners.set(event, (listeners.get(event) ?? []).filter((each) => each !== listener)),
  };
}
const models = Object.fromEntries(Object.entries(parts).map(([name, { state }]) => [name, model(name, state)]));
const host = { getWidget: async (reference) => ({ render: ({ el }) => show(reference.replace("anywidget:", ""), el) }) };
async function show(name, el) {
  if (!parts[name]) {  // made since the page was
    parts[name] = JSON.parse(await window.askPython(JSON.stringify({ part: name })), revive);
    models[name] = model(name, parts[name].state);
    document.head.append(Object.assign(document.createElement("style"), { textContent: parts[name].style }));
  }
  const { default: definition } = await import(URL.createObjectURL(new Blob([parts[name].module], { type: "text/javascript" })));
  return definition.render({ model: models[name], el, host, signal: new AbortController().signal });
}
const began = performance.now();
await show(Object.keys(parts)[0], document.getElementById("widget"));
window.drawnIn = performance.now() - began;
window.ask = ask; // for tests: what has changed in Python comes to the page
ask({});
window.isDrawn = true;
"""


class Behind:
    """Python's side of the page: takes what was set, gives what has changed since it was last asked."""

    def __init__(self, widget: Any):
        self.widget, self.widgets, self.changed, self.lock = widget, {}, {}, threading.Lock()
        self._met: set[str] = set()  # ids of all widgets that there were
        self.seconds = 0.0  # of CPU time that answering the hand took
        self._meet()

    def _meet(self) -> None:
        """Those widgets that have been made since."""
        made = set(_instances)
        if made == self._met:  # to look through all traits takes longer than most answers
            return
        self._met = made
        for each in inside(self.widget):
            comm = each.comm  # None of one that is being made or was closed, perhaps just now
            if comm is not None and comm.comm_id not in self.widgets:
                self.widgets[comm.comm_id] = each
                each.observe(self._note)

    def answer(self, question: str) -> str:
        """JSON to JSON."""
        said, began = json.loads(question), time.thread_time()
        try:
            return self._answer(said)
        finally:
            if said:  # not where the page only asks whether there is news
                self.seconds += time.thread_time() - began

    def _answer(self, said: dict[str, Any]) -> str:
        self._meet()
        if "part" in said:
            (part,) = (each for each in standalone.parts(self.widget) if each.name == said["part"])
            return standalone.as_json({"module": part.module, "state": part.state, "style": part.style})
        with jobs.SETTING:
            if "set" in said:
                self.widgets[said["name"]].set_state(said["set"])
            if "send" in said:
                self.widgets[said["name"]]._handle_custom_msg(said["send"], [])
        with self.lock:
            changes, self.changed = self.changed, {}
        is_busy = any(job.thread.is_alive() for job in list(jobs._RUNNING))
        return standalone.as_json({"changes": changes, "isBusy": is_busy})

    def _note(self, change: Any) -> None:
        widget, name = change["owner"], change["name"]
        if (comm := widget.comm) is None:  # closed, while its job still told how far it is
            return
        if widget.has_trait(name) and widget.trait_metadata(name, "sync") and not name.startswith("_") and name not in standalone.NOT_STATE:
            to_json = widget.trait_metadata(name, "to_json") or (lambda value, of: value)
            with self.lock:
                self.changed.setdefault(comm.comm_id, {})[name] = to_json(getattr(widget, name), widget)  # what it is by now


def inside(widget: Any) -> list[Any]:
    """The widget and those that its traits hold."""
    held = [
        each
        for name in widget.traits(sync=True)
        if name not in standalone.NOT_STATE
        for each in standalone._widgets_in(getattr(widget, name))
    ]
    return [widget, *(each for inner in held for each in inside(inner))]


def open_live(page: Page, widget: Any, folder: Path) -> Behind:
    parts, behind = list(standalone.parts(widget)), Behind(widget)
    page.expose_function("askPython", behind.answer)
    state = standalone.as_json({part.name: {"module": part.module, "state": part.state} for part in parts})
    texts = {"STYLE": "\n".join(dict.fromkeys(part.style for part in parts)), "SCRIPT": SCRIPT, "STATE": state}
    pieces = HTML.split("@@")
    (folder / "live.html").write_text("".join(piece if i % 2 == 0 else texts[piece] for i, piece in enumerate(pieces)), encoding="utf-8")
    page.goto((folder / "live.html").as_uri())
    page.wait_for_function("window.isDrawn")
    return behind


def open_saved(page: Page, path: Path) -> None:
    """A file that a widget wrote, once all in it is drawn: its modules load after the page itself is there."""
    page.goto(path.as_uri())
    page.locator('#widget[aria-busy="false"]').wait_for(state="attached")
