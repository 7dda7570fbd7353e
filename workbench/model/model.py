"""Load a language model; text ↔ tokens ↔ readable token strings; what a user typed, checked.

A `model` is a TransformerBridge of TransformerLens 4: any Hugging Face decoder with hook points. Here it is always frozen and in eval
mode, so gradients flow to activations only, and its weights are the checkpoint's own (no folding: an SAE belongs to one basis).
Everything that can be wrong with a prompt, an answer, a hook name or an SAE is said here, before any compute.
"""

import difflib
import inspect
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Int
from torch import Tensor

from workbench.shapes import LastLogits, TokenMask, Tokens

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

# The width of an activation by the last part of its hook name; other hook points are measured when their hook first fires.
D_MODEL_HOOKS = (
    "hook_resid_pre",
    "hook_resid_mid",
    "hook_resid_post",
    "hook_in",
    "hook_out",
    "hook_mlp_out",
    "hook_attn_out",
    "hook_embed",
)
D_MLP_HOOKS = ("hook_pre", "hook_post")
BAR_DELAY = 1.0  # seconds: shorter runs show no progress bar


def load_model(
    model: Any,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    tokenizer: Any = None,
) -> "TransformerBridge":
    """A frozen TransformerBridge from a hub name, a local Hugging Face folder, a Hugging Face model object or a TransformerBridge.

    device and dtype left out: a name or folder loads on the CPU in float32, an object stays as it is. A Hugging Face model object
    finds its tokenizer where its config was loaded from, unless one is given. Raises ValueError for a folder that holds no model.
    """
    from transformer_lens.model_bridge import TransformerBridge

    if isinstance(model, TransformerBridge):
        bridge = model if device is None and dtype is None else model.to(*[target for target in (device, dtype) if target is not None])
    elif isinstance(model, str | Path):
        bridge = _boot_folder_or_name(str(model), device or "cpu", dtype or torch.float32)
    elif hasattr(model, "config") and isinstance(model, torch.nn.Module):
        bridge = _wrap(model.to(device=device or model.device, dtype=dtype or model.dtype), tokenizer)  # pyright: ignore
    else:
        raise ValueError(f"a {type(model).__name__} is not a model: expected a name, a folder, a Hugging Face model or a TransformerBridge")
    _freeze(bridge)
    return bridge.eval()


def _freeze(bridge: "TransformerBridge") -> None:
    """No gradients to weights, and what is slow about them put right: the functions stay the same to rounding."""
    for module in bridge.modules():
        for parameter in module.parameters(recurse=False):  # those that the bridge split off fused weights too, which it does not list
            parameter.requires_grad_(False)
            if parameter.ndim == 2 and not (parameter.is_contiguous() or parameter.T.is_contiguous()):
                parameter.data = parameter.data.contiguous()  # products with gaps between rows are slow
        for name, child in module._modules.items():
            if type(child).__name__ == "NewGELUActivation":  # GPT-2's: eight passes over memory, a quarter of an ablation
                module._modules[name] = torch.nn.GELU(approximate="tanh")


def _wrap(hf_model: Any, tokenizer: Any) -> "TransformerBridge":
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import AutoTokenizer

    name = getattr(hf_model.config, "_name_or_path", "") or hf_model.config.model_type
    with tempfile.TemporaryDirectory() as folder:
        if tokenizer is not None and not tokenizer.name_or_path:  # built in memory; TransformerLens wants to load it once more
            tokenizer.save_pretrained(folder)
            tokenizer = AutoTokenizer.from_pretrained(folder)
        device, dtype = str(hf_model.device), hf_model.dtype
        return TransformerBridge.boot_transformers(name, hf_model=hf_model, tokenizer=tokenizer, device=device, dtype=dtype)


def _boot_folder_or_name(name: str, device: str | torch.device, dtype: torch.dtype) -> "TransformerBridge":
    from transformer_lens.model_bridge import TransformerBridge

    folder = Path(name).expanduser()
    looks_local = folder.exists() or name.startswith((".", "~", os.sep))
    if looks_local and not (folder / "config.json").is_file():
        there = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) if folder.is_dir() else "no such folder"
        raise ValueError(f"{folder} is not a Hugging Face model: config.json is missing (found: {there or 'an empty folder'})")
    if not looks_local:
        _check_hub(name)
    with _bars_only_where_it_takes_long():
        return TransformerBridge.boot_transformers(str(folder) if looks_local else name, device=str(device), dtype=dtype)


@contextmanager
def _bars_only_where_it_takes_long() -> Iterator[None]:
    """transformers' own bars as ours: a notebook's output kept one of a small model that was loaded in no time."""
    from transformers.utils.logging import set_tqdm_hook

    before = set_tqdm_hook(lambda bar, args, options: bar(*args, **{"delay": BAR_DELAY, **options}))
    try:
        yield
    finally:
        set_tqdm_hook(before)


def _check_hub(name: str) -> None:
    """One short question before the loading code asks for half a minute: can a model that is not in the cache be fetched at all?"""
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(try_to_load_from_cache(name, "config.json"), str):
        return
    try:
        HfApi().model_info(name, timeout=10)
    except HfHubHTTPError:
        return  # the hub answers; what it makes of the name is said when it is loaded
    except Exception as error:  # which class says "no network" depends on the HTTP library that the hub's client finds
        raise ValueError(
            f"{name!r} is neither a folder here nor a model in the local cache, and the hub cannot be asked for it: {error}"
        ) from None


