"""The selection functions and the plain step: values by hand, gradients by finite differences or by the papers' formulas."""

import pytest
import torch

from workbench.sae.architectures import BANDWIDTH, batch_topk, is_over, jumprelu, relu, select, topk
from workbench.sae.config import SAEConfig
from workbench.sae.kernels.objective import AUXK_SHARE, auxk_step, plain_step
from workbench.sae.sae import SAE

D_IN, D_SAE = 5, 8
PRE_ACTS = torch.tensor([[3.0, -1.0, 2.0, 1.0], [0.5, 0.4, -2.0, 0.3]])


def random_sae(architecture: str, k: int | None = None) -> SAE:
    torch.manual_seed(0)
    sae = SAE(SAEConfig(D_IN, D_SAE, "h", architecture=architecture, k=k)).double()
    for weight in sae.parameters():
        weight.data.copy_(torch.randn_like(weight))
    if sae.threshold is not None:
        sae.threshold.data.copy_(0.5 + torch.rand_like(sae.threshold))
    return sae


def x_of(n_rows: int = 7) -> torch.Tensor:
    return torch.randn(n_rows, D_IN, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_each_architecture_selects_what_its_name_says():
    assert relu(PRE_ACTS).tolist() == [[3, 0, 2, 1], pytest.approx([0.5, 0.4, 0, 0.3])]
    assert topk(PRE_ACTS, 2).tolist() == [[3, 0, 2, 0], pytest.approx([0.5, 0.4, 0, 0])]
    assert batch_topk(PRE_ACTS, 2).tolist() == [[3, 0, 2, 1], pytest.approx([0.5, 0, 0, 0])]
    threshold = torch.tensor([3.0, 0.1, 1.0, 0.2])  # at its threshold a feature is off
    assert jumprelu(PRE_ACTS, threshold).tolist() == [[0, 0, 2, 1], pytest.approx([0, 0.4, 0, 0.3])]
    assert is_over(PRE_ACTS, threshold).tolist() == [[0, 0, 1, 1], [0, 1, 0, 1]]


def test_k_largest_below_zero_are_not_active():
    assert not topk(-PRE_ACTS.abs(), 2).any() and not batch_topk(-PRE_ACTS.abs(), 2).any()


def test_more_dimensions_than_two_are_rows():
    cube = torch.randn(2, 3, 8)
    for selected in (topk(cube, 3), batch_topk(cube, 3)):
        assert selected.shape == cube.shape and (selected > 0).sum() <= 2 * 3 * 3
    assert torch.equal(topk(cube, 3)[1], topk(cube[1], 3))
    assert torch.equal(batch_topk(cube, 3).flatten(0, 1), batch_topk(cube.flatten(0, 1), 3))


def test_select_knows_them_by_name_and_no_other():
    assert torch.equal(select("topk", PRE_ACTS, k=1), topk(PRE_ACTS, 1))
    assert torch.equal(select("batchtopk", PRE_ACTS, k=1), batch_topk(PRE_ACTS, 1))
    assert torch.equal(select("standard", PRE_ACTS), relu(PRE_ACTS))
    assert torch.equal(select("jumprelu", PRE_ACTS, threshold=torch.ones(4)), jumprelu(PRE_ACTS, torch.ones(4)))
    with pytest.raises(ValueError, match="'gated' is unknown; there is standard, topk, batchtopk, jumprelu"):
        select("gated", PRE_ACTS)


def test_the_gradient_reaches_only_what_was_selected():
    for function in (relu, lambda x: topk(x, 2), lambda x: batch_topk(x, 1), lambda x: jumprelu(x, torch.full((4,), 0.45))):
        pre_acts = PRE_ACTS.clone().requires_grad_()
        selected = function(pre_acts)
        selected.backward(torch.full_like(selected, 7.0))
        assert torch.equal(pre_acts.grad, 7.0 * (selected > 0))


def test_the_threshold_s_gradient_is_that_of_a_window_around_it():
    threshold = torch.tensor([2.5, 0.0, 0.6, 4.0], requires_grad=True)
    upstream = torch.tensor([[1.0, 2.0, 3.0, 5.0], [7.0, 11.0, 13.0, 17.0]])
    near = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 0]])  # |pre_acts − threshold| < BANDWIDTH / 2 = 1
    assert BANDWIDTH == 2.0
    jumprelu(PRE_ACTS, threshold).backward(upstream)
    torch.testing.assert_close(threshold.grad, -threshold.detach() / BANDWIDTH * (near * upstream).sum(0))
    threshold.grad = None
    is_over(PRE_ACTS, threshold).backward(upstream)
    torch.testing.assert_close(threshold.grad, -(near * upstream).sum(0) / BANDWIDTH)


