"""Which features must be active for a behavior, and which must be silent? The smallest sets that take it away, and that give it.

    found = minimal_sets(bench, present, absent, wb.logit_diff(" Tallahassee", " Sacramento"))
    found.removing     clamps under which the prompts with the behavior lose it
    found.giving       clamps under which the prompts without it get it

    activator    taken down (off, or at most at its level without the behavior), the behavior goes; brought up, it comes
    inhibitor    brought up (at least at its level without the behavior), the behavior goes; taken down, it comes

The behavior is there where the metric is above 0; it is given where its answer is the likeliest token, too. Chosen on half of the prompts
of each kind, measured on the other half; beside it random sets of as many features that are as active, held the same way. Sets of one
prompt are in sets.py.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from workbench.circuits.evidence.many import AT_LEAST, OFF, Clamp, Prompt
from workbench.circuits.evidence.search import Goal, candidates, changed, levels, smallest
from workbench.circuits.metrics import Metric, resolve
from workbench.features.probes.held_out import share_interval
from workbench.given import no_table, whole
from workbench.model.chat import Chat, written
from workbench.model.hooks import check_dictionary
from workbench.model.start import reading_notes
from workbench.model.tokens import to_str_tokens, to_tokens
from workbench.shapes import FeatureActs

FEWEST = 10  # prompts of each kind
N_DRAWS = 20  # random sets


@dataclass(frozen=True, repr=False, eq=False)
class MinimalSet:
    """`table`: a row a clamp, in the order in which they were taken: feature, label, role, held, level; and with it and all before it:
    share (of the prompts that it was chosen on whose behavior changed), held_out (of the others) with low and high, others (share of
    other held-out prompts whose answer changed)."""

    table: pd.DataFrame
    clamps: tuple[Clamp, ...]
    random: np.ndarray  # (N_DRAWS) share of the held-out prompts changed by random sets
    n_held_out: int
    n_others: int  # held out

    def edit(self, feature_acts: FeatureActs) -> FeatureActs:
        """For `editing(model, sae, found.removing.edit)`: feature activations as the set holds them."""
        edited = feature_acts.clone()
        for clamp in self.clamps:
            edited[..., clamp.feature] = clamp.of(feature_acts[..., clamp.feature])
        return edited

    def said(self, do: str, what: str) -> str:
        """How much it does."""
        does = f"{do}{'s' * (len(self.table) < 2)} {what}"
        if not len(self.table):
            return f"No feature {does}."
        row, n = self.table.iloc[-1], len(self.table)
        others = f", {row['others']:.1%} of {self.n_others:,} other answers changed" if self.n_others else ""
        return (
            f"{n} feature{'s' * (n > 1)} {does}: in {row['held_out']:.0%} of {self.n_held_out:,} held-out prompts ({row['low']:.0%} to "
            f"{row['high']:.0%}){others}; random sets {self.random.mean():.0%}, {self.random.max():.0%} at most."
        )


@dataclass(frozen=True, repr=False, eq=False)
class MinimalSets:
    """The sets that take a behavior away and that give it."""

    removing: MinimalSet
    giving: MinimalSet
    metric: Metric
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """What both sets do on prompts that they were not chosen on."""
        return f"{self.removing.said('taken down or up take', 'it away')} {self.giving.said('give', 'it')}"

    def _repr_html_(self) -> str:
        from widgets.html.batch import minimal_html

        return minimal_html(self)

    def __repr__(self) -> str:
        lines = [f"MinimalSets: {self.verdict}", *(f"  {note}" for note in self.notes)]
        for name, each in (("takes it away", self.removing), ("gives it", self.giving)):
            shown = each.table.to_string(index=False, float_format="{:.3g}".format).splitlines() if len(each.table) else []
            lines += [f"  {name}:", *(f"    {line}" for line in shown)]
        return "\n".join(lines)


def minimal_sets(  # noqa: PLR0913 a notebook's call
    bench: Any,
    present: Iterable[str] | Iterable[Chat],
    absent: Iterable[str] | Iterable[Chat],
    metric: Metric,
    *,
    keep: Iterable[str] | Iterable[Chat] = (),
    at_last: bool = False,
    most: int = 20,
    spare: float = 0.02,
    seed: int = 0,
    progress: bool = True,
) -> MinimalSets:
    """The smallest sets of features that take a behavior away from the prompts `present`, and that give it to the prompts `absent`.

    metric: above 0 where the behavior is there, such as wb.logit_diff(answer, another). absent: prompts that differ as little as can be:
    what features do there is what they are held at. keep: more prompts whose answers should stay, beside those of `absent`; a set that
    takes the behavior away may change `spare` of them. at_last: held at each prompt's last token only. most: features.
    Raises ValueError for fewer than ten prompts of a kind, one that stands in both, a behavior that is nowhere or everywhere.
    """
    check_dictionary(bench.model, bench.sae)
    answer = resolve(bench.model, metric).answer
    if not 0 <= spare < 1:
        raise ValueError(f"spare={spare!r}: expected the share of other answers that may change, such as 0.02")
    if (whole(most) or 0) < 1:
        raise ValueError(f"most={most!r}: expected how many features a set may have, 1 or more")
    sets = _checked(bench, {"present": present, "absent": absent, "keep": keep})
    texts = [(name, text) for name, some in sets.items() for text in some]
    read: dict[str, list[Prompt]] = {name: [] for name in sets}
    for name, text in tqdm(texts, desc="reading prompts", unit="prompt", disable=not progress, delay=2):
        read[name].append(Prompt(bench, text, None if name == "keep" else metric, at_last))
    notes = _notes(bench, sets, metric)
    with_it, left_out = _those(read["present"], lambda prompt: prompt.metric > 0, "is there on", "with it")
    without, left_out_too = _those(read["absent"], lambda prompt: prompt.metric <= 0, "is missing from", "without it")
    rng = np.random.default_rng(seed)
    halves = {name: _halves(some, rng) for name, some in (("with", with_it), ("without", without), ("keep", read["keep"]))}
    others = halves["without"][0] + halves["keep"][0], halves["without"][1] + halves["keep"][1]
    removing = _found(bench, halves["with"], halves["without"][0], others, metric, Goal(1, answer, spare, most), rng, progress)
    giving = _found(bench, halves["without"], halves["with"][0], ([], []), metric, Goal(-1, answer, 1.0, most), rng, progress)
    return MinimalSets(removing, giving, metric, (*reading_notes(bench.model, bench.sae), *left_out, *left_out_too, *notes))


def _found(  # noqa: PLR0913 one of two sides
    bench: Any,
    prompts: tuple[list[Prompt], list[Prompt]],
    opposite: list[Prompt],
    others: tuple[list[Prompt], list[Prompt]],
    metric: Metric,
    goal: Goal,
    rng: np.random.Generator,
    progress: bool,
) -> MinimalSet:
    """prompts, others: (to choose on, held out)."""
    clamps = smallest(candidates(bench, prompts[0], opposite, metric, goal), prompts[0], others[0], goal, progress)
    if not clamps:
        return MinimalSet(pd.DataFrame(columns=list(COLUMNS)), (), np.zeros(N_DRAWS), len(prompts[1]), len(others[1]))
    n = len(clamps)
    growing = torch.ones(n, n, dtype=torch.bool).tril()
    share, held_out = (goal.done(clamps, growing, some).mean(0) for some in prompts)
    low, high = np.transpose([share_interval(round(each * len(prompts[1])), len(prompts[1])) for each in held_out])
    columns: dict[str, Any] = {
        "feature": [clamp.feature for clamp in clamps],
        "label": [str(bench.labels.get(clamp.feature, "")) for clamp in clamps],
        "role": [_role(clamp, goal) for clamp in clamps],
        "held": [clamp.held for clamp in clamps],
        "level": [clamp.level for clamp in clamps],
        "share": share,
        "held_out": held_out,
        "low": low,
        "high": high,
        "others": changed(clamps, growing, others[1]).mean(0) if others[1] else np.full(n, np.nan),
    }
    random = _random(clamps, levels(prompts[0]), levels(opposite), rng)
    each = torch.eye(N_DRAWS, dtype=torch.bool).repeat_interleave(n, dim=1)
    shares = goal.done([clamp for some in random for clamp in some], each, prompts[1]).mean(0)
    return MinimalSet(pd.DataFrame(columns), tuple(clamps), shares, len(prompts[1]), len(others[1]))


COLUMNS = ("feature", "label", "role", "held", "level", "share", "held_out", "low", "high", "others")


def _role(clamp: Clamp, goal: Goal) -> str:
    return "activator" if (clamp.held == AT_LEAST) == (goal.sign < 0) else "inhibitor"


def _random(clamps: Sequence[Clamp], here: torch.Tensor, there: torch.Tensor, rng: np.random.Generator) -> list[list[Clamp]]:
    """Sets of as many other features: each one of the twenty nearest in activation to the one it stands for (where that is brought up, in
    its level on the opposite prompts), held as far from there as that one is."""
    own, drawn = {clamp.feature for clamp in clamps}, []
    for _ in range(N_DRAWS):
        taken, some = set(own), []
        for clamp in clamps:
            level = there if clamp.held == AT_LEAST else here
            near = (level - level[clamp.feature]).abs().argsort(stable=True).tolist()
            feature = int(rng.choice([i for i in near[: 20 + len(taken)] if i not in taken][:20]))
            taken.add(feature)
            some.append(Clamp(feature, clamp.held, 0.0 if clamp.held == OFF else clamp.level))
        drawn.append(some)
    return drawn


def _halves(prompts: list[Prompt], rng: np.random.Generator) -> tuple[list[Prompt], list[Prompt]]:
    order, half = rng.permutation(len(prompts)), (len(prompts) + 1) // 2
    return [prompts[i] for i in order[:half]], [prompts[i] for i in order[half:]]


def _those(prompts: list[Prompt], is_one: Any, where: str, kind: str) -> tuple[list[Prompt], tuple[str, ...]]:
    """The prompts that are what they are said to be, and a sentence where some are not."""
    found = [prompt for prompt in prompts if is_one(prompt)]
    if len(found) < FEWEST:
        raise ValueError(
            f"the behavior (metric above 0) {where} {len(found)} of {len(prompts)} prompts {kind}: expected {FEWEST} or more; look at the "
            f"metric's sign, or at {prompts[0].text[:60]!r}, where it is {prompts[0].metric:.3g}"
        )
    n_left = len(prompts) - len(found)
    return found, (f"{n_left} of {len(prompts)} prompts {kind} are left out: the behavior {where} the others only",) if n_left else ()


def _checked(bench: Any, sets: dict[str, Iterable[Any]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, prompts in sets.items():
        if isinstance(prompts, str):
            raise ValueError(f"{name} is one string: expected several prompts, ['…', '…']")
        found[name] = list(dict.fromkeys(written(bench.model, prompt) for prompt in no_table(prompts, f"prompts of {name}")))
        if name != "keep" and len(found[name]) < FEWEST:
            raise ValueError(
                f"{len(found[name])} different prompts in {name}: half of them are held out, give {FEWEST} or more of each kind"
            )
    for prompt in found["present"]:
        if prompt in found["absent"] or prompt in found["keep"]:
            raise ValueError(f"{prompt[:80]!r} stands among the prompts with the behavior and among others: it cannot be both")
    found["keep"] = [prompt for prompt in found["keep"] if prompt not in found["absent"]]
    return found


def _notes(bench: Any, sets: dict[str, list[str]], metric: Metric) -> list[str]:
    """What gives the behavior away: the answer itself, or a word."""
    answer = resolve(bench.model, metric).answer
    ids = {name: [frozenset(to_tokens(bench.model, text)[0].tolist()) for text in sets[name]] for name in ("present", "absent")}
    notes = []
    if n := sum(answer in each for each in ids["present"]):
        notes.append(
            f"the answer itself stands in {n} of {len(ids['present'])} prompts with the behavior: what repeats it may be all there is"
        )
    always, never = frozenset.intersection(*ids["present"]), frozenset().union(*ids["absent"])
    if told := sorted(always - never):
        words = ", ".join(map(repr, to_str_tokens(bench.model, torch.tensor(told[:5]))))
        notes.append(f"{words} stands in every prompt with the behavior and in none without: a set may only switch off what reads that")
    return notes
