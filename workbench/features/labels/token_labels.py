"""Labels from token statistics alone: no model, no network, and each says what it is.

    at ' Lakers', ' Kobe'      the feature is active at these tokens
    after ' capital'           it is active once one of these tokens has stood in the text
    at 'W' after 'DV'          at a token that ends these; right after 'DV': at whatever token follows these

Of all such rules the one with the best F1 over the windows shown, against windows of other features, is the label; runs of tokens only
where they do much better than single ones, as in small alphabets (bytes, amino acids, notes), where every token stands everywhere. It sees
tokens, not what they mean: it finds what one could have searched for, and a low score says that there is more to the feature.
"""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from workbench.features.labels.meanings import Evidence, Rule

MOST_TOKENS = 4  # that a label names
N_CANDIDATES = 16
LONGEST_RUN = 4  # tokens
FEWEST = 2  # windows that a run has to stand in
MUCH_BETTER = 0.1  # F1 that a rule by runs of tokens has to gain over one by single tokens: there are many more of them to choose from


class Run(NamedTuple):
    """Tokens one after the other, and where the feature is active: at the last of them, or right after it."""

    tokens: tuple[str, ...]
    is_after: bool

    def __str__(self) -> str:
        if self.is_after:
            return f"right after {''.join(self.tokens)!r}"
        return f"at {self.tokens[-1]!r} after {''.join(self.tokens[:-1])!r}"


@dataclass(frozen=True)
class At(Rule):
    """At one of these tokens."""

    tokens: tuple[str, ...]

    @classmethod
    def of(cls, parts: tuple[Any, ...]) -> "At":
        return cls(f"{cls.__name__.lower()} {', '.join(map(repr, parts))}", parts)

    def where(self, str_tokens: Sequence[str]) -> np.ndarray:
        """(n_tokens) bool."""
        return np.array([token in self.tokens for token in str_tokens], dtype=bool)


@dataclass(frozen=True)
class After(At):
    """From the first of these tokens on."""

    def where(self, str_tokens: Sequence[str]) -> np.ndarray:
        """(n_tokens) bool."""
        return np.maximum.accumulate(super().where(str_tokens))


@dataclass(frozen=True)
class Match(Rule):
    """Where one of these runs ends, or right after."""

    runs: tuple[Run, ...]

    @classmethod
    def of(cls, parts: tuple[Any, ...]) -> "Match":
        return cls(", ".join(map(str, parts)), parts)

    def where(self, str_tokens: Sequence[str]) -> np.ndarray:
        found = np.zeros(len(str_tokens), dtype=bool)
        for tokens, is_after in self.runs:
            for end in range(len(tokens), len(str_tokens) + 1 - is_after):
                found[end - 1 + is_after] |= tuple(str_tokens[end - len(tokens) : end]) == tokens
        return found


class TokenLabeller:
    """The offline labeller."""

    origin = "token statistics"
    n_parallel = 1

    def propose(self, evidence: Evidence) -> Rule:
        """The rule that fits best."""
        at = [each.str_tokens[each.peak] for each in evidence.shown]
        until = [token for each in evidence.shown for token in set(each.str_tokens[: each.peak + 1])]
        single = max(_grown(At, at, evidence), _grown(After, until, evidence), key=lambda rule: _f1(rule, evidence))
        counts = Counter(run for each in evidence.shown for run in _runs(each.str_tokens, each.peak))
        seen: list[Run] = [run for run, n in counts.items() if n >= FEWEST for _ in range(n)]
        if not seen or _f1(single, evidence) > 1 - MUCH_BETTER:
            return single
        seen.sort(key=lambda run: (run.is_after, len(run.tokens)))  # of equal ones the first is taken: what ends there, and is short
        runs = _grown(Match, seen, evidence)
        return runs if _f1(runs, evidence) > _f1(single, evidence) + MUCH_BETTER else single


def _runs(str_tokens: Sequence[str], peak: int) -> set[Run]:
    """Those that end at the peak, of two tokens or more; those that end right before it, of any length."""
    ends = {Run(tuple(str_tokens[peak + 1 - n : peak + 1]), False) for n in range(2, LONGEST_RUN + 1) if n <= peak + 1}
    return ends | {Run(tuple(str_tokens[peak - n : peak]), True) for n in range(1, LONGEST_RUN) if n <= peak}


def _grown(kind: type[At | Match], seen: Sequence[Hashable], evidence: Evidence) -> At | Match:
    """Of the parts most often seen one after the other, the best first, as long as each makes the rule better."""
    candidates, parts, best, best_f1 = [part for part, _ in Counter(seen).most_common(N_CANDIDATES)], (), None, 0.0
    while best is None or len(parts) < MOST_TOKENS:
        longer = [(*parts, part) for part in candidates if part not in parts]
        scores = [_f1(kind.of(each), evidence) for each in longer]
        if best and max(scores, default=0.0) <= best_f1:
            break
        parts, best_f1 = max(zip(longer, scores, strict=True), key=lambda pair: pair[1])
        best = kind.of(parts)
    return best


def _f1(rule: Rule, evidence: Evidence) -> float:
    """A window of the feature is found where the rule holds at its peak; another feature's, where it holds anywhere."""
    found = sum(bool(rule.where(each.str_tokens)[each.peak]) for each in evidence.shown)
    false = sum(rule.is_in(evidence.others))
    return 2 * found / (len(evidence.shown) + found + false)
