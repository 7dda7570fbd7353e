"""The feature activations of one prompt, where what is read and what is written may be two places.

    an SAE         feature_acts = encode(x), x at its hook point; there, too, a feature is taken away:  x' = x − act · W_dec
    a transcoder   feature_acts = encode(x), x where it reads; a feature is taken away where it writes: y' = y − act · W_dec

The edit is by difference for both: what the dictionary does not explain stays where it is.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.model.hooks import last_logits, seen
from workbench.replay.precision import InFloat32
from workbench.replay.replay import Replay
from workbench.sae.dictionary import Dictionary
from workbench.shapes import Tokens

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


def read_beside(replay: Replay, sae: Dictionary) -> Float[Tensor, "pos d_in"]:
    """What the dictionary reads on the prompt of a replay that begins where it writes; a pass of its own where these are two places."""
    return (replay.clean if sae.reads == sae.writes else read_on(replay.model, sae, replay.tokens)).to(sae.W_dec.dtype)


@torch.no_grad()
def read_on(model: "TransformerBridge", sae: Dictionary, tokens: Tokens) -> Float[Tensor, "pos d_in"]:
    """What the dictionary reads on one prompt, tokens (1, pos), computed in float32 at least."""
    caught: list[Tensor] = []
    with InFloat32(model), reading(model, sae, caught):
        last_logits(model, tokens)
    return once(caught, sae).to(sae.W_dec.dtype)


def reading(model: "TransformerBridge", sae: Dictionary, caught: list[Tensor], is_needed: bool = True) -> AbstractContextManager[None]:
    """Inside, whatever comes up where the dictionary reads is appended to `caught`; unless it is not needed."""
    return seen(model, sae.reads, caught.append) if is_needed else nullcontext()


def once(caught: list[Tensor], sae: Dictionary) -> Float[Tensor, "pos d_in"]:
    """What was caught, where it was one prompt's."""
    return of_all(caught, sae)[0]


def of_all(caught: list[Tensor], sae: Dictionary) -> Float[Tensor, "batch pos d_in"]:
    """What was caught in one pass of several prompts."""
    assert len(caught) == 1, f"{sae.reads} fired {len(caught)} times in one forward pass, expected once"
    return caught[0].detach().flatten(2)
