"""On a GPU: the sparse step is the plain one, proposals hold all that is selected, Triton's products are dense ones, to the bit."""

import pytest
import torch
from made_step import ALIVE, D_IN, D_SAE, L1, N_ROWS, assert_same_step, made

from workbench.sae.architectures import BANDWIDTH
from workbench.sae.config import ARCHITECTURES, SAEConfig
from workbench.sae.kernels import entries, proposal
from workbench.sae.kernels import step as kernels
from workbench.sae.kernels.entries import Entries
from workbench.sae.kernels.proposal import propose
from workbench.sae.kernels.step import sparse_step
from workbench.sae.sae import SAE

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")]
GPU = "cuda"


@pytest.fixture(params=["the fastest products", "plain torch"])
def products(request, monkeypatch):
    if request.param == "plain torch":
        monkeypatch.setattr(kernels, "fast", lambda kind: entries)
        monkeypatch.setattr(entries, "SLAB", 50 * D_IN)  # several slabs


@pytest.mark.parametrize("case", ALIVE)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_loss_and_gradients_are_those_of_dense_autograd(architecture, case, products):
    sae, x = made(architecture, case)
    assert_same_step(sae.to(GPU), x.to(GPU))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_one_row_uneven_chunks_and_centered_input(architecture, monkeypatch):
    monkeypatch.setitem(proposal.CHUNK, GPU, 37 * N_ROWS)
    sae, x = made(architecture)
    assert_same_step(sae.to(GPU), x[:1].to(GPU))
    assert_same_step(sae, x.to(GPU))
    sae.cfg = SAEConfig(D_IN, D_SAE, sae.cfg.hook_name, architecture=architecture, k=sae.cfg.k, centers_input=True)
    assert_same_step(sae, x.to(GPU) + 3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_proposals_hold_every_entry_that_is_selected(architecture, dtype, monkeypatch):
    """Of wide sums, whose parts a GPU may add apart, with a third of one long token's entries just over the boundary."""
    monkeypatch.setattr(proposal, "product_dtype", lambda kind: dtype)
    torch.manual_seed(0)
    sae = SAE(SAEConfig(4096, 512, "h", architecture=architecture, k=8 if "topk" in architecture else None)).to(GPU)
    x = torch.randn(64, 4096, device=GPU)
    x[3] *= 100
    with torch.no_grad():
        sae.W_enc.copy_(torch.randn(4096, 512))
        near = -(x[3].double() @ sae.W_enc.double())[::3].float()
        sae.b_enc[::3] = near + 1e-4 * near.abs() + (0 if sae.threshold is None else sae.threshold[::3] - BANDWIDTH / 2)
    selected = sae.encode(x) > 0 if sae.threshold is None else sae.pre_acts(x) > sae.threshold - BANDWIDTH / 2
    proposed = propose(sae, x)
    is_proposed = torch.zeros_like(selected).index_put_((proposed.rows, proposed.features), torch.tensor(True, device=GPU))
    assert len(proposed.rows) == is_proposed.sum()
    assert (is_proposed | ~selected).all()


@pytest.mark.parametrize("d_in", [30, 768, 5000])
def test_products_with_few_entries_are_dense_products(d_in):
    form = kernels.fast(GPU)
    torch.manual_seed(0)
    mask = torch.rand(200, 120, device=GPU) < 0.1  # (features, rows)
    mask[3], mask[:, 5] = False, False
    features, rows = mask.nonzero().T
    few, values = Entries(rows, features, 120, 200), torch.randn(len(rows), device=GPU)
    a, b, scales = (torch.randn(*shape, device=GPU) for shape in ((120, d_in), (200, d_in), (200,)))
    matrix = torch.zeros(120, 200, device=GPU).index_put_((rows, features), values).double()
    exact = dict(rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(form.dots(few, a, b), (a.double() @ b.double().T)[rows, features].float(), **exact)
    form.add_times(few, values, b, out := a.clone())
    torch.testing.assert_close(out, (a + matrix @ b.double()).float(), **exact)
    form.transposed_times(few, values, a, scales, b, out := torch.full_like(b, torch.nan))
    torch.testing.assert_close(out, (matrix.T @ a.double() + scales[:, None] * b).float(), **exact)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_step_repeats_to_the_bit(architecture):
    sae, x = made(architecture)
    sae, x = sae.to(GPU), torch.randn(N_ROWS, D_IN, device=GPU)
    expected = sparse_step(sae, x, L1)
    gradients = [weight.grad.clone() for weight in sae.parameters()]
    found = sparse_step(sae, x, L1)
    assert torch.equal(found.error, expected.error)
    assert all(torch.equal(weight.grad, gradient) for weight, gradient in zip(sae.parameters(), gradients, strict=True))
