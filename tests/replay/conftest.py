"""Products of the small models here by way of oneDNN too."""

import pytest

from workbench.model import gemm


@pytest.fixture
def onednn_for_every_product(monkeypatch: pytest.MonkeyPatch):
    """The models here are so small that it would never be used."""
    monkeypatch.setattr(gemm, "onednn_is_faster", lambda: True)
    monkeypatch.setattr(gemm, "SMALLEST", 0)
    monkeypatch.setattr(gemm, "FEWEST_ROWS", 1)
