"""The sparse training step is the plain one: loss and gradients, for every architecture, in every product's form, at the edges."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from made_step import ALIVE, D_IN, D_SAE, L1, N_ROWS, assert_same_step, close, made

from workbench.sae.config import ARCHITECTURES, SAEConfig
from workbench.sae.kernels import entries, proposal
from workbench.sae.kernels import step as kernels
from workbench.sae.kernels.entries import Entries
from workbench.sae.kernels.fast import fast
from workbench.sae.kernels.objective import plain_step
from workbench.sae.kernels.step import sparse_step, step
from workbench.sae.sae import SAE


@pytest.fixture(params=["compiled loops", "plain torch"])
def products(request, monkeypatch):
    """The products with few entries in both of their forms that run on a CPU."""
    if request.param == "plain torch":
        monkeypatch.setattr(kernels, "fast", lambda kind: entries)
        monkeypatch.setattr(entries, "SLAB", 50 * D_IN)  # several slabs


@pytest.mark.parametrize("case", ALIVE)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_loss_and_gradients_are_those_of_dense_autograd(architecture, case, products):
    sae, x = made(architecture, case)
    assert_same_step(sae, x)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_batch_of_one_row(architecture, products):
    sae, x = made(architecture)
    assert_same_step(sae, x[:1])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_chunks_that_do_not_fit_evenly(architecture, monkeypatch):
    monkeypatch.setitem(proposal.CHUNK, "cpu", 37 * N_ROWS)
    sae, x = made(architecture)
    assert_same_step(sae, x)


def test_memory_in_another_order():
    sae, x = made("standard")
    sae.W_enc.data = sae.W_enc.data.contiguous()
    sae.W_dec.data = sae.W_dec.data.T.contiguous().T
    expected = plain_step(sae, x, L1)
    found = sparse_step(sae, x.T.contiguous().T, L1)
    assert close(found.error, expected.error)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_centered_input(architecture):
    sae, x = made(architecture)
    sae.cfg = SAEConfig(D_IN, D_SAE, sae.cfg.hook_name, architecture=architecture, k=sae.cfg.k, centers_input=True)
    assert_same_step(sae, x + 3)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("change", ["float32 proposals", "two threads"])
def test_the_bits_depend_neither_on_the_dtype_that_proposes_nor_on_threads(architecture, change, monkeypatch):
    sae, x = made(architecture)
    monkeypatch.setattr(proposal, "product_dtype", lambda kind: torch.bfloat16)
    expected = sparse_step(sae, x, L1)
    gradients = [weight.grad.clone() for weight in sae.parameters()]
    try:
        if change == "two threads":
            torch.set_num_threads(2)
        else:
            monkeypatch.setattr(proposal, "product_dtype", lambda kind: torch.float32)
        found = sparse_step(sae, x, L1)
    finally:
        torch.set_num_threads(1)
    assert torch.equal(found.error, expected.error)
    assert all(torch.equal(weight.grad, gradient) for weight, gradient in zip(sae.parameters(), gradients, strict=True))


def test_gradients_are_overwritten_in_the_memory_of_the_step_before():
    sae, x = made("standard")
    sparse_step(sae, x, L1)
    places, gradients = [weight.grad.data_ptr() for weight in (sae.W_enc, sae.W_dec)], sae.W_enc.grad.clone()
    sparse_step(sae, x, L1)
    assert places == [weight.grad.data_ptr() for weight in (sae.W_enc, sae.W_dec)]
    assert torch.equal(sae.W_enc.grad, gradients)


@pytest.fixture
def dense_steps(monkeypatch) -> list[SAE]:
    taken = []
    monkeypatch.setattr(kernels, "plain_step", lambda sae, *args: taken.append(sae) or plain_step(sae, *args))
    return taken


@pytest.mark.parametrize(("density", "is_dense"), [(1.0, True), (0.01, False)])
def test_a_batch_after_a_dense_one_takes_the_dense_step(density, is_dense, dense_steps):
    sae, x = made("standard")
    sae.b_enc.data -= 6
    assert_same_step(sae, x, lambda sae, x, l1: step(sae, x, l1, density))
    assert bool(dense_steps) == is_dense


@pytest.mark.parametrize("architecture", ["standard", "jumprelu"])
def test_a_batch_that_turns_out_dense_takes_the_dense_step(architecture, dense_steps):
    sae, x = made(architecture)
    sae.b_enc.data += 5  # jumprelu: into the window
    assert_same_step(sae, x, lambda sae, x, l1: step(sae, x, l1, 0.01))
    assert dense_steps


def test_other_dtypes_take_the_dense_step(dense_steps):
    sae, x = made("standard")
    step(sae.double(), x.double(), L1, 0.01)
    assert dense_steps


def test_activations_that_are_not_finite_give_a_loss_that_is_not():
    for architecture in ARCHITECTURES:
        sae, x = made(architecture)
        x[2, 3] = float("nan")
        assert not torch.isfinite(sparse_step(sae, x, L1).loss)


@pytest.mark.skipif(not find_spec("triton"), reason="triton is not installed")
def test_triton_kernels_are_the_compiled_loops():
    """By Triton's interpreter, which must be chosen before triton is imported."""
    test = "test_kernels.test_products_with_few_entries_are_dense_products(cuda)"
    code = f"import test_kernels; from workbench.sae.kernels import cuda; {test}"
    paths = os.pathsep.join([*sys.path, str(Path(__file__).parent)])
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": paths}, check=True)


@pytest.mark.parametrize("form", [entries, fast("cpu")], ids=["plain torch", "compiled loops"])
def test_products_with_few_entries_are_dense_products(form):
    torch.manual_seed(0)
    mask = torch.rand(20, 12) < 0.3  # (features, rows)
    features, rows = mask.nonzero().T
    few, values = Entries(rows, features, 12, 20), torch.randn(len(rows))
    a, b, scales = torch.randn(12, 30), torch.randn(20, 30), torch.randn(20)
    matrix = torch.zeros(12, 20).index_put_((rows, features), values)
    torch.testing.assert_close(form.dots(few, a, b), (a @ b.T)[rows, features])
    form.add_times(few, values, b, out := a.clone())
    torch.testing.assert_close(out, a + matrix @ b)
    form.transposed_times(few, values, a, scales, b, out := torch.full_like(b, torch.nan))
    torch.testing.assert_close(out, matrix.T @ a + scales[:, None] * b)
    assert few.starts.tolist() == [0, *mask.sum(1).cumsum(0).tolist()]
