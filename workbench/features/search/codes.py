"""What features do on prompts that somebody typed: every active entry, from one pass of the model and one of the encoder.

    prompts → tokens → activations at the hook point → for some features at a time: feature_acts of all tokens → the entries above 0

The encoder of a large dictionary is gigabytes: it is read once for all prompts together (TopK and BatchTopK compare all features of a
token: theirs once for every few tokens). Features do nothing at start tokens here: what fires there means nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from scipy import sparse
from torch import Tensor

from workbench.activations.rows import Row, as_batch, batches
from workbench.features.index.collect import BATCH, ELEMENTS, active
from workbench.model.gemm import machine_rate
from workbench.model.head import through_bridge
from workbench.model.hooks import check_dictionary
from workbench.model.start import start_token
from workbench.model.tokens import is_start_token, to_str_tokens, to_tokens
from workbench.sae.architectures import select
from workbench.sae.dictionary import Dictionary
from workbench.shapes import FeatureActs

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@dataclass(frozen=True)
class Peaks:
    """The largest activation of each feature on each prompt, where there is one; by prompt, then feature."""

    prompt: np.ndarray
    feature: np.ndarray
    activation: np.ndarray
    pos: np.ndarray  # the first token that has it

    def of(self, features: np.ndarray, n_prompts: int) -> np.ndarray:
        """(n_prompts, n): these features' peaks, which ascend; 0 where there is none."""
        here = np.isin(self.feature, features)
        found = np.zeros((n_prompts, len(features)), dtype=np.float32)
        found[self.prompt[here], np.searchsorted(features, self.feature[here])] = self.activation[here]
        return found


@dataclass(frozen=True, eq=False)
class Codes:
    """The active entries of some prompts. Row bounds[i] + pos of `acts` is token `pos` of prompt i, start token included."""

    prompts: list[str]
    str_tokens: list[list[str]]
    acts: sparse.csr_array  # (tokens of all prompts, d_sae)
    first: int  # where the texts begin: 1 after a start token, 0 without one

    @cached_property
    def bounds(self) -> np.ndarray:
        """(n_prompts + 1) where each prompt's tokens begin in `acts`."""
        return np.cumsum([0, *map(len, self.str_tokens)])

    def of(self, prompt: int) -> sparse.csr_array:
        """(pos, d_sae)"""
        return self.acts[self.bounds[prompt] : self.bounds[prompt + 1]]

    def activations(self, prompt: int, feature: int) -> list[float]:
        """One feature's, at every token."""
        return self.of(prompt)[:, [feature]].toarray()[:, 0].tolist()

    def at_last(self) -> "Codes":
        """The same with what features do at each prompt's last token only."""
        is_last = np.isin(np.arange(self.acts.shape[0]), self.bounds[1:] - 1)
        return replace(self, acts=sparse.csr_array(sparse.diags_array(is_last.astype(self.acts.dtype)) @ self.acts))

    @cached_property
    def peaks(self) -> Peaks:
        """Each feature's largest activation on each prompt; the first token where several are equal."""
        entries = self.acts.tocoo()
        prompt = np.searchsorted(self.bounds, entries.row, side="right") - 1
        order = np.lexsort((entries.row, -entries.data, entries.col, prompt))
        is_first = np.append(True, (np.diff(prompt[order]) != 0) | (np.diff(entries.col[order]) != 0))[: len(order)]
        kept = order[is_first]
        return Peaks(prompt[kept], entries.col[kept].astype(np.int64), entries.data[kept], entries.row[kept] - self.bounds[prompt[kept]])


