"""What a prompt is asked: the logit difference between an answer and a baseline at the last position.

    metric = logit(answer) − logit(baseline)          or, without a baseline,          logit(answer) − mean over the vocabulary

Scaling Monosemanticity, "Features as computational intermediates". A Metric is plain data (strings or token ids); resolved against a
model it becomes a function of the last position's logits, and knows which few of them it needs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.model.tokens import answer_token, to_str_tokens
from workbench.replay.reading import Columns
from workbench.shapes import LastLogits, RowIndex, Rows

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@dataclass(frozen=True)
class Metric:
    """Which difference of logits at the last position is asked for: strings, or token ids. Positive: the answer is ahead."""

    answer: str | SupportsIndex
    baseline: str | SupportsIndex | None = None  # None: the mean logit over the vocabulary

    def resolve(self, model: "TransformerBridge") -> "ResolvedMetric":
        """Token ids for strings. Raises ValueError for an answer that is not one token, or that is its own baseline."""
        answer = answer_token(model, self.answer)
        baseline = None if self.baseline is None else answer_token(model, self.baseline)
        if answer == baseline:
            raise ValueError(f"answer and baseline are the same token, {self.answer!r}: their difference is always 0")
        return ResolvedMetric(answer, baseline)


def resolve(model: "TransformerBridge", metric: Any) -> "ResolvedMetric":
    """The metric as a function of the model's logits. Raises ValueError for what is no metric; the answer by itself is none."""
    if not isinstance(metric, Metric):
        example = metric if isinstance(metric, str) else " Sacramento"
        raise ValueError(f"{metric!r} is no metric: expected one such as wb.logit_diff({example!r}, …)")
    return metric.resolve(model)


def logit_diff(answer: str | SupportsIndex, baseline: str | SupportsIndex | None = None) -> Metric:
    """logit(answer) − logit(baseline) at the last position; without a baseline, minus the mean logit over the vocabulary."""
    return Metric(answer, baseline)


@dataclass(frozen=True)
class ResolvedMetric:
    """A metric with its token ids: called with the last position's logits it gives one number for each row, in logits."""

    answer: int
    baseline: int | None

    @property
    def columns(self) -> Columns:
        """The logits it needs, in the order `difference` reads them."""
        return Columns((self.answer,), has_mean=True) if self.baseline is None else Columns((self.answer, self.baseline))

    def difference(self, logits: Float[Tensor, "batch 2"]) -> Rows:
        """The metric of each row, from the logits of `columns` only."""
        return logits[:, 0] - logits[:, 1]

    def __call__(self, logits: LastLogits) -> Rows:
        """The metric of each row, from all the logits at the last position."""
        return self.difference(self.columns.of(logits))

    def names(self, model: "TransformerBridge") -> tuple[str, str]:
        """Answer and baseline for display: " Sacramento", " Albany" or "mean logit"."""
        answer = to_str_tokens(model, torch.tensor([self.answer]))[0]
        return answer, "mean logit" if self.baseline is None else to_str_tokens(model, torch.tensor([self.baseline]))[0]


@dataclass(frozen=True)
class EachMetric:
    """A metric for each of several prompts, over the logits that any of them needs."""

    each: Sequence[ResolvedMetric]

    @cached_property
    def columns(self) -> Columns:
        """All that is needed, no token twice."""
        tokens = {token: None for metric in self.each for token in (metric.answer, metric.baseline) if token is not None}
        return Columns(tuple(tokens), has_mean=any(metric.baseline is None for metric in self.each))

    def difference(self, logits: Float[Tensor, "batch n_columns"], prompt: RowIndex) -> Rows:
        """The metric of each row, prompt[i]'s own, from the logits of `columns` only."""
        assert self.columns.tokens is not None
        place = {token: i for i, token in enumerate(self.columns.tokens)}
        of_prompts = torch.tensor([(place[m.answer], -1 if m.baseline is None else place[m.baseline]) for m in self.each])
        answer, baseline = of_prompts.to(logits.device)[prompt].T % logits.shape[1]  # the mean is the last column
        return (logits.gather(1, answer[:, None]) - logits.gather(1, baseline[:, None]))[:, 0]

    def __call__(self, logits: LastLogits) -> Rows:
        """The metric of each prompt, from all the logits at its last position."""
        return self.difference(self.columns.of(logits), torch.arange(len(logits), device=logits.device))
