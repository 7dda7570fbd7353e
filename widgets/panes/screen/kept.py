"""The one screen as something to keep: a state of plain data, and the Python that computes what is shown and opens it again."""

from collections.abc import Callable, Mapping
from typing import Any

from widgets.panes.screen.loading import script

STEPS = ("prompt", "compare", "batch", "card", "group", "lists")  # panes whose results are a line of Python, in this order


def state_of(explorer: Any, own: Mapping[str, Any]) -> dict[str, Any]:
    """`own`, and every pane's."""
    panes, place = {name: pane.state() for name, pane in explorer.pane.items()}, explorer._map
    kept = {"map": dict(place.state)} if place.state and place.drawn is None else {}  # of one that is not drawn yet
    return {**own, "panes": {**panes, **kept}}


def restore(explorer: Any, state: Mapping[str, Any], own: Callable[[Mapping[str, Any]], None]) -> None:
    """Every pane's, then the explorer's `own`; the ranking starts anew. Raises ValueError for a pane or a name that is not there."""
    panes = dict(state.get("panes", {}))
    if "map" in panes and "map" not in explorer.pane:
        explorer._map.state = panes.pop("map")
    unknown = [name for name in panes if name not in explorer.pane]
    if unknown:
        raise ValueError(f"the explorer has no pane {unknown[0]!r}; it has {', '.join(explorer.pane)}")
    for name in ("prompt", *(each for each in explorer.pane if each != "prompt")):  # the question first: it may change the SAE
        explorer.pane[name].restore(panes.get(name, {}))
    own({name: value for name, value in state.items() if name != "panes"})
    if explorer.pane["prompt"].prompt:
        explorer.pane["prompt"].run()


def python_of(explorer: Any) -> str:
    """Code that loads the same bench, computes what the panes show, and opens the explorer as it is."""
    pane = explorer.pane
    steps = [*(pane[name].to_python() for name in STEPS), pane["circuit"].made()]
    steps += [f"found = {pane['finder'].query()}"] if pane["finder"].is_answered else []
    opened = f"\nexplorer = explore(bench)\nexplorer.restore({explorer.state()!r})"
    return script(explorer.bench, *steps, opened, needs=("from widgets import explore",))