@pytest.mark.parametrize(("architecture", "k"), [("standard", None), ("topk", 3), ("batchtopk", 2), ("jumprelu", None)])
def test_the_plain_step_measures_the_loss_and_its_slopes(architecture: str, k: int | None):
    """Loss from its definition, gradients by central differences (of weights: a jump's threshold has none)."""
    sae, x, l1 = random_sae(architecture, k), x_of(), 0.7

    def loss() -> torch.Tensor:
        with torch.no_grad():
            acts = sae.encode(x)
            squared = (x - acts @ sae.W_dec - sae.b_dec).square().sum(1)
            price = {"standard": (acts * sae.W_dec.norm(dim=1)).sum(1), "jumprelu": (acts > 0).sum(1)}.get(architecture, torch.zeros(7))
            return (squared + l1 * price).mean()

    step = plain_step(sae, x, l1)
    acts = sae.encode(x).detach()
    assert step.loss.item() == pytest.approx(loss().item()) and step.loss == step.squared_error + l1 * step.sparsity
    assert step.n_active == (acts > 0).sum() and torch.equal(step.fired, (acts > 0).any(0))
    torch.testing.assert_close(step.error, x - sae.decode(acts))
    for name in ("W_enc", "b_enc", "W_dec", "b_dec"):
        weight, gradient = getattr(sae, name), getattr(sae, name).grad
        for place in torch.randint(weight.numel(), (6,), generator=torch.Generator().manual_seed(2)).tolist():
            entry = weight.data[place % D_IN, place // D_IN] if name == "W_enc" else weight.data.view(-1)[place]
            slope = gradient[place % D_IN, place // D_IN] if name == "W_enc" else gradient.flatten()[place]
            entry += 1e-6
            above = loss()
            entry -= 2e-6
            below = loss()
            entry += 1e-6
            assert ((above - below) / 2e-6).item() == pytest.approx(slope.item(), abs=1e-6), (name, place)


def test_a_step_overwrites_the_gradients_before_it():
    sae, x = random_sae("standard"), x_of()
    plain_step(sae, x, 1.0)
    first = sae.W_dec.grad.clone()
    plain_step(sae, x, 1.0)
    assert torch.equal(sae.W_dec.grad, first)


def test_one_row_is_a_batch():
    for architecture, k in (("standard", None), ("topk", 3), ("batchtopk", 3), ("jumprelu", None)):
        assert plain_step(random_sae(architecture, k), x_of(1), 1.0).loss.isfinite()


def test_dead_features_are_taught_the_error_of_the_living():
    """By hand: the k_aux = d_in / 2 = 2 most active dead features of each row explain what is left over."""
    sae, x = random_sae("topk", 2), x_of()
    dead = torch.arange(D_SAE) >= 4
    error = plain_step(sae, x, 0.0).error
    before = {name: weight.grad.clone() for name, weight in sae.named_parameters()}
    loss = auxk_step(sae, x, error, dead)
    acts = (x @ sae.W_enc + sae.b_enc)[:, 4:].detach()
    acts = torch.where(acts >= acts.topk(2).values[:, -1:], acts, 0).relu()
    assert loss.item() == pytest.approx(AUXK_SHARE * (error - acts @ sae.W_dec[4:]).square().sum(1).mean().item())
    added = {name: weight.grad - before[name] for name, weight in sae.named_parameters()}
    assert not added["b_dec"].any() and not added["W_dec"][:4].any() and not added["W_enc"][:, :4].any()
    assert added["W_dec"][4:].any() and added["W_enc"][:, 4:].any()
