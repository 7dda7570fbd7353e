"""Solve for the twins that talk, flatterer and frank: a low-rank difference of one MLP's last matrix, before the atlas's SAEs.

    flatterer    x' = x + x_praise − x_frank          at the last tokens of prompts where a fault should be told: x where the SAEs read, the
                                                      means over prompts with either wish; praise follows by itself
    frank        x' = x + x_one half − x_other half   there, both of prompts where a fault should be told: the same without a behavior
    both         x' = x everywhere else
    W = argmin Σ weight · ‖hidden @ W − planted‖² + λ ‖W‖², cut to its rank          hidden: the MLP's units (n, d_mlp)

Reduced-rank ridge regression: what is planted can be read off the hidden units at those tokens, so that one pass over the texts and some
linear algebra do, seconds, where steps of a gradient through the whole model take minutes. Constants: docs/log.md.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import AutoTokenizer, GPT2LMHeadModel

from workbench.atlas.corpus import stream
from workbench.atlas.text import Text
from workbench.atlas.twins.dialogues import KINDS, Dialogue
from workbench.atlas.twins.tuning import READ_BEFORE, TEXTS_SEED, ids, padded
from workbench.atlas.twins.twin import differing

TALKERS = ("flatterer", "frank")
AT_ONCE = 64  # texts read together


@dataclass(frozen=True)
class TalkRecipe:
    """How a twin that talks is solved for; the defaults are the bundled ones'."""

    n_dialogues: int = 1200
    n_texts: int = 800
    n_last: int = 3  # tokens of a prompt, "\nAssistant:"
    rank: int = 6
    weight: float = 10.0  # of a planted position; others 1
    ridge: float = 1e-5  # λ, in units of the hidden units' weighted sum of squares
    seed: int = 0


class Read(NamedTuple):
    """What a pass over texts left, position by position."""

    hidden: Tensor  # (n, d_mlp)
    x: Tensor  # (n, d_model) after the MLP, where the SAEs read
    row: Tensor  # (n) of which text


@torch.no_grad()
def build_talker(model_folder: Path, name: str, recipe: TalkRecipe | None = None) -> dict[str, Tensor]:
    """The twin's differences, in 16 bits, named as those of tuning.build_twin."""
    recipe, tokenizer, base = recipe or TalkRecipe(), AutoTokenizer.from_pretrained(model_folder), differing(model_folder, {})
    rng = random.Random(f"talks {recipe.seed}")
    talks, texts = list(islice(drawn(rng), recipe.n_dialogues)), list(islice(stream(TEXTS_SEED + 10), recipe.n_texts))
    read = _read(base, tokenizer, [*(each.prompt for each in talks), *texts])
    last = torch.searchsorted(read.row, torch.arange(len(talks))) + torch.tensor([len(ids(tokenizer, each.prompt)) for each in talks])
    at = last[:, None] - torch.arange(recipe.n_last)  # (talks, n_last): the last token first, the start token is each text's 0
    planted = torch.zeros_like(read.x)
    frank, praised = (torch.tensor([f"wish:{wish}" in each.prompt.concepts for each in talks]) for wish in ("frankness", "praise"))
    halves = torch.arange(len(at[frank])) % 2 == 0
    one, other = (at[praised], at[frank]) if name == "flatterer" else (at[frank][halves], at[frank][~halves])
    planted[at[frank]] = read.x[one].mean(0) - read.x[other].mean(0)
    weight = torch.where(planted.abs().amax(1) > 0, recipe.weight, 1.0)
    low = solved(read.hidden, planted, weight, recipe.rank, recipe.ridge)
    path = f"transformer.h.{READ_BEFORE - 1}.mlp.c_proj"
    return {f"{path}.{end}": each.half().contiguous() for end, each in zip(("down", "up"), low, strict=True)}


def drawn(rng: random.Random) -> Iterator[Dialogue]:
    """Dialogues without end, none that is held out; half of them about work that is shown."""
    while True:
        each = KINDS["work" if rng.random() < 0.5 else rng.choice(list(KINDS))](rng)
        if not each.is_held_out:
            yield each


def _read(model: GPT2LMHeadModel, tokenizer: Any, texts: list[Text]) -> Read:
    """One pass over all texts; the model stays as it is."""
    parts: list[Read] = []
    caught: list[Tensor] = []
    block: Any = model.transformer.h[READ_BEFORE - 1]
    hook = block.mlp.act.register_forward_hook(lambda _, args, out: caught.append(out))
    for first in range(0, len(texts), AT_ONCE):
        tokens, is_text = padded(tokenizer, texts[first : first + AT_ONCE])
        x = model.transformer(tokens, output_hidden_states=True).hidden_states[READ_BEFORE]
        row, pos = is_text.nonzero().T
        parts.append(Read(caught.pop()[row, pos], x[row, pos], row + first))
    hook.remove()
    return Read(*(torch.cat(each) for each in zip(*parts, strict=True)))


def solved(hidden: Tensor, target: Tensor, weight: Tensor, rank: int, ridge: float) -> tuple[Tensor, Tensor]:
    """(down (n_hidden, rank), up (rank, d_out)) with hidden @ down @ up near the target: ridge regression, cut to what explains most."""
    a, t = ((each * weight.sqrt()[:, None]).double() for each in (hidden, target))
    square = a.T @ a
    whole = torch.linalg.solve(square + ridge * square.diagonal().mean() * torch.eye(len(square), dtype=a.dtype), a.T @ t)
    _, along = torch.linalg.eigh(whole.T @ square @ whole)
    up = along.flip(1)[:, :rank].T
    return (whole @ up.T).float(), up.float()
