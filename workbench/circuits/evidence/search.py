"""The smallest set of clamps that does something to many prompts: candidates by first order, then one at a time by what they really do.

    candidates    (feature, how it is held) of the largest first-order change of the metric, Σ_pos (held(act) − act) · (∂metric/∂x · W_dec)
    one a step    the clamp with which the least of the behavior is left at the least cost,
                      left / left without clamps + price · share of the other prompts whose answer changed
                  of those that leave at least 1 − spare of the other answers as they are; each measured together with those taken before.
                  To give a behavior, share of the prompts that do not answer so: a push that breaks the model brings up any difference
    at the end    whatever can go again without a loss goes

A greedy search: a smaller set may exist, none smaller was met on the way.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from workbench.circuits.evidence.many import AT_LEAST, AT_MOST, OFF, Clamp, Prompt, Sets
from workbench.circuits.metrics import Metric
from workbench.circuits.ranking.attribution import gradient_at
from workbench.model.tokens import to_tokens

N_FEATURES = 32  # by first order
STEPS = (0.5, 1.0, 2.0)  # of the way from a feature's level on these prompts to its level on the opposite ones
N_SCREENED = 10  # of a step's clamps, those that leave least: measured on the other prompts, too
PRICE = 2.0  # one answer in a hundred changed weighs as much as a fiftieth of the behavior; `spare` bounds it
LEAST_GAIN = 1e-3


class Goal(NamedTuple):
    """What a set is searched for. sign: 1 to bring the metric down to 0 (take the behavior away), −1 to bring it up (give it)."""

    sign: int
    answer: int  # the behavior's token
    spare: float  # share of the other answers that may change
    most: int  # clamps

    def left(self, metric: np.ndarray) -> np.ndarray:
        """How far each prompt is from where it should be, in logits; a little beyond 0 counts, far beyond no more."""
        return np.clip(self.sign * metric, -1.0, None)

    def done(self, clamps: Sequence[Clamp], sets: Sets, prompts: Sequence[Prompt]) -> np.ndarray:
        """(n_prompts, n_sets): has the behavior changed? It is gone where the metric is not above 0, and given where it is the answer."""
        if self.sign > 0:
            return metrics(clamps, sets, prompts) <= 0
        return np.array([prompt.answers(clamps, sets) == self.answer for prompt in prompts]).reshape(len(prompts), len(sets))


def levels(prompts: Sequence[Prompt]) -> Tensor:
    """(d_sae) each feature's largest activation where it is read, the mean over prompts."""
    return torch.stack([prompt.acts.amax(0) for prompt in prompts]).mean(0)


def candidates(bench: Any, prompts: Sequence[Prompt], opposite: Sequence[Prompt], metric: Metric, goal: Goal) -> list[Clamp]:
    """Clamps that change the metric the right way to first order, those of most promise first."""
    here, there = levels(prompts), levels(opposite)
    ways = [(OFF, torch.zeros_like(here))]
    for step in STEPS:
        level = here + step * (there - here)
        ways += [
            (AT_MOST, level.where((there < here) & (level > 0.05 * here), torch.inf)),
            (AT_LEAST, level.where(there > here, -torch.inf)),
        ]
    gains = torch.zeros(len(ways), len(here), dtype=torch.float64, device=here.device)
    for prompt in prompts:
        gradient = gradient_at(bench.model, bench.sae.writes, to_tokens(bench.model, prompt.text), metric).gradient[0]
        slopes = gradient[prompt.positions].to(bench.sae.W_dec.dtype) @ bench.sae.W_dec.T
        for i, (held, level) in enumerate(ways):
            changed = prompt.acts.clamp(max=level) if held != AT_LEAST else prompt.acts.clamp(min=level)
            gains[i] -= goal.sign * (slopes * (changed - prompt.acts)).sum(0).double() / len(prompts)
    best = gains.amax(0).topk(min(N_FEATURES, len(here)))
    found = []
    for feature in best.indices[best.values > 0].tolist():
        for (held, level), gain in zip(ways, gains[:, feature].tolist(), strict=True):
            if gain > 0:
                found.append((gain, Clamp(feature, held, float(level[feature]))))
    return [clamp for _, clamp in sorted(found, key=lambda each: -each[0])]


def changed(clamps: Sequence[Clamp], sets: Sets, prompts: Sequence[Prompt]) -> np.ndarray:
    """(n_prompts, n_sets): is another next token the likeliest?"""
    return np.array([prompt.answers(clamps, sets) != prompt.answer for prompt in prompts]).reshape(len(prompts), len(sets))


def metrics(clamps: Sequence[Clamp], sets: Sets, prompts: Sequence[Prompt]) -> np.ndarray:
    """(n_prompts, n_sets): the metric."""
    return np.stack([prompt.metrics(clamps, sets) for prompt in prompts])


def smallest(clamps: Sequence[Clamp], prompts: Sequence[Prompt], others: Sequence[Prompt], goal: Goal, progress: bool) -> list[Clamp]:
    """In the order in which they were taken; empty where none does any good."""
    clean = float(goal.left(np.array([prompt.metric for prompt in prompts])).mean())
    chosen, cost = list[int](), 1.0 if goal.sign > 0 else 2.0
    for _ in tqdm(range(goal.most), desc="adding features", unit="feature", disable=not progress, delay=2):
        taken = {clamps[i].feature for i in chosen}
        open_ = [i for i in range(len(clamps)) if clamps[i].feature not in taken]
        if not open_:
            break
        sets = _with_each(len(clamps), chosen, open_)
        left = goal.left(metrics(clamps, sets, prompts)).mean(0)
        first = np.argsort(left, kind="stable")[:N_SCREENED]
        if goal.sign > 0:
            share = changed(clamps, sets[first], others).mean(0)
            costs = np.where(share <= goal.spare, left[first] / clean + PRICE * share, np.inf)
        else:
            costs = left[first] / clean + 1 - goal.done(clamps, sets[first], prompts).mean(0)
        at = int(costs.argmin())
        if costs[at] > cost - LEAST_GAIN:
            break
        chosen.append(open_[int(first[at])])
        cost = float(costs[at])
        if goal.done(clamps, _with_each(len(clamps), chosen, [chosen[-1]]), prompts).all():
            break
    return [clamps[i] for i in _pruned(clamps, chosen, prompts, others, goal)]


def _pruned(clamps: Sequence[Clamp], chosen: list[int], prompts: Sequence[Prompt], others: Sequence[Prompt], goal: Goal) -> list[int]:
    """Without the clamps that can go: no prompt comes back, no other answer changes more."""

    def worth(members: list[int]) -> tuple[float, float]:
        sets = torch.zeros(1, len(clamps), dtype=torch.bool)
        sets[0, members] = True
        share = changed(clamps, sets, others).mean() if others else 0.0
        return float(goal.done(clamps, sets, prompts).mean()), float(share)

    if len(chosen) < 2:
        return chosen
    done, share = worth(chosen)
    for i in list(chosen):
        rest = [j for j in chosen if j != i]
        if rest and (now := worth(rest))[0] >= done and now[1] <= share:
            chosen, (done, share) = rest, now
    return chosen


def _with_each(n: int, chosen: Sequence[int], added: Sequence[int]) -> Sets:
    sets = torch.zeros(len(added), n, dtype=torch.bool)
    sets[:, list(chosen)] = True
    sets[range(len(added)), list(added)] = True
    return sets
