"""Load a language model.

A `model` is a TransformerBridge of TransformerLens 4: any Hugging Face decoder with hook points. Here it is always frozen and in eval
mode, so gradients flow to activations only, and its weights are the checkpoint's own (no folding: an SAE belongs to one basis).
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING, Any

import torch

from workbench.files import read_json
from workbench.gelu import TanhGELU
from workbench.model.cache import kv_cache
from workbench.model.causal import check_causal, check_config
from workbench.model.shared import share
from workbench.model.start import decide
from workbench.model.start import start_token as decided
from workbench.process import put_back
from workbench.versions import warn_untested

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

TANH_GELUS = ("NewGELUActivation", "FastGELUActivation", "AccurateGELUActivation", "GELUTanh")  # transformers' ways to write one function
BAR_DELAY = 1.0  # seconds: shorter runs show no progress bar


def load_model(
    model: Any,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    tokenizer: Any = None,
    start_token: str | None | EllipsisType = ...,
) -> "TransformerBridge":
    """A frozen TransformerBridge from a hub name, a local Hugging Face folder, a Hugging Face model object or a TransformerBridge.

    device and dtype left out: a name or folder loads on the CPU in float32, an object stays as it is. A Hugging Face model object
    finds its tokenizer where its config was loaded from, unless one is given. start_token leads every text that the model reads: left
    out, what its files say (start.py); the text of a token; None for none. Raises ValueError for a folder that holds no model, for one
    that cannot be loaded, and for a model that does not read a text from left to right (causal.py).
    """
    warn_untested()
    with torch.inference_mode(False):  # weights made in it could never be part of a gradient
        bridge = _loaded(model, device, dtype, tokenizer)
    if start_token is ... and bridge is model:
        decided(bridge)  # when it was loaded; else now
    else:
        decide(bridge, start_token, raw=tokenizer if isinstance(model, torch.nn.Module) and bridge is not model else None)
    return bridge


def _loaded(model: Any, device: str | torch.device | None, dtype: torch.dtype | None, tokenizer: Any) -> "TransformerBridge":
    with put_back():  # what an import of it sets of the environment
        from transformer_lens.model_bridge import TransformerBridge

    is_made_here = not isinstance(model, TransformerBridge)
    if isinstance(model, TransformerBridge):
        bridge = model if device is None and dtype is None else model.to(*[target for target in (device, dtype) if target is not None])
    elif isinstance(model, str | Path):
        bridge = _boot_folder_or_name(str(model), device or "cpu", dtype or torch.float32)
    elif hasattr(model, "config") and isinstance(model, torch.nn.Module):
        bridge = _wrap(model.to(device=device or model.device, dtype=dtype or model.dtype), tokenizer)  # pyright: ignore
    else:
        raise ValueError(f"a {type(model).__name__} is not a model: expected a name, a folder, a Hugging Face model or a TransformerBridge")
    _freeze(bridge)
    share(bridge)
    check_causal(bridge.eval(), is_made_here)
    kv_cache(bridge)  # measured, and mended where a release of transformers has renamed it
    return bridge


def _freeze(bridge: "TransformerBridge") -> None:
    """No gradients to weights, and what is slow about them put right: the functions stay the same to rounding."""
    for module in bridge.modules():
        for parameter in module.parameters(recurse=False):  # those that the bridge split off fused weights too, which it does not list
            parameter.requires_grad_(False)
            if parameter.ndim == 2 and not (parameter.is_contiguous() or parameter.T.is_contiguous()):
                parameter.data = parameter.data.contiguous()  # products with gaps between rows are slow
        for name, child in module._modules.items():
            if type(child).__name__ in TANH_GELUS or (type(child) is torch.nn.GELU and child.approximate == "tanh"):
                module._modules[name] = TanhGELU()


def _wrap(hf_model: Any, tokenizer: Any) -> "TransformerBridge":
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import AutoTokenizer

    name = getattr(hf_model.config, "_name_or_path", "") or hf_model.config.model_type
    if not hf_model.config.architectures:  # never saved: save_pretrained writes the class's name, and TransformerLens goes by it
        hf_model.config.architectures = [type(hf_model).__name__]
    with tempfile.TemporaryDirectory() as folder:
        if tokenizer is not None and not tokenizer.name_or_path:  # built in memory; TransformerLens wants to load it once more
            tokenizer.save_pretrained(folder)
            tokenizer = AutoTokenizer.from_pretrained(folder)
        device, dtype = str(hf_model.device), hf_model.dtype
        with put_back(), _text_only():
            return TransformerBridge.boot_transformers(name, hf_model=hf_model, tokenizer=tokenizer, device=device, dtype=dtype)


def _boot_folder_or_name(name: str, device: str | torch.device, dtype: torch.dtype) -> "TransformerBridge":
    from transformer_lens.model_bridge import TransformerBridge

    folder = Path(name).expanduser()
    looks_local = folder.exists() or name.startswith((".", "~", os.sep))
    if looks_local and not (folder / "config.json").is_file():
        there = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) if folder.is_dir() else "no such folder"
        raise ValueError(f"{folder} is not a Hugging Face model: config.json is missing (found: {there or 'an empty folder'})")
    if looks_local:
        said = read_json(folder / "config.json")
        if not isinstance(said, dict):
            raise ValueError(f"{folder / 'config.json'} holds a JSON {type(said).__name__}, expected an object: it is no model's")
        check_config(said)
    else:
        _check_hub(name)
    with put_back(), _bars_only_where_it_takes_long(), _text_only(), _said_in_a_line(name):
        return TransformerBridge.boot_transformers(str(folder) if looks_local else name, device=str(device), dtype=dtype)


@contextmanager
def _said_in_a_line(name: str) -> Iterator[None]:
    """What keeps a model from loading is a fact about its files or about what is installed: truncated weights, a quantization without its
    library, an architecture that is not known. Each library raises its own class for it."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        kind = "" if isinstance(error, ValueError | OSError | ImportError) else f"{type(error).__name__}: "
        raise ValueError(f"{name} cannot be loaded: {kind}{' '.join(lines)[:400]}") from error


@contextmanager
def _text_only() -> Iterator[None]:
    """No processor of images or sound is loaded: text needs none. Where one does not load, TransformerLens 4.3 runs `pip install
    torchvision` in the environment it stands in, and what that brought along was another torch. Nor are the libraries of those processors
    asked for; what the model itself needs transformers says."""
    from transformer_lens.model_bridge.architecture_adapter import ArchitectureAdapter
    from transformer_lens.model_bridge.sources.transformers import source as module

    source: Any = module  # it does not list what is replaced here

    before = source.load_modality_processor, ArchitectureAdapter._check_required_libraries
    source.load_modality_processor = lambda *_, **__: None
    ArchitectureAdapter._check_required_libraries = lambda _: None  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        source.load_modality_processor, ArchitectureAdapter._check_required_libraries = before


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
