"""The parts of a Workbench that measuring and steering ask for, in memory: a tiny model under an SAE of random weights."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from made_models import random_sae

from workbench.sae.sae import SAE

PROMPT = "the cat sat on the"


def made_bench(model: Any, sae: Any = None, texts: Sequence[str] = (), **changed: Any) -> SimpleNamespace:
    """texts: that means and maxima may be read from."""
    fields = dict(model=model, sae=sae or random_sae(), index=None, examples=SimpleNamespace(texts=texts) if texts else None)
    return SimpleNamespace(**(fields | dict(labels={3: "a label"}, name="tiny", sae_name="64") | changed))


def sparse_sae(hook_name: str = "blocks.1.hook_resid_pre", **options: Any) -> SAE:
    """A few features fire at a position, as in a trained SAE."""
    sae = random_sae(hook_name, **options)
    sae.b_enc.data -= 1.0
    return sae
