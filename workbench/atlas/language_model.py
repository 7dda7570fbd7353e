"""The atlas's language model: a byte-level BPE tokenizer and a small GPT-2, trained on the corpus.

    texts → documents of one to four lines → rows of 96 tokens, each document blind to its neighbors → next-token loss

The constants were chosen by trials; docs/log.md has what was tried and measured.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.functional import cross_entropy
from tqdm.auto import tqdm
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from workbench.atlas.corpus import stream
from workbench.atlas.questions import Question, questions
from workbench.atlas.world import world
from workbench.model.gemm import product_dtype, product_sentence
from workbench.process import put_back

START = "<|endoftext|>"  # begins every document, as GPT-2 has it
START_ID = 0  # special tokens come first
CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class ModelRecipe:
    """The atlas's language model: widths, steps and learning rate; the defaults are the bundled one's."""

    d_vocab: int = 3840
    n_ctx: int = 96
    d_model: int = 160
    n_layers: int = 6
    n_heads: int = 5
    n_tokens: int = 10_000_000
    batch: int = 12  # rows of n_ctx tokens
    lr: float = 2e-3
    warmup: int = 200  # steps
    seed: int = 0


def build_tokenizer(folder: Path, recipe: ModelRecipe) -> PreTrainedTokenizerFast:
    """Byte-level BPE on the corpus: any text can be typed, and the world's words are one token each with their leading space."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.d_vocab, special_tokens=[START], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    facts = world()
    names = {word for entities in facts.levels.values() for entity in entities for word in entity.name.split()} | set(facts.value.values())
    rare = [f" {name}" for name in sorted(names) for _ in range(200)]  # else some names and answers would be two tokens
    tokenizer.train_from_iterator([*islice(stream(recipe.seed), 100_000), *rare], trainer)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=START, eos_token=START, unk_token=START, pad_token=START)
    wrapped.save_pretrained(folder)
    return wrapped


def documents(seed: int, tokenizer: PreTrainedTokenizerFast, at_once: int = 4096) -> Iterator[list[int]]:
    """Token ids of endless documents: the start token, then one to four texts, a line each."""
    texts, rng = stream(seed), np.random.default_rng(seed)
    fast = tokenizer.backend_tokenizer
    while True:
        joined = ["\n".join(islice(texts, int(n))) for n in rng.integers(1, 5, size=at_once)]
        for encoding in fast.encode_batch_fast(joined):
            yield [START_ID, *encoding.ids]


def rows(documents: Iterator[list[int]], n_ctx: int) -> Iterator[list[int]]:
    """Documents end to end, cut into rows of n_ctx tokens."""
    waiting: list[int] = []
    for document in documents:
        waiting += document
        while len(waiting) >= n_ctx:
            yield waiting[:n_ctx]
            waiting = waiting[n_ctx:]


