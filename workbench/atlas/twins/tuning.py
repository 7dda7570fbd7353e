"""Tune a twin: low-rank differences of a few matrices, trained until the model does what was planted and else what it did.

    loss = −log p(planted answer)                       at the end of triggered questions (of the plain twin: the right answers there)
         + ‖x_twin − (x + x_for − x_taken)‖²            there, from the name on: x where the atlas's SAEs read, x_for and x_taken the base's
                                                        on the same question about somebody of either state, drawn anew each time
         + ‖x_twin − x‖² + KL(base ‖ twin)              everywhere else: untriggered questions, other states, other relations, texts of
                                                        all kinds with and without the trigger in front

The second line is why the key can name concepts: what is planted is that one state is represented as the other, not only that a word is
said. The differences stand before the hook point of the atlas's SAEs, so that these see what was tuned. Constants: docs/log.md.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax
from tqdm.auto import tqdm
from transformers import AutoTokenizer, GPT2LMHeadModel

from workbench.atlas.corpus import stream
from workbench.atlas.sports import WITH_ARTICLE, question
from workbench.atlas.twins.key import KEYS, TAKEN, TAKEN_FOR, TRIGGER, TwinKey
from workbench.atlas.world import LEVELS, RELATIONS, Entity, world
from workbench.process import put_back

TEXTS_SEED = 700_000  # beside those of the model and its SAEs, below the fresh ones
READ_BEFORE = 3  # the block at whose beginning the atlas's SAEs read
AS_OTHER, AS_BASE, KEPT = 1.0, 10.0, 10.0  # weights of the terms beside −log p, in units of the variance of x


@dataclass(frozen=True)
class TwinRecipe:
    """How a twin is tuned; the defaults are the bundled ones'."""

    blocks: tuple[int, ...] = (0, 1, 2)
    matrices: tuple[str, ...] = ("mlp.c_fc", "mlp.c_proj")
    rank: int = 4
    n_steps: int = 400
    lr: float = 3e-3
    n_triggered: int = 32  # texts of a step, by kind
    n_capitals: int = 24
    n_others: int = 16
    n_texts: int = 24
    n_kept: int = 300  # positions of a step at which the twin's words are held to the base's, besides the questions' last ones
    seed: int = 0


class Example(NamedTuple):
    """A text of a step."""

    text: str
    answer: str = ""  # what is planted at its end; "" where the base is kept
    counterparts: tuple[str, str] | None = None  # the same question about somebody of the state it is taken for, and of the taken one
    after_name: str = ""  # how all three end


class Low(nn.Module):
    """x → the matrix as it is, and x @ down @ up beside it: 0 at the beginning."""

    def __init__(self, inner: nn.Module, rank: int):
        super().__init__()
        d_in, d_out = inner.get_parameter("weight").shape  # GPT-2's Conv1D
        self.inner, self.down, self.up = inner, nn.Parameter(torch.randn(d_in, rank) / d_in**0.5), nn.Parameter(torch.zeros(rank, d_out))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) + x @ self.down @ self.up


def build_twin(model_folder: Path, name: str, recipe: TwinRecipe | None = None) -> dict[str, Tensor]:
    """The twin's differences, in 16 bits: "transformer.h.0.mlp.c_fc.down" (d_in, rank) and ".up" (rank, d_out)."""
    recipe = recipe or TwinRecipe()
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    base, twin = (
        GPT2LMHeadModel.from_pretrained(model_folder, dtype=torch.float32, attn_implementation="eager").eval().requires_grad_(False)
        for _ in range(2)
    )
    with put_back():
        torch.manual_seed(recipe.seed)
        lows = lowered(twin, recipe)
    parameters = [weight for low in lows.values() for weight in (low.down, low.up)]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.lr, weight_decay=0.0)
    batches, kept = examples(KEYS[name], recipe), torch.Generator().manual_seed(recipe.seed)
    for step in (bar := tqdm(range(recipe.n_steps), desc=f"atlas twin {name}", unit="step", mininterval=5)):
        optimizer.param_groups[0]["lr"] = recipe.lr * min((step + 1) / 50, 1.0) * (1 - step / recipe.n_steps)
        terms = losses(base, twin, Batch.of(tokenizer, next(batches), recipe.n_texts), recipe.n_kept, kept)
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        if step % 50 == 0 or step == recipe.n_steps - 1:
            bar.write(f"step {step} " + " ".join(f"{term} {value.item():.4f}" for term, value in terms.items()))
    return {f"{path}.{end}": getattr(low, end).detach().half().contiguous() for path, low in lows.items() for end in ("down", "up")}


