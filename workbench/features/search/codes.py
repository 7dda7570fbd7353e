"""What features do on prompts that somebody typed: every active entry, from one pass of the model and one of the encoder.

    prompts → tokens → activations at the hook point → for some features at a time: feature_acts of all tokens → the entries above 0

The encoder of a large dictionary is gigabytes: it is read once for all prompts together (TopK and BatchTopK compare all features of a
token: theirs once for every few tokens). Features do nothing at start tokens here: what fires there means nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from scipy import sparse
from torch import Tensor

from workbench.activations.rows import Row, as_batch, batches
from workbench.features.index.building.collect import BATCH, ELEMENTS, Entries, active
from workbench.model.gemm import machine_rate
from workbench.model.head import through_bridge
from workbench.model.hooks import check_dictionary, check_finite
from workbench.model.memory import Need, in_words, largest, pass_bytes
from workbench.model.start import start_token
from workbench.model.tokens import is_start_token, to_str_tokens, to_tokens
from workbench.sae.architectures import select
from workbench.sae.dictionary import Dictionary
from workbench.shapes import FeatureActs

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


LESS = "fewer or shorter prompts take less"
BLOCKS = 8  # of feature activations: this one, the one before, what selecting makes, and freed ones that the allocator keeps (measured)
ENTRY_BYTES, PEAK_BYTES = 20, 28  # of an active entry, a copy on the way included; of a peak


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
        prompts, features, activations, places = zip(*map(self._peaks_on, range(len(self.prompts))), strict=True)
        return Peaks(*map(np.concatenate, (prompts, features, activations, places)))

    def _peaks_on(self, prompt: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """One prompt's, as Peaks has them: sorting all prompts' entries at once takes ten times the memory that they take."""
        ends = self.acts.indptr[self.bounds[prompt] : self.bounds[prompt + 1] + 1]
        pos = np.repeat(np.arange(len(ends) - 1), np.diff(ends))
        feature, activation = self.acts.indices[ends[0] : ends[-1]], self.acts.data[ends[0] : ends[-1]]
        order = np.lexsort((pos, -activation, feature))
        kept = order[np.append(True, np.diff(feature[order]) != 0)[: len(order)]]
        return np.full(len(kept), prompt), feature[kept].astype(np.int64), activation[kept], pos[kept]


@torch.no_grad()
@in_words("searching", LESS)
def encode(
    model: "TransformerBridge",
    sae: Dictionary,
    prompts: Sequence[str],
    on_batch: Callable[[int, int], None] = lambda n_read, n_prompts: None,
    insist: bool = False,
) -> Codes:
    """Raises ValueError for an empty or over-long prompt, saying which one it is, and for more than memory holds, unless insist.
    on_batch(how many prompts are read, of how many) is called between batches, and between parts of the dictionary once all are read; an
    error that it raises ends the reading."""
    check_dictionary(model, sae)
    rows = [tokens_of(model, prompt, i) for i, prompt in enumerate(prompts)]
    lengths, device = list(map(len, rows)), torch.device(str(model.cfg.device))
    searching_need(model.cfg, sae, lengths, (sae.cfg.k or 0) * sum(lengths)).check(device, insist)
    bounds = np.cumsum([0, *lengths])
    is_start = torch.cat([is_start_token(model, torch.tensor([row]))[0] for row in rows])
    x = _harvest(model, sae.reads, rows, on_batch)[~is_start.to(model.cfg.device)]
    check_finite(x, sae.reads)
    number, entries = np.flatnonzero(~is_start.numpy()), Entries()
    for (first_row, first_feature), acts in _blocks(sae, x):
        row, feature, act = active(acts)
        entries.add(number[first_row + row], first_feature + feature, act)
        if sae.cfg.k is None:  # of how many entries there will be, the first features tell
            n_features = first_feature + acts.shape[1]
            searching_need(model.cfg, sae, lengths, entries.n * sae.cfg.d_sae // n_features).check(device, insist)
        on_batch(len(rows), len(rows))
    strings = [to_str_tokens(model, torch.tensor(row)) for row in rows]
    acts = entries.by_token(int(bounds[-1]), sae.cfg.d_sae, is_sorted=sae.cfg.k is not None)
    return Codes([str(prompt) for prompt in prompts], strings, acts, first=len(start_token(model).ids))


def searching_need(cfg: Any, sae: Dictionary, lengths: Sequence[int], n_entries: int) -> Need:
    """What reading prompts of so many tokens takes, with n_entries active (token, feature): batches of passes, some feature activations at
    once, the entries and each feature's peak on each prompt, of which there are fewer."""
    n_tokens, longest = sum(lengths), max(lengths, default=0)
    n_rows = max(1, min(len(lengths), BATCH["cpu"] // max(1, longest)))
    x = 4 * n_tokens * sae.W_enc.shape[0]
    parts: list[dict[str, int]] = [
        {"passes of the model": pass_bytes(cfg, longest, n_rows), "activations": 2 * x},
        {
            "activations": 2 * x,
            "feature activations": BLOCKS * 4 * max(ELEMENTS["cpu"], sae.cfg.d_sae),
            "active entries": ENTRY_BYTES * n_entries,
        },
        {"active entries": (ENTRY_BYTES + PEAK_BYTES) * n_entries},
    ]
    return largest("searching", parts, LESS)


@torch.no_grad()
def mean_activations(model: "TransformerBridge", sae: Dictionary, prompts: Sequence[str]) -> Float[np.ndarray, "n_prompts d_in"]:
    """What the dictionary reads, as it is: the mean over each prompt's tokens, the start token left out."""
    rows = [text_tokens(model, prompt, i) for i, prompt in enumerate(prompts)]
    found, means, end = _harvest(model, sae.reads, rows, lambda n_read, n_prompts: None).float().cpu(), [], 0
    for row in rows:
        begin, end = end, end + len(row)
        means.append(found[begin:end][~is_start_token(model, torch.tensor([row]))[0]].mean(0))
        check_finite(means[-1], sae.reads)
    return torch.stack(means).numpy()


def tokens_of(model: "TransformerBridge", prompt: str, number: int) -> list[int]:
    """A prompt's token ids. Raises ValueError that says which prompt it is, counted from 0, where it has none or too many."""
    try:
        return to_tokens(model, prompt)[0].tolist()
    except ValueError as error:
        raise ValueError(f"prompt {number + 1}: {error}") from None


def text_tokens(model: "TransformerBridge", text: str, number: int) -> list[int]:
    """The same of what is pooled over its own tokens. Raises ValueError where it has none, beside the start token."""
    row = tokens_of(model, text, number)
    if len(row) <= len(start_token(model).ids):
        raise ValueError(f"prompt {number + 1}: {text!r} is nothing but the start token, which is left out")
    return row


def _harvest(
    model: "TransformerBridge", hook_name: str, rows: list[list[int]], on_batch: Callable[[int, int], None]
) -> Float[Tensor, "n_tokens d_in"]:
    """Of all rows, one after the other."""
    bounds, n_read, x = np.cumsum([0, *map(len, rows)]), 0, torch.empty(0)
    for batch in batches([len(row) for row in rows], BATCH["cpu"]):
        acts = through_bridge(model, as_batch(model, [Row(rows[i], ()) for i in batch])[0], [hook_name])[hook_name]
        x = x if n_read else acts.new_empty(int(bounds[-1]), acts.shape[-1])
        for at, i in enumerate(batch):
            x[bounds[i] : bounds[i + 1]] = acts[at, : len(rows[i])]
        n_read += len(batch)
        on_batch(n_read, len(rows))
    return x


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
