"""Hook points: what a model has, what an SAE needs of it, and a pass of the model with an edit in it."""

import difflib
import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from workbench.model.callers import alone, put
from workbench.model.points import check_obeyed, check_point, is_watched, placed, point
from workbench.shapes import LastLogits, Tokens

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

_WHOLE: WeakKeyDictionary[Any, dict[str, tuple]] = WeakKeyDictionary()  # dictionary → its matrices when no NaN was found in them


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


def check_whole(dictionary: Any, what: str, again: bool = False) -> None:
    """Raises ValueError where a weight is NaN or infinite. Matrices are looked at once, and anew where they were written to: of a wide
    dictionary that takes a twelfth of a forward pass. What goes through `.data` is not seen, unless again: results that are NaN ask so."""
    known = _WHOLE.setdefault(dictionary, {})
    for name, weight in dictionary.named_parameters():
        state = (weight.data_ptr(), version(weight), weight.dtype)
        before, its_state = known.get(name, (lambda: None, None))
        if before() is weight and its_state == state and state[1] >= 0 and not again:
            continue
        if not torch.isfinite(weight.sum()) and not torch.isfinite(weight).all():  # the sum first: 20 × cheaper, and NaN spreads to it
            raise ValueError(f"the {what}'s {name} has {int((~torch.isfinite(weight)).sum())} NaN or infinite values")
        if weight.ndim > 1:
            known[name] = ref(weight), state


def forget_whole(dictionary: Any) -> None:
    """After `to`, `half` and their like, which put other numbers into the same parameters and may put them into the same memory."""
    _WHOLE.pop(dictionary, None)


def version(weight: Tensor) -> int:
    """How often it was written to, but for what goes through `.data`; tensors made in inference mode do not count: −1."""
    return -1 if weight.is_inference() else weight._version


def check_finite(x: Tensor, hook_name: str) -> None:
    """Raises ValueError for activations with NaN or infinite values: what is read of them looks like no feature active."""
    if not torch.isfinite(x.sum()) and (n := int((~torch.isfinite(x)).sum())):  # the sum first, as of weights
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


class _FewRows(torch.autograd.Function):
    """Logits x @ W.T as they were computed; their gradient reads those rows of W only whose logit has one. A metric asks for two of a
    vocabulary, and reading all of W takes as long as a block."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, logits: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return logits.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        rows = gradient.flatten(0, -2).count_nonzero(0).nonzero()[:, 0]
        if 8 * len(rows) > len(weight):  # a mean over the vocabulary
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
