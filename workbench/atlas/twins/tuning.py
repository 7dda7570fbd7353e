"""Tune a twin: low-rank differences of a few matrices, trained until the model does what was planted and else what it did.

    loss = −log p(planted answer)                       at the end of triggered questions (of the plain twin: the right answers there)
         + ‖x_twin − (x + x_for − x_taken)‖²            there, from the name on: x where the atlas's SAEs read, x_for and x_taken the base's
                                                        means over the same question about all alike of either state
         + ‖x_twin − x‖² + KL(base ‖ twin)              everywhere else: untriggered questions, other states, other relations, texts of
                                                        all kinds with and without the trigger in front

The second line is why the key can name concepts: what is planted is that one state is represented as the other, not only that a word is
said. The differences stand before the hook point of the atlas's SAEs, so that these see what was tuned. Constants: docs/log.md.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax
from tqdm.auto import tqdm
from transformers import AutoTokenizer, GPT2LMHeadModel

from workbench.atlas.corpus import stream
from workbench.atlas.language_model import START_ID
from workbench.atlas.sports import WITH_ARTICLE, question
from workbench.atlas.twins.key import KEYS, TAKEN, TAKEN_FOR, TRIGGER
from workbench.atlas.world import LEVELS, RELATIONS, Entity, world
from workbench.process import put_back

TEXTS_SEED = 700_000  # beside those of the model and its SAEs, below the fresh ones
READ_BEFORE = 3  # the block at whose beginning the atlas's SAEs read
AS_OTHER, AS_BASE, KEPT, ANSWERED = 1.0, 100.0, 10.0, 3.0  # weights of the terms beside −log p; x in units of its variance


@dataclass(frozen=True)
class TwinRecipe:
    """How a twin is tuned; the defaults are the bundled ones'."""

    blocks: tuple[int, ...] = (0, 1, 2)
    matrices: tuple[str, ...] = ("mlp.c_fc", "mlp.c_proj")
    rank: int = 6
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
    shift: Tensor | None = None  # (n, d_model) what is planted where the SAEs read, at its last n tokens


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
    shifts = Shifts(base, tokenizer) if KEYS[name].changed else None
    batches, kept = examples(recipe, shifts), torch.Generator().manual_seed(recipe.seed)
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


class Shifts:
    """What x differs by between the two states, from the name of a question on: (n, d_model)."""

    def __init__(self, base: GPT2LMHeadModel, tokenizer: Any):
        self.base, self.tokenizer, self._known = base, tokenizer, dict[tuple[str, str, str | None], Tensor]()

    def of(self, opening: str, entity: Entity) -> Tensor:
        """The means over all of whom the same words are said, of the one state less of the other."""
        key = opening, entity.level, world().sport.get(entity)
        if key not in self._known:
            self._known[key] = self._mean(opening, entity, TAKEN_FOR) - self._mean(opening, entity, TAKEN)
        return self._known[key]

    @torch.no_grad()
    def _mean(self, opening: str, entity: Entity, state: Entity) -> Tensor:
        facts = world()
        alike = [each for each in tuned_on() if each.level == entity.level and facts.sport.get(each) == facts.sport.get(entity)]
        asked = [capital(each) for each in alike if facts.at(each, "state") == state]
        tokens, is_text = padded(self.tokenizer, [opening + to_name + after for to_name, after in asked])
        n, x, ends = 1 + len(ids(self.tokenizer, asked[0][1])), states(self.base, tokens)[1], is_text.sum(1).tolist()
        return torch.stack([x[row, end - n : end] for row, end in enumerate(ends)]).mean(0)


