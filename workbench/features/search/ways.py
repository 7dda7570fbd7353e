"""The other ways to find features, each a Found as search.find gives it.

at            most active at a token of one prompt, or anywhere on it
classified    largest weights of a linear classifier that tells two prompt sets apart by their features
near          nearest by decoder cosine to a feature, or to any direction
attributed    that support a metric most on one prompt: attribution, summed over its tokens
"""

import difflib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np
import torch
from jaxtyping import Float
from torch.nn.functional import normalize

from workbench.features.search.codes import LESS, Codes, encode, mean_activations
from workbench.features.search.found import Found, table_of
from workbench.features.search.search import Known, checked_sets
from workbench.given import counted, whole
from workbench.model.memory import Need, in_words
from workbench.process import put_back
from workbench.sae.config import checked_feature
from workbench.sae.dictionary import Dictionary
from workbench.sae.neighborhoods import nearest

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

COPIES = 4  # of all prompts' peaks: as they are, in units of their mean, of some prompts, and what the regression makes of them
STRENGTH = 0.1  # C of the logistic regression: few prompts and many features want few and small weights


def at(
    model: "TransformerBridge",
    sae: Dictionary,
    prompt: str,
    token: str | SupportsIndex | None,
    known: Known,
    top: int = 20,
    insist: bool = False,
) -> Found:
    """token: its text (the last one that reads so), or its position, start token counted; None: each feature's largest anywhere."""
    top = counted(top, "top", "feature")
    codes = encode(model, sae, [prompt], insist=insist)
    pos = None if token is None else position(codes.str_tokens[0], codes.first, token)
    acts = (codes.acts if pos is None else codes.acts[[pos]]).max(axis=0).toarray().ravel()
    features = np.flatnonzero(acts)[np.argsort(-acts[acts > 0], kind="stable")][:top]
    columns = {"activation": acts[features]}
    if known.rarity is not None:
        largest = known.rarity.max_act[features]
        columns["share_of_max"] = acts[features] / np.where(largest > 0, largest, np.nan)  # of what the index never saw active, none
    where = "anywhere" if pos is None else f"at {codes.str_tokens[0][pos]!r} (position {pos})"
    return Found(
        f"most active {where}",
        table_of(features, acts[features], columns, known.labels, known.density),
        codes=codes,
        n_positive=1,
        note="; ".join(known.notes),
    )


def position(tokens: Sequence[str], first: int, token: str | SupportsIndex) -> int:
    """Where a token stands among a prompt's. first: the position after the start token. Raises ValueError for one that is not in the
    prompt, saying which ones are."""
    if isinstance(token, str):
        places = [pos for pos, text in enumerate(tokens) if text == token] or [
            pos for pos, text in enumerate(tokens) if text.strip() == token.strip()
        ]
        if not places:
            near = difflib.get_close_matches(token, tokens, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{token!r} is no token of the prompt, which reads {' | '.join(map(repr, tokens))}{hint}")
        return places[-1]
    pos = whole(token)
    if pos is None or not first <= pos < len(tokens):
        raise ValueError(f"position {token!r} is not in the prompt: its tokens stand at {first} to {len(tokens) - 1}")
    return pos


@in_words("searching by a classifier", LESS)
def classified(
    model: "TransformerBridge",
    sae: Dictionary,
    positive: Iterable[str],
    negative: Iterable[str],
    known: Known,
    top: int = 20,
    insist: bool = False,
) -> Found:
    """Logistic regression on each feature's largest activation on each prompt, in units of their mean; the weight is the score.

    Its accuracy is measured on prompts that it did not see: every prompt is left out once, with as many others as make five parts.
    """
    with put_back():
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import StratifiedKFold, cross_val_score

    top, sets = counted(top, "top", "feature"), checked_sets(positive, negative, fewest_negative=2)
    if len(sets[0]) < 2:
        raise ValueError(
            "one positive prompt is too few for a classifier, which is measured on prompts that it did not see: give two or more"
        )
    codes = encode(model, sae, [*sets[0], *sets[1]], insist=insist)
    peaks = codes.peaks
    features = np.unique(peaks.feature)
    if not len(features):
        raise ValueError(f"no feature of this SAE is active on these prompts: is it one for {sae.reads} of this model?")
    parts = {"peaks of the active features": COPIES * 4 * len(codes.prompts) * len(features)}
    Need("searching by a classifier", parts, LESS).check(torch.device("cpu"), insist)
    acts = peaks.of(features, len(codes.prompts))
    x, y = acts / acts[acts > 0].mean(), np.arange(len(acts)) < len(sets[0])
    folds = StratifiedKFold(min(5, int(y.sum()), int((~y).sum())), shuffle=True, random_state=0)
    classifier = LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=1000)
    accuracy = cross_val_score(classifier, x, y, cv=folds, scoring="balanced_accuracy").mean()
    weights = classifier.fit(x, y).coef_[0]
    best = np.argsort(-weights, kind="stable")[:top]
    columns = {"mean_positive": acts[y].mean(0)[best], "mean_negative": acts[~y].mean(0)[best]}
    beside = cross_val_score(classifier, _standardized(model, sae, codes), y, cv=folds, scoring="balanced_accuracy").mean()
    note = f"accuracy {accuracy:.0%} on prompts that the classifier did not see ({folds.get_n_splits()} parts; 50% is chance); "
    note += f"a probe on the activation itself {beside:.0%} (wb.probe says whether that is a difference)"
    wants = f"that tell {len(sets[0])} prompts from {len(sets[1])}"
    return Found(
        wants,
        table_of(features[best], weights[best], columns, known.labels, known.density),
        codes=codes,
        n_positive=len(sets[0]),
        note="; ".join((note, *known.notes)),
    )


