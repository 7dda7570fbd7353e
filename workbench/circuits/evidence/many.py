"""The same clamps on many prompts: what each set of them leaves of the metric, and whether it changes the answer. Exact.

    x' = x + Σ_{c ∈ S} (held_c(act) − act) · W_dec_c        at every position after the start token, or at the last one only

    off       held(act) = 0                  the feature is silent
    at most   held(act) = min(act, level)    not stronger than level: where it is weaker, it stays as it is
    at least  held(act) = max(act, level)    not weaker

Every prompt is a Replay, every set a row of it, as in sets.py. Activations are those of the prompt as it is, so clamps add up and do not
see each other, as in `editing`.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from workbench.circuits.acts import read_beside
from workbench.circuits.metrics import Metric, resolve
from workbench.model.tokens import is_start_token, to_tokens
from workbench.replay.reading import Columns
from workbench.replay.replay import Replay
from workbench.sae.parts import in_parts

OFF, AT_MOST, AT_LEAST = "off", "at most", "at least"


class Clamp(NamedTuple):
    """What a feature is held at."""

    feature: int
    held: str  # OFF, AT_MOST or AT_LEAST
    level: float = 0.0

    def of(self, acts: Tensor) -> Tensor:
        """Activations as they are held."""
        return (
            torch.zeros_like(acts) if self.held == OFF else getattr(acts, "clamp_max" if self.held == AT_MOST else "clamp_min")(self.level)
        )


ALL = Columns(None)
Sets = Bool[Tensor, "n_sets n_clamps"]


class Prompt:
    """One prompt, ready to be measured under sets of clamps. metric: its clean value where one is asked for. acts (pos, d_sae): after the
    start token, sparse."""

    @torch.no_grad()
    def __init__(self, bench: Any, text: str, metric: Metric | None, at_last: bool):
        self.sae, self.text = bench.sae, text
        self.resolved = None if metric is None else resolve(bench.model, metric)
        tokens = to_tokens(bench.model, text)
        self.replay = Replay(bench.model, self.sae.writes, tokens)
        is_read = ~is_start_token(bench.model, tokens)[0]
        if at_last:
            is_read[:-1] = False
        self.positions = is_read.nonzero()[:, 0]
        x = read_beside(self.replay, self.sae)[self.positions]
        self.acts = torch.cat(in_parts(self.sae, x, lambda first, acts: acts))
        self.answer = int(self.replay.clean_logits[0].argmax())
        self.metric = float("nan") if self.resolved is None else float(self.resolved(self.replay.clean_logits)[0])

    def metrics(self, clamps: Sequence[Clamp], sets: Sets) -> np.ndarray:
        """(n_sets) the metric under every set of the clamps."""
        assert self.resolved is not None, "this prompt was read without a metric"
        found = np.full(len(sets), self.metric)
        for rows, logits in self._under(clamps, sets, self.resolved.columns):
            found[rows] = self.resolved.difference(logits).double().cpu().numpy()
        return found

    def answers(self, clamps: Sequence[Clamp], sets: Sets) -> np.ndarray:
        """(n_sets) the likeliest next token under every set."""
        found = np.full(len(sets), self.answer)
        for rows, logits in self._under(clamps, sets, ALL):
            found[rows] = logits.argmax(1).cpu().numpy()
        return found

    @torch.no_grad()
    def _under(self, clamps: Sequence[Clamp], sets: Sets, columns: Columns) -> Iterator[tuple[list[int], Tensor]]:
        """(some of the sets, their logits), of those that change anything here."""
        features = [clamp.feature for clamp in clamps]
        acts = self.acts[:, features]
        changes = torch.stack([clamp.of(acts[:, i]) - acts[:, i] for i, clamp in enumerate(clamps)], dim=1)  # (pos, n_clamps)
        is_changed = (sets.to(changes) @ (changes != 0).to(changes).T) > 0  # (n_sets, pos)
        touched = is_changed.any(1).nonzero()[:, 0]
        clean = self.sae.beside(self.replay.clean)
        directions = self.sae.W_dec[features].to(clean)
        for batch in self.replay.batches(is_changed[touched].int().argmax(1)):
            some = touched[batch]
            row, at = is_changed[some].nonzero().T
            pos = self.positions[at]
            x = clean[pos] + (sets.to(changes)[some][row] * changes[at]).to(clean) @ directions
            yield some.tolist(), self.replay.logits(pos, x, columns, row)
