"""The gradient of a few logits, from a few rows of the unembedding: a metric asks for two of a vocabulary, and reading all of it takes as
long as a block.

    with unembedding_few(model): torch.autograd.grad(metric(model(tokens)), x)
"""

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from workbench.model.callers import put

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

FEW = 32  # from a sixteenth of a vocabulary on (GPT-2's, Gemma's) its rows are gathered no faster than all are multiplied


class _FewRows(torch.autograd.Function):
    """Logits x @ W.T as they were computed; their gradient reads those rows of W only whose logit has one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, logits: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return logits.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        rows = gradient.flatten(0, -2).count_nonzero(0).nonzero()[:, 0]
        if FEW * len(rows) > len(weight):  # a mean over the vocabulary has them all
            return gradient @ weight, None, None
        return gradient[..., rows] @ weight[rows], None, None


def unembedding_few(model: "TransformerBridge") -> AbstractContextManager[None]:
    """Inside, gradients of a few logits come through `_FewRows`, where the unembedding is one matrix. What a user's hook does to the logits
    comes after it."""
    inner = getattr(getattr(model, "unembed", None), "original_component", None)
    if type(inner) is not nn.Linear:
        return nullcontext()

    def few(module: nn.Module, args: tuple[Tensor, ...], logits: Tensor) -> Tensor | None:
        weight = module.weight
        kinds = {(each.dtype, each.device) for each in (args[0], weight, logits)}  # under autocast and across devices: as it is
        is_plain = type(weight) in (Tensor, nn.Parameter) and len(kinds) == 1
        return _FewRows.apply(args[0], weight, logits.detach()) if is_plain and torch.is_grad_enabled() else None

    return put((inner.register_forward_hook, few, {"prepend": True}))
