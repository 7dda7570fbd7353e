"""Did tuning change what a feature does to the words that follow, whatever its activations did?

    m_text    = log p(answer | text)        answer: the token that the tuned model finds likeliest after the text, asked of both models;
                                            or one that is given
    effect_i  = m − (m with feature i at 0 at every token of the text)            measured, positive: supports the answer
    d         = effect in the tuned model − in the base, of each text             interval, p and q as of the means (paired.py)

To measure every feature on every text would take a pass of either model for each. So they are chosen by attribution, activation × (gradient
of m · decoder row), on every other text, and measured on the rest: what is measured has not chosen itself, and q counts the measured
features alone. A text whose answer is certain moves no log p; so effects are of texts that leave something open, such as questions.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from torch import Tensor
from tqdm.auto import tqdm

from workbench.features.changes.paired import false_discovery, paired
from workbench.features.search.codes import tokens_of
from workbench.model.gemm import machine_rate
from workbench.model.hooks import hooked, last_logits
from workbench.model.tokens import answer_token, is_start_token
from workbench.replay.precision import InFloat32
from workbench.sae.dictionary import Dictionary
from workbench.shapes import FeatureActs, TokenMask, Tokens

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

N_MEASURED = 20  # features: each takes half of the texts in which it is active through both models
FEWEST = 20  # texts: half choose, half are measured
N_TOKENS = 2048  # in a forward pass
Answers = bool | str | Sequence[str]
Group = tuple[list[int], Tokens]  # which texts, all of one length


def check_answers(base: "TransformerBridge", sae: Dictionary, answers: Answers, n_texts: int) -> list[int] | None:
    """The token that is asked for after each text; None: what the tuned model says. Raises ValueError for what is no answer to each text,
    for a transcoder and for too few texts."""
    if sae.reads != sae.writes:
        raise ValueError(f"effects are of features that write where they are read, and this dictionary writes at {sae.writes}: give an SAE")
    if n_texts < FEWEST:
        raise ValueError(f"{n_texts} texts: half of them choose features and half are measured, give {FEWEST} or more, better hundreds")
    if answers is True:
        return None
    if not isinstance(answers, Sequence):
        raise ValueError(f"effects={answers!r}: expected True, the token that should follow every text, such as ' Paris', or one for each")
    if not isinstance(answers, str) and len(answers) != n_texts:
        raise ValueError(f"{len(answers)} answers for {n_texts} texts: expected one token for all, one for each, or True")
    found = {each: answer_token(base, each) for each in dict.fromkeys([answers] if isinstance(answers, str) else answers)}
    return [found[each] for each in ([answers] * n_texts if isinstance(answers, str) else answers)]


def read_effects(
    models: tuple["TransformerBridge", "TransformerBridge"],
    sae: Dictionary,
    texts: Sequence[str],
    answers: list[int] | None,
    *,
    n: int = N_MEASURED,
    progress: bool = True,
) -> pd.DataFrame:
    """A row a measured feature, the largest change of its mean first: feature, base and tuned (mean effect on log p, in nats), change
    with low and high, q, has_changed, attribution (its change, as estimated on the other half), n_texts (in which it is active).

    models: the base and the tuned one."""
    rows = [tokens_of(models[0], text, number) for number, text in enumerate(texts)]
    known = answers or _likeliest(models[1], rows)
    halves = [list(range(first, len(rows), 2)) for first in (0, 1)]
    bar = tqdm(total=2 * len(halves[0]), desc="attributing", unit="text", disable=not progress, delay=2)
    sides = [_attributions(model, sae, rows, halves[0], known, bar) for model in models]
    bar.close()
    estimate = paired(*sides).change
    chosen = np.argsort(-np.abs(estimate), kind="stable")[:n]
    chosen = chosen[estimate[chosen] != 0]
    bar = tqdm(total=2 * len(halves[1]), desc="measuring effects", unit="text", disable=not progress, delay=2)
    read = [_measured(model, sae, rows, halves[1], known, chosen, bar) for model in models]
    bar.close()
    effects = paired(*(sparse.csr_array(effect) for effect, _ in read))
    q = false_discovery(effects.p)
    columns = {
        "feature": chosen,
        **{name: getattr(effects, name) for name in ("base", "tuned", "change", "low", "high")},
        "q": q,
        "has_changed": q <= 0.05,
        "attribution": estimate[chosen],
        "n_texts": (read[0][1] | read[1][1]).sum(0),
    }
    order = np.argsort(-np.abs(effects.change), kind="stable")
    return pd.DataFrame(columns).iloc[order].reset_index(drop=True)


def effect_words(table: pd.DataFrame) -> str:
    """What the effects say, in a sentence."""
    if not len(table):
        return "Effects: no feature's attribution differs between the two models."
    first, n = table.iloc[0], int(table["has_changed"].sum())
    return (
        f"Effects on what follows: of the {len(table)} features whose attribution differs most, {n} changed on texts that did not choose "
        f"them, most of all {first['feature']:.0f} ({first['base']:+.3g} → {first['tuned']:+.3g} nats in the mean)."
    )


def _groups(model: "TransformerBridge", rows: Sequence[list[int]], some: Sequence[int]) -> Iterator[Group]:
    """Texts of one length together: the last position is every one's last token."""
    by_length: dict[int, list[int]] = {}
    for i in some:
        by_length.setdefault(len(rows[i]), []).append(i)
    for length, alike in sorted(by_length.items()):
        at_once = max(1, N_TOKENS // length)
        for first in range(0, len(alike), at_once):
            group = alike[first : first + at_once]
            yield group, torch.tensor([rows[i] for i in group], device=model.cfg.device)


@torch.no_grad()
def _likeliest(model: "TransformerBridge", rows: Sequence[list[int]]) -> list[int]:
    found, in_float32 = [0] * len(rows), InFloat32(model)
    for group, tokens in _groups(model, rows, range(len(rows))):
        with machine_rate(), in_float32:
            best = last_logits(model, tokens).argmax(-1).tolist()  # in 16 bits several tokens are likeliest
        for i, token in zip(group, best, strict=True):
            found[i] = token
    return found


def _log_p(model: "TransformerBridge", tokens: Tokens, answers: Tensor) -> Tensor:
    with machine_rate(), InFloat32(model):
        return last_logits(model, tokens).float().log_softmax(-1).gather(1, answers[:, None])[:, 0]


def _attributions(
    model: "TransformerBridge", sae: Dictionary, rows: Sequence[list[int]], some: Sequence[int], answers: Sequence[int], bar: Any
) -> sparse.csr_array:
    """(len(some), d_sae): each text's, summed over its tokens."""
    found = {}
    for group, tokens in _groups(model, rows, some):
        leaves: list[Tensor] = []

        def leaf(x: Tensor, leaves: list[Tensor] = leaves) -> Tensor:
            leaves.append(x.detach().clone().requires_grad_())
            return leaves[-1]

        with torch.inference_mode(False), torch.enable_grad(), hooked(model, sae.reads, leaf):
            log_p = _log_p(model, tokens, _of(answers, group, tokens))
            (gradient,) = torch.autograd.grad(log_p.sum(), leaves[0])
        with torch.no_grad():
            acts = _acts(sae, leaves[0].detach().flatten(2), ~is_start_token(model, tokens))
            summed = (acts * (gradient.flatten(2).to(sae.W_dec) @ sae.W_dec.T)).sum(1)
        found |= dict(zip(group, sparse.csr_array(summed.float().cpu().numpy()), strict=True))
        bar.update(len(group))
    return sparse.csr_array(sparse.vstack([found[i].reshape(1, -1) for i in some], format="csr"))


@torch.no_grad()
def _measured(
    model: "TransformerBridge",
    sae: Dictionary,
    rows: Sequence[list[int]],
    some: Sequence[int],
    answers: Sequence[int],
    features: np.ndarray,
    bar: Any,
) -> tuple[np.ndarray, np.ndarray]:
    """(effect of each feature in each text, 0 where it is off; is it active there), both (len(some), len(features))."""
    effect, is_active = np.zeros((len(some), len(features))), np.zeros((len(some), len(features)), bool)
    at, chosen = {i: k for k, i in enumerate(some)}, torch.as_tensor(features, device=sae.W_dec.device)
    for group, tokens in _groups(model, rows, some):
        seen: list[Tensor] = []
        with hooked(model, sae.reads, seen.append):
            clean = _log_p(model, tokens, _of(answers, group, tokens))
        acts = _acts(sae, seen[0].flatten(2), ~is_start_token(model, tokens))[..., chosen]
        for k, feature in enumerate(features.tolist()):
            on = acts[..., k].amax(1) > 0
            if not on.any():
                continue
            wide = sae.beside(seen[0]).dtype
            less = acts[on, :, k, None].to(wide) * sae.W_dec[feature].to(wide)

            def without(x: Tensor, less: Tensor = less) -> Tensor:
                return x - less.to(x).view_as(x)

            with hooked(model, sae.reads, without):
                off = _log_p(model, tokens[on.to(tokens.device)], _of(answers, group, tokens)[on.to(tokens.device)])
            where = [at[i] for i, is_on in zip(group, on.tolist(), strict=True) if is_on]
            effect[where, k] = (clean[on.to(clean.device)] - off).double().cpu().numpy()
            is_active[where, k] = True
        bar.update(len(group))
    return effect, is_active


def _acts(sae: Dictionary, x: Tensor, is_text: TokenMask) -> FeatureActs:
    with machine_rate():
        return sae.encode_each(x.to(sae.W_dec)) * is_text[..., None].to(sae.W_dec)


def _of(answers: Sequence[int], group: list[int], tokens: Tokens) -> Tensor:
    return torch.tensor([answers[i] for i in group], device=tokens.device)
