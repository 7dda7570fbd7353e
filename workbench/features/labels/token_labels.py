"""Labels from token statistics alone: no model, no network, and each says what it is.

    at ' Lakers', ' Kobe'      the feature is active at these tokens
    after ' capital'           it is active once one of these tokens has stood in the text

Of all such rules the one with the best F1 over the windows shown, against windows of other features, is the label. It sees tokens, not what
they mean: it finds what one could have searched for, and a low score says that there is more to the feature.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workbench.features.labels.meanings import Evidence, Rule

MOST_TOKENS = 4  # that a label names
N_CANDIDATES = 16


@dataclass(frozen=True)
class At(Rule):
    """At one of these tokens."""

    tokens: tuple[str, ...]

    def where(self, str_tokens: Sequence[str]) -> np.ndarray:
        """(n_tokens) bool."""
        return np.array([token in self.tokens for token in str_tokens], dtype=bool)


@dataclass(frozen=True)
class After(At):
    """From the first of these tokens on."""

    def where(self, str_tokens: Sequence[str]) -> np.ndarray:
        """(n_tokens) bool."""
        return np.maximum.accumulate(super().where(str_tokens))


class TokenLabeller:
    """The offline labeller."""

    origin = "token statistics"
    n_parallel = 1

    def propose(self, evidence: Evidence) -> Rule:
        """The rule that fits best."""
        at = [each.str_tokens[each.peak] for each in evidence.shown]
        until = [token for each in evidence.shown for token in set(each.str_tokens[: each.peak + 1])]
        return max(_grown(At, at, evidence), _grown(After, until, evidence), key=lambda rule: _f1(rule, evidence))


def _grown(kind: type[At], seen: Sequence[str], evidence: Evidence) -> At:
    """Of the tokens most often seen one after the other, the best first, as long as each makes the rule better."""
    candidates, best, best_f1 = [token for token, _ in Counter(seen).most_common(N_CANDIDATES)], None, 0.0
    while best is None or len(best.tokens) < MOST_TOKENS:
        tokens = best.tokens if best else ()
        longer = [_rule(kind, (*tokens, token)) for token in candidates if token not in tokens]
        scores = [_f1(rule, evidence) for rule in longer]
        if best and max(scores, default=0.0) <= best_f1:
            break
        best, best_f1 = max(zip(longer, scores, strict=True), key=lambda pair: pair[1])
    return best


def _rule(kind: type[At], tokens: tuple[str, ...]) -> At:
    return kind(f"{kind.__name__.lower()} {', '.join(map(repr, tokens))}", tokens)


def _f1(rule: Rule, evidence: Evidence) -> float:
    """A window of the feature is found where the rule holds at its peak; another feature's, where it holds anywhere."""
    found = sum(bool(rule.where(each.str_tokens)[each.peak]) for each in evidence.shown)
    false = sum(rule.is_in(evidence.others))
    return 2 * found / (len(evidence.shown) + found + false)
