"""Notebook views: they take results, rows or callables of `workbench`, never a model.

`html`, `svg` and `figures` are pure functions that work without a notebook; the names below are live.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from widgets.attention import AttentionPane
    from widgets.card_pane import CardPane
    from widgets.explorer import Explorer, explore
    from widgets.finder import Finder
    from widgets.map import FeatureMap
    from widgets.prompt import PromptPane
    from widgets.ranking import RankingTable
    from widgets.steering import SteeringPane

_HOMES = {
    "AttentionPane": "attention",
    "CardPane": "card_pane",
    "Explorer": "explorer",
    "explore": "explorer",
    "PromptPane": "prompt",
    "FeatureMap": "map",
    "Finder": "finder",
    "RankingTable": "ranking",
    "SteeringPane": "steering",
}
__all__ = ["AttentionPane", "CardPane", "Explorer", "FeatureMap", "Finder", "PromptPane", "RankingTable", "SteeringPane", "explore"]


def __getattr__(name: str) -> Any:  # anywidget is imported when a widget is first asked for: static pages do not need it
    if name in _HOMES:
        return getattr(import_module(f"widgets.{_HOMES[name]}"), name)
    raise AttributeError(f"widgets has no {name!r}; it has {', '.join(__all__)}")