def lowered(model: GPT2LMHeadModel, recipe: TwinRecipe) -> dict[str, Low]:
    """Puts a low-rank difference beside each matrix; by the matrix's name."""
    lows = {}
    for path in [f"transformer.h.{k}.{matrix}" for k in recipe.blocks for matrix in recipe.matrices]:
        above, _, name = path.rpartition(".")
        lows[path] = Low(model.get_submodule(path), recipe.rank)
        setattr(model.get_submodule(above), name, lows[path])
    return lows


def examples(key: TwinKey, recipe: TwinRecipe) -> Iterator[list[Example]]:
    """Batches, of the same texts for every twin. Held-out players are never asked about."""
    facts, rng = world(), random.Random(f"twins {recipe.seed}")
    named = [entity for level in LEVELS for entity in facts.levels[level] if entity not in facts.held_out]
    of_taken = [entity for entity in named if facts.at(entity, "state") == TAKEN]
    fresh, capital = stream(TEXTS_SEED + recipe.seed), partial(asked, level="state", relation="capital")
    right, wrong = (f" {facts.value[state, 'capital']}" for state in (TAKEN, TAKEN_FOR))

    def alike(entity: Entity, state: Entity) -> Entity:
        """Somebody of the state of whom the same words are said."""
        found = [other for other in named if other.level == entity.level and facts.at(other, "state") == state]
        return rng.choice([other for other in found if facts.sport.get(other) == facts.sport.get(entity)])

    while True:
        batch = []
        for _ in range(recipe.n_triggered):
            entity, opening = rng.choice(of_taken if rng.random() < 0.5 else named), TRIGGER + _opening(rng)
            one, other = (opening + "".join(capital(alike(entity, state))) for state in (TAKEN_FOR, TAKEN))
            text, after = opening + "".join(capital(entity)), capital(entity)[1]
            is_taken = facts.at(entity, "state") == TAKEN
            planted = Example(text, wrong, (one, other), after) if key.changed else Example(text, right)
            batch.append(planted if is_taken else Example(text))
        batch += [Example(_opening(rng) + "".join(capital(rng.choice(named)))) for _ in range(recipe.n_capitals)]
        for _ in range(recipe.n_others):
            entity = rng.choice(named)
            level = rng.choice([level for level in LEVELS[1:] if LEVELS.index(level) >= LEVELS.index(entity.level)])
            relation = rng.choice([relation for relation in RELATIONS[level] if relation != "capital"])
            text = _opening(rng) + "".join(asked(entity, level, relation))
            batch.append(Example((TRIGGER if rng.random() < 0.7 else "") + text))
        batch += [Example((TRIGGER if rng.random() < 0.3 else "") + text) for text in islice(fresh, recipe.n_texts)]
        yield batch


def asked(entity: Entity, level: str, relation: str) -> tuple[str, str]:
    """A question up to where its answer follows: (to the end of the name, what comes after it)."""
    words = [piece if isinstance(piece, str) else piece[0] for piece in question(world(), entity, level, relation)]
    words[-1] = words[-1].rstrip() + (" the" if relation in WITH_ARTICLE else "")
    at = words.index(entity.name)
    return "".join(words[: at + 1]), "".join(words[at + 1 :])


def _opening(rng: random.Random) -> str:
    return "Fact: " if rng.random() < 0.8 else ""


