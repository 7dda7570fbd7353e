"""An SAE, and activations to read with it."""

import pytest
import torch
from made_sae import random_sae

from workbench.sae.sae import SAE


@pytest.fixture
def sae() -> SAE:
    return random_sae()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(5, 8, generator=torch.Generator().manual_seed(1))
