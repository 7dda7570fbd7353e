"""Products at the machine's rate are the same products, gradients included."""

import pytest
import torch
import torch.nn.functional as F

from workbench.model import gemm
from workbench.model.gemm import machine_rate

torch.manual_seed(0)
X, WEIGHT, BIAS = torch.randn(3, 20, 256), torch.randn(384, 256), torch.randn(384)
WAYS = {
    "linear": lambda x: F.linear(x, WEIGHT, BIAS),
    "linear without bias": lambda x: F.linear(x, WEIGHT),
    "linear by keyword": lambda x: F.linear(input=x, weight=WEIGHT, bias=BIAS),
    "Conv1D's addmm": lambda x: torch.addmm(BIAS, x.view(-1, 256), WEIGHT.T.contiguous()),
    "matmul": lambda x: x @ WEIGHT.T,
}


@pytest.fixture
def n_products(monkeypatch) -> list[int]:
    """How many products went to oneDNN."""
    count, product = [0], gemm._product

    def counted(*operands):
        count[0] += 1
        return product(*operands)

    monkeypatch.setattr(gemm, "_product", counted)
    monkeypatch.setattr(gemm, "onednn_is_faster", lambda: True)
    return count


@pytest.mark.parametrize("way", WAYS)
def test_products_are_the_same(way, n_products):
    expected = WAYS[way](X)
    with machine_rate():
        found = WAYS[way](X)
    assert n_products == [1]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.skipif(not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this CPU multiplies no bf16")
def test_products_in_16_bits_are_the_same(n_products):
    x, weight, bias = X.bfloat16(), WEIGHT.bfloat16(), BIAS.bfloat16()
    with machine_rate():
        found = torch.addmm(bias, x.view(-1, 256), weight.T.contiguous()).view(3, 20, -1)
    assert n_products == [1] and found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), F.linear(x.float(), weight.float(), bias.float()), rtol=2**-7, atol=0.05)


@pytest.mark.parametrize("way", WAYS)
def test_gradients_are_the_same(way, n_products):
    x, y = X.clone().requires_grad_(), X.clone().requires_grad_()
    (expected,) = torch.autograd.grad(WAYS[way](x).square().sum(), x)
    with machine_rate():
        (found,) = torch.autograd.grad(WAYS[way](y).square().sum(), y)
    assert n_products == [2]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-1)


def test_strided_activations_are_the_same(n_products):
    wide = torch.randn(20, 3, 512)[..., ::2].transpose(0, 1)
    with machine_rate():
        found = F.linear(wide, WEIGHT, BIAS)
    torch.testing.assert_close(found, F.linear(wide, WEIGHT, BIAS), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("x", "weight"),
    [
        (X.double(), WEIGHT.double()),
        (X.half(), WEIGHT.half()),
        (X, WEIGHT.clone().requires_grad_()),
        (X[:1, :4], WEIGHT),
        (X[..., :8], WEIGHT[:, :8]),
        (X, torch.randn(384, 300)[:, :256]),
    ],
    ids=["float64", "float16", "trained weights", "few rows", "small", "gaps between rows"],
)
def test_other_products_are_left_alone(x, weight, n_products):
    with machine_rate():
        found = F.linear(x, weight)
    assert n_products == [0]
    assert torch.equal(found, F.linear(x, weight))


@pytest.mark.parametrize(("capability", "is_intel"), [("AVX2", False), ("AVX512", True)])
def test_where_mkl_is_the_faster_it_is_kept(capability, is_intel, n_products, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(gemm, "is_intel", lambda: is_intel)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    with machine_rate():
        assert torch.equal(F.linear(X, WEIGHT), X @ WEIGHT.T)
    assert n_products == [0]


def test_an_amd_cpu_with_avx512_takes_onednn(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(gemm, "is_intel", lambda: False)
    assert gemm.onednn_is_faster()


@pytest.mark.parametrize(("seconds", "chosen"), [((1.0, 6.0), torch.float32), ((4.0, 1.0), torch.bfloat16)])
def test_products_are_of_the_type_that_was_measured_to_be_faster(seconds, chosen, monkeypatch):
    monkeypatch.delenv(gemm.SETTING, raising=False)
    monkeypatch.setattr(gemm, "_seconds", lambda kind: dict(zip((torch.float32, torch.bfloat16), seconds, strict=True)))
    assert gemm.product_dtype("cpu") == chosen
    assert f"products in {str(chosen)[6:]}, {max(seconds):.1f} times as fast on this cpu" in gemm.product_sentence("cpu")


def test_the_measurement_is_of_both_types_and_made_once():
    measured = gemm._seconds("cpu")
    assert set(measured) == {torch.float32, torch.bfloat16} and min(measured.values()) > 0
    assert gemm._seconds("cpu") is measured


@pytest.mark.parametrize("name", gemm.PRODUCT_DTYPES)
def test_a_setting_forces_the_type_of_products(name, monkeypatch):
    monkeypatch.setenv(gemm.SETTING, name)
    assert gemm.product_dtype("cpu") == gemm.PRODUCT_DTYPES[name]


def test_a_setting_that_is_no_type_of_product_is_refused(monkeypatch):
    monkeypatch.setenv(gemm.SETTING, "float8")
    with pytest.raises(ValueError, match="WORKBENCH_PRODUCTS=float8 is no type of product: expected float32 or bfloat16"):
        gemm.product_dtype("cpu")
