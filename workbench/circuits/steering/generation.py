"""Continue a prompt token by token, under whatever hooks are installed, and read what was written with the model as it is.

    greedy        the likeliest next token
    sampled       argmax(logits / temperature + Gumbel noise): the noise belongs to a seed, so rows with the same seed have the same luck
                  and differ only by what was done to them

A step with the KV cache shows the model its newest token only; without it, the plain way, the whole text: the same tokens, a test says.
A model whose cache was measured not to do that (model/cache.py) takes the plain way.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from threading import Event
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from tqdm.auto import tqdm

from workbench.given import whole
from workbench.model.cache import cached_step, kv_cache
from workbench.model.hooks import accepted, last_logits, seen, unembedding_last
from workbench.model.model import BAR_DELAY
from workbench.model.start import end_token, n_embedded
from workbench.model.tokens import to_tokens
from workbench.sae.dictionary import Dictionary
from workbench.shapes import LastLogits, Tokens

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

READ_FLOATS = 2**22  # logits held at once while a text is read: 16 MB; 256 MB are mapped anew each time, 1.5 times as slow


@dataclass(frozen=True)
class Decoding:
    """How to continue a prompt."""

    max_new_tokens: int = 40
    temperature: float = 0.0  # 0: greedy
    n_samples: int = 1
    seed: int = 0  # of the first sample; the others' follow it
    cancel: Event | None = None  # once set, generation ends with the tokens there are
    progress: bool = True  # a bar, where it takes longer than a moment
    on_token: Callable[[int, int], None] = lambda n_new, n_asked: None  # after every token of all rows, while hooks are installed

    def __post_init__(self):
        if (whole(self.max_new_tokens) or 0) < 1:
            raise ValueError(f"max_new_tokens={self.max_new_tokens!r} generates nothing: expected a whole number, 1 or more")
        if not isinstance(self.temperature, Real) or not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature={self.temperature!r}: expected 0 (greedy) or more, 1 samples from the model's own probabilities")
        if (whole(self.n_samples) or 0) < 1:
            raise ValueError(f"n_samples={self.n_samples!r} generates nothing: expected a whole number, 1 or more")
        if whole(self.seed) is None:
            raise ValueError(f"seed={self.seed!r}: expected a whole number")
        if self.n_samples > 1 and not self.temperature:
            raise ValueError(f"{self.n_samples} greedy samples are {self.n_samples} times the same text: give a temperature, such as 1.0")

    @property
    def seeds(self) -> list[int]:
        """One for each sample."""
        return [self.seed + i for i in range(self.n_samples)]


@dataclass(frozen=True)
class Generated:
    """Continuations of one prompt, and the logits of its first new token."""

    tokens: Tokens  # (row, new tokens), a row's end filled up with the end token
    is_text: Bool[Tensor, "n_rows n_new"]  # True up to a row's end token, which is not part of the text
    next_logits: LastLogits  # right after the prompt


def prompt_tokens(model: "TransformerBridge", prompt: str, decoding: Decoding) -> Tokens:
    """The prompt's tokens (1, pos). Raises ValueError where the continuation would not fit into the model's context."""
    tokens = to_tokens(model, prompt)
    room = model.cfg.n_ctx - tokens.shape[1]
    if decoding.max_new_tokens > room:
        most = f"ask for at most {room} new ones" if room else "there is no room for a new one"
        raise ValueError(
            f"{tokens.shape[1]} prompt tokens and {decoding.max_new_tokens} new ones are more than the {model.cfg.n_ctx} "
            f"that this model reads: {most}"
        )
    return tokens


@torch.no_grad()
def generate(
    model: "TransformerBridge", tokens: Tokens, decoding: Decoding, seeds: Sequence[int] | None = None, use_cache: bool = True
) -> Generated:
    """Continue every row of `tokens` (rows of one length). seeds: one a row, for sampling; by default the first sample's for all.
    use_cache: where the model's cache is right."""
    use_cache = use_cache and not kv_cache(model).why_not
    noise = Noise([decoding.seed] * len(tokens) if seeds is None else seeds, decoding.temperature)
    ends = torch.tensor(end_tokens(model), dtype=tokens.dtype, device=tokens.device)
    is_open = torch.ones(len(tokens), dtype=torch.bool, device=tokens.device)
    seen, cache, next_logits = tokens, None, None
    new: list[Tensor] = []
    is_text: list[Tensor] = []
    bar = tqdm(range(decoding.max_new_tokens), "writing", unit="token", leave=False, delay=BAR_DELAY, disable=not decoding.progress)
    for _ in bar:
        if decoding.cancel is not None and decoding.cancel.is_set() and next_logits is not None:
            break
        if use_cache:
            logits, cache = cached_step(model, seen if cache is None else seen[:, -1:], cache)
        else:
            logits = last_logits(model, seen)
        next_logits = logits if next_logits is None else next_logits
        chosen = noise.choose(logits).to(tokens.dtype)
        is_open = is_open & ~torch.isin(chosen, ends)
        chosen = torch.where(is_open, chosen, ends[0] if len(ends) else chosen)
        new.append(chosen)
        is_text.append(is_open)
        seen = torch.cat([seen, chosen[:, None]], dim=1)
        decoding.on_token(len(new), decoding.max_new_tokens)
        if not is_open.any():
            break
    assert next_logits is not None
    return Generated(torch.stack(new, dim=1), torch.stack(is_text, dim=1), next_logits)


