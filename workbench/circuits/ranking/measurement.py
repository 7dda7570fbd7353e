"""One prompt's active pairs: their attributions at once, their effects as they are measured, largest |attribution| first.

    found = Measurement(model, sae, prompt, metric)          found.table(labels): attributions, effects not measured yet
    found.measure()                                          fills the effects in; what watches it can show each batch, and stop it

`rank` is the two in one call; a live view shows the first before the second.
"""

from collections.abc import Callable, Mapping
from functools import cached_property
from threading import Event
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsIndex

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from tqdm.auto import tqdm

from workbench.circuits.metrics import Metric, resolve
from workbench.circuits.ranking.ablation import Ablations
from workbench.circuits.ranking.attribution import Attribution, attribute
from workbench.circuits.ranking.until import Estimates, misses, rounds
from workbench.model.chat import Chat, Speaker, speakers, written
from workbench.model.hooks import check_dictionary
from workbench.model.memory import Need, in_words, kept_bytes, largest, pass_bytes
from workbench.model.model import BAR_DELAY
from workbench.model.start import reading_notes
from workbench.model.tokens import answer_token, is_start_token, n_unknown, to_str_tokens, to_tokens, unknown_note
from workbench.replay.precision import precision_note
from workbench.replay.replay import replay_bytes
from workbench.sae.dictionary import Dictionary
from workbench.sae.parts import encoding_bytes, pairs_of

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


LESS = "a shorter prompt takes less"
READ_BYTES = 64  # of one pair: (pos, feature), activation, attribution, and copies of these
TABLE_BYTES = 320  # of its row of the table, with ranks
N_NEXT = 5  # of the model's own next tokens that are kept


class Standing(NamedTuple):
    """Where an answer stands among the tokens that the model would say itself."""

    probability: float
    rank: int  # 1: it is what the model says
    next_tokens: dict[str, float]  # the likeliest, with their probabilities


def standing(model: "TransformerBridge", logits: Float[torch.Tensor, "d_vocab"], answer: str | SupportsIndex) -> Standing:
    """Of an answer, in the logits of the last position."""
    probabilities, token = logits.double().softmax(-1), answer_token(model, answer)
    best = probabilities.topk(min(N_NEXT, len(probabilities)))
    likeliest = dict(zip(to_str_tokens(model, best.indices), best.values.tolist(), strict=True))
    return Standing(float(probabilities[token]), int((logits > logits[token]).sum()) + 1, likeliest)


def ranking_need(cfg: Any, sae: Dictionary, n_pos: int, n_pairs: int, n_measured: int | None = None) -> Need:
    """What ranking a prompt takes: one pass and its gradient, the encoder a part of the positions at a time, replays, the table."""
    passes, kept, x = "passes of the model", kept_bytes(cfg, n_pos), 4 * n_pos * (sum(sae.W_dec.shape[1:]) * 2 + cfg.d_model)
    phases: list[dict[str, int]] = [
        {passes: pass_bytes(cfg, n_pos, is_graded=True)},
        {passes: kept + x, "feature activations": encoding_bytes(sae, n_pos), "active pairs": READ_BYTES * n_pairs},
        {passes: replay_bytes(cfg, n_pos, n_pairs if n_measured is None else n_measured) + x, "active pairs": READ_BYTES * n_pairs},
        {passes: 2 * kept + x, "active pairs": TABLE_BYTES * n_pairs},
    ]
    return largest("ranking", phases, LESS)


