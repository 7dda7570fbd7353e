"""Hook points: what a model has, what an SAE needs of it, and a pass of the model with an edit in it."""

import difflib
import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from workbench.finite import check_whole, n_not_finite
from workbench.model.callers import alone, put
from workbench.model.points import check_obeyed, check_point, is_watched, placed, point
from workbench.shapes import LastLogits, Tokens

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


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
            'Graphs of SAEs do not take it: bench.circuit(prompt, metric, over="transcoders") draws one of transcoders'
        )
    _check_place(model, sae.cfg.hook_name, sae.cfg.d_in, "SAE reads")
    _check_weights(model, sae, "SAE")


def check_dictionary(model: "TransformerBridge", dictionary: Any) -> None:
    """`check_sae` or, of a transcoder, `check_transcoder`: for what takes features of both kinds."""
    (check_transcoder if hasattr(dictionary.cfg, "hook_name_out") else check_sae)(model, dictionary)


def check_transcoder(model: "TransformerBridge", transcoder: Any) -> None:
    """Raises ValueError unless the transcoder fits this model: both hook points exist and have its widths, no weight is NaN, the names
    agree."""
    cfg = transcoder.cfg
    if not hasattr(cfg, "hook_name_out"):
        raise ValueError(
            f"what reads {getattr(cfg, 'hook_name', 'no one place')} is an SAE, not a transcoder: wb.Transcoder.load reads those"
        )
    _check_place(model, cfg.hook_name_in, cfg.d_in, "transcoder reads")
    _check_place(model, cfg.hook_name_out, cfg.d_out, "transcoder writes")
    _check_weights(model, transcoder, "transcoder")


def check_cross_layer(model: "TransformerBridge", clt: Any) -> None:
    """`check_transcoder` of a cross-layer transcoder, which has places in every block of the model."""
    cfg = clt.cfg
    if cfg.n_layers != model.cfg.n_layers:
        raise ValueError(f"this cross-layer transcoder has {cfg.n_layers} layers, the model {model.cfg.n_layers}: one for another model?")
    for hook_names, width, does in ((cfg.hook_names_in, cfg.d_in, "reads"), (cfg.hook_names_out, cfg.d_out, "writes")):
        for hook_name in hook_names:
            _check_place(model, hook_name, width, f"transcoder {does}")
    _check_weights(model, clt, "transcoder")


def _check_place(model: "TransformerBridge", hook_name: str, width: int, who: str) -> None:
    check_hook_name(model, hook_name)
    check_point(model, hook_name)
    there = point(model, hook_name).width
    if there != width:
        other = "an SAE" if who.startswith("SAE") else "a transcoder"
        raise ValueError(f"this {who} {width} numbers, but {hook_name} of this model has {there}: {other} for another model?")


def _check_weights(model: "TransformerBridge", sae: Any, what: str) -> None:
    """No weight is NaN, and the model's name is the one that it was trained on, as far as both are names."""
    check_whole(sae, what)
    theirs, ours = _family(sae.cfg.model_name), _family(str(model.cfg.model_name))
    is_named = theirs and ours and not Path(str(model.cfg.model_name)).exists() and not Path(sae.cfg.model_name).exists()
    if is_named and not (theirs.startswith(ours) or ours.startswith(theirs)):  # gpt2 / gpt2-small, gemma-2-2b / gemma-2-2b-it
        raise ValueError(f"this {what} was trained on {sae.cfg.model_name!r}, the model is {model.cfg.model_name!r}")


def check_finite(x: Tensor, hook_name: str) -> None:
    """Raises ValueError for activations with NaN or infinite values: what is read of them looks like no feature active."""
    if n := n_not_finite(x):
        raise ValueError(
            f"activations at {hook_name} hold {n:,} NaN or infinite values: are the model's weights whole, and is its dtype wide enough?"
        )


def unembedding_last(model: "TransformerBridge", n: int = 1) -> AbstractContextManager[None]:
    """Inside, the model unembeds the last n positions only, unless a hook of this caller's stands at the unembedding.

    It is not asked for fewer logits (logits_to_keep): Gemma 4 then runs whole layers at those positions only, and a hook in them takes the
    last token for the first.
    """
    unembed = getattr(model, "unembed", None)
    if unembed is None or is_watched(unembed.hook_in) or is_watched(unembed.hook_out):
        return nullcontext()
    return put((unembed.register_forward_pre_hook, lambda _, args: (args[0][:, -n:], *args[1:]) if args else None, {}))


def last_logits(model: "TransformerBridge", tokens: Tokens) -> LastLogits:
    """The model's own forward pass (hooks fire), without a KV cache; only the last position is unembedded."""
    with alone(model), unembedding_last(model):
        return model(tokens, **accepted(model, use_cache=False))[:, -1]


def accepted(model: "TransformerBridge", **options: Any) -> dict[str, Any]:
    """Those of the options that this model's forward pass knows."""
    names = inspect.signature(model.original_model.forward).parameters
    return {name: value for name, value in options.items() if name in names}


def hooked(model: "TransformerBridge", hook_name: str, replace: Callable[[Tensor], Tensor | None]) -> AbstractContextManager[None]:
    """Inside, the model goes on with replace(x) wherever this caller comes to the hook point with x (None: with x itself); in other
    threads and tasks it goes on as it is. Raises HookPointError for a hook point where this model ignores what is put."""
    check_obeyed(model, hook_name)
    return put(placed(model, hook_name, replace))


def seen(model: "TransformerBridge", hook_name: str, note: Callable[[Tensor], Tensor | None]) -> AbstractContextManager[None]:
    """Inside, note(x) sees every x with which this caller comes to the hook point. What it returns, if anything, may be ignored: see
    `hooked`."""
    return put(placed(model, hook_name, note))


def _family(name: str) -> str:
    return name.rstrip("/").split("/")[-1].lower()
