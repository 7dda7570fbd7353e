"""Hook points: what a model has, what an SAE needs of it, a pass with an edit in it, and who may run the model meanwhile."""

import difflib
import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from workbench.shapes import LastLogits, Tokens

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

# The width of an activation by the last part of its hook name; other hook points are measured when their hook first fires.
D_MODEL_HOOKS = (
    "hook_resid_pre",
    "hook_resid_mid",
    "hook_resid_post",
    "hook_in",
    "hook_out",
    "hook_normalized",
    "hook_mlp_out",
    "hook_attn_out",
    "hook_embed",
)
D_MLP_HOOKS = ("hook_pre", "hook_post")


def check_hook_name(model: "TransformerBridge", hook_name: str) -> None:
    """Raises ValueError with the nearest right name unless the model has this hook point."""
    names = model.hook_dict
    if hook_name not in names:
        near = difflib.get_close_matches(hook_name, list(names), n=1, cutoff=0.0)
        raise ValueError(
            f"this model has no hook point {hook_name!r}. Did you mean {near[0]!r}? (It has blocks 0 to {model.cfg.n_layers - 1}.)"
        )


def check_sae(model: "TransformerBridge", sae: Any) -> None:
    """Raises ValueError unless the SAE can read this model: its hook point exists, has its width, no weight is NaN, the names agree."""
    if hasattr(sae.cfg, "hook_name_out"):
        raise ValueError(
            f"this reads {sae.cfg.hook_name_in} and predicts {sae.cfg.hook_name_out}: a transcoder, not an SAE. "
            "What ranks, indexes, clamps, steers or evaluates features of one place does not take it"
        )
    check_hook_name(model, sae.cfg.hook_name)
    _check_width(model, sae.cfg.hook_name, sae.cfg.d_in, "SAE reads")
    _check_weights(model, sae, "SAE")


def check_transcoder(model: "TransformerBridge", transcoder: Any) -> None:
    """Raises ValueError unless the transcoder fits this model: both hook points exist and have its widths, no weight is NaN, the names
    agree."""
    cfg = transcoder.cfg
    if not hasattr(cfg, "hook_name_out"):
        raise ValueError(
            f"what reads {getattr(cfg, 'hook_name', 'no one place')} is an SAE, not a transcoder: wb.Transcoder.load reads those"
        )
    for hook_name, width, verb in ((cfg.hook_name_in, cfg.d_in, "reads"), (cfg.hook_name_out, cfg.d_out, "writes")):
        check_hook_name(model, hook_name)
        _check_width(model, hook_name, width, f"transcoder {verb}")
    _check_weights(model, transcoder, "transcoder")


def _check_width(model: "TransformerBridge", hook_name: str, width: int, who: str) -> None:
    there = _width(model, hook_name)
    if there is not None and there != width:
        what = who.split()[0]
        raise ValueError(f"this {who} {width} numbers, but {hook_name} of this model has {there}: {_an(what)} for another model?")


def _an(what: str) -> str:
    return f"{'an' if what == 'SAE' else 'a'} {what}"


def _check_weights(model: "TransformerBridge", sae: Any, what: str) -> None:
    """No weight is NaN, and the model's name is the one that it was trained on, as far as both are names."""
    for name, weight in sae.named_parameters():
        if not torch.isfinite(weight.sum()) and not torch.isfinite(weight).all():  # the sum first: 20 × cheaper, and NaN spreads to it
            raise ValueError(f"the {what}'s {name} has {int((~torch.isfinite(weight)).sum())} NaN or infinite values")
    theirs, ours = _family(sae.cfg.model_name), _family(str(model.cfg.model_name))
    is_named = theirs and ours and not Path(str(model.cfg.model_name)).exists() and not Path(sae.cfg.model_name).exists()
    if is_named and not (theirs.startswith(ours) or ours.startswith(theirs)):  # gpt2 / gpt2-small, gemma-2-2b / gemma-2-2b-it
        raise ValueError(f"this {what} was trained on {sae.cfg.model_name!r}, the model is {model.cfg.model_name!r}")


def _width(model: "TransformerBridge", hook_name: str) -> int | None:
    parts = hook_name.split(".")
    if parts[-1] == "hook_z":
        return model.cfg.n_heads * model.cfg.d_head
    if len(parts) >= 2 and parts[-2] == "mlp" and parts[-1] in D_MLP_HOOKS:
        return model.cfg.d_mlp
    return model.cfg.d_model if parts[-1] in D_MODEL_HOOKS and len(parts) in (1, 3) else None


def last_logits(model: "TransformerBridge", tokens: Tokens) -> LastLogits:
    """The model's own forward pass (hooks fire), unembedding the last position only and without a KV cache where the model lets us."""
    with alone(model):
        return model(tokens, **accepted(model, use_cache=False, logits_to_keep=1))[:, -1]


def accepted(model: "TransformerBridge", **options: Any) -> dict[str, Any]:
    """Those of the options that this model's forward pass knows."""
    names = inspect.signature(model.original_model.forward).parameters
    return {name: value for name, value in options.items() if name in names}


def alone(model: "TransformerBridge") -> AbstractContextManager:
    """`with alone(model):` no other thread has hooks in the model or runs it. A hook fires for whoever runs the model: what a notebook's
    cell computes and what a view's thread computes would change each other."""
    return _LOCKS.setdefault(model, threading.RLock())


_LOCKS: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


@contextmanager
def hooked(model: "TransformerBridge", hook_name: str, replace: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
    """Inside, the model goes on with replace(x) wherever it comes to the hook point with x (None: with x itself).

    TransformerBridge's hook_resid_mid stands at the entrance of the MLP's norm: what a hook returns there reaches the MLP only. Written
    in place it is the residual stream that changes, which is what the name says and what hook_resid_pre and _post do.
    """
    is_beside_the_stream = hook_name.endswith("hook_resid_mid")

    def hook_fn(x: Tensor, hook: Any) -> Tensor | None:
        new = replace(x)
        return x.copy_(new) if is_beside_the_stream and new is not None else new

    name = model.hook_dict[hook_name].name or hook_name  # one name per hook point: under an alias the hook can fire twice
    with alone(model), model.hooks(fwd_hooks=[(name, hook_fn)]):
        yield


def _family(name: str) -> str:
    return name.rstrip("/").split("/")[-1].lower()
