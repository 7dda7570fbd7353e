"""The paper's recipe: its schedules, its start, and that it finds a dictionary that is known."""

import pytest
import torch

from workbench.sae.train import TrainConfig, initialize, train

D_IN, D_SAE = 16, 24


class Planted:
    """Activations made of one or two of 20 known directions."""

    hook_name, model_name, d_in = "blocks.0.hook_resid_pre", "planted", D_IN

    def __init__(self, bad_batch: int = -1):
        rng = torch.Generator().manual_seed(0)
        directions = torch.randn(20, D_IN, generator=rng)
        self.directions = directions / directions.norm(dim=1, keepdim=True)
        self.bad_batch = bad_batch
        x = self.batch(rng)
        self.scale = (D_IN / x.square().sum(1).mean().item()) ** 0.5

    def batch(self, rng: torch.Generator) -> torch.Tensor:
        active = (torch.rand(512, 20, generator=rng) < 0.07) * (1 + torch.rand(512, 20, generator=rng))
        return 3 * active @ self.directions

    def __iter__(self):
        rng = torch.Generator().manual_seed(1)
        for number in range(1500):
            x = self.batch(rng)
            yield x / 0 if number == self.bad_batch else x


@pytest.mark.parametrize(
    ("share", "lr", "l1"),
    [(0.0, 1.0, 0.0), (0.025, 1.0, 0.5), (0.05, 1.0, 1.0), (0.5, 1.0, 1.0), (0.8, 1.0, 1.0), (0.9, 0.5, 1.0), (1.0, 0.0, 1.0)],
)
def test_schedules_are_the_paper_s(share: float, lr: float, l1: float):
    cfg = TrainConfig(d_sae=8, n_steps=1000, lr=2e-3, l1=5.0)
    assert cfg.lr_at(round(share * 1000)) == pytest.approx(2e-3 * lr)
    assert cfg.l1_at(round(share * 1000)) == pytest.approx(5.0 * l1)


def test_it_starts_with_short_decoder_rows_the_encoder_their_transpose():
    sae = initialize(Planted(), TrainConfig(d_sae=D_SAE))
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.full((D_SAE,), 0.1))
    assert torch.equal(sae.W_enc, sae.W_dec.T) and not sae.b_enc.any() and not sae.b_dec.any()


def test_planted_directions_are_found_in_raw_units():
    stream = Planted()
    sae = train(stream, TrainConfig(d_sae=D_SAE, n_steps=1500, lr=3e-3, l1=1.0), progress=False)
    best = (stream.directions @ sae.W_dec.T).max(1).values
    assert (best > 0.95).float().mean() > 0.8
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(D_SAE))
    x = stream.batch(torch.Generator().manual_seed(9))
    fvu = ((x - sae(x)).square().sum() / (x - x.mean(0)).square().sum()).item()
    assert fvu < 0.2 and sae.cfg.metadata["fvu"] == pytest.approx(fvu, abs=0.05)
    assert not any(weight.requires_grad for weight in sae.parameters())


def test_the_same_seed_trains_the_same_sae():
    one, same = (train(Planted(), TrainConfig(d_sae=D_SAE, n_steps=20), progress=False) for _ in range(2))
    assert one.fingerprint() == same.fingerprint()


def test_a_stream_that_ends_early_says_so():
    with pytest.raises(ValueError, match="ended after 1,500 of 2,000 steps"):
        train(Planted(), TrainConfig(d_sae=D_SAE, n_steps=2000), progress=False)


def test_infinite_activations_stop_training_with_step_and_hook():
    with pytest.raises(ValueError, match=r"step 3.*blocks\.0\.hook_resid_pre"):
        train(Planted(bad_batch=3), TrainConfig(d_sae=D_SAE, n_steps=20), progress=False)