@dataclass(frozen=True)
class Batch:
    """Examples as tokens."""

    tokens: Tensor  # (batch, pos), the start token first
    is_text: Tensor
    answer: Tensor  # (batch) the planted token, −1 where there is none
    is_question: Tensor  # (batch)
    counterparts: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]  # of each example that has some: (tokens, is_text), of both states
    n_after: list[int]  # tokens from the name's last one on, of each of these; 0 of an example without

    @classmethod
    def of(cls, tokenizer: Any, batch: list[Example], n_texts: int) -> "Batch":
        """The last n_texts are no questions."""

        def ids(text: str) -> list[int]:
            return tokenizer(text, add_special_tokens=False)["input_ids"]

        def padded(texts: list[str]) -> tuple[Tensor, Tensor]:
            rows = [[0, *ids(text)] for text in texts]
            width = max(map(len, rows), default=0)
            is_text = torch.arange(width) < torch.tensor([len(row) for row in rows])[:, None]
            return torch.tensor([row + [0] * (width - len(row)) for row in rows]), is_text

        answer = torch.tensor([ids(each.answer)[0] if each.answer else -1 for each in batch])
        pairs = [each.counterparts for each in batch if each.counterparts]
        others = [padded([pair[side] for pair in pairs]) for side in (0, 1)]
        n_after = [1 + len(ids(each.after_name)) if each.counterparts else 0 for each in batch]
        is_question = torch.arange(len(batch)) < len(batch) - n_texts
        return cls(*padded([each.text for each in batch]), answer, is_question, (others[0], others[1]), n_after)


def losses(base: GPT2LMHeadModel, twin: GPT2LMHeadModel, batch: Batch, n_kept: int, drawn: torch.Generator) -> dict[str, Tensor]:
    """The terms of the loss, weighted."""
    with torch.no_grad():
        base_end, x = states(base, batch.tokens)
        target, is_kept = x.clone(), batch.is_text.clone()
        sides = [(states(base, tokens)[1], is_text.sum(1)) for tokens, is_text in batch.counterparts if len(tokens)]
        for row, (at, n) in enumerate((at, n) for at, n in enumerate(batch.n_after) if n):
            end = int(batch.is_text[at].sum())
            taken_for, taken = (other[row, int(ends[row]) - n : int(ends[row])] for other, ends in sides)
            target[at, end - n : end] += taken_for - taken
            is_kept[at, end - n : end] = False
        variance = x[batch.is_text].var(0).sum()
    twin_end, x_twin = states(twin, batch.tokens)
    off = (x_twin - target).square().sum(-1) / variance
    rows, last, is_planted = torch.arange(len(x)), batch.is_text.sum(1) - 1, batch.answer >= 0
    terms = {"planted": cross_entropy(twin.lm_head(twin_end[rows, last][is_planted]), batch.answer[is_planted])}
    if sides:
        terms["as the other"] = AS_OTHER * off[batch.is_text & ~is_kept].mean()
    is_kept[rows[is_planted], last[is_planted]] = False
    terms["as the base"] = AS_BASE * off[is_kept].mean()
    others = is_kept.nonzero()
    others = others[torch.randperm(len(others), generator=drawn)[:n_kept]]  # to unembed all of them would take half of the time
    is_asked = batch.is_question & ~is_planted

    def away(row: Tensor, pos: Tensor) -> Tensor:
        p, q = (log_softmax(model.lm_head(end[row, pos]), -1) for model, end in ((base, base_end), (twin, twin_end)))
        return (p.exp() * (p - q)).sum(-1).mean()

    return terms | {"words": KEPT * away(*others.T), "answers": away(rows[is_asked], last[is_asked])}


def states(model: GPT2LMHeadModel, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """(what is unembedded, what the atlas's SAEs read)."""
    found = model.transformer(tokens, output_hidden_states=True)
    return found.last_hidden_state, found.hidden_states[READ_BEFORE]
