"""Which texts of an index are like some prompts, and which features single these texts out. What eight prompts share by chance, thousands
of texts do not: a player's team stands in eight texts about him, but in many others, too.

    prompts and texts → how rare the peaks are, in bits, of the features that are active on most positive prompts → a logistic regression
    of the positive prompts against the negative ones and all texts → z of each text
    alike         z lies above 0.7 of the way from the median text to the median positive prompt. Texts are no negatives, some of them
                  are what is looked for: that decides where z is cut, and hardly how texts are ordered
    alike_f1      the best F1, over thresholds on a feature's peak, with being alike: 2 (alike above it) / (alike + above it)

What each of the constants brings: docs/log.md, "The first feature found".
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy import sparse

from workbench.features.search.codes import Codes
from workbench.features.search.rarity import Rarity
from workbench.process import put_back

SHARED = 5 / 8  # of the positive prompts that a feature has to be active on
NEGATIVE = 0.1  # the weight of all negative prompts; that of the positive ones is 1, and that of the texts
WAY = 0.7


def alike_f1(codes: Codes, n_positive: int, features: Int[ndarray, "n"], rarity: Rarity) -> Float[ndarray, "n"]:
    """Of each of these features, 0 to 1; 0 where no text is alike."""
    are_alike = alike(codes, n_positive, rarity).astype(np.float64)
    return (2 * rarity.summed(features, are_alike) / (are_alike.sum() + rarity.summed(features) + 1e-9))[:, 1:].max(1, initial=0.0)


@lru_cache(maxsize=2)  # for the searches that follow, with other filters
def alike(codes: Codes, n_positive: int, rarity: Rarity) -> Bool[ndarray, "n_texts"]:
    """Which texts are like the positive prompts, which come first in codes."""
    with put_back():
        from sklearn.linear_model import LogisticRegression

    peaks, n_prompts = codes.peaks, len(codes.prompts)
    n_active = np.bincount(peaks.feature[peaks.prompt < n_positive], minlength=len(rarity.max_act))
    features = np.flatnonzero(n_active >= SHARED * n_positive)
    if not len(features):
        return np.zeros(rarity.n_texts, dtype=bool)
    x = sparse.vstack([rarity.of_prompts(peaks, n_prompts, features), rarity.of_texts(features)], format="csr")
    groups = (1.0, n_positive), (NEGATIVE, n_prompts - n_positive), (1.0, rarity.n_texts)
    weights = np.concatenate([np.full(n, weight / max(1, n)) for weight, n in groups])
    z = LogisticRegression(max_iter=1000).fit(x, np.arange(x.shape[0]) < n_positive, weights).decision_function(x)
    of_prompts, of_texts = z[:n_positive], z[n_prompts:]
    low, high = np.median(of_texts), np.median(of_prompts)
    return of_texts > low + WAY * (high - low)
