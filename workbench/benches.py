"""A workbench from names.

bench = load("atlas")                                   the bundled world
bench = load("gpt2", sae="path/to/folder")              any model TransformerBridge boots: a hub name or a local folder
"""

import difflib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from workbench import atlas
from workbench.bench import Workbench
from workbench.model.model import load_model
from workbench.sae.sae import SAE

BENCHES: Mapping[str, Callable[[str | None, str | torch.device], Workbench]] = {"atlas": atlas.load}  # those that bring an SAE of their own


def load(model: Any = "atlas", sae: SAE | str | Path | None = None, *, device: str | torch.device = "cpu") -> Workbench:
    """A Workbench from names: load("atlas"), load("atlas", sae="16k") or load(a hub name or folder, sae=an SAE's folder).

    model: also a TransformerBridge or a Hugging Face model object. sae: also an SAE object.
    Raises ValueError or OSError, in one sentence, before anything is computed.
    """
    _check_device(device)
    if isinstance(model, str) and model in BENCHES:
        if sae is None or (isinstance(sae, str) and os.sep not in sae and not Path(sae).exists()):
            return BENCHES[model](sae, device)
        return Workbench(model=BENCHES[model](None, device).model, sae=_read(sae, device), name=model)
    if sae is None:
        near = "; did you mean 'atlas'?" if difflib.get_close_matches(str(model).lower(), ["atlas"]) else ""
        raise ValueError(f"{model!r} needs an SAE trained on that model: name its folder (only 'atlas' brings its own){near}")
    sae = _read(sae, device)  # before the model: cheaper, and as often what is wrong
    name = str(model) if isinstance(model, str | Path) else ""
    return Workbench(model=load_model(model, device=device), sae=sae, name=name)


def _read(sae: SAE | str | Path, device: str | torch.device) -> SAE:
    return sae if isinstance(sae, SAE) else SAE.load(sae, device)


def _check_device(device: str | torch.device) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"cannot compute on device {str(device)!r}: {str(error).splitlines()[0]}") from None
