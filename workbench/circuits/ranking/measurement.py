"""One prompt's active pairs: their attributions at once, their effects as they are measured, largest |attribution| first.

    found = Measurement(model, sae, prompt, metric)          found.table(labels): attributions, effects not measured yet
    found.measure()                                          fills the effects in; what watches it can show each batch, and stop it

`rank` is the two in one call; a live view shows the first before the second.
"""

from collections.abc import Callable, Mapping
from threading import Event
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd
import torch
from jaxtyping import Float

from workbench.circuits.metrics import Metric, resolve
from workbench.circuits.ranking.ablation import ablate
from workbench.circuits.ranking.attribution import attribute
from workbench.model.chat import Chat, Speaker, speakers, written
from workbench.model.start import sae_note
from workbench.model.tokens import answer_token, is_start_token, n_unknown, to_str_tokens, to_tokens, unknown_note
from workbench.replay.precision import precision_note
from workbench.sae.dictionary import Dictionary

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


N_NEXT = 5  # of the model's own next tokens that are kept


class Standing(NamedTuple):
    """Where an answer stands among the tokens that the model would say itself."""

    probability: float
    rank: int  # 1: it is what the model says
    next_tokens: dict[str, float]  # the likeliest, with their probabilities


def standing(model: "TransformerBridge", logits: Float[torch.Tensor, "d_vocab"], answer: str | int) -> Standing:
    """Of an answer, in the logits of the last position."""
    probabilities, token = logits.double().softmax(-1), answer_token(model, answer)
    best = probabilities.topk(min(N_NEXT, len(probabilities)))
    likeliest = dict(zip(to_str_tokens(model, best.indices), best.values.tolist(), strict=True))
    return Standing(float(probabilities[token]), int((logits > logits[token]).sum()) + 1, likeliest)


class Measurement:
    """`pairs` (n_pairs, 2) of (pos, feature), largest |attribution| first, and `effects` (n_pairs), in logits, NaN where not yet measured;
    positive supports the answer."""

    def __init__(self, model: "TransformerBridge", sae: Dictionary, prompt: str | Chat, metric: Metric, include_start: bool = False):
        """Raises ValueError for what cannot be ranked: prompt, answer, SAE, nothing active."""
        self.model, self.sae, self.metric = model, sae, metric
        self.speakers = [] if isinstance(prompt, str) else speakers(model, prompt)
        self.prompt = prompt = written(model, prompt)
        self.tokens = to_tokens(model, prompt)
        self.answer, baseline = resolve(model, metric).names(model)
        self.baseline = "" if metric.baseline is None else baseline
        found = attribute(model, sae, self.tokens, metric)
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
        self.notes = tuple(filter(None, (sae_note(model, sae), unknown, precision_note(model))))
        self.standing = standing(model, found.logits, metric.answer)
        self.is_start_included = include_start or not bool(is_start.any())

    def measure(
        self, n: int | None = None, *, progress: bool = True, cancel: Event | None = None, on_batch: Callable[[int], None] | None = None
    ) -> None:
        """The effects of the n largest |attribution|, or of all. on_batch(how many are measured) after every batch; `cancel`, once set,
        stops before the next one: what was not measured stays NaN."""
        pairs, n_measured = self.pairs[:n], 0

        def fill(rows: torch.Tensor, effects: torch.Tensor) -> None:
            nonlocal n_measured
            self.effects[rows.cpu()] = effects.to(self.effects)
            n_measured += len(rows)
            if on_batch is not None:
                on_batch(n_measured)

        seen = None if on_batch is None else fill
        effects = ablate(self.model, self.sae, self.tokens, self.metric, pairs, progress, cancel, seen)
        self.effects[: len(pairs)] = effects.to(self.effects)

    def table(self, labels: Mapping[int, str]) -> pd.DataFrame:
        """One row per pair: feature, pos, token, activation, attribution, effect (NaN where not measured), label; of a conversation
        also the role and turn that the token belongs to (chat.py)."""
        pos, feature = self.pairs.T.cpu().numpy()
        labels = dict(labels)
        at = (self.pairs[:, 0], self.pairs[:, 1])
        return pd.DataFrame(
            {
                "feature": feature,
                "pos": pos,
                "token": [self.str_tokens[p] for p in pos],
                "activation": self.attributions.feature_acts[at].double().cpu().numpy(),
                "attribution": self.attributions.of(self.pairs).double().cpu().numpy(),
                "effect": self.effects.numpy().copy(),
                "label": [labels.get(int(f), "") for f in feature],
                **({name: [getattr(self.speakers[p], name) for p in pos] for name in Speaker._fields} if self.speakers else {}),
            }
        )
