"""Notebook views: they take results, rows or callables of `workbench`, never a model.

`html`, `svg` and `figures` are pure functions that work without a notebook; `RankingTable` is live.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from widgets.ranking import RankingTable

__all__ = ["RankingTable"]


def __getattr__(name: str) -> Any:  # anywidget is imported when a widget is first asked for: static pages do not need it
    if name == "RankingTable":
        from widgets.ranking import RankingTable

        return RankingTable
    raise AttributeError(f"widgets has no {name!r}; it has {', '.join(__all__)}")
