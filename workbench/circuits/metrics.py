"""What a prompt is asked: the logit difference between an answer and a baseline at the last position.

    metric = logit(answer) − logit(baseline)          or, without a baseline,          logit(answer) − mean over the vocabulary

Scaling Monosemanticity, "Features as computational intermediates". A Metric is plain data (strings or token ids); resolved against a
model it becomes a function of the last position's logits, and knows which few of them it needs.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.model.tokens import answer_token, to_str_tokens
from workbench.replay.reading import Columns
from workbench.shapes import LastLogits, Rows

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@dataclass(frozen=True)
class Metric:
    """Which difference of logits at the last position is asked for: strings, or token ids. Positive: the answer is ahead."""

    answer: str | int
    baseline: str | int | None = None  # None: the mean logit over the vocabulary

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


def logit_diff(answer: str | int, baseline: str | int | None = None) -> Metric:
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
