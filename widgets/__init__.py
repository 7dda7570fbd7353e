"""Notebook views: they take results, rows or callables of `workbench`, never a model.

`html`, `svg` and `figures` are pure functions that work without a notebook; the names below are live.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from widgets.panes.attention import AttentionPane
    from widgets.panes.beside.batch import BatchPane
    from widgets.panes.beside.compare import ComparePane
    from widgets.panes.beside.lists import ListPane
    from widgets.panes.card import CardPane
    from widgets.panes.circuit import CircuitView
    from widgets.panes.explorer import Explorer, explore
    from widgets.panes.finder import Finder
    from widgets.panes.group import GroupPane
    from widgets.panes.map import FeatureMap
    from widgets.panes.prompt import PromptPane
    from widgets.panes.ranking import RankingTable
    from widgets.panes.steering import SteeringPane

_HOMES = {
    "AttentionPane": "panes.attention",
    "BatchPane": "panes.beside.batch",
    "CardPane": "panes.card",
    "CircuitView": "panes.circuit",
    "ComparePane": "panes.beside.compare",
    "Explorer": "panes.explorer",
    "explore": "panes.explorer",
    "PromptPane": "panes.prompt",
    "FeatureMap": "panes.map",
    "GroupPane": "panes.group",
    "Finder": "panes.finder",
    "ListPane": "panes.beside.lists",
    "RankingTable": "panes.ranking",
    "SteeringPane": "panes.steering",
}
__all__ = [
    "AttentionPane",
    "BatchPane",
    "CardPane",
    "CircuitView",
    "ComparePane",
    "Explorer",
    "FeatureMap",
    "Finder",
    "GroupPane",
    "ListPane",
    "PromptPane",
    "RankingTable",
    "SteeringPane",
    "explore",
]


def __getattr__(name: str) -> Any:  # anywidget is imported when a widget is first asked for: static pages do not need it
    if name in _HOMES:
        return getattr(import_module(f"widgets.{_HOMES[name]}"), name)
    raise AttributeError(f"widgets has no {name!r}; it has {', '.join(__all__)}")
