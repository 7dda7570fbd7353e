"""A feature's page made of plain numbers, without an index, for the views' tests."""

import numpy as np

from workbench.features.index.page import FeaturePage
from workbench.features.index.parts import Example, Interval, Label, Neighbor, TokenLogit

HOSTILE = [
    "</td>",
    "<script>window.hacked=1</script>",
    "<bos>",
    '"',
    "'",
    "\u202e",
    "\x00\x07",
    "\n",
    "\t",
    "&amp;",
    "<img src=x onerror=window.hacked=1>",
]
ARABIC = ["كرة", " السلة", " في", " لوس", " أنجلوس"]
WORDS = "Fact: The team that Kobe Bryant played basketball for is the Lakers, and its city is Los Angeles in California".split()


def made_example(tokens: list[str], strength: float = 5.0, text: int = 3) -> Example:
    """The feature is active on the middle token and, half as much, on the one after it."""
    acts, peak = np.zeros(len(tokens)), len(tokens) // 2
    acts[peak : peak + 2] = [strength, strength / 2][: len(tokens) - peak]
    return Example(tokens, acts.tolist(), peak, text, (True, False))


def made_page(feature: int = 1234, tokens: list[str] | None = None, label: Label | None = None, **changed) -> FeaturePage:
    """Its largest activation is 7.5: bins of 0.125, intervals of 0.5."""
    tokens = tokens or [" " + word for word in WORDS]
    rng = np.random.default_rng(feature)
    histogram = np.where(np.arange(64) < 60, rng.poisson(4000 / (1 + np.arange(64)) ** 1.5), 0)
    histogram[59] = 2
    fields = dict(
        feature=feature,
        sae_name="4k",
        label=Label("Lakers players", 0.87, "answer key") if label is None else label,
        n_active=int(histogram.sum()),
        n_tokens=1_234_567,
        max_act=7.5,
        bin_width=0.125,
        histogram=histogram.tolist(),
        top=[made_example(tokens, strength) for strength in np.linspace(7.5, 5, 20)],
        intervals=[Interval(i / 2, (i + 1) / 2, 40 - 2 * i, [made_example(tokens, i / 2 + 0.2)] * 4) for i in reversed(range(15))],
        promoted=[TokenLogit(token, 2.0 / (i + 1)) for i, token in enumerate((tokens * 10)[:10])],
        suppressed=[TokenLogit(token, -1.0 / (i + 1)) for i, token in enumerate((tokens * 10)[:10])],
        neighbors={
            name: [Neighbor(i, 0.9 - i / 10, tokens[i % len(tokens)] if i % 2 else "") for i in range(6)] for name in ("1k", "2k", "4k")
        },
        model_name="atlas",
        hook_name="blocks.3.hook_resid_pre",
    )
    return FeaturePage(**(fields | changed))
