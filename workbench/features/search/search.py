"""Which features mean what one set of prompts has and another has not?

    active    on a share of the positive prompts: its largest activation there is > 0, the start token left out
    less so   on every negative prompt: at most margin · its mean activation on the positive ones
    rare      in the corpus of the index: active on at most max_density of its tokens
    score     F1 of the feature's peaks with the texts of the index that are like the positive prompts (alike.py), to a
              hundredth; without an index the mean activation
    rarity    how rare it is in the index's texts that the feature is as active as on a positive prompt, in bits; the mean over the five
              eighths of these prompts on which it is least rare. It decides between equal scores.

Bit sets filter; what is left is scored.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import compress
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy import ndarray

from workbench.features.search.alike import alike, alike_f1
from workbench.features.search.bit_sets import Bits, all_of, bits_of, in_most, members, size, without
from workbench.features.search.codes import LESS, Codes, Peaks, encode
from workbench.features.search.found import Found, Removed
from workbench.features.search.rarity import Rarity
from workbench.given import counted, no_table
from workbench.model.memory import in_words
from workbench.sae.dictionary import Dictionary

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

FEWEST_ALIKE = 10  # texts like the positive prompts below which a score is said to stand on few
LEAST_RARE = 5 / 8  # of the positive prompts: the rest may be as strong as they like


@dataclass(frozen=True)
class Filters:
    """What a feature must pass to be found. Raises ValueError for bounds that nothing can pass."""

    share: float = 0.75  # of the positive prompts that a feature has to be active on
    margin: float = 2.0  # activation allowed on negative prompts, as a share of the mean over the positive ones; 0: silence
    max_density: float = 0.1  # share of the corpus's tokens
    top: int = 20  # rows of the table

    def __post_init__(self):
        for name, value in vars(self).items():
            if not isinstance(value, Real):
                raise ValueError(f"{name}={value!r}: expected a number, such as {name}={type(self).__dict__[name]}")
        if not 0 < self.share <= 1:
            raise ValueError(f"share={self.share}: expected a share of the positive prompts, above 0 and at most 1")
        if not 0 <= self.margin < float("inf"):
            raise ValueError(f"margin={self.margin}: expected 0 (silent on negative prompts) or more, such as 0.5")
        if not 0 < self.max_density <= 1:
            raise ValueError(f"max_density={self.max_density}: expected a share of the tokens, above 0 and at most 1")
        counted(self.top, "top", "feature")


LOOSE = Filters(share=0.5, margin=9.0)  # what a search by the score alone asks of the prompts


@dataclass(frozen=True)
class Known:
    """What is known of the features beside their weights."""

    labels: Mapping[int, str] = field(default_factory=dict)
    rarity: Rarity | None = None  # how active they are in the texts of an index
    notes: tuple[str, ...] = ()  # what to know of all of their activations (reading_notes)

    @property
    def density(self) -> Float[ndarray, "d_sae"] | None:
        """The share of an index's tokens that each feature is active on."""
        return None if self.rarity is None else self.rarity.density


@in_words("searching", LESS)
def find(  # noqa: PLR0913 as bench.find
    model: "TransformerBridge",
    sae: Dictionary,
    positive: Iterable[str],
    negative: Iterable[str],
    filters: Filters,
    known: Known,
    at_last: bool = False,
    insist: bool = False,
) -> Found:
    """The features that are active on the positive prompts and less so on the negative ones, best score first. at_last: only what they do
    at each prompt's last token counts."""
    sets = checked_sets(positive, negative)
    codes = encode(model, sae, [*sets[0], *sets[1]], insist=insist)
    found = filtered(codes.at_last() if at_last else codes, len(sets[0]), filters, known)
    return replace(found, wants=f"{found.wants}, at the last token of each") if at_last else found


