"""The corpus of the small world: an endless, seeded stream of texts, and what each of their tokens means.

Training draws from seeds below FRESH_SEED; `texts` draws above it, and drops what training could have seen word for word only by chance.
"""

import random
from collections.abc import Iterator

from workbench.atlas import domains
from workbench.atlas.sports import sports
from workbench.atlas.text import Text
from workbench.atlas.world import world

# share of texts by domain: sports need most, since their facts have to be composed and not only learned
MIXTURE = {"sports": 0.78, "feelings": 0.04, "landmarks": 0.05, "code": 0.05, "dialogue": 0.02, "things": 0.06}
FRESH_SEED = 1_000_000


def stream(seed: int) -> Iterator[Text]:
    """Texts without end; the same for the same seed."""
    rng, kinds = random.Random(seed), list(MIXTURE)
    while True:
        kind = rng.choices(kinds, weights=list(MIXTURE.values()))[0]
        yield sports(rng, world()) if kind == "sports" else getattr(domains, kind)(rng)


def texts(seed: int, n: int) -> list[Text]:
    """`n` texts from a stream that training never drew. They are short, so common sentences recur; questions about held-out players are
    never among them."""
    if n < 1:
        raise ValueError(f"n is {n}; ask for at least one text")
    fresh = stream(FRESH_SEED + seed)
    return [next(fresh) for _ in range(n)]
