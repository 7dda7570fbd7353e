"""What somebody may mean by what is typed into one box: a feature by its number, features by words of their label, a text.

offers("34,012", known, d_sae)       feature 34,012
offers("sacramento", known, d_sae)   features whose label holds it, the best first; then the text itself: what is active on it
"""

import re
from typing import NamedTuple

from workbench.features.search.labeled import holding
from workbench.features.search.search import Known

MOST = 8  # features by label
NUMBER = re.compile(r"(?:feature|#)?\s*(\d[\d,]*)", re.IGNORECASE)


class Offer(NamedTuple):
    """A feature, or (feature None) a text. wrong: why neither can be had."""

    feature: int | None
    text: str  # the feature's label, or the text
    wrong: str = ""


def offers(typed: str, known: Known, d_sae: int) -> list[Offer]:
    """The likeliest first; none for nothing typed."""
    typed = typed.strip()
    if not typed:
        return []
    made: list[Offer] = []
    if number := NUMBER.fullmatch(typed):
        feature = int(number[1].replace(",", ""))
        wrong = "" if feature < d_sae else f"there is no feature {feature:,}: this dictionary has 0 to {d_sae - 1:,}"
        made.append(Offer(None if wrong else feature, "" if wrong else known.labels.get(feature, ""), wrong))
    made += [Offer(feature, known.labels.get(feature, "")) for feature in holding(typed, known.labels, MOST)]
    return [*made, Offer(None, typed)]
