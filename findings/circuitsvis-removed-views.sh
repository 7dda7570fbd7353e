#!/bin/sh
# circuitsvis 1.43.3: a drawing cannot be taken down. What a page removes, or draws anew, stays in memory for good.
#
# CircuitsVis.render(id, component, props), which every cell's output calls, makes a React root in the element and gives nothing back: no
# handle to unmount or to update it by. An element that is removed from the page (a cell executed again, a view drawn anew) is never freed,
# nor are its tokens, patterns and charts: of ten drawings removed one after the other all ten outlive a garbage collection, of ten plain
# elements at most the last. A page that shows AttentionHeads at every click grows by most of a megabyte each.
#
# Needs a Chromium (CHROMIUM=…). Output when last run (November 2026, Chromium of Debian 12):
#   plain elements: at most 1 of 10 alive
#   ColoredTokens: 10 of 10 alive, render gave undefined
#   AttentionPattern: 10 of 10 alive, render gave undefined
#   AttentionHeads: 10 of 10 alive, render gave undefined, more than 3 MB of heap
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --no-deps "circuitsvis==1.43.3"
"$folder/venv/bin/pip" install -q "playwright==1.55.0"
CHROMIUM=${CHROMIUM:-/usr/bin/chromium} "$folder/venv/bin/python" - <<'PYTHON'
import os
from importlib.util import find_spec
from pathlib import Path

from playwright.sync_api import sync_playwright

FLAGS = ["--no-sandbox", "--disable-gpu", "--js-flags=--expose-gc", "--enable-precise-memory-info"]
DRAW_AND_REMOVE = """async (component) => {
  const rest = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const tokens = Array.from({ length: 8 }, (_, i) => `token${i}`);
  const pattern = tokens.map((_, i) => tokens.map((_, j) => (j <= i ? 1 / (i + 1) : 0)));
  const props = {
    ColoredTokens: { tokens, values: tokens.map((_, i) => i) },
    AttentionPattern: { tokens, attention: pattern },
    AttentionHeads: { tokens, attention: Array(8).fill(pattern) },
  }[component];
  gc();
  const before = performance.memory.usedJSHeapSize;
  const [drawn, gave] = [[], new Set()];
  for (let i = 0; i < 10; i++) {
    const element = document.createElement("div");
    element.id = `${component}-${i}`;
    document.body.replaceChildren(element); // the one before is removed
    if (props) gave.add(String(CircuitsVis.render(element.id, CircuitsVis[component], props)));
    drawn.push(new WeakRef(element));
    await rest(300);
  }
  document.body.replaceChildren();
  for (let i = 0; i < 5; i++) {
    await rest(100);
    gc();
  }
  const alive = drawn.filter((each) => each.deref()).length;
  return { alive, gave: [...gave], grown: (performance.memory.usedJSHeapSize - before) / 2 ** 20 };
}"""
script = Path(find_spec("circuitsvis").origin).parent / "dist" / "cdn" / "iife.js"
found = {}
with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=os.environ["CHROMIUM"], args=FLAGS)
    page = browser.new_page()
    page.add_script_tag(content=f"{script.read_text()};window.CircuitsVis = CircuitsVis;")
    for name in ("plain elements", "ColoredTokens", "AttentionPattern", "AttentionHeads"):
        found[name] = page.evaluate(DRAW_AND_REMOVE, name)
        print(f"{name}: {found[name]['alive']} of 10 alive, render gave {found[name]['gave']}, {found[name]['grown']:.1f} MB of heap")
    browser.close()
assert found.pop("plain elements")["alive"] <= 1, "removed elements are not freed here: this says nothing of CircuitsVis"
assert all(each["alive"] == 10 and each["gave"] == ["undefined"] for each in found.values()), "CircuitsVis has changed: drawings are freed"
assert found["AttentionHeads"]["grown"] > 3, "CircuitsVis has changed: removed heads take less memory"
PYTHON
