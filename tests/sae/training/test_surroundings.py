"""Training gives the same bits whatever the cell around it has switched off or set."""

from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager

import pytest
import torch
from made_models import TEXT
from made_stream import D_SAE, Planted

from workbench.activations.stream import ActivationStream
from workbench.sae.training.recipe import TrainConfig
from workbench.sae.training.train import train

CFG = TrainConfig(D_SAE, n_steps=12)


@contextmanager
def of_default_dtype():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


SURROUNDINGS = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "set_grad_enabled(False)": lambda: torch.set_grad_enabled(False),
    "default dtype": of_default_dtype,
}


@pytest.mark.parametrize("around", SURROUNDINGS.values(), ids=SURROUNDINGS)
def test_an_sae_is_the_same_to_the_bit_wherever_it_is_trained(around: Callable[[], AbstractContextManager]):
    expected = train(Planted(), CFG, progress=False)
    stream = Planted()
    with around():
        found = train(stream, CFG, progress=False)
    assert torch.equal(found.W_dec, expected.W_dec) and found.W_dec.dtype == torch.float32


@pytest.mark.parametrize("around", SURROUNDINGS.values(), ids=SURROUNDINGS)
def test_a_stream_opened_there_fills_its_buffer_again_and_again(model, around: Callable[[], AbstractContextManager]):
    def trained() -> torch.Tensor:
        stream = ActivationStream(model, [TEXT] * 40, "blocks.1.hook_resid_pre", batch=16, buffer=64)
        return train(stream, TrainConfig(8, n_steps=20), progress=False).W_dec

    expected = trained()
    with around():
        assert torch.equal(trained(), expected)
