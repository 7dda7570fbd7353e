"""Sets of features: what is lost without a set (is it needed?), and what is left with it alone (is it enough?). Exact, many sets at once.

    without S:  x' = x − Σ_{a ∈ S} (feature_acts_a − off_a) · W_dec_a            effect = metric(x) − metric(x')
    only S:     the same with every other pair, active or not, in S's place      kept   = metric(x') / metric(x)

a = (pos, feature); off = 0, or the feature's mean over reference texts. Without a set, what the SAE does not explain stays in x, as in
every ablation. With a set alone it goes too, unless keep_error: an error alone, scaled up by the next norm, can carry most of an answer
(L1 shrinks activations, so the error points where the features do). The start token is left as it is, as in rankings. Every set is a row
of one Replay of the prompt. Of a transcoder x is what stands where it writes; a set alone keeps b_dec and the skip.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from tqdm.auto import tqdm

from workbench.circuits.acts import read_beside
from workbench.circuits.evidence.reference import mean_acts
from workbench.circuits.intervene import check_features
from workbench.circuits.metrics import Metric, resolve
from workbench.model.chat import Chat, written
from workbench.model.hooks import check_dictionary
from workbench.model.memory import Need, in_words, kept_bytes, largest
from workbench.model.model import BAR_DELAY
from workbench.model.tokens import is_start_token, to_str_tokens, to_tokens
from workbench.replay.replay import Replay, replay_bytes
from workbench.sae.dictionary import Dictionary
from workbench.sae.parts import active, acts_at, encoding_bytes, in_parts, pairs_of
from workbench.shapes import FeatureActs, Rows

OFF = ("zero", "mean")
LESS = "a shorter prompt takes less"
PAIR_BYTES = 24  # position, feature, activation, change
# Rows of a ranking (with pos: pairs; of by_feature: features at every position), features, or (pos, feature) pairs
Members = pd.DataFrame | Sequence[int] | Sequence[Sequence[int]] | Int[Tensor, "n_members 2"]
Sets = Bool[Tensor, "n_sets n_pairs"]  # which pairs each set holds


class FeatureSets:
    """One prompt and metric, ready to measure sets of its active (pos, feature) pairs.

    off: what a feature that is switched off is set to, "zero" or "mean". pairs (n_pairs, 2): what sets are made of. clean_metric,
    floor: the metric as it is, and with every feature switched off.
    """

    @torch.no_grad()
    @in_words("measuring sets", LESS)
    def __init__(
        self, bench: Any, prompt: str | Chat, metric: Metric, off: str = "zero", keep_error: bool = False, *, insist: bool = False
    ):
        """Raises ValueError for what is no prompt, metric or `off`, and for more than memory holds, unless insist."""
        if off not in OFF:
            near = difflib.get_close_matches(str(off), OFF, n=1, cutoff=0.4)
            raise ValueError(f"off={off!r}: expected {' or '.join(map(repr, OFF))}" + (f"; did you mean {near[0]!r}?" if near else ""))
        self.bench, self.model, self.sae, self.prompt, self.metric, self.keep_error = (
            bench,
            bench.model,
            bench.sae,
            written(bench.model, prompt),
            metric,
            keep_error,
        )
        check_dictionary(self.model, self.sae)
        self.resolved = resolve(self.model, metric)
        tokens, self.insist = to_tokens(self.model, self.prompt), insist
        n_pos, d_sae = tokens.shape[1], self.sae.cfg.d_sae
        sets_need(self.model.cfg, self.sae, n_pos, pairs_of(self.sae, n_pos) or 0).check(tokens.device, insist)
        level = mean_acts(bench) if off == "mean" else self.sae.b_enc.new_zeros(d_sae)
        self.str_tokens = to_str_tokens(self.model, tokens)
        self.replay = Replay(self.model, self.sae.writes, tokens)
        self.clean_metric = float(self.resolved(self.replay.clean_logits))
        self.clean = self.sae.beside(self.replay.clean)
        is_start = is_start_token(self.model, tokens)[0]
        x = read_beside(self.replay, self.sae)

        def check(n_active: int, n_read: int) -> None:
            """Of how many pairs an L1 or JumpReLU SAE will have, its first part tells."""
            if self.sae.cfg.k is None:
                sets_need(self.model.cfg, self.sae, n_pos, n_active * n_pos // n_read).check(tokens.device, insist)

        pairs, acts = active(self.sae, x, check)
        is_text = ~is_start[pairs[:, 0]]
        pairs, acts = pairs[is_text], acts[is_text]
        if not len(pairs):
            raise ValueError(f"no feature of this SAE is active on {prompt!r}: there is nothing to make sets of")
        features = pairs[:, 1].unique()
        if off == "mean":  # the active features at every position, since a silent one can be moved to its mean
            n_pairs = int((~is_start).sum()) * len(features)
            sets_need(self.model.cfg, self.sae, n_pos, n_pairs).check(tokens.device, insist)
            pairs = torch.cartesian_prod((~is_start).nonzero()[:, 0], features).view(-1, 2)
            acts = acts_at(self.sae, x, pairs)
        self.pairs, self.changes = pairs, acts - level[pairs[:, 1]]  # by position

        def left_over(first: int, feature_acts: FeatureActs) -> Float[Tensor, "n_here d_in"]:
            """What belongs to no set: features that are silent here and are not at their mean, and the error."""
            here = slice(first, first + len(feature_acts))
            left = torch.zeros_like(self.clean[here])
            if off == "mean":
                change = feature_acts - level
                change[:, features] = 0.0
                left = self.sae.added(change.masked_fill_(is_start[here, None], 0.0), left)
            if not keep_error:
                error = self.clean[here] - self.sae.decode(feature_acts, x[here])
                left += error.masked_fill(is_start[here, None], 0.0)
            return left

        needs_parts = off == "mean" or not keep_error
        self.outside = torch.cat(in_parts(self.sae, x, left_over)) if needs_parts else torch.zeros_like(self.clean)
        self.floor = self.clean_metric - float(self.effects_of_only(self.none())[0])

    def ablate(self, members: Members) -> float:
        """The effect of the set: the metric that is lost without it. Raises ValueError for a set that holds nothing active."""
        return float(self.effects(self.set_of(members)[None])[0])

    def keep_only(self, members: Members) -> float:
        """The metric with the set alone, all other features switched off. Raises ValueError for a set that holds all there is."""
        chosen = self.set_of(members)
        if bool(chosen.all()):
            raise ValueError(f"the set holds all {len(chosen)} active pairs: keeping everything changes nothing; leave some out")
        return self.clean_metric - float(self.effects_of_only(chosen[None])[0])

    def measure(self, sets: Mapping[str, Members]) -> pd.DataFrame:
        """One row a set: n_features, n_pairs, effect (metric lost without it), lost (its share), only (metric with it alone), kept (its
        share of the clean metric)."""
        chosen = torch.stack([self.set_of(members) for members in sets.values()])
        effects, only = self.effects(chosen).numpy(), self.clean_metric - self.effects_of_only(chosen).numpy()
        n_features = [len(self.pairs[each, 1].unique()) for each in chosen]
        table = pd.DataFrame({"set": list(sets), "n_features": n_features, "n_pairs": chosen.sum(1).tolist(), "effect": effects})
        return table.assign(lost=effects / self.clean_metric, only=only, kept=only / self.clean_metric)

    def set_of(self, members: Members) -> Bool[Tensor, "n_pairs"]:
        """Which of `pairs` the members are. Raises ValueError where they are out of range, or none of them is active."""
        wanted = _as_array(members)
        features = wanted if wanted.ndim == 1 else wanted[:, 1]
        if not len(wanted):
            raise ValueError("the set is empty: expected one feature or (pos, feature) pair at least")
        check_features(self.sae, features.tolist())
        pos, feature = self.pairs.T.cpu().numpy()
        if wanted.ndim == 1:
            found = np.isin(feature, features)
        else:
            outside = wanted[(wanted[:, 0] < 0) | (wanted[:, 0] >= len(self.str_tokens)), 0]
            if len(outside):
                raise ValueError(f"position {outside[0]} is not one of the prompt's, 0 to {len(self.str_tokens) - 1}")
            found = np.isin(pos * self.sae.cfg.d_sae + feature, wanted[:, 0] * self.sae.cfg.d_sae + features)
        if not found.any():
            raise ValueError(f"none of the set is active on this prompt (after the start token): {wanted.tolist()[:8]}")
        return torch.from_numpy(found).to(self.pairs.device)

    def none(self) -> Sets:
        """The empty set, as one row."""
        return torch.zeros(1, len(self.pairs), dtype=torch.bool, device=self.pairs.device)

    def effects(self, sets: Sets, progress: bool = False) -> Rows:
        """metric(clean) − metric(without the set), for every row."""
        return self._effects(sets, torch.zeros_like(self.outside), progress)

    def effects_of_only(self, sets: Sets, progress: bool = False) -> Rows:
        """metric(clean) − metric(with the set alone), for every row."""
        return self._effects(~sets, self.outside, progress)

    def check(self, n_sets: int) -> None:
        """Raises OutOfMemory for more sets than memory holds, unless insisted on."""
        parts = {"sets": 4 * n_sets * len(self.pairs), "changed positions": n_sets * len(self.clean)}
        need = Need(f"measuring {n_sets:,} sets of {len(self.pairs):,} pairs", parts, "fewer sets, or a shorter prompt, take less")
        need.check(self.pairs.device, self.insist)

    @torch.no_grad()
    @in_words("measuring sets", LESS)
    def _effects(self, removed: Sets, outside: Float[Tensor, "pos d_in"], progress: bool) -> Rows:
        """The effect of taking away the removed pairs, and `outside` in every row. In float64 on the CPU."""
        self.check(len(removed))
        changed = torch.stack([removed[:, mine].any(1) for _, mine in self._by_position()], dim=1)
        changed |= (outside != 0).any(1)
        changed[:, -1] |= ~changed.any(1)  # a set that changes nothing is a row too: the clean one
        effects = torch.full((len(removed),), torch.nan, dtype=torch.float64)
        with tqdm(total=len(removed), desc="measuring sets", unit="set", disable=not progress, delay=BAR_DELAY) as bar:
            for rows in self.replay.batches(changed.int().argmax(1)):
                effects[rows.cpu()] = self._batch(removed[rows], changed[rows], outside).double().cpu()
                bar.update(len(rows))
        return effects

    def _batch(self, removed: Sets, changed: Bool[Tensor, "n_sets pos"], outside: Float[Tensor, "pos d_in"]) -> Rows:
        row, pos = changed.nonzero().T
        x = torch.empty(len(row), self.clean.shape[1], dtype=self.clean.dtype, device=self.clean.device)
        for p, mine in self._by_position():
            here = (pos == p).nonzero()[:, 0]
            if len(here):
                contributions = self.changes[mine, None] * self.sae.W_dec[self.pairs[mine, 1]].to(x.dtype)
                x[here] = self.clean[p] - outside[p] - removed[row[here], mine].to(x.dtype) @ contributions
        first = pos[:1]  # row 0 is the clean prompt, rounded as the others are
        logits = self.replay.logits(
            torch.cat([first, pos]), torch.cat([self.clean[first], x]), self.resolved.columns, torch.cat([row[:1], row + 1])
        )
        metrics = self.resolved.difference(logits)
        return metrics[0] - metrics[1:]

    def _by_position(self) -> Iterator[tuple[int, slice]]:
        """(position, its pairs, which stand together)"""
        ends = torch.searchsorted(self.pairs[:, 0].contiguous(), torch.arange(len(self.clean) + 1, device=self.pairs.device)).tolist()
        return ((p, slice(*ends[p : p + 2])) for p in range(len(self.clean)))


def sets_need(cfg: Any, sae: Dictionary, n_pos: int, n_pairs: int) -> Need:
    """What making sets of a prompt takes: replays of the prompt, some feature activations at once, the pairs."""
    x = 8 * n_pos * sum(sae.W_dec.shape[1:])
    phases = [
        {"passes of the model": replay_bytes(cfg, n_pos, 1) + x, "active pairs": PAIR_BYTES * n_pairs},
        {
            "passes of the model": kept_bytes(cfg, n_pos, 2) + x,
            "feature activations": encoding_bytes(sae, n_pos),
            "active pairs": 2 * PAIR_BYTES * n_pairs,
        },
    ]
    return largest("measuring sets", phases, LESS)


def ablate_set(bench: Any, prompt: str, metric: Metric, members: Members, off: str = "zero") -> float:
    """The effect of a set: the metric that is lost without it. members: rows of a ranking, features, or (pos, feature) pairs."""
    return FeatureSets(bench, prompt, metric, off).ablate(members)


def keep_only(bench: Any, prompt: str, metric: Metric, members: Members, off: str = "zero", keep_error: bool = False) -> float:
    """The metric with a set alone, every other feature switched off. members: rows of a ranking, features, or (pos, feature) pairs."""
    return FeatureSets(bench, prompt, metric, off, keep_error).keep_only(members)


def _as_array(members: Any) -> np.ndarray:
    """Features (n,) or pairs (n, 2)."""
    if isinstance(members, pd.DataFrame):
        found = members[["pos", "feature"] if "pos" in members else "feature"].to_numpy()
    else:
        found = np.asarray(members.cpu() if isinstance(members, Tensor) else members)
    is_whole = not found.size or np.issubdtype(found.dtype, np.integer)
    if not is_whole or not (found.ndim == 1 or (found.ndim == 2 and found.shape[1] == 2)):
        raise ValueError(f"a set is features or (pos, feature) pairs, all whole numbers; got {found.dtype} of shape {found.shape}")
    return found
