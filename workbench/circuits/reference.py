"""What a feature usually does: its largest and its mean activation over reference texts, the start token left out.

From the bench's index where it has one, else from its example texts; where there is neither, the caller has to say.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.activations import harvest, padded
from workbench.sae.sae import SAE

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

N_TEXTS = 500  # enough for a mean; a maximum is looked up in all the bench has


def max_acts(bench: Any, features: Sequence[int], given: Mapping[int, float] | None = None) -> dict[int, float]:
    """The largest activation of each feature: as given, else from the index, else over the example texts.

    Raises ValueError where nobody knows it, or where the feature never fired.
    """
    return {feature: float((given or {}).get(feature) or _max_act(bench, feature)) for feature in features}


def _max_act(bench: Any, feature: int) -> float:
    if bench.index is not None:
        table = bench.index.table
        found = float(table.loc[table["feature"] == feature, "max_act"].max())
    elif bench.examples is not None:
        found = max((max(example.activations) for example in bench.examples(feature)), default=0.0)
    else:
        raise ValueError(f"how active feature {feature} gets is not known here (no index, no example texts): give max_act={{{feature}: …}}")
    if not found > 0:
        raise ValueError(f"feature {feature} never fired on the reference texts: give max_act={{{feature}: …}}")
    return found


def reference_texts(bench: Any) -> Sequence[str]:
    """The bench's example texts. Raises ValueError where it has none."""
    texts = getattr(bench.examples, "texts", None)
    if texts is None or not len(texts):
        raise ValueError("this bench has no example texts to measure on: give the values, or a bench with examples")
    return texts


@torch.no_grad()
def mean_acts(model: "TransformerBridge", sae: SAE, texts: Sequence[str]) -> Float[Tensor, "d_sae"]:
    """Each feature's mean activation over the tokens of up to N_TEXTS texts, silent tokens included."""
    total, n_tokens = torch.zeros(sae.cfg.d_sae, dtype=torch.float64, device=sae.W_dec.device), 0
    for first in range(0, min(len(texts), N_TEXTS), 64):
        tokens, is_text = padded(model, texts[first : min(first + 64, N_TEXTS)])
        feature_acts = sae.encode(harvest(model, tokens, sae.cfg.hook_name)[is_text])
        total += feature_acts.sum(0, dtype=torch.float64)
        n_tokens += len(feature_acts)
    return (total / n_tokens).to(sae.W_dec.dtype)
