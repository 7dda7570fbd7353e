"""How much does a feature write what it is called? Clamped on short prompts that choose no concept.

    share of the concept     Σ_v P(v) · P(concept in play | v), of the next token's probabilities P;  the mean over a continuation's tokens
                             P(concept | v) counted in texts of an answer key: a rare token tells less, n / (n + 1)
    output score             (share clamped − share unsteered) / (share in texts with the concept − share unsteered), over all these
                             positions: 0 writes nothing of it, 1 as much as a text about it does, more is possible
    of tokens                (1 − rank / d_vocab) · p of the likeliest of the tokens that the direction promotes, after one pass with ten
                             times the largest activation there added at the last token: Arad, Mueller & Belinkov 2025, arXiv 2505.20063,
                             who call it the output score; it asks for no label

Clamped as `steer` does it, at every position, generated ones included, to strength · max_act; the strength is DOSE times what texts usually
survive (`safe_strength`), so that all features push about as hard: a feature is not better for being larger.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy import sparse
from torch import Tensor
from tqdm.auto import tqdm

from workbench.circuits.acts import read_on
from workbench.circuits.evidence.reference import largest_known, usual_norm
from workbench.circuits.intervene import editing
from workbench.circuits.steering.continuations import safe_strength
from workbench.circuits.steering.generation import Decoding, generate
from workbench.circuits.steering.steering import clamping_rows
from workbench.features.survey.activity import TaggedTexts
from workbench.model.gemm import machine_rate
from workbench.model.hooks import hooked, last_logits
from workbench.model.tokens import to_tokens

AT_ONCE = 32  # features in a batch
DOSE = 0.8  # of the activation's norm: the atlas's texts are three times as unlikely there, at 1 twenty times (docs/log.md)
AMPLIFIED = 10.0  # times the largest activation at the last token, in the paper


@dataclass(frozen=True)
class Told:
    """What each token of the vocabulary says of some concepts, from texts with a key."""

    share: sparse.csc_matrix  # (d_vocab, n_concepts) P(in play | token)
    natural: np.ndarray  # (n_concepts) its mean over the tokens at which the concept is in play
    column: Mapping[str, int]

    @classmethod
    def of(cls, corpus: TaggedTexts, d_vocab: int) -> "Told":
        """Counted over all tokens of the texts."""
        n = len(corpus.ids)
        is_token = sparse.csr_matrix((np.ones(n), (corpus.ids, np.arange(n))), shape=(d_vocab, n))
        counts = sparse.csc_matrix(is_token @ corpus.present.astype(np.float64))
        n_seen = np.bincount(corpus.ids, minlength=d_vocab)
        share = sparse.csc_matrix(sparse.diags_array(1 / (n_seen + 1.0)) @ counts)
        natural = np.asarray(share.multiply(counts).sum(0)).ravel() / np.maximum(1, np.asarray(counts.sum(0)).ravel())
        return cls(share, natural, corpus.column)

    def of_concept(self, concept: str) -> Float[Tensor, "d_vocab"]:
        """P(in play | token) of each token."""
        return torch.from_numpy(self.share[:, [self.column[concept]]].toarray().ravel()).float()


@dataclass(frozen=True)
class Written:
    """Shares of a concept: in the next token's probabilities, and in the continuations."""

    next: float
    text: float
    n_new: int  # tokens of a continuation

    @property
    def share(self) -> float:
        """Over all positions: the first by its probabilities, and those that were written."""
        return (self.next + self.n_new * self.text) / (1 + self.n_new)


def doses(bench: Any, features: Sequence[int]) -> dict[int, float]:
    """Feature → the activation to clamp it to. Left out are features that never fired on the reference texts.

    Raises ValueError where the bench has neither an index nor example texts to know how active features get.
    """
    norm = usual_norm(bench) or float("inf")
    known = None if bench.index is None else bench.index.table.set_index("feature")["max_act"]  # once: there may be thousands
    found = {feature: largest_known(bench, feature) if known is None else float(known[feature]) for feature in features}
    most = {feature: act for feature, act in found.items() if act > 0}
    lengths = bench.sae.W_dec.float().norm(dim=1)
    return {f: DOSE * safe_strength(norm, act * float(lengths[f])) * act for f, act in most.items()}