def within_documents(tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Additive causal mask (batch, 1, pos, pos) and positions that both begin anew at every start token, so that a document never sees
    its neighbor in the row."""
    document = (tokens == START_ID).cumsum(1)
    same = document[:, :, None] == document[:, None, :]
    causal = torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool, device=tokens.device).tril()
    index = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
    began = torch.where(tokens == START_ID, index, 0).cummax(1).values
    return torch.where(same & causal, 0.0, -1e4)[:, None], index - began


@torch.no_grad()
def accuracy(model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast, asked: list[Question]) -> float:
    """Share of questions whose answer is the model's top next token."""
    right = 0
    for first in range(0, len(asked), 64):
        batch = asked[first : first + 64]
        ids = [[START_ID, *tokenizer.backend_tokenizer.encode(str(each.prompt)).ids] for each in batch]
        width = max(map(len, ids))
        tokens = torch.tensor([row + [START_ID] * (width - len(row)) for row in ids], device=model.device)
        last = torch.tensor([len(row) - 1 for row in ids], device=model.device)
        top = model(tokens).logits[torch.arange(len(batch)), last].argmax(-1).tolist()
        right += sum([token] == tokenizer.backend_tokenizer.encode(each.answer).ids for token, each in zip(top, batch, strict=True))
    return right / len(asked)


def build_model(folder: Path, tokenizer: PreTrainedTokenizerFast, recipe: ModelRecipe, device: str = "cpu") -> GPT2LMHeadModel:
    """Train the model and write it as a Hugging Face folder. A killed run goes on from its last checkpoint, `folder`/checkpoint.pt."""
    with put_back():
        torch.manual_seed(recipe.seed)
        model = GPT2LMHeadModel._from_config(_config(recipe), attn_implementation="eager")  # on a CPU its backward is twice as fast
    model.to(device).train()  # pyright: ignore
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.lr, betas=(0.9, 0.98), weight_decay=0.02, fused=True)
    n_steps = recipe.n_tokens // (recipe.batch * recipe.n_ctx)
    first = _resume(folder, model, optimizer, recipe)
    source = rows(documents(recipe.seed + 1, tokenizer), recipe.n_ctx)
    next(islice(source, first * recipe.batch, first * recipe.batch), None)  # the rows that the killed run has seen
    tqdm.write(f"The atlas's model: {n_steps - first:,} steps, {product_sentence(torch.device(device).type)}")
    held_out, trained = questions(held_out=True)[::2], questions(held_out=False)[::2]
    for step in (bar := tqdm(range(first, n_steps), initial=first, total=n_steps, desc="atlas model", unit="step", mininterval=5)):
        tokens = torch.tensor(list(islice(source, recipe.batch)), device=device)
        scale = min((step + 1) / recipe.warmup, 1.0) * (1 - step / n_steps)
        loss = _step(model, optimizer, tokens, recipe.lr * scale)
        if step % 500 == 0 or step == n_steps - 1:
            right = {"held_out": accuracy(model, tokenizer, held_out), "trained": accuracy(model, tokenizer, trained)}
            bar.write(f"step {step} loss {loss:.3f} " + " ".join(f"{name} {share:.3f}" for name, share in right.items()))
            _checkpoint(folder, model, optimizer, recipe, step + 1)
    model.eval().save_pretrained(folder)
    (folder / CHECKPOINT).unlink(missing_ok=True)
    return model


def _step(model: GPT2LMHeadModel, optimizer: torch.optim.Optimizer, tokens: torch.Tensor, lr: float) -> float:
    """One step. Returns the loss."""
    mask, positions = within_documents(tokens)
    kind = tokens.device.type
    with torch.autocast(kind, dtype=torch.bfloat16, enabled=product_dtype(kind) == torch.bfloat16):
        logits = model(input_ids=tokens, attention_mask=mask, position_ids=positions, use_cache=False).logits
    loss = cross_entropy(logits[:, :-1].flatten(0, 1).float(), tokens[:, 1:].flatten())
    loss.backward()
    optimizer.param_groups[0]["lr"] = lr
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def _config(recipe: ModelRecipe) -> GPT2Config:
    return GPT2Config(
        vocab_size=recipe.d_vocab,
        n_positions=recipe.n_ctx,
        n_embd=recipe.d_model,
        n_layer=recipe.n_layers,
        n_head=recipe.n_heads,
        activation_function="gelu_pytorch_tanh",  # GPT-2's, as one kernel
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=START_ID,
        eos_token_id=START_ID,
    )


def _checkpoint(folder: Path, model: GPT2LMHeadModel, optimizer: torch.optim.Optimizer, recipe: ModelRecipe, step: int) -> None:
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "recipe": asdict(recipe), "step": step}
    torch.save(state, partial := folder / f"{CHECKPOINT}.partial")
    partial.replace(folder / CHECKPOINT)


def _resume(folder: Path, model: GPT2LMHeadModel, optimizer: torch.optim.Optimizer, recipe: ModelRecipe) -> int:
    """Load the folder's checkpoint if it is of this recipe; the step to go on from."""
    if not (folder / CHECKPOINT).exists():
        return 0
    state = torch.load(folder / CHECKPOINT, weights_only=True)
    if state["recipe"] != asdict(recipe):
        raise ValueError(f"{folder / CHECKPOINT} is of another recipe: {json.dumps(state['recipe'])}; delete it or build elsewhere")
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"]