@torch.no_grad()
def encode(
    model: "TransformerBridge",
    sae: Dictionary,
    prompts: Sequence[str],
    on_batch: Callable[[int, int], None] = lambda n_read, n_prompts: None,
) -> Codes:
    """Raises ValueError for an empty or over-long prompt, saying which one it is. on_batch(how many prompts are read, of how many) is
    called between batches, and between parts of the dictionary once all are read; an error that it raises ends the reading."""
    check_dictionary(model, sae)
    rows = [tokens_of(model, prompt, i) for i, prompt in enumerate(prompts)]
    bounds = np.cumsum([0, *map(len, rows)])
    is_start = torch.cat([is_start_token(model, torch.tensor([row]))[0] for row in rows])
    x = _harvest(model, sae.reads, rows, on_batch)[~is_start.to(model.cfg.device)]
    number, parts = np.flatnonzero(~is_start.numpy()), []
    for (first_row, first_feature), acts in _blocks(sae, x):
        row, feature, act = active(acts)
        parts.append((number[first_row + row], first_feature + feature, act))
        on_batch(len(rows), len(rows))
    row, feature, act = (np.concatenate(column) for column in zip(*parts, strict=True))
    acts = sparse.csr_array(sparse.coo_array((act, (row, feature)), shape=(bounds[-1], sae.cfg.d_sae)))
    strings = [to_str_tokens(model, torch.tensor(row)) for row in rows]
    return Codes([str(prompt) for prompt in prompts], strings, acts, first=len(start_token(model).ids))


@torch.no_grad()
def mean_activations(model: "TransformerBridge", sae: Dictionary, prompts: Sequence[str]) -> Float[np.ndarray, "n_prompts d_in"]:
    """What the dictionary reads, as it is: the mean over each prompt's tokens, the start token left out."""
    rows = [tokens_of(model, prompt, i) for i, prompt in enumerate(prompts)]
    found, means, end = _harvest(model, sae.reads, rows, lambda n_read, n_prompts: None).float().cpu(), [], 0
    for row in rows:
        begin, end = end, end + len(row)
        means.append(found[begin:end][~is_start_token(model, torch.tensor([row]))[0]].mean(0))
    return torch.stack(means).numpy()


def tokens_of(model: "TransformerBridge", prompt: str, number: int) -> list[int]:
    """A prompt's token ids. Raises ValueError that says which prompt it is, counted from 0, where it has none or too many."""
    try:
        return to_tokens(model, prompt)[0].tolist()
    except ValueError as error:
        raise ValueError(f"prompt {number + 1}: {error}") from None


def _harvest(
    model: "TransformerBridge", hook_name: str, rows: list[list[int]], on_batch: Callable[[int, int], None]
) -> Float[Tensor, "n_tokens d_in"]:
    """Of all rows, one after the other."""
    found: dict[int, Tensor] = {}
    for batch in batches([len(row) for row in rows], BATCH["cpu"]):
        acts = through_bridge(model, as_batch(model, [Row(rows[i], ()) for i in batch])[0], [hook_name])[hook_name]
        found |= {i: acts[at, : len(rows[i])] for at, i in enumerate(batch)}
        on_batch(len(found), len(rows))
    return torch.cat([found[i] for i in range(len(rows))])


def _blocks(sae: Dictionary, x: Float[Tensor, "n_tokens d_in"]) -> Iterator[tuple[tuple[int, int], FeatureActs]]:
    """((first token, first feature), their feature activations)"""
    x, most = x.to(sae.W_enc.dtype), ELEMENTS.get(x.device.type, 2**22)
    if sae.cfg.k is not None:
        n = max(1, most // sae.cfg.d_sae)
        for first in range(0, len(x), n):
            yield (first, 0), sae.encode(x[first : first + n])
        return
    x = sae.centered(x)
    n = max(1, most // max(1, len(x)))
    for first in range(0, sae.cfg.d_sae, n):
        some = slice(first, first + n)
        with machine_rate():
            pre_acts = x @ sae.W_enc[:, some] + sae.b_enc[some]
        threshold = None if sae.threshold is None else sae.threshold[some]
        yield (0, first), select(sae.cfg.architecture, pre_acts, threshold=threshold)
