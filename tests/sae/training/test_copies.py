"""Copies: features that write one direction on the same tokens. Where they are planted they are found, and merged without a trace."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from made_sae import random_sae
from made_stream import D_SAE, Planted, PlantedMany

from workbench.sae.sae import SAE
from workbench.sae.training import copies
from workbench.sae.training.copies import copies_note, find_copies, merge_copies
from workbench.sae.training.source import TrainingError, cross_layer_source, source_of
from workbench.sae.training.train import TrainConfig, train

N_PARTS = 5


class Opening(Planted):
    """Half of the rows are one and the same vector, as the tokens are that open many texts; the others as in Planted."""

    def sample(self, seed: int) -> torch.Tensor:
        x = super().sample(seed)
        x[::2] = 6 * self.directions[0]
        return x


def in_parts(x: torch.Tensor, features: tuple[int, ...] = (3, 8)) -> tuple[SAE, SAE]:
    """An SAE, and the same where each of these features is five: two thirds go on under other numbers, with the same direction."""
    whole = random_sae().fold_decoder_norms()
    parts, free = deepcopy(whole), iter(range(16, 32))
    whole.W_enc[:, 16:], whole.b_enc[16:] = 0.0, 0.0
    parts.W_enc[:, 16:], parts.b_enc[16:] = 0.0, 0.0
    for feature in features:
        shares = torch.tensor([0.4, 0.3, 0.2, 0.05, 0.05])
        for share, number in zip(shares, (feature, *(next(free) for _ in range(N_PARTS - 1))), strict=True):
            parts.W_enc[:, number], parts.b_enc[number] = share * whole.W_enc[:, feature], share * whole.b_enc[feature]
            parts.W_dec[number] = whole.W_dec[feature]
    torch.testing.assert_close(parts(x), whole(x))
    return whole, parts


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(400, 8, generator=torch.Generator().manual_seed(1))


def test_planted_copies_are_found_and_become_the_feature_that_they_are_parts_of(x: torch.Tensor):
    whole, parts = in_parts(x)
    merged = merge_copies(parts, x)
    assert merged.copies.leader[merged.copies.is_copy].tolist() == [3] * 4 + [8] * 4 and len(merged.copies) == 8
    torch.testing.assert_close(merged.sae.W_enc, whole.W_enc)
    torch.testing.assert_close(merged.sae.b_enc, whole.b_enc)
    torch.testing.assert_close(merged.sae(x), parts(x))
    assert merged.moved < 1e-10 and merged.fvu[0] == pytest.approx(merged.fvu[1], rel=1e-5)
    fired = [(each.encode(x) > 0).sum(1).float().mean().item() for each in (parts, whole)]
    assert merged.l0 == pytest.approx(fired) and merged.l0[0] > merged.l0[1] + 2
    assert "8 of 24 features that are active on a sample are copies of 2 others" in str(merged)


def test_what_is_merged_leaves_all_other_features_to_the_bit_and_the_freed_ones_dead_and_nobody_s_neighbors(x: torch.Tensor):
    _, parts = in_parts(x)
    before = deepcopy(parts)
    merged = merge_copies(parts, x).sae
    others = [n for n in range(16) if n not in (3, 8)]
    for name in ("W_dec", "b_enc"):
        assert torch.equal(getattr(merged, name)[others], getattr(before, name)[others])
    assert torch.equal(merged.W_enc[:, others], before.W_enc[:, others])
    assert torch.equal(parts.W_enc, before.W_enc), "what was given stays as it is"
    assert not merged.encode(100 * x)[:, 16:24].any()
    torch.testing.assert_close(merged.W_dec.norm(dim=1), torch.ones(32))
    assert len(find_copies(merged, x)) == 0


def test_one_direction_read_on_other_tokens_is_no_copy(x: torch.Tensor):
    _, sae = in_parts(x)
    sae.W_enc[:, 16:24] *= -1
    sae.b_enc[16:24] *= -1
    sae.b_enc[16:24] -= 1e-3
    found = find_copies(sae, x)
    assert not set(found.leader[found.is_copy].tolist()) & {3, 8}, "3 and its opposite are never active together"
    assert find_copies(sae, x[:3]).is_copy.sum() == 0, "three tokens are too few to tell"


def test_copies_that_are_active_on_some_tokens_alone_are_merged_at_a_price_that_is_said(x: torch.Tensor):
    _, sae = in_parts(x, features=(3,))
    sae.b_enc[16:20] -= 0.02
    merged = merge_copies(sae, x)
    before, after = sae(x), merged.sae(x)
    expected = ((after - before).square().sum() / (before - before.mean(0)).square().sum()).item()
    assert len(merged.copies) > 0 and merged.moved == pytest.approx(expected, rel=1e-4) and 0 < merged.moved < 0.01


def test_a_selection_is_not_merged_and_other_rows_are_refused(x: torch.Tensor):
    with pytest.raises(ValueError, match="is for ReLU \\+ L1; this one is topk"):
        merge_copies(random_sae("topk", 3), x)
    with pytest.raises(ValueError, match=r"x is \(4, 7\); expected \(…, 8\)"):
        merge_copies(random_sae(), torch.zeros(4, 7))
    with pytest.raises(ValueError, match="y is a transcoder's"):
        merge_copies(random_sae(), x, x)
    with pytest.raises(ValueError, match="merge_copies is for architecture 'standard'"):
        TrainConfig(8, architecture="topk", k=2, merge_copies=True)


def test_an_opening_makes_copies_which_training_counts_and_merges(capsys):
    cfg = TrainConfig(d_sae=4 * D_SAE, n_steps=200, lr=1e-2, l1=1.0)
    plain = train(Opening(), cfg)
    assert plain.cfg.metadata["copies"] == len(find_copies(plain, Opening().sample(1199))) > 20
    assert copies_note(plain.cfg.metadata) in capsys.readouterr().err
    mended = train(Opening(), replace(cfg, merge_copies=True), progress=False)
    assert mended.cfg.metadata["copies"] == 0 and copies_note(mended.cfg.metadata) == ""
    assert mended.cfg.metadata["loss"] < 1.03 * plain.cfg.metadata["loss"]
    assert mended.cfg.metadata["l0"] < 0.8 * plain.cfg.metadata["l0"]


def test_a_run_that_merges_goes_on_where_it_was_stopped_with_the_same_bits(tmp_path):
    cfg = TrainConfig(d_sae=4 * D_SAE, n_steps=40, lr=1e-2, l1=1.0, merge_copies=True)
    whole = train(Opening(), cfg, progress=False)
    with pytest.raises(TrainingError, match="ended after 17 of 40"):
        train(Opening(n_batches=17), cfg, progress=False, folder=tmp_path)
    again = train(Opening(), cfg, progress=False, folder=tmp_path)
    assert again.fingerprint() == whole.fingerprint() and again.cfg.metadata["training"]["merge_copies"]
    assert "merge_copies" not in train(Opening(), replace(cfg, merge_copies=False), progress=False).cfg.metadata["training"]


def test_a_transcoder_is_merged_and_measured_by_what_it_predicts():
    places = PlantedMany.hook_names
    cfg = TrainConfig(4 * D_SAE, n_steps=60, lr=1e-2, l1=1.0, hook_name=places[0])
    transcoder = train(PlantedMany(60), cfg, predict=places[1], progress=False)
    x = Planted().sample(7)
    with pytest.raises(ValueError, match="activations at blocks.1.hook_resid_pre, is needed"):
        merge_copies(transcoder, x)
    merged, y = merge_copies(transcoder, x, 2 * x), 2 * x
    fvu = [((y - each(x)).square().sum() / (y - y.mean(0)).square().sum()).item() for each in (transcoder, merged.sae)]
    assert merged.fvu == pytest.approx(fvu, rel=1e-4) and len(merged.copies) > 0
    mended = train(PlantedMany(60), replace(cfg, merge_copies=True), predict=places[1], progress=False)
    assert mended.cfg.metadata["copies"] == 0


def test_what_cannot_merge_says_so():
    with pytest.raises(TrainingError, match="merge_copies is not for cross-layer"):
        cross_layer_source(PlantedMany(3), TrainConfig(8, merge_copies=True), "hook_resid_pre", "hook_resid_pre")
    assert source_of(Planted(), TrainConfig(8, merge_copies=True)).d_in == 16


@pytest.mark.parametrize("tile", [(3, 7), (4, 4), (64, 64)])
def test_what_is_alike_is_found_tile_by_tile(monkeypatch, tile):
    rows = torch.nn.functional.normalize(torch.randn(50, 8, generator=torch.Generator().manual_seed(2)), dim=1)
    rows[[3, 20, 49]] = rows[[4, 0, 21]]  # beside each other, far apart, in the last tile
    rows[7] = 0.0
    monkeypatch.setattr(copies, "TILE", tile)
    cosines = rows @ rows.T - torch.eye(50)
    assert copies._alike(rows).tolist() == (cosines >= copies.SAME).any(1).nonzero()[:, 0].tolist() == [0, 3, 4, 20, 21, 49]


def test_an_sae_of_16_bits_is_merged_too(x: torch.Tensor):
    merged = merge_copies(in_parts(x)[1].bfloat16(), x)
    assert merged.copies.leader[merged.copies.is_copy].tolist() == [3] * 4 + [8] * 4


def test_what_the_last_merging_freed_is_counted_as_dead():
    cfg = TrainConfig(d_sae=4 * D_SAE, n_steps=40, lr=1e-2, l1=1.0, merge_copies=True)
    sae = train(Opening(), cfg, progress=False)
    n_gone = int((sae.W_enc == 0).all(0).sum())
    assert n_gone > 0 and sae.cfg.metadata["dead"] >= n_gone / cfg.d_sae