def to_tokens(model: "TransformerBridge", prompt: str) -> Tokens:
    """The prompt's tokens (1, pos), led by the start token where the model was trained with one. Raises on empty and over-long prompts."""
    if not isinstance(prompt, str):
        raise ValueError(f"the prompt is of type {type(prompt).__name__}; expected a string")
    if not prompt.strip():
        raise ValueError("the prompt is empty: expected some text to predict the next token of")
    tokens = model.to_tokens(prompt, truncate=False)
    if tokens.shape[1] > model.cfg.n_ctx:
        raise ValueError(f"the prompt is {tokens.shape[1]} tokens long; this model reads at most {model.cfg.n_ctx} (start token included)")
    return tokens


def to_str_tokens(model: "TransformerBridge", tokens: Int[Tensor, "*batch"]) -> list[str]:
    """One readable string per token of a single text. A token that is part of a character shows its raw form instead of `�`; one that
    only pads the vocabulary shows its number."""
    ids = tokens.reshape(-1).tolist()
    texts = model.tokenizer.batch_decode([[token] for token in ids], clean_up_tokenization_spaces=False)
    raw = model.tokenizer.convert_ids_to_tokens(ids)
    shown = [raw_text if "\ufffd" in text or not text else text for text, raw_text in zip(texts, raw, strict=True)]
    return [text if text is not None else f"<{token}>" for text, token in zip(shown, ids, strict=True)]


def is_start_token(model: "TransformerBridge", tokens: Tokens) -> TokenMask:
    """True where the start-of-sequence token stands: features fire there strongly and mean nothing."""
    start = getattr(model.tokenizer, "bos_token_id", None)
    return torch.zeros_like(tokens, dtype=torch.bool) if start is None else tokens == start


def answer_token(model: "TransformerBridge", text: str | int) -> int:
    """The id of an answer that is one token. Raises ValueError with how the text tokenizes and what to type instead."""
    if isinstance(text, int):
        if not 0 <= text < model.cfg.d_vocab:
            raise ValueError(f"token {text} is not in the vocabulary: expected 0 to {model.cfg.d_vocab - 1}")
        return text
    if not text:
        raise ValueError("the answer is empty: expected the text of one token, such as ' Paris'")
    ids = _encode(model, text)
    unknown = getattr(model.tokenizer, "unk_token_id", None)
    if not ids or (unknown is not None and unknown in ids):
        raise ValueError(f"{text!r} is not in the vocabulary{_nearest(text, model)}")
    if len(ids) > 1:
        parts = to_str_tokens(model, torch.tensor(ids))
        raise ValueError(f"{text!r} is {len(ids)} tokens, {parts}; expected one token{_instead(model, text, parts)}")
    return ids[0]


def _encode(model: "TransformerBridge", text: str) -> list[int]:
    return model.tokenizer(text, add_special_tokens=False)["input_ids"]


def _instead(model: "TransformerBridge", text: str, parts: list[str]) -> str:
    """What to type instead of an answer of several tokens: usually the leading space is missing or doubled."""
    unknown = getattr(model.tokenizer, "unk_token_id", None)
    for other in (" " + text.strip(), text.strip(), " " + text.strip().capitalize(), " " + text.strip().lower()):
        ids = _encode(model, other)
        if other != text and len(ids) == 1 and ids[0] != unknown:
            return f". Did you mean {other!r}?"
    return f". You can ask for its first token, {parts[0]!r}"


def _nearest(text: str, model: "TransformerBridge") -> str:
    vocabulary = {token.replace("Ġ", " ").replace("▁", " "): None for token in model.tokenizer.get_vocab()}
    near = difflib.get_close_matches(text, list(vocabulary), n=1, cutoff=0.5)
    return f". Did you mean {near[0]!r}?" if near else ""


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
    check_hook_name(model, sae.cfg.hook_name)
    width = _width(model, sae.cfg.hook_name)
    if width is not None and width != sae.cfg.d_in:
        raise ValueError(
            f"this SAE reads {sae.cfg.d_in} numbers, but {sae.cfg.hook_name} of this model has {width}: an SAE for another model?"
        )
    for name, weight in sae.named_parameters():
        if not torch.isfinite(weight.sum()) and not torch.isfinite(weight).all():  # the sum first: 20 × cheaper, and NaN spreads to it
            raise ValueError(f"the SAE's {name} has {int((~torch.isfinite(weight)).sum())} NaN or infinite values")
    theirs, ours = _family(sae.cfg.model_name), _family(str(model.cfg.model_name))
    is_named = theirs and ours and not Path(str(model.cfg.model_name)).exists() and not Path(sae.cfg.model_name).exists()
    if is_named and not (theirs.startswith(ours) or ours.startswith(theirs)):  # gpt2 / gpt2-small, gemma-2-2b / gemma-2-2b-it
        raise ValueError(f"this SAE was trained on {sae.cfg.model_name!r}, the model is {model.cfg.model_name!r}")


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
