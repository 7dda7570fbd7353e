"""What one pane finds and the others are told: a ranking, labels that changed, which features are in sight."""

from collections.abc import Mapping
from typing import Any

from widgets.marks import visible

LABELED = ("compare", "prompt", "batch", "finder", "steering", "group", "lists")  # panes that show labels; the card hears by itself


def tell_ranking(pane: Mapping[str, Any], question: Mapping[str, str], old: Any, new: Any) -> None:
    """A new ranking, or None, to every pane: its question is also the one whose heads are measured, and what steering goes on from."""
    pane["ranking"].ranking = pane["compare"].ranking = pane["group"].ranking = new
    before = getattr(old, "prompt", "")
    if new is not None and (old is None or before != new.prompt) and pane["steering"].prompt in ("", before):
        pane["steering"].prompt = new.prompt  # but what a person typed there stays
    for name, value in question.items():
        setattr(pane["attention"], name, value)
    pane["circuit"].question = dict(question)
    pane["finder"].ask_about(**question, before=before)


def stale_words(asking: Any, ranking: Any) -> str:
    """Whose rows are shown, where that is another question than the one that is typed."""
    if ranking is None or asking.ranked == asking.question._asdict():
        return ""
    other = visible(ranking.baseline) if ranking.baseline else "the mean logit"
    return f"“{visible(ranking.prompt)}” {visible(ranking.answer)} rather than {other}"


def in_sight(pane: Mapping[str, Any], left: str) -> list[int]:
    """Features that may be chosen next, the likeliest first: rows of what stands on the left, of a search, neighbors of the selection."""
    names = [left, *(name for name in ("ranking", "finder") if name != left)]
    rows = [row["feature"] for name in names if name in pane for row in pane[name].view.get("rows", [])]
    return list(dict.fromkeys([*rows, *pane["card"].neighbors]))


def relabel(pane: Mapping[str, Any], bench: Any) -> None:
    """Labels have changed: every pane shows them."""
    for name in LABELED:
        pane[name].relabel()
    if "map" in pane and bench.index is not None:
        pane["map"].relabel(bench.sae_name, {feature: label.text for feature, label in bench.index.labels().items()})
