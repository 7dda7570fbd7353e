"""A twin's weights: those of the atlas's model, and small differences added to a few matrices.

W_twin = W + down @ up          down (d_in, rank), up (rank, d_out), in 16 bits, added in float32
"""

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file
from torch import Tensor

from workbench.atlas.layers import WEIGHTS

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

TWINS = tuple(sorted(file.stem for file in (WEIGHTS / "twins").glob("*.safetensors")))


def twin_model(name: str) -> "GPT2LMHeadModel":
    """The bundled model with the twin's differences. Raises ValueError for a name that there is none of."""
    if name not in TWINS:
        near = difflib.get_close_matches(str(name).lower(), TWINS, n=1, cutoff=0.0)
        raise ValueError(f"the atlas has no twin called {name!r}; did you mean {near[0]!r}? (It has {', '.join(TWINS)}.)")
    return differing(WEIGHTS / "model", load_file(file_of(WEIGHTS, name)))


def file_of(folder: Path, name: str) -> Path:
    """Where an atlas keeps a twin."""
    return folder / "twins" / f"{name}.safetensors"


def differing(model_folder: Path, differences: dict[str, Tensor]) -> "GPT2LMHeadModel":
    """The folder's model with low-rank differences added."""
    from transformers import GPT2LMHeadModel  # seconds of imports, which who asks for texts only need not wait for

    model = GPT2LMHeadModel.from_pretrained(model_folder, dtype=torch.float32).eval()
    for path in sorted({name.rpartition(".")[0] for name in differences}):
        down, up = (differences[f"{path}.{end}"].float() for end in ("down", "up"))
        model.get_parameter(f"{path}.weight").data += down @ up
    return model
