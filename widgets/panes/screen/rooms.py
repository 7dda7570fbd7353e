"""The panes that each SAE of a bench has for itself: they stay as they are while another SAE is looked through."""

from collections.abc import Callable, Mapping
from typing import Any

from widgets.panes.attention import AttentionPane
from widgets.panes.card import CardPane
from widgets.panes.finder import Finder
from widgets.panes.group import GroupPane
from widgets.panes.pane import Pane
from widgets.panes.steering import SteeringPane


def own_panes(bench: Any, question: Mapping[str, str], saved_features: Callable[[], list[int]]) -> dict[str, Pane]:
    """Name → pane, of an SAE that is looked through for the first time. saved_features: whose pages a saved file holds."""
    finder = Finder(bench)
    finder.ask_about(**question)
    return {
        "card": CardPane(bench, saved_features=saved_features),
        "finder": finder,
        "group": GroupPane(bench),
        "steering": SteeringPane(bench, prompt=question["prompt"]),
        "attention": AttentionPane(bench, **question),
    }
