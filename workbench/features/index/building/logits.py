"""Which tokens a feature promotes and suppresses by itself, on the direct path from its place to the logits.

    logits of feature i = norm(W_dec[i]) @ W_U             norm(v) = (v − mean v) · gain for LayerNorm, v · gain for RMSNorm

The final norm divides by the size of the whole residual stream, which no single feature knows: the numbers are logits a unit
of activation adds where the stream has size 1, comparable within one SAE. What later blocks do with the feature is not in them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.activations.rows import Row, as_batch, like_length
from workbench.model.callers import alone
from workbench.model.gemm import machine_rate
from workbench.replay.precision import InFloat32, is_half
from workbench.shapes import Directions

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

N_TOKENS = 10  # listed of each kind
SMALL, ENOUGH = 1024, 10  # a vocabulary whose use some thousands of tokens show; tokens to read for each of its own
RARELY = 100  # times less than by guessing
N_COLUMNS = 2**14  # of the vocabulary at once: a large one has hundreds of thousands


# The last part of a hook name that stands in the residual stream or adds to it.
STREAM_HOOKS = (
    "hook_resid_pre",
    "hook_resid_mid",
    "hook_resid_post",
    "hook_in",
    "hook_out",
    "hook_mlp_out",
    "hook_attn_out",
    "hook_embed",
)


@dataclass(frozen=True)
class TokenLogits:
    """Each (n_features, n_tokens), strongest first."""

    promoted: np.ndarray
    promoted_logits: np.ndarray
    suppressed: np.ndarray
    suppressed_logits: np.ndarray


def is_in_stream(hook_name: str) -> bool:
    """Does what stands at this hook point add to the residual stream, in the stream's own coordinates?"""
    parts = hook_name.split(".")
    return parts[-1] in STREAM_HOOKS and len(parts) in (1, 3)


@torch.no_grad()
def token_logits(
    model: "TransformerBridge", directions: Directions, n: int = N_TOKENS, is_predicted: Bool[Tensor, "d_vocab"] | None = None
) -> TokenLogits:
    """The n tokens whose logits each direction raises most, and the n that it lowers most; of those that the model ever predicts."""
    normed, W_U = through_final_norm(model, directions), model.unembed.W_U
    n, ends = min(n, W_U.shape[1] if is_predicted is None else int(is_predicted.sum())), {1: [], -1: []}
    for first in range(0, W_U.shape[1], N_COLUMNS):
        with machine_rate():
            logits = normed @ W_U[:, first : first + N_COLUMNS].float()
        for sign, found in ends.items():
            signed = sign * logits
            if is_predicted is not None:
                signed = signed.masked_fill(~is_predicted[first : first + N_COLUMNS].to(signed.device), -torch.inf)
            best = signed.topk(min(n, logits.shape[1]), dim=1)
            found.append((sign * best.values, first + best.indices))
    kept = []
    for sign, found in ends.items():
        values, columns = (torch.cat(parts, dim=1) for parts in zip(*found, strict=True))
        best = (sign * values).topk(n, dim=1).indices
        kept += [columns.gather(1, best).int().cpu().numpy(), values.gather(1, best).cpu().numpy()]
    return TokenLogits(*kept)


@torch.no_grad()
def predicted_tokens(model: "TransformerBridge", rows: Sequence[Row]) -> Bool[Tensor, "d_vocab"] | None:
    """Which tokens the model gives a chance somewhere in these rows, of 1 / (RARELY · d_vocab) at least. None where there are too few rows
    to tell, as for every large vocabulary: what is not predicted there may be elsewhere."""
    n, d_vocab = sum(map(len, rows)), model.cfg.d_vocab
    if d_vocab > SMALL or n < ENOUGH * d_vocab:
        return None
    largest = torch.zeros(model.unembed.W_U.shape[1])
    for some in like_length(rows, SMALL):
        tokens, _ = as_batch(model, some)
        inside = torch.arange(tokens.shape[1]) < torch.tensor([len(row) for row in some])[:, None]
        with alone(model):
            logits = model(tokens)
        largest = torch.maximum(largest, logits.float().softmax(-1).cpu()[inside].amax(0))
    return largest >= 1 / (RARELY * d_vocab)


def through_final_norm(model: "TransformerBridge", directions: Directions) -> Float[Tensor, "n_rows d_model"]:
    """Each direction as the final norm passes it on, but for the size of the stream; any norm: its gain is read off two inputs."""
    d_model, like = directions.shape[1], model.unembed.W_U
    dtype = torch.float32 if is_half(model) else like.dtype  # a gain beside a larger shift would lose digits in 16 bits
    ones = torch.ones(d_model, device=like.device, dtype=dtype)
    turning = ones.clone()
    turning[1::2] = -1  # mean 0 and mean square 1: what any norm leaves as it is, times its gain
    with alone(model), InFloat32(model):
        shift, constant, alternating = model.ln_final(torch.stack([0 * ones, ones, turning])[None])[0].float()
    gain = (alternating - shift) * turning
    centers = (constant - shift).abs().max() < 0.5 * gain.abs().max()  # LayerNorm takes a constant away
    rows = directions.to(like.device).float()
    return (rows - rows.mean(1, keepdim=True) if centers else rows) * gain