def unsteered(bench: Any, told: Told, concepts: Sequence[str], prompts: Sequence[str], decoding: Decoding) -> dict[str, Written]:
    """Each concept's shares where nothing is clamped, over all prompts."""
    weights = torch.stack([told.of_concept(concept) for concept in concepts], dim=1)
    nexts, texts = [], []
    for prompt in prompts:
        rows = to_tokens(bench.model, prompt).expand(decoding.n_samples, -1)
        new = generate(bench.model, rows, decoding, decoding.seeds)
        nexts.append(new.next_logits[:1].float().softmax(-1).cpu() @ weights)
        texts.append(weights[new.tokens[new.is_text].cpu()].mean(0, keepdim=True))
    means = [torch.cat(each).nanmean(0).tolist() for each in (nexts, texts)]
    return {concept: Written(first, text, decoding.max_new_tokens) for concept, first, text in zip(concepts, *means, strict=True)}


def clamped(
    bench: Any,
    concepts: Mapping[int, str],
    values: Mapping[int, float],
    told: Told,
    prompts: Sequence[str],
    decoding: Decoding,
    progress: bool = True,
) -> dict[int, Written]:
    """Feature → its concept's shares with the feature clamped to its value."""
    found, features = dict[int, Written](), list(concepts)
    with tqdm(total=len(features), desc="clamping features", unit="feature", disable=not progress, delay=2) as bar:
        for first in range(0, len(features), AT_ONCE):
            some = features[first : first + AT_ONCE]
            weights = torch.stack([told.of_concept(concepts[feature]) for feature in some])
            found |= _batch(bench, some, torch.tensor([values[feature] for feature in some]), weights, prompts, decoding)
            bar.update(len(some))
    return found


def _batch(
    bench: Any, features: list[int], values: Tensor, weights: Float[Tensor, "n d_vocab"], prompts: Sequence[str], decoding: Decoding
) -> dict[int, Written]:
    """Every feature a row of the batch for each sample; a row that wrote nothing has no share."""
    n, n_samples = len(features), decoding.n_samples
    each = torch.full((n, n), torch.nan).fill_diagonal_(0.0) + values
    rows = each.repeat_interleave(n_samples, dim=0).to(bench.sae.W_dec)
    nexts, texts = torch.zeros(len(prompts), n), torch.zeros(len(prompts), n)
    for i, prompt in enumerate(prompts):
        tokens = to_tokens(bench.model, prompt).expand(n * n_samples, -1)
        with editing(bench.model, bench.sae, clamping_rows(features, rows)), machine_rate():
            new = generate(bench.model, tokens, decoding, decoding.seeds * n)
        nexts[i] = (new.next_logits[::n_samples].float().softmax(-1).cpu() * weights).sum(1)
        is_text, ids = new.is_text.cpu(), new.tokens.cpu()
        told = weights.repeat_interleave(n_samples, dim=0).gather(1, ids) * is_text
        texts[i] = told.view(n, -1).sum(1) / is_text.view(n, -1).sum(1)
    means = [part.nanmean(0).tolist() for part in (nexts, texts)]
    return {feature: Written(first, text, decoding.max_new_tokens) for feature, first, text in zip(features, *means, strict=True)}


@torch.no_grad()
def by_tokens(bench: Any, promoted: Mapping[int, Sequence[int]], prompt: str, progress: bool = True) -> dict[int, float]:
    """Feature → the paper's output score: how likely the tokens that it promotes become, after one pass; NaN where nothing is active at the
    prompt's last token, whose largest activation says how far to push."""
    model, sae, found = bench.model, bench.sae, dict[int, float]()
    tokens = to_tokens(model, prompt)
    added = AMPLIFIED * sae.encode(read_on(model, sae, tokens))[-1].max()
    if not added > 0:
        return dict.fromkeys(promoted, float("nan"))
    features = list(promoted)
    for first in tqdm(range(0, len(features), AT_ONCE), desc="amplifying features", unit="batch", disable=not progress, delay=2):
        some = features[first : first + AT_ONCE]
        push = added * sae.W_dec[some]

        def pushed(x: Tensor, push: Tensor = push) -> Tensor:
            x = x.clone()
            x[:, -1] += push.view_as(x[:, -1]).to(x.dtype)
            return x

        with hooked(model, sae.writes, pushed), machine_rate():
            p = last_logits(model, tokens.expand(len(some), -1)).float().softmax(-1).cpu()
        for row, feature in zip(p, some, strict=True):
            best = row[list(promoted[feature])].max()
            found[feature] = float(best * (1 - int((row > best).sum()) / len(row)))
    return found