def filtered(codes: Codes, n_positive: int, filters: Filters, known: Known) -> Found:
    """The same from prompts that were read before, the positive ones first: another filter needs no model."""
    n_negative = len(codes.prompts) - n_positive
    about = codes.peaks, (n_positive, n_negative), codes.acts.shape[1]
    kept, removed = passing(*about, filters, known.rarity)
    loose = replace(filters, share=min(filters.share, LOOSE.share), margin=max(filters.margin, LOOSE.margin))
    scores = scored(codes, n_positive, members(passing(*about, loose, known.rarity)[0]), known)
    table = scores[scores["feature"].isin(members(kept))]
    wants = f"for {n_positive} positive prompt{'s'[: n_positive - 1]}" + (f" against {n_negative} negative" if n_negative else "")
    notes = what_the_score_is(codes, n_positive, known), left_out(scores, table, n_positive, filters), *known.notes
    shown = table.head(filters.top).reset_index(drop=True)
    return Found(wants, shown, removed, codes, n_positive=n_positive, note="; ".join(filter(None, notes)))


def what_the_score_is(codes: Codes, n_positive: int, known: Known) -> str:
    """A sentence: what the column `score` is here, and over how many texts."""
    if known.rarity is None:
        return "without an index: the score is the mean activation, and how rare a feature is elsewhere is not known"
    n_alike, n_texts = int(alike(codes, n_positive, known.rarity).sum()), known.rarity.n_texts
    if not n_alike:
        return f"none of the index's {n_texts:,} texts is like the positive prompts: the score says nothing, rarity decides"
    few = f": {n_alike} are few to tell features apart by" if n_alike < FEWEST_ALIKE else ""
    return f"the score is a feature's F1 with the {n_alike:,} of the index's {n_texts:,} texts that are like the positive prompts{few}"


def left_out(scores: pd.DataFrame, table: pd.DataFrame, n_positive: int, filters: Filters) -> str:
    """Which feature would come first if the prompts' filters asked for less, where it is another one. A feature that means just what is
    looked for often is active, weakly, on what is near it: to be silent on eight near misses is more than most can do."""
    if not len(scores) or scores["rarity"].isna().all() or not scores["score"].iloc[0]:  # none, no index, or no text is alike
        return ""
    best = scores.iloc[0].to_dict()
    if best["feature"] in table["feature"].to_numpy():
        return ""
    share, margin = best["n_positive"] / n_positive, best["max_negative"] / best["mean_activation"]
    reasons = {  # to two decimals, to the side on which a filter asks for less
        f"share={np.floor(100 * share) / 100:g}": f"is active on {best['n_positive']} of {n_positive} positive prompts",
        f"margin={np.ceil(100 * margin) / 100:g}": f"is {margin:.2g} times as active on a negative prompt as on the positive ones",
    }
    is_reason = share < filters.share, margin > filters.margin
    options, why = (list(compress(some, is_reason)) for some in (reasons, reasons.values()))
    label = f" ({best['label']})" if best["label"] else ""
    return f"feature {best['feature']}{label} scores {best['score']:.2f}, but {' and '.join(why)}: {', '.join(options)} lets it in"


def checked_sets(positive: Iterable[str], negative: Iterable[str], fewest_negative: int = 0) -> tuple[list[str], list[str]]:
    """Raises ValueError for what cannot be searched with: no prompts, a bare string, an empty prompt, one that is in both sets."""
    checked: dict[str, list[str]] = {}
    for name, prompts in {"positive": positive, "negative": negative}.items():
        if isinstance(prompts, str):
            raise ValueError(f"{name} is one string; expected a list of prompts: [{prompts[:40]!r}]")
        checked[name] = prompts = list(no_table(prompts, f"{name} prompts"))
        for i, prompt in enumerate(prompts, start=1):
            if not isinstance(prompt, str):
                raise ValueError(f"{name} prompt {i} is of type {type(prompt).__name__}; expected a string")
            if not prompt.strip():
                raise ValueError(f"{name} prompt {i} of {len(prompts)} is empty: write some text or leave it out")
    both = set(checked["positive"]) & set(checked["negative"])
    if not checked["positive"]:
        raise ValueError("there is no positive prompt: expected at least one text that has what you look for")
    if len(checked["negative"]) < fewest_negative:
        raise ValueError("there is no negative prompt: expected at least one text that lacks what you look for")
    if both:
        raise ValueError(f"{min(both)[:60]!r} is both a positive and a negative prompt: nothing can be active and silent on it")
    return checked["positive"], checked["negative"]


