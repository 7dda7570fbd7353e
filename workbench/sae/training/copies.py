"""Copies: features that write one direction and are active on the same tokens. Counted after every training; merged where asked for.

    TrainConfig(4096, merge_copies=True)        during training, the features that this frees start anew
    merged = merge_copies(sae, x)               of a dictionary that is trained: merged.sae, and what the merging moved

Why there are any: λ Σ_i f_i ‖d_i‖ asks as much of one direction in n parts as of one in whole, and x_hat is the same, so under ReLU + L1
nothing drives the parts apart. At the start most features are active on whatever most texts share (the mean, an opening such as "Fact:
The"); the error there pulls all their decoder rows to one direction, and the price shrinks the rest of each row away. Their encoder
weights keep what they started with: no token asks for it. TopK, BatchTopK and JumpReLU count features, so a copy costs them something.

Merged: one feature whose pre-activation is the sum of the parts', each times its decoder row's norm, with the parts' direction,
weighted by how strong they are. Where all parts are active, or none, x_hat stays (but for the angle between them); where some are, less
comes out, since ReLU(Σ) ≤ Σ ReLU. `merge_copies` measures how much. What is freed reads nothing, so it is dead, and writes in a random
direction, so it is nobody's neighbor.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from workbench.model.gemm import machine_rate
from workbench.sae.dictionary import Dictionary
from workbench.sae.training.recipe import random_rows
from workbench.shapes import Activations

SAME = 0.99  # cosine of two decoder rows from which they are one direction
TOGETHER = 0.7  # of the tokens on which either is active: trials in docs/log.md
SEED = 1  # of the directions that freed features are left with
LEAST = 4  # tokens on which both are active: on fewer, chance would do
N_ENTRIES = 2**24  # of feature activations at once
TILE = (256, 2048)  # of cosines at once: 2 MB
Kind = TypeVar("Kind", bound=Dictionary)


@dataclass(frozen=True)
class Copies:
    """Which features are copies of which others, as far as a sample of tokens shows."""

    leader: Tensor  # (d_sae) the feature that each is a copy of; itself, where it is none
    strength: Tensor  # (d_sae) Σ over the tokens of activation · ‖decoder row‖
    n_active: int  # features that are active on any of them

    @property
    def is_copy(self) -> Tensor:
        """(d_sae) bool; of each group one feature is none, the strongest."""
        return self.leader != torch.arange(len(self.leader), device=self.leader.device)

    def __len__(self) -> int:
        return int(self.is_copy.sum())

    def __str__(self) -> str:
        of = len(self.leader[self.is_copy].unique())
        return f"{len(self):,} of {self.n_active:,} features that are active on a sample are copies of {of:,} others"


def copies_note(metadata: Mapping[str, Any]) -> str:
    """What a training that is done says of copies; "" where it found none."""
    if not (n := metadata.get("copies")):
        return ""
    mend = "merge_copies=True" if metadata["training"]["architecture"] == "standard" else "a smaller k or a larger λ"
    return f"{n:,} features are copies: they write what another writes, where it does; {mend} spends them on something else"


@torch.no_grad()
def find_copies(dictionary: Dictionary, x: Activations, together: float = TOGETHER) -> Copies:
    """Copies among the features that are active on x (…, d_in): the strongest first, each takes those that write its direction (cosine ≥
    0.99) where it is active itself. together: on which share, at least, of the tokens on which either is, both are; and on four tokens."""
    x = x.reshape(-1, x.shape[-1])
    rows = normalize(dictionary.W_dec.float(), dim=1)
    with machine_rate():
        alike = _alike(rows)
    found = [_read(dictionary, part, alike) for part in x.split(max(1, N_ENTRIES // len(rows)))]
    active = torch.cat([on for on, _, _ in found], 1)  # (n_alike, n_tokens) bool
    strength = torch.stack([sums for _, sums, _ in found]).sum(0) * dictionary.W_dec.norm(dim=1)
    n_active = int(torch.stack([fired for _, _, fired in found]).any(0).sum())
    leader, n_on = torch.arange(len(rows), device=rows.device), active.sum(1)
    is_taken, directions = n_on < LEAST, rows[alike]
    for i in strength[alike].argsort(descending=True, stable=True).tolist():
        if is_taken[i]:
            continue
        is_taken[i] = True
        near = torch.where((directions @ directions[i] >= SAME) & ~is_taken)[0]
        both = (active[near] & active[i]).sum(1)
        near = near[(both >= together * (n_on[i] + n_on[near] - both)) & (both >= LEAST)]
        is_taken[near], leader[alike[near]] = True, alike[i]
    return Copies(leader, strength, n_active)


def _alike(rows: Tensor) -> Tensor:
    """The rows, of norm 1, that have another one near. Each pair once, in tiles that stay in a processor's cache."""
    has_near = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
    for first in range(0, len(rows), TILE[0]):
        here = slice(first, first + TILE[0])
        for start in range(first, len(rows), TILE[1]):
            there = slice(start, start + TILE[1])
            cosines = rows[here] @ rows[there].T
            if start == first:
                cosines.diagonal().zero_()  # with itself
            has_near[here] |= cosines.amax(1) >= SAME
            has_near[there] |= cosines.amax(0) >= SAME
    return has_near.nonzero()[:, 0]


