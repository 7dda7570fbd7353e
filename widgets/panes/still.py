"""What a notebook keeps of a live view: a picture of what was last looked at, for whoever opens it without a kernel, trusted or not.

A notebook's file keeps an output as it was first displayed, and a live view changes afterwards. So a view is displayed as two outputs: the
live one, which is nothing where its kernel is gone, and its static HTML, which follows the view once the hand rests and which its own style
sheet hides as long as the live one is on the page. The same style sheet hides JupyterLab's "model not found".
"""

import threading
import weakref
from typing import Any

from IPython.display import display

REST = 1.0  # seconds without a change
WIDGET = "application/vnd.jupyter.widget-view+json"
# The live view says the same name (pane.js). A lost one is text without elements, right before the picture.
STYLE = """<style>
body:has([data-view="@@"]) .wb-still-@@ { display: none; }
.jp-OutputArea-child:has(+ .jp-OutputArea-child .wb-still-@@) .jupyter-widgets:not(:has(*)) { display: none; }
</style>"""


def show(pane: Any) -> None:
    """Displays a pane where a cell runs."""
    bundle, metadata = pane._repr_mimebundle_()
    if WIDGET not in bundle:  # widgets cannot be shown here at all
        display(bundle, metadata=metadata, raw=True)
        return
    pane.set_trait("shown", pane.model_id)
    display({WIDGET: bundle[WIDGET], "text/plain": ""}, metadata=metadata, raw=True)
    still = Still(pane)
    pane.observe(still.note, list(pane.traits(sync=True)))


class Still:
    """The picture under one live view."""

    def __init__(self, pane: Any):
        self._pane, self._timer, self._shown = weakref.ref(pane), None, self._html(pane)
        self._handle = display(self._bundle(pane), raw=True, display_id=True)

    def note(self, change: Any = None) -> None:
        """Something has changed: the picture follows when the hand rests."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = threading.Timer(REST, self.follow)
        self._timer.daemon = True
        self._timer.start()

    def follow(self) -> None:
        """The picture of what is shown now, where that has changed."""
        pane = self._pane()
        if pane is not None and self._handle is not None and (html := self._html(pane)) != self._shown:
            self._shown = html
            self._handle.update(self._bundle(pane), raw=True)

    def _bundle(self, pane: Any) -> dict[str, str]:
        name = pane.model_id
        return {"text/html": f'{STYLE.replace("@@", name)}<div class="wb-still-{name}">{self._shown}</div>', "text/plain": repr(pane)}

    @staticmethod
    def _html(pane: Any) -> str:
        return pane.static_html()
