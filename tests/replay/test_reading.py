"""Logits of the needed columns: a row's do not hang on which row it is."""

import pytest
import torch

from workbench.model.hooks import last_logits
from workbench.replay.reading import Columns, Reading


@pytest.mark.parametrize("columns", [Columns((5, 7)), Columns((5,), has_mean=True), Columns((5, 7, 9))], ids=["two", "mean", "three"])
def test_rows_that_are_the_same_have_the_same_logits_to_the_bit(model, tokens, columns: Columns):
    reading = Reading(model, tokens, last_logits(model, tokens))
    for row in torch.randn(200, model.cfg.d_model, generator=torch.Generator().manual_seed(0)):
        logits = reading(row.expand(3, -1).contiguous(), columns)
        assert torch.equal(logits, logits[:1].expand(3, -1))
    expected = columns.of(reading.logits(row[None]))
    torch.testing.assert_close(logits[:1], expected, rtol=1e-5, atol=1e-5)
