"""Does this model read a text from left to right and say what comes next? Measured when it is loaded.

Everything here explains the next token: positions after an edit change, those before it do not; a text may be padded at its end; what was
computed for a prefix serves every continuation. On a model that looks both ways each of these is wrong without a word, so it is refused.
"""

from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import torch
from torch import Tensor

from workbench.model.head import unbridged
from workbench.model.memory import is_out_of_memory
from workbench.model.points import probe_tokens, unwatched

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

NOTICEABLE = 1e-3  # of the largest logit, and more in half precision: far above rounding, far below what another token changes

_CHECKED: "WeakSet[TransformerBridge]" = WeakSet()


def check_config(config: dict[str, Any]) -> None:
    """The same for what a folder's config.json says by itself, before the weights are read."""
    if config.get("is_encoder_decoder"):
        raise ValueError(_two_texts(str((config.get("architectures") or [config.get("model_type")])[0])))


def _two_texts(kind: str) -> str:
    return f"{kind} reads one text with an encoder and writes another with a decoder: {ABOUT}"


@torch.no_grad()
def check_causal(model: "TransformerBridge", is_wrapped_here: bool) -> None:
    """Raises ValueError, in one sentence, for a model that the workbench cannot be right on. is_wrapped_here: the bridge is as it was
    booted, so that its logits must be those of the Hugging Face model inside."""
    if model in _CHECKED:
        return
    kind = type(model.original_model).__name__
    if getattr(model.cfg, "is_audio_model", False) or getattr(model.cfg, "is_visual_model", False):
        raise ValueError(f"{kind} reads {'sound' if getattr(model.cfg, 'is_audio_model', False) else 'images'}, not text: {ABOUT}")
    if getattr(model.original_model.config, "is_encoder_decoder", False):
        raise ValueError(_two_texts(kind))
    if not len(getattr(model, "blocks", ())):
        raise ValueError(f"TransformerLens names no single stack of blocks in {kind}, through which a text goes once: {ABOUT}")
    tokens = probe_tokens(model)
    with unwatched(model):
        try:
            logits = model(tokens)
        except Exception as error:  # whatever an architecture objects to: text alone is all that it will get here
            raise ValueError(f"{kind} cannot be run on text alone by TransformerLens: {type(error).__name__}: {_line(error)}") from error
        if not isinstance(logits, Tensor) or logits.ndim != 3 or logits.shape[:2] != tokens.shape:
            raise ValueError(f"{kind} gives no logits of a next token for each token of a text: {ABOUT}")
        _check_direction(model, kind, tokens, logits)
        if is_wrapped_here:
            _check_bridge(model, kind, tokens, logits)
    _CHECKED.add(model)


ABOUT = "the workbench explains which token comes next in a text that is read from left to right"


def _check_direction(model: "TransformerBridge", kind: str, tokens: Tensor, logits: Tensor) -> None:
    other = tokens.clone()
    other[:, -1] = tokens[:, 0]
    change = _difference(model(other)[:, :-1], logits[:, :-1])
    if change > _noticeable(logits):
        raise ValueError(
            f"{kind} looks both ways, a later token changes the logits at earlier ones (by {change:.1g} of the largest): {ABOUT}"
        )


def _check_bridge(model: "TransformerBridge", kind: str, tokens: Tensor, logits: Tensor) -> None:
    try:
        plain = unbridged(model)(tokens).logits
    except Exception as error:  # the modules do not run without the bridge: there is nothing to compare with
        if is_out_of_memory(error):
            raise
        return
    difference = _difference(logits, plain)
    if difference > _noticeable(logits):
        raise ValueError(
            f"TransformerLens computes {kind} with this configuration otherwise than Hugging Face does: their logits differ by "
            f"{difference:.1g} of the largest, so that nothing measured on it would be true of the model"
        )


def _difference(found: Tensor, expected: Tensor) -> float:
    scale = expected.float().abs().max()
    return float((found.float() - expected.float()).abs().max() / scale) if scale > 0 else 0.0


def _noticeable(logits: Tensor) -> float:
    return max(NOTICEABLE, 16 * torch.finfo(logits.dtype).eps)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
