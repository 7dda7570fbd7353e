"""The box that opens anything: what is typed may be a feature's number, words of its label, or a text."""

from typing import Any

from widgets.marks import visible
from workbench.features.search.offers import Offer, offers


def offered(bench: Any, typed: str) -> list[dict[str, Any]]:
    """What it may mean, the likeliest first: feature or None, text, why not."""
    return [each._replace(text=visible(each.text))._asdict() for each in _meanings(bench, typed)]


def opened(bench: Any, typed: str, at: int) -> Offer:
    """The at-th of its meanings. Raises ValueError where it has none, or names nothing of this dictionary's."""
    found = _meanings(bench, typed)
    if not 0 <= at < len(found):
        raise ValueError(f"{typed!r} has no meaning number {at}: expected a feature's number, words of a label or a text")
    if found[at].wrong:
        raise ValueError(found[at].wrong)
    return found[at]


def _meanings(bench: Any, typed: str) -> list[Offer]:
    return offers(typed, bench._known_beside, bench.sae.cfg.d_sae)