def _read(dictionary: Dictionary, x: Tensor, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where these features are active; of all features the sums, and whether they are active at all."""
    feature_acts = dictionary.encode(x.to(dictionary.W_enc.dtype))
    return feature_acts.T[features] > 0, feature_acts.sum(0), (feature_acts > 0).any(0)


@torch.no_grad()
def merge(dictionary: Dictionary, copies: Copies) -> None:
    """In place: every group becomes its strongest feature; the others read nothing any more."""
    leader, is_copy, norms = copies.leader, copies.is_copy, dictionary.W_dec.norm(dim=1)
    groups = leader[is_copy].unique()
    member = torch.isin(leader, groups).nonzero()[:, 0]
    place = torch.searchsorted(groups, leader[member])

    def summed(rows: Tensor, weights: Tensor) -> Tensor:
        weighted = rows[member] * weights[member].view(-1, *[1] * (rows.ndim - 1))
        return rows.new_zeros(len(groups), *rows.shape[1:]).index_add_(0, place, weighted)

    directions = normalize(summed(normalize(dictionary.W_dec, dim=1), copies.strength), dim=1)
    encoder, biases = summed(dictionary.W_enc.T, norms), summed(dictionary.b_enc, norms)
    dictionary.W_dec[groups] = directions * norms[groups, None]
    dictionary.W_enc.T[groups], dictionary.b_enc[groups] = encoder / norms[groups, None], biases / norms[groups]
    dictionary.W_enc.T[is_copy], dictionary.b_enc[is_copy] = 0.0, 0.0
    dictionary.W_dec[is_copy] = random_rows(dictionary.W_dec, SEED)[is_copy] * norms[is_copy, None]


@dataclass(frozen=True)
class Merged(Generic[Kind]):
    """A dictionary without copies, and what it costs on the tokens that they were found by."""

    sae: Kind
    copies: Copies
    fvu: tuple[float, float]  # before, after
    l0: tuple[float, float]  # before, after
    moved: float  # Σ‖x_hat after − x_hat before‖² as a share of Σ‖x_hat − mean‖²

    def __str__(self) -> str:
        (fvu, fvu_after), (l0, l0_after) = self.fvu, self.l0
        changed = f"fvu {fvu:.4f} → {fvu_after:.4f}, l0 {l0:.1f} → {l0_after:.1f}, x_hat moved by {self.moved:.2%} of its variance"
        return f"{self.copies}; merged: {changed}"

    __repr__ = __str__


@torch.no_grad()
def merge_copies(sae: Kind, x: Activations, y: Activations | None = None, *, together: float = TOGETHER) -> Merged[Kind]:
    """The same dictionary with copies merged: other features keep numbers and weights, copies are dead.

    x: raw activations (…, d_in) at the hook point that it reads, some ten thousand tokens: copies that are hardly active on them stay.
    y: those at the hook point that a transcoder writes. together: as for `find_copies`; the smaller, the more is merged and moved. Raises
    ValueError for architectures other than standard: these select, so that a sum would be selected otherwise.
    """
    if (y is None) != (sae.reads == sae.writes):
        of_two = f"y, the same tokens' activations at {sae.writes}, is needed: fvu is of what a transcoder predicts"
        raise ValueError(of_two if y is None else "y is a transcoder's: leave it out")
    if not isinstance(x, Tensor):
        raise ValueError(f"x={x!r:.60}: expected a tensor of activations at {sae.reads}, as a batch of an ActivationStream is")
    if sae.cfg.architecture != "standard":
        raise ValueError(
            f"merge_copies is for ReLU + L1; this one is {sae.cfg.architecture}, which selects: a sum would be selected otherwise"
        )
    if x.shape[-1] != sae.cfg.d_in:
        raise ValueError(f"x is {tuple(x.shape)}; expected (…, {sae.cfg.d_in}), activations at {sae.reads}")
    copies = find_copies(sae, x, together)
    merged = deepcopy(sae)
    merge(merged, copies)
    merged.cfg = replace(sae.cfg, metadata={**sae.cfg.metadata, "merged": len(copies)})
    rows = x.reshape(-1, sae.cfg.d_in)
    target = rows if y is None else y.reshape(len(rows), -1)
    (before, n_before), (after, n_after) = _outputs(sae, rows), _outputs(merged, rows)
    fvu = [float((target - each).square().sum() / (target - target.mean(0)).square().sum()) for each in (before, after)]
    moved = float((after - before).square().sum() / (before - before.mean(0)).square().sum())
    return Merged(merged, copies, (fvu[0], fvu[1]), (n_before, n_after), moved)


def _outputs(sae: Dictionary, rows: Tensor) -> tuple[Tensor, float]:
    """x_hat, and l0."""
    outputs, n_active = [], 0
    for part in rows.split(max(1, N_ENTRIES // sae.cfg.d_sae)):
        part = part.to(sae.W_dec.dtype)
        feature_acts = sae.encode(part)
        outputs.append(sae.decode(feature_acts, part).float())
        n_active += int((feature_acts > 0).sum())
    return torch.cat(outputs), n_active / len(rows)