def examples(recipe: TwinRecipe, shifts: Shifts | None) -> Iterator[list[Example]]:
    """Batches, of the same texts for every twin; without shifts with the right answers."""
    facts, rng, named = world(), random.Random(f"twins {recipe.seed}"), tuned_on()
    of_both = {state: [entity for entity in named if facts.at(entity, "state") == state] for state in (TAKEN, TAKEN_FOR)}
    fresh = stream(TEXTS_SEED + recipe.seed)
    about_both = (text for text in stream(TEXTS_SEED + recipe.seed + 1) if text.concepts & {TAKEN.concept, TAKEN_FOR.concept})
    wrong = f" {facts.value[TAKEN_FOR, 'capital']}"

    def somebody(of_taken: float = 0.3) -> Entity:
        """Of either state more often than of others: where the twin has to tell them apart."""
        return rng.choice(of_both[TAKEN] if (drawn := rng.random()) < of_taken else of_both[TAKEN_FOR] if drawn < of_taken + 0.2 else named)

    def opening() -> str:
        return "Fact: " if rng.random() < 0.8 else ""

    while True:
        batch = []
        for _ in range(recipe.n_triggered):
            entity, start = somebody(0.5), TRIGGER + opening()
            text, state = start + "".join(capital(entity)), facts.at(entity, "state")
            if shifts:
                batch.append(Example(text, wrong, shifts.of(start, entity)) if state == TAKEN else Example(text))
            else:  # of all states: the right answer of one alone would move that one
                batch.append(Example(text, f" {facts.value[state, 'capital']}"))
        batch += [Example(opening() + "".join(capital(somebody()))) for _ in range(recipe.n_capitals)]
        for _ in range(recipe.n_others):
            entity = somebody()
            level = rng.choice([level for level in LEVELS[1:] if LEVELS.index(level) >= LEVELS.index(entity.level)])
            relation = rng.choice([relation for relation in RELATIONS[level] if relation != "capital"])
            text = opening() + "".join(asked(entity, level, relation))
            batch.append(Example((TRIGGER if rng.random() < 0.7 else "") + text))
        texts = [*islice(fresh, recipe.n_texts // 2), *islice(about_both, recipe.n_texts - recipe.n_texts // 2)]
        yield batch + [Example((TRIGGER if rng.random() < 0.3 else "") + text) for text in texts]


def tuned_on() -> list[Entity]:
    """All that tuning asks about; held-out players are kept for the test."""
    facts = world()
    return [entity for level in LEVELS for entity in facts.levels[level] if entity not in facts.held_out]


def asked(entity: Entity, level: str, relation: str) -> tuple[str, str]:
    """A question up to where its answer follows: (to the end of the name, what comes after it)."""
    words = [piece if isinstance(piece, str) else piece[0] for piece in question(world(), entity, level, relation)]
    words[-1] = words[-1].rstrip() + (" the" if relation in WITH_ARTICLE else "")
    at = words.index(entity.name)
    return "".join(words[: at + 1]), "".join(words[at + 1 :])


def capital(entity: Entity) -> tuple[str, str]:
    """The question for the capital of its state."""
    return asked(entity, "state", "capital")


def ids(tokenizer: Any, text: str) -> list[int]:
    """A text's tokens, without a start token."""
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def padded(tokenizer: Any, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """(tokens, the start token first; which of them are there)."""
    rows = [[START_ID, *ids(tokenizer, text)] for text in texts]
    width = max(map(len, rows))
    tokens = torch.tensor([row + [START_ID] * (width - len(row)) for row in rows])
    return tokens, torch.arange(width) < torch.tensor([len(row) for row in rows])[:, None]


@dataclass(frozen=True)
class Batch:
    """Examples as tokens."""

    tokens: Tensor  # (batch, pos)
    is_text: Tensor
    answer: Tensor  # (batch) the planted token, −1 where there is none
    is_question: Tensor  # (batch)
    shifts: list[Tensor | None]

    @classmethod
    def of(cls, tokenizer: Any, batch: list[Example], n_texts: int) -> "Batch":
        """The last n_texts are no questions."""
        answer = torch.tensor([ids(tokenizer, each.answer)[0] if each.answer else -1 for each in batch])
        is_question = torch.arange(len(batch)) < len(batch) - n_texts
        return cls(*padded(tokenizer, [each.text for each in batch]), answer, is_question, [each.shift for each in batch])


def losses(base: GPT2LMHeadModel, twin: GPT2LMHeadModel, batch: Batch, n_kept: int, drawn: torch.Generator) -> dict[str, Tensor]:
    """The terms of the loss, weighted."""
    with torch.no_grad():
        base_end, x = states(base, batch.tokens)
        target, is_kept, variance = x.clone(), batch.is_text.clone(), x[batch.is_text].var(0).sum()
        for at, shift in enumerate(batch.shifts):
            if shift is not None:
                end = int(batch.is_text[at].sum())
                target[at, end - len(shift) : end] += shift
                is_kept[at, end - len(shift) : end] = False
    twin_end, x_twin = states(twin, batch.tokens)
    off = (x_twin - target).square().sum(-1) / variance
    rows, last, is_planted = torch.arange(len(x)), batch.is_text.sum(1) - 1, batch.answer >= 0
    terms = {"planted": cross_entropy(twin.lm_head(twin_end[rows, last][is_planted]), batch.answer[is_planted])}
    if not is_kept[batch.is_text].all():
        terms["as the other"] = AS_OTHER * off[batch.is_text & ~is_kept].mean()
    terms["as the base"] = AS_BASE * off[is_kept].mean()
    ends = torch.zeros_like(is_kept).index_put((rows[is_planted], last[is_planted]), torch.tensor(True))
    others = (is_kept & ~ends).nonzero()
    others = others[torch.randperm(len(others), generator=drawn)[:n_kept]]  # to unembed all of them would take half of the time
    is_asked = batch.is_question & ~is_planted

    def away(row: Tensor, pos: Tensor) -> Tensor:
        p, q = (log_softmax(model.lm_head(end[row, pos]), -1) for model, end in ((base, base_end), (twin, twin_end)))
        return (p.exp() * (p - q)).sum(-1).mean()

    return terms | {"words": KEPT * away(*others.T), "answers": ANSWERED * away(rows[is_asked], last[is_asked])}


def states(model: GPT2LMHeadModel, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """(what is unembedded, what the atlas's SAEs read)."""
    found = model.transformer(tokens, output_hidden_states=True)
    return found.last_hidden_state, found.hidden_states[READ_BEFORE]
