"""The sparse training step is the plain one: loss and gradients, for every architecture, in every product's form, at the edges.

Weights and activations lie on a grid so coarse that float32 holds every pre-activation exactly, and biases tell features apart: no
selection depends on the order in which a machine adds.
"""

import os
import subprocess
import sys
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from workbench.sae.architectures import ARCHITECTURES, BANDWIDTH
from workbench.sae.config import SAEConfig
from workbench.sae.kernels import entries, proposal
from workbench.sae.kernels import step as kernels
from workbench.sae.kernels.entries import Entries
from workbench.sae.kernels.fast import fast
from workbench.sae.kernels.objective import plain_step
from workbench.sae.kernels.proposal import propose
from workbench.sae.kernels.step import sparse_step, step
from workbench.sae.sae import SAE

D_IN, D_SAE, N_ROWS, K, L1 = 48, 320, 33, 6, 5.0
ALIVE = {"ordinary": 0.0, "all dead": -1000.0, "all alive": 1000.0}  # added to every bias


def on_grid(*shape: int, spread: float) -> torch.Tensor:
    return (8 * spread * torch.randn(*shape)).round() / 8


def made(architecture: str, case: str = "ordinary") -> tuple[SAE, torch.Tensor]:
    torch.manual_seed(1)
    k = None if "topk" not in architecture else D_SAE if case == "all alive" else K
    sae = SAE(SAEConfig(D_IN, D_SAE, "blocks.0.hook_resid_pre", architecture=architecture, k=k))
    with torch.no_grad():
        sae.W_enc.T.copy_(on_grid(D_SAE, D_IN, spread=0.4))
        sae.W_dec.copy_(on_grid(D_SAE, D_IN, spread=0.4))
        sae.b_dec.copy_(on_grid(D_IN, spread=1))
        sae.b_enc.copy_((2 * torch.randperm(D_SAE) + 1) / 2**13 - (4 if architecture == "standard" else 0) + ALIVE[case])
        sae.W_dec[7] = 0  # ‖W_dec_i‖ has no gradient here
        if sae.threshold is not None:
            sae.threshold.copy_(5 + on_grid(D_SAE, spread=0.5))
    return sae, on_grid(N_ROWS, D_IN, spread=1)


def close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return (found.double() - expected.double()).norm().item() <= 1e-5 * expected.double().norm().item()


def assert_same_step(sae: SAE, x: torch.Tensor, fast_step=sparse_step) -> None:
    expected = plain_step(sae, x, L1)
    gradients = {name: weight.grad.clone() for name, weight in sae.named_parameters()}
    found = fast_step(sae, x, L1)
    for field in fields(expected):
        assert close(getattr(found, field.name), getattr(expected, field.name)), field.name
    for name, weight in sae.named_parameters():
        assert weight.grad.shape == weight.shape and weight.grad.stride() == weight.stride(), name
        assert close(weight.grad, gradients[name]), name


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


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_proposals_hold_every_entry_that_is_selected(architecture, dtype, monkeypatch):
    """Also where rounding is at its worst: one token is 100 times as long as the others, and biases put a third of its entries just over
    the boundary."""
    monkeypatch.setattr(proposal, "product_dtype", lambda kind: dtype)
    sae, x = made(architecture)
    x = torch.randn_like(x)
    x[3] *= 100
    with torch.no_grad():
        sae.W_enc.copy_(torch.randn_like(sae.W_enc))
        near = -(x[3].double() @ sae.W_enc.double())[::3].float()
        sae.b_enc[::3] = near + 1e-4 * near.abs() + (0 if sae.threshold is None else sae.threshold[::3] - BANDWIDTH / 2)
    selected = sae.encode(x) > 0 if sae.threshold is None else sae.pre_acts(x) > sae.threshold - BANDWIDTH / 2
    proposed = propose(sae, x)
    is_proposed = torch.zeros_like(selected).index_put_((proposed.rows, proposed.features), torch.tensor(True))
    assert len(proposed.rows) == is_proposed.sum()
    assert (is_proposed | ~selected).all()


def test_proposals_hold_what_rounding_to_bf16_moves_the_furthest(monkeypatch):
    """1 + 2⁻⁸ becomes 1, so a product of two such vectors is wrong by the whole bound; six of them have a norm that is rounded down."""
    monkeypatch.setattr(proposal, "product_dtype", lambda kind: torch.bfloat16)
    sae, x = SAE(SAEConfig(6, 1, "h")), torch.full((1, 6), 1 + 2**-8)
    with torch.no_grad():
        sae.W_enc += 1 + 2**-8
        sae.b_enc += 2**-20 - 6 * (1 + 2**-8) ** 2
    assert sae.encode(x) > 0
    assert len(propose(sae, x).rows) == 1


def test_proposals_hold_the_largest_where_bf16_takes_another_for_larger(monkeypatch):
    monkeypatch.setattr(proposal, "product_dtype", lambda kind: torch.bfloat16)
    sae, x = SAE(SAEConfig(2, 2, "h", architecture="topk", k=1)), torch.tensor([[1.0, 0.0]])
    with torch.no_grad():
        sae.W_enc[1, 1] = 38  # of no use to x, but its bound is wide: 1001.8 may be 1002.1, which bf16 rounds to 1004
        sae.b_enc += torch.tensor([1001.9, 1001.8])
    assert sae.encode(x)[0, 0] > 0
    assert 0 in propose(sae, x).features


@pytest.mark.parametrize("architecture", ["topk", "batchtopk"])
def test_proposals_hold_the_largest_of_features_that_bf16_cannot_tell_apart(architecture, monkeypatch):
    monkeypatch.setattr(proposal, "product_dtype", lambda kind: torch.bfloat16)
    sae, x = made(architecture)
    with torch.no_grad():
        direction = torch.randn(D_IN, 1)
        x += (1 - x @ direction) @ (direction / direction.square().sum()).T  # pre-activations are about 1, each sum of large numbers
        sae.W_enc.copy_(direction + 1e-3 * torch.randn(D_IN, D_SAE))
    selected, proposed = sae.encode(x) > 0, propose(sae, x)
    is_proposed = torch.zeros_like(selected).index_put_((proposed.rows, proposed.features), torch.tensor(True))
    assert (is_proposed | ~selected).all()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_proposals_are_few_more_than_what_is_selected(architecture):
    torch.manual_seed(0)
    sae = SAE(SAEConfig(64, 4096, "h", architecture=architecture, k=16 if "topk" in architecture else None))
    with torch.no_grad():
        sae.W_enc.copy_(torch.randn(64, 4096) / 8)
        sae.b_enc -= 2.7 if sae.cfg.k is None else 0
        if sae.threshold is not None:
            sae.threshold += BANDWIDTH / 2
    x = torch.randn(64, 64)
    n_selected = (sae.encode(x) > 0).sum() if sae.threshold is None else (sae.pre_acts(x) > 0).sum()
    assert n_selected < len(propose(sae, x).rows) < 2 * n_selected


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
    monkeypatch.setattr(kernels, "plain_step", lambda sae, x, l1: taken.append(sae) or plain_step(sae, x, l1))
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


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("case", ALIVE)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_loss_and_gradients_on_a_gpu(architecture, case):
    sae, x = made(architecture, case)
    assert_same_step(sae.cuda(), x.cuda())


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