class Noise:
    """Gumbel noise for each row's seed: argmax(logits / temperature + noise) is a draw from softmax(logits / temperature)."""

    def __init__(self, seeds: Sequence[int], temperature: float):
        self.temperature, self.seeds = temperature, list(seeds)
        self.generators = {seed: torch.Generator().manual_seed(seed) for seed in dict.fromkeys(self.seeds)}

    def choose(self, logits: LastLogits) -> Tensor:
        """The next token of each row: the largest logit, or, at a temperature, a draw by Gumbel's noise, the same for the same seed."""
        logits = logits.float()
        if not self.temperature:
            return logits.argmax(-1)
        uniform = {seed: torch.rand(logits.shape[-1], generator=generator) for seed, generator in self.generators.items()}
        noise = torch.stack([-torch.log(-torch.log(uniform[seed].clamp(1e-20, 1 - 1e-7))) for seed in self.seeds])
        return (logits / self.temperature + noise.to(logits.device)).argmax(-1)


def end_tokens(model: "TransformerBridge") -> list[int]:
    """Tokens that end a text: the tokenizer's, and those that the model's generation config names besides (chat models have several).
    None that the model has no embedding of: the end of a row is filled up with the first."""
    config = getattr(model.original_model, "generation_config", None)
    named = getattr(config, "eos_token_id", None)
    named, n = named if isinstance(named, list) else [named], n_embedded(model)
    return list(dict.fromkeys(token for token in (end_token(model), *named) if token is not None and token < n))


@dataclass(frozen=True)
class Reading:
    """What the model as it is makes of texts: nothing steers here."""

    log_probs: Float[Tensor, "n_rows n_new"]  # of each new token, given what stands before it
    feature_acts: Float[Tensor, "n_rows n_new n_features"]


@torch.no_grad()
def read(model: "TransformerBridge", sae: Dictionary, tokens: Tokens, n_prompt: int, features: Sequence[int]) -> Reading:
    """Read whole texts (row, pos): the log-probability of every token after the first n_prompt, and the activations of `features` there."""
    n_new = tokens.shape[1] - n_prompt
    at_once = max(1, READ_FLOATS // ((n_new + 1) * model.cfg.d_vocab))
    parts = [_read_batch(model, sae, some, n_new, features) for some in tokens.split(at_once)]
    return Reading(torch.cat([part.log_probs for part in parts]), torch.cat([part.feature_acts for part in parts]))


def _read_batch(model: "TransformerBridge", sae: Dictionary, tokens: Tokens, n_new: int, features: Sequence[int]) -> Reading:
    caught: list[Tensor] = []
    first = 0 if sae.compares_rows else -n_new  # then what is active at a token hangs on the whole text
    reading = seen(model, sae.reads, lambda x: caught.append(x[:, first:].flatten(2).to(sae.W_dec.dtype)))
    with reading, unembedding_last(model, n_new + 1):
        logits = model(tokens, **accepted(model, use_cache=False))
    log_probs = logits[:, -n_new - 1 : -1].float().log_softmax(-1).gather(-1, tokens[:, -n_new:, None])[..., 0]
    assert len(caught) == 1, f"{sae.reads} fired {len(caught)} times in one forward pass, expected once"
    return Reading(log_probs, sae.encode_each(caught[0])[:, -n_new:, list(features)])
