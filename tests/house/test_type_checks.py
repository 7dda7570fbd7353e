"""Under pytest a wrong type, a wrong number of axes and axes that do not agree are errors."""

import pytest
import torch
from beartype.roar import BeartypeCallHintParamViolation
from made_sae import random_sae

from workbench.model.points import place
from workbench.replay.tail import Perturbed


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: random_sae().encode(torch.zeros(3, 8, dtype=torch.long)), "dtype int64"),
        (lambda: Perturbed(torch.zeros(3, dtype=torch.long), torch.zeros(4, dtype=torch.long), torch.zeros(3, 8), 3), "n_rows is 4"),
        (lambda: place(3), "violates type hint"),
    ],
    ids=["a type of numbers", "two axes of one name", "no array at all"],
)
def test_what_does_not_fit_a_signature_is_an_error(call, says: str):
    with pytest.raises(BeartypeCallHintParamViolation, match=says):
        call()


def test_what_fits_is_none():
    assert random_sae().encode(torch.zeros(3, 8)).shape == (3, 32)
