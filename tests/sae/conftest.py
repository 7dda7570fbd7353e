"""Activations of eight numbers, for an SAE that is tested by itself."""

import pytest
import torch


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(5, 8, generator=torch.Generator().manual_seed(1))