def _standardized(model: "TransformerBridge", sae: Dictionary, codes: Codes) -> np.ndarray:
    """(n_prompts, d_in): the mean activation over each prompt's tokens, in units of its standard deviation over prompts."""
    x = mean_activations(model, sae, codes.prompts)
    return (x - x.mean(0)) / np.maximum(x.std(0), 1e-6 * np.abs(x).max())


def near(
    sae: Dictionary, target: SupportsIndex | Float[torch.Tensor, "d_in"] | Float[np.ndarray, "d_in"], known: Known, top: int = 20
) -> Found:
    """target: a feature, itself left out, or a direction in the space of its decoder rows."""
    top, feature = counted(top, "top", "feature"), -1
    if isinstance(target, torch.Tensor | np.ndarray) and target.ndim:  # NumPy's too: a probe's weights are
        target = torch.as_tensor(target)
        if target.shape != sae.W_dec.shape[1:]:
            raise ValueError(f"a direction of this SAE has {sae.W_dec.shape[1]} numbers, not {tuple(target.shape)}")
        direction, wants = target, "nearest to a direction"
    else:
        feature = checked_feature(target, sae.cfg.d_sae)
        direction, wants = sae.W_dec[feature], f"nearest to feature {feature}"
    if not torch.isfinite(direction).all() or not direction.any():
        raise ValueError("the direction is zero or holds NaN or infinite values: it points nowhere")
    rows = normalize(direction.detach().to(sae.W_dec).float()[None], dim=1)
    cosines, indices = nearest(rows, normalize(sae.W_dec.detach().float(), dim=1), top + 1)
    features, cosine = indices[0].cpu().numpy(), cosines[0].cpu().numpy()
    is_other = features != feature
    return Found(wants, table_of(features[is_other][:top], cosine[is_other][:top], {}, known.labels, known.density))


def attributed(
    model: "TransformerBridge", sae: Dictionary, prompt: str, attribution: Any, known: Known, top: int = 20, insist: bool = False
) -> Found:
    """attribution: of a metric, at every token of the prompt (an Attribution of circuits/ranking); the start token is left out here."""
    top = counted(top, "top", "feature")
    codes = encode(model, sae, [prompt], insist=insist)
    total = attribution.summed(codes.first).cpu().numpy()
    best = np.argsort(-total, kind="stable")[:top]
    best = best[total[best] > 0]
    columns = {"activation": codes.acts.max(axis=0).toarray().ravel()[best]}
    return Found(
        "that support the metric most, by attribution",
        table_of(best, total[best], columns, known.labels, known.density),
        codes=codes,
        n_positive=1,
        note="; ".join(known.notes),
    )
