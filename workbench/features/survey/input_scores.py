"""How well does a feature read what it is called? On texts that its label was not made from, or by what its direction promotes.

    of a concept    average precision of the feature's largest activation in each text, for the texts in which the concept is in play:
                    Σ (recall_k − recall_{k−1}) · precision_k over thresholds k; by chance it is the concept's share of the texts
    of tokens       share of the texts in which the feature is most active whose most active token is among those that its direction
                    promotes: Arad, Mueller & Belinkov 2025, arXiv 2505.20063, who call it the input score; it asks for no label

The first knows what a label means and needs an answer key; the second takes what a feature says for what it reads.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from workbench.features.survey.activity import Activity
from workbench.features.survey.completeness import ROUNDING

FEWEST_TEXTS = 10  # in which a feature is active, or its concept in play: of fewer a share says little
N_TOP = 100  # texts in which it is most active, as in the paper


def by_concept(activity: Activity, concepts: Mapping[int, str]) -> dict[int, float]:
    """Feature → average precision for its concept; NaN where the concept is in play in fewer than ten texts."""
    from sklearn.metrics import average_precision_score

    corpus, found = activity.corpus, dict[int, float]()
    for feature, concept in concepts.items():
        at = corpus.column.get(concept)
        has = np.zeros(corpus.n_texts, dtype=bool)
        if at is not None:
            has[corpus.texts_with.indices[corpus.texts_with.indptr[at] : corpus.texts_with.indptr[at + 1]]] = True
        peaks = activity.peaks[:, [feature]].toarray().ravel()
        found[feature] = float(average_precision_score(has, ranks(peaks))) if has.sum() >= FEWEST_TEXTS else float("nan")
    return found


def ranks(peaks: np.ndarray) -> np.ndarray:
    """How many lower ones each of these activations is above, those equal but for rounding counted once: texts that begin alike have such,
    and which is the larger hangs on the processor."""
    order = np.argsort(peaks, kind="stable")
    rising = peaks[order].astype(float)
    found = np.zeros(len(peaks), dtype=np.int64)
    found[order[1:]] = np.cumsum(rising[:-1] < rising[1:] * (1 - ROUNDING))
    return found


def by_tokens(activity: Activity, promoted: Mapping[int, Sequence[int]]) -> dict[int, float]:
    """Feature → share of its top texts whose most active token is promoted by it; NaN where it is active in fewer than ten."""
    return {feature: share_promoted(peak_tokens(activity, feature), tokens) for feature, tokens in promoted.items()}


def peak_tokens(activity: Activity, feature: int) -> list[int]:
    """The most active token of each text in which the feature is active, the strongest texts first, N_TOP at most."""
    token, act = activity.of(feature)
    strongest_first = np.argsort(-act, kind="stable")
    text = activity.corpus.text[token[strongest_first]]
    first = np.sort(np.unique(text, return_index=True)[1])[:N_TOP]
    return activity.corpus.ids[token[strongest_first[first]]].tolist()


def share_promoted(peaks: Sequence[int | str], promoted: Sequence[int | str]) -> float:
    """How many of the peaks' tokens are promoted; NaN for fewer than ten peaks."""
    return float(np.isin(peaks, promoted).mean()) if len(peaks) >= FEWEST_TEXTS else float("nan")
