"""GELU by a tanh beside torch's own, in float64, and that what follows derivatives or is of another kind goes to torch's."""

import math
from copy import copy
from typing import Any

import pytest
import torch
from made_models import CONFIGS
from torch.autograd import forward_ad
from torch.nn.functional import gelu
from transformers import AutoModelForCausalLM

from workbench.gelu import PIECE, TanhGELU, tanh_gelu
from workbench.model.model import load_model

OURS = TanhGELU()


def gpt2(activation_function: str) -> Any:
    config = copy(CONFIGS["gpt2"])
    config.activation_function = activation_function
    return AutoModelForCausalLM.from_config(config).eval()


def x(*shape: int, scale: float = 3.0) -> torch.Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 1e4])
def test_it_is_as_near_to_float64_as_torchs(scale: float):
    """And nearer where it is small: of a tanh near −1 torch takes 1, in float64, too."""
    numbers = x(PIECE + 1000, scale=scale)
    wide = numbers.double()
    exact = wide * torch.sigmoid(2 * math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3))
    ours, theirs = ((each.double() - exact).abs() for each in (OURS(numbers), gelu(numbers, approximate="tanh")))
    assert ours.max() < 1.5 * theirs.max() + 1e-9 * scale
    assert (ours <= 1e-4 * exact.abs() + 1e-35).all()


def test_far_out_it_is_the_number_or_nothing_and_nan_stays_nan():
    numbers = torch.tensor([2.0**60, 40.0, -40.0, -(2.0**60), float("inf"), float("nan")])
    assert OURS(numbers)[:5].tolist() == [2.0**60, 40.0, 0.0, 0.0, float("inf")]
    assert OURS(numbers)[5].isnan()


def test_a_number_has_the_same_bits_wherever_it_stands():
    numbers = x(2 * PIECE + 17)
    whole = OURS(numbers)
    for first, n in [(0, 1), (1, 7), (3, 17), (PIECE - 5, 33), (PIECE + 1, 257), (11, PIECE + 3)]:
        assert torch.equal(OURS(numbers[first : first + n].clone()), whole[first : first + n])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_16_bits_it_is_rounded_once_at_the_end(dtype: torch.dtype):
    numbers = x(PIECE + 1000).to(dtype)
    assert torch.equal(OURS(numbers), OURS(numbers.float()).to(dtype))


def test_threads_change_no_bit():
    numbers, before = x(5 * PIECE + 17), torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        several = OURS(numbers)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(several, OURS(numbers))


def test_what_torch_makes_by_default_changes_nothing():
    before, numbers = torch.get_default_dtype(), x(100).bfloat16()
    expected = OURS(numbers)
    try:
        torch.set_default_dtype(torch.float64)
        assert torch.equal(OURS(numbers), expected)
    finally:
        torch.set_default_dtype(before)


def test_what_it_reads_stays_as_it_was():
    numbers = x(4, 100)
    before = numbers.clone()
    assert OURS(numbers).data_ptr() != numbers.data_ptr() and torch.equal(numbers, before)


def test_derivatives_of_every_kind_are_torchs():
    numbers, along = x(4, 100), x(4, 100, scale=1.0)
    leaf, other = numbers.clone().requires_grad_(), numbers.clone().requires_grad_()
    (OURS(leaf) * along).sum().backward()
    (gelu(other, approximate="tanh") * along).sum().backward()
    assert leaf.grad is not None and other.grad is not None and torch.equal(leaf.grad, other.grad)
    with forward_ad.dual_level():
        ours, theirs = (
            forward_ad.unpack_dual(function(forward_ad.make_dual(numbers, along))).tangent
            for function in (OURS, lambda dual: gelu(dual, approximate="tanh"))
        )
    assert ours is not None and theirs is not None and torch.equal(ours, theirs)
    assert torch.allclose(torch.func.vmap(OURS)(numbers), OURS(numbers), atol=1e-6)
    assert torch.allclose(torch.func.jvp(OURS, (numbers,), (along,))[1], ours)


@pytest.mark.parametrize("other", [x(4, 100).double(), x(100, 4).T, torch.empty(0)], ids=["fp64", "turned", "none"])
def test_other_kinds_of_numbers_are_torchs(other: torch.Tensor):
    assert torch.equal(OURS(other), gelu(other, approximate="tanh"))


@pytest.mark.parametrize("written", ["gelu_new", "gelu_fast", "gelu_accurate", "gelu_pytorch_tanh"])
def test_a_model_that_is_loaded_has_it_however_its_config_writes_it(written: str, tokenizer: Any):
    hf_model = gpt2(written)
    numbers = x(3, 50)
    theirs = hf_model.transformer.h[0].mlp.act(numbers)
    load_model(hf_model, tokenizer=tokenizer)
    ours = hf_model.transformer.h[0].mlp.act
    assert type(ours) is TanhGELU and torch.allclose(ours(numbers), theirs, atol=1e-6)


def test_a_gelu_by_erf_stays_what_it_is(tokenizer: Any):
    model = load_model(gpt2("gelu"), tokenizer=tokenizer)
    assert not any(isinstance(module, TanhGELU) for module in model.modules())
    assert tanh_gelu(torch.tensor([1.0])) != gelu(torch.tensor([1.0]))  # another function