def passing(peaks: Peaks, n_prompts: tuple[int, int], d_sae: int, filters: Filters, rarity: Rarity | None) -> tuple[Bits, list[Removed]]:
    """The features that pass every filter, and what each filter removed. n_prompts: positive ones, which come first, and negative ones."""
    n_positive, n_negative = n_prompts
    n_needed = max(1, int(np.ceil(filters.share * n_positive - 1e-9)))
    active = positive_sets(peaks, n_positive, d_sae)
    steps = {f"active on {n_needed} of {n_positive} positive prompts": lambda kept: in_most(kept, active, n_positive - n_needed)}
    if n_negative:
        loud = loud_sets(peaks, n_prompts, d_sae, filters.margin)
        allowed = f"at most {filters.margin:g} × as active" if filters.margin else "silent"
        steps[f"{allowed} on {n_negative} negative prompts"] = lambda kept: without(kept, loud)
    if rarity is not None:
        dense = rarity.dense(filters.max_density)
        steps[f"active on at most {100 * filters.max_density:.3g} % of the index's tokens"] = lambda kept: without(kept, [dense])
    kept, removed = all_of(d_sae), []
    for name, step in steps.items():
        left = step(kept)
        removed.append(Removed(name, size(kept), size(kept) - size(left)))
        kept = left
    return kept, removed


def positive_sets(peaks: Peaks, n_positive: int, d_sae: int) -> list[Bits]:
    """Of every positive prompt, the features that are active on it."""
    edges = np.searchsorted(peaks.prompt, np.arange(n_positive + 1))
    return [bits_of(peaks.feature[low:high], d_sae) for low, high in zip(edges[:-1], edges[1:], strict=True)]


def loud_sets(peaks: Peaks, n_prompts: tuple[int, int], d_sae: int, margin: float) -> list[Bits]:
    """Of every negative prompt, the features that are more active on it than margin · their mean over the positive ones."""
    n_positive, n_negative = n_prompts
    mean = np.zeros(d_sae) if margin else None
    if mean is not None:
        is_positive = peaks.prompt < n_positive
        np.add.at(mean, peaks.feature[is_positive], peaks.activation[is_positive] / n_positive)
    edges = np.searchsorted(peaks.prompt, np.arange(n_positive, n_positive + n_negative + 1))
    found = []
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        feature = peaks.feature[low:high]
        is_loud = True if mean is None else peaks.activation[low:high] > margin * mean[feature]
        found.append(bits_of(feature[is_loud] if mean is not None else feature, d_sae))
    return found


def scored(codes: Codes, n_positive: int, features: np.ndarray, known: Known) -> pd.DataFrame:
    """One row a feature, best score first."""
    activation = codes.peaks.of(features, len(codes.prompts)).T
    positive, negative = activation[:, :n_positive], activation[:, n_positive:]
    if known.rarity is None:
        score, rarity = positive.mean(1), np.full(len(features), np.nan)
    else:
        score, rarity = alike_f1(codes, n_positive, features, known.rarity).round(2), rarity_on(positive, features, known.rarity)
    table = pd.DataFrame(
        {
            "feature": features,
            "score": score,
            "rarity": rarity,
            "min_activation": positive.min(1),
            "mean_activation": positive.mean(1),
            "max_negative": negative.max(1, initial=0.0),
            "n_positive": (positive > 0).sum(1),
            "density": np.nan if known.rarity is None else known.rarity.density[features],
            "label": [known.labels.get(int(feature), "") for feature in features],
        }
    )
    return table.sort_values(["score", "rarity", "mean_activation"], ascending=False, kind="stable")


def rarity_on(positive: Float[ndarray, "n n_positive"], features: Int[ndarray, "n"], rarity: Rarity) -> Float[ndarray, "n"]:
    """positive: each feature's peak on every positive prompt."""
    return np.sort(rarity.bits(features, positive), axis=1)[:, : int(np.ceil(LEAST_RARE * positive.shape[1]))].mean(1)
