"""The baseline that steering by features has to beat: a steering vector.

    direction = mean of x at the last token of the positive prompts − the same of the negative prompts
    x' = x + scale · direction                                  at every position, as features are steered

Scaling Monosemanticity, "Influence on behavior", compares with it. The direction says nothing of how far to go: the scale is searched.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.activations.rows import Row, as_batch
from workbench.activations.stream import harvest
from workbench.model.hooks import check_hook_name, hooked
from workbench.model.tokens import to_tokens

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

LOWEST, HIGHEST = 2.0**-4, 2.0**6  # scales that are searched; 1 is the distance between the two means
N_HALVINGS = 8  # of the ten octaves between them: to 3 %
AT_ONCE = 32  # prompts in a forward pass


@dataclass(frozen=True)
class SteeringVector:
    """A direction at a hook point, in units of x, that is added to every position; `scale` times it."""

    direction: Float[Tensor, "d_in"]
    hook_name: str
    scale: float | None = None  # None: `steer` finds it by binary search

    def adding(self, model: "TransformerBridge", scale: float) -> AbstractContextManager[None]:
        """Inside, every call of the model has scale · direction added at the hook point, at every position."""
        check_hook_name(model, self.hook_name)
        return hooked(model, self.hook_name, lambda x: x + (scale * self.direction).view(x.shape[2:]).to(x.dtype))


@torch.no_grad()
def steering_vector(bench: Any, positive: Sequence[str], negative: Sequence[str], scale: float | None = None) -> SteeringVector:
    """The difference of means over the prompts' last tokens, at the hook point of the bench's SAE; of a transcoder where it writes."""
    for name, prompts in (("positive", positive), ("negative", negative)):
        if isinstance(prompts, str) or not len(prompts):
            raise ValueError(f"{name} is {prompts!r}: expected a list of one prompt or more")
    hook_name = bench.sae.writes
    means = [_ends(bench.model, prompts, hook_name).mean(0) for prompts in (positive, negative)]
    if torch.equal(means[0], means[1]):
        raise ValueError("positive and negative prompts end alike: their difference is zero, and steers nowhere")
    return SteeringVector(means[0] - means[1], hook_name, scale)


def largest_scale(is_sane: Callable[[float], bool]) -> float:
    """Binary search over powers of two for the largest scale that is still sane; LOWEST where none is.

    What a model writes does not get worse with every step, so this is a border between sane and not, not always the last one.
    """
    low, high = torch.tensor([LOWEST, HIGHEST]).log2().tolist()
    for _ in range(N_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if is_sane(2.0**middle) else (low, middle)
    return 2.0**low


def _ends(model: "TransformerBridge", prompts: Sequence[str], hook_name: str) -> Float[Tensor, "n_prompts d_in"]:
    """x at every prompt's last token; prompts of unequal length share a batch, padded behind it."""
    rows = [Row(to_tokens(model, prompt)[0].tolist(), ()) for prompt in prompts]
    parts = []
    for first in range(0, len(rows), AT_ONCE):
        some = rows[first : first + AT_ONCE]
        x = harvest(model, as_batch(model, some)[0], hook_name)
        parts.append(x[range(len(some)), [len(row) - 1 for row in some]].flatten(1).float())
    return torch.cat(parts)
