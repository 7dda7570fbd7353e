"""The logit difference, by hand; and that what is not a question is refused before any compute."""

import pytest
import torch

from workbench.circuits.metrics import ResolvedMetric, logit_diff

LOGITS = torch.tensor([[1.0, 4.0, -2.0, 5.0], [0.0, 1.0, 3.0, 0.0]])


def test_difference_to_another_token():
    assert ResolvedMetric(1, 2)(LOGITS).tolist() == [6.0, -2.0]


def test_difference_to_the_mean_logit():
    assert ResolvedMetric(3, None)(LOGITS).tolist() == [3.0, -1.0]


@pytest.mark.parametrize("baseline", [2, None])
def test_the_needed_columns_give_the_same_metric(baseline):
    metric = ResolvedMetric(1, baseline)
    torch.testing.assert_close(metric.difference(metric.columns.of(LOGITS)), metric(LOGITS))


def test_half_precision_logits_are_subtracted_in_float32():
    metric = ResolvedMetric(0, 1)
    logits = torch.tensor([[512.0, 3.0]], dtype=torch.bfloat16)  # bfloat16 has no 509
    assert metric.difference(metric.columns.of(logits)).item() == 509.0
    assert metric(logits).item() == 509.0


def test_strings_resolve_to_tokens_and_are_named_for_display(model):
    resolved = logit_diff(" cat", " dog").resolve(model)
    assert resolved.names(model) == (" cat", " dog")
    assert logit_diff(" cat").resolve(model).names(model) == (" cat", "mean logit")


def test_an_answer_that_is_its_own_baseline_is_refused(model):
    with pytest.raises(ValueError, match="same token"):
        logit_diff(" cat", " cat").resolve(model)


def test_a_baseline_is_checked_like_an_answer(model):
    with pytest.raises(ValueError, match="Did you mean ' dog'"):
        logit_diff(" cat", "dog").resolve(model)