class Measurement:
    """`pairs` (n_pairs, 2) of (pos, feature), largest |attribution| first, and `effects` (n_pairs), in logits, NaN where not yet measured;
    positive supports the answer."""

    @in_words("ranking", LESS)
    def __init__(  # noqa: PLR0913 what `rank` is asked
        self,
        model: "TransformerBridge",
        sae: Dictionary,
        prompt: str | Chat,
        metric: Metric,
        include_start: bool = False,
        *,
        n_measured: int | None = None,
        insist: bool = False,
        say: bool = False,
        attributions: Attribution | None = None,
    ):
        """Raises ValueError for what cannot be ranked: prompt, answer, SAE, nothing active, more than memory holds unless insisted on.
        say: print what it needs, where that is much. attributions: where they are known."""
        self.model, self.sae, self.metric = model, sae, metric
        self.speakers = [] if isinstance(prompt, str) else speakers(model, prompt)
        self.prompt = prompt = written(model, prompt)
        self.tokens = to_tokens(model, prompt)
        self.answer, baseline = resolve(model, metric).names(model)
        self.baseline = "" if metric.baseline is None else baseline
        check_dictionary(model, sae)
        device, n_pos = self.tokens.device, self.tokens.shape[1]
        ranking_need(model.cfg, sae, n_pos, pairs_of(sae, n_pos) or 0, n_measured).check(device, insist, say)

        def check(n_active: int, n_read: int) -> None:
            """Of how many pairs an L1 or JumpReLU SAE will have, its first part tells."""
            if sae.cfg.k is None:
                ranking_need(model.cfg, sae, n_pos, n_active * n_pos // n_read, n_measured).check(device, insist)

        found = attributions or attribute(model, sae, self.tokens, metric, check)
        is_start = is_start_token(model, self.tokens)[0]
        pairs = found.pairs if include_start else found.pairs[~is_start[found.pairs[:, 0]]]
        if not len(pairs):
            where = "" if include_start or not is_start.any() else " after the start token"
            raise ValueError(f"no feature of this SAE is active{where} on {prompt!r}: is it one for {sae.reads} of this model?")
        self.pairs = pairs[found.of(pairs).abs().argsort(descending=True, stable=True)]
        self.attributions = found
        self.effects = torch.full((len(pairs),), torch.nan, dtype=torch.float64)
        self.str_tokens = to_str_tokens(model, self.tokens)
        own = [self.tokens[0][~is_start].tolist()]
        unknown = unknown_note(n_unknown(model, [prompt], own), len(own[0]), "the prompt")
        self.notes = (*reading_notes(model, sae), *filter(None, (unknown, precision_note(model))))
        self.standing = standing(model, found.logits, metric.answer)
        self.is_start_included = include_start or not bool(is_start.any())

    @in_words("ranking", LESS)
    def measure(
        self,
        n: int | None = None,
        *,
        precision: str = "exact",
        progress: bool = True,
        cancel: Event | None = None,
        on_batch: Callable[[int], None] | None = None,
    ) -> None:
        """The effects of the n largest |attribution|, or of all. on_batch(how many are measured) after every batch; `cancel`, once set,
        stops before the next one: what was not measured stays NaN. Of another precision than "exact" a note says the error."""
        pairs, n_measured = self.pairs[:n], 0

        def fill(rows: torch.Tensor, effects: torch.Tensor) -> None:
            nonlocal n_measured
            self.effects[rows.cpu()] = effects.to(self.effects)
            n_measured += len(rows)
            if on_batch is not None:
                on_batch(n_measured)

        seen = None if on_batch is None else fill
        ablations = Ablations(self.model, self.sae, self.tokens, self.metric, precision)
        self.effects[: len(pairs)] = ablations.of(pairs, progress, cancel, seen).to(self.effects)
        self.notes += (ablations.note,) if ablations.note else ()

    @in_words("ranking", LESS)
    def measure_until(self, n: int, confidence: float, *, progress: bool = True) -> None:
        """Effects until the n largest (signed: most in favor of the answer) are certain to a confidence (until.py); a note says how many
        that took. Stopped by Ctrl-C, what was measured by then stays."""
        ablations = Ablations(self.model, self.sae, self.tokens, self.metric)
        estimates, effects, n = self.estimates, self.effects.numpy(), min(n, len(self.pairs))  # effects: in the same memory
        goal = f"ablating until the top {n} are certain"
        with tqdm(total=len(self.pairs), desc=goal, unit="pair", disable=not progress, delay=BAR_DELAY) as bar:
            for rows in rounds(estimates, effects, n, confidence):
                effects[rows] = ablations.of(self.pairs[rows], progress=False).double().cpu().numpy()
                bar.update(len(rows))
        n_measured = int((~np.isnan(effects)).sum())
        others = f"{misses(estimates, effects, n).sum():.1g} of the others expected, {1 - confidence:.1g} allowed"
        self.notes += (f"the {n} largest effects are among the {n_measured:,} of {len(self.pairs):,} pairs measured ({others})",)

    @cached_property
    def estimates(self) -> Estimates:
        """What is known of each pair's effect before anything is ablated."""
        (pos, feature), found = self.pairs.T, self.attributions
        removed = found.acts_of(self.pairs).double() * self.sae.W_dec[feature].double().norm(dim=1)
        norms = found.gradient.double().norm(dim=1)[pos], removed, found.norm[pos]
        return Estimates.of(found.of(self.pairs).double().cpu().numpy(), *(each.cpu().numpy() for each in norms))

    def table(self, labels: Mapping[int, str]) -> pd.DataFrame:
        """One row per pair: feature, pos, token, activation, attribution, effect (NaN where not measured), label; of a conversation
        also the role and turn that the token belongs to (chat.py)."""
        pos, feature = self.pairs.T.cpu().numpy()
        labels = dict(labels)
        return pd.DataFrame(
            {
                "feature": feature,
                "pos": pos,
                "token": [self.str_tokens[p] for p in pos],
                "activation": self.attributions.acts_of(self.pairs).double().cpu().numpy(),
                "attribution": self.attributions.of(self.pairs).double().cpu().numpy(),
                "effect": self.effects.numpy().copy(),
                "label": [labels.get(int(f), "") for f in feature],
                **({name: [getattr(self.speakers[p], name) for p in pos] for name in Speaker._fields} if self.speakers else {}),
            }
        )
