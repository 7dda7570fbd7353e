"""What a cell shows before anything is computed: the question, and that it is being worked on. It goes when the explorer itself comes.

with first_look("The cat sat on the", " mat", ""):
    …                                                      what takes seconds
"""

from collections.abc import Iterator
from contextlib import contextmanager
from html import escape

from widgets.marks import FAINT, token_html, visible
from workbench.sae.training.monitor import is_notebook

NOTHING = {"text/html": ""}  # takes no room in JupyterLab, and nbconvert knows what to do with it


@contextmanager
def first_look(prompt: str, answer: str, baseline: str) -> Iterator[None]:
    """Around the work on a question. Nothing where there is no question, or no notebook to show it."""
    if not prompt or not is_notebook():
        yield
        return
    from IPython.display import display

    words = first_look_html(prompt, answer, baseline)
    shown = display({"text/html": words, "text/plain": f"working on {prompt!r} …"}, raw=True, display_id=True)
    try:
        yield
    finally:
        if shown is not None:
            shown.update(NOTHING, raw=True)


def first_look_html(prompt: str, answer: str, baseline: str) -> str:
    """The question in words, complete as it is: no script, nothing of the model."""
    why = f"Why {token_html(answer) if answer else 'the model’s own first token'}"
    than = f" rather than {token_html(baseline)}" if baseline else ""
    return (
        f'<div style="font-size:13px;line-height:1.6"><b>{escape(visible(prompt))}</b>'
        f'<div>{why}{than}? <span style="{FAINT}">working: its features are being ranked …</span></div></div>'
    )
