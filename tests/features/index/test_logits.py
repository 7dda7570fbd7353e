"""Tokens promoted and suppressed: W_dec through the final norm's gain and W_U, in every family of models."""

import numpy as np
import pytest
import torch
from made_models import FAMILIES

from workbench.activations.rows import led
from workbench.features.index.building import logits as code
from workbench.features.index.building.logits import is_in_stream, predicted_tokens, through_final_norm, token_logits
from workbench.model.model import load_model


@pytest.fixture(scope="module")
def directions() -> torch.Tensor:
    return torch.randn(5, 32, generator=torch.Generator().manual_seed(3))


def expected_normed(model, directions: torch.Tensor) -> torch.Tensor:
    """By hand, from the Hugging Face norm's own weights."""
    norm = dict(model.ln_final.named_modules())["_original_component"]
    gain = norm.weight + 1 if "Gemma" in type(norm).__name__ else norm.weight
    return (directions - directions.mean(1, keepdim=True) if isinstance(norm, torch.nn.LayerNorm) else directions) * gain


@pytest.mark.parametrize("family", FAMILIES)
def test_a_direction_passes_the_final_norm_by_its_gain(model_of, directions: torch.Tensor, family: str):
    model = model_of(family)
    torch.testing.assert_close(through_final_norm(model, directions), expected_normed(model, directions), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_adding_a_direction_to_a_stream_changes_the_logits_as_said(model_of, directions: torch.Tensor, family: str):
    """A step of ε on a residual stream of size 1: the logits move by ε · norm(direction) @ W_U, but for the part along the stream."""
    model = model_of(family)
    stream = torch.randn(32, generator=torch.Generator().manual_seed(4))
    stream = (stream - stream.mean()) / stream.std(correction=0)
    for direction in directions:
        direction = direction - (direction @ stream) / (stream @ stream) * stream  # what changes the stream's size is not the direct path
        moved = model.ln_final((stream + 1e-2 * direction)[None, None]) - model.ln_final((stream - 1e-2 * direction)[None, None])
        change = (moved[0, 0] / 2e-2) @ model.unembed.W_U
        torch.testing.assert_close(change, (through_final_norm(model, direction[None]) @ model.unembed.W_U)[0], rtol=2e-2, atol=2e-3)


@pytest.mark.parametrize("n_columns", [7, 64, 10_000])
def test_the_largest_and_smallest_logits_are_listed_in_order(model, directions: torch.Tensor, n_columns: int, monkeypatch):
    monkeypatch.setattr(code, "N_COLUMNS", n_columns)
    logits = through_final_norm(model, directions) @ model.unembed.W_U
    found = token_logits(model, directions, n=10)
    for tokens, values, is_descending in (
        (found.promoted, found.promoted_logits, True),
        (found.suppressed, found.suppressed_logits, False),
    ):
        order = logits.argsort(dim=1, descending=is_descending)[:, :10]
        assert tokens.tolist() == order.tolist()
        torch.testing.assert_close(torch.from_numpy(values), logits.gather(1, order))


def test_what_the_model_never_predicts_is_not_listed(model, directions: torch.Tensor, monkeypatch):
    monkeypatch.setattr(code, "N_COLUMNS", 64)
    is_predicted = torch.arange(300) % 7 > 0
    logits = (through_final_norm(model, directions) @ model.unembed.W_U).masked_fill(~is_predicted, -torch.inf)
    found = token_logits(model, directions, n=10, is_predicted=is_predicted)
    assert found.promoted.tolist() == logits.topk(10).indices.tolist()
    assert is_predicted[torch.from_numpy(found.suppressed).long()].all() and np.isfinite(found.suppressed_logits).all()
    assert token_logits(model, directions, n=1000, is_predicted=is_predicted).promoted.shape == (5, int(is_predicted.sum()))


def test_a_token_whose_chance_is_never_a_hundredth_of_a_guess_is_never_predicted(model, monkeypatch):
    rows = [led(model, list(range(n, n + 30))) for n in range(1, 200)]
    assert predicted_tokens(model, rows[:20]) is None  # too few to tell
    chances = torch.cat([model(torch.tensor([row]))[0] for row in rows]).softmax(-1).amax(0)
    monkeypatch.setattr(code, "RARELY", 1 / (300 * chances.median().item()))  # so that half of this random model's fall below
    found = predicted_tokens(model, rows)
    assert found is not None and 100 < found.sum() < 200 and (chances[found].min() >= chances[~found].max())


def test_a_vocabulary_smaller_than_the_list_is_listed_whole(model, directions: torch.Tensor):
    assert token_logits(model, directions, n=1000).promoted.shape == (5, 300)


@pytest.mark.parametrize(
    ("hook_name", "expected"),
    [
        ("blocks.3.hook_resid_pre", True),
        ("blocks.3.hook_resid_post", True),
        ("blocks.3.hook_mlp_out", True),
        ("blocks.3.mlp.hook_post", False),
        ("blocks.3.mlp.hook_out", False),
        ("blocks.3.attn.hook_z", False),
    ],
)
def test_only_hook_points_of_the_residual_stream_reach_the_logits_directly(hook_name: str, expected: bool):
    assert is_in_stream(hook_name) == expected


@pytest.mark.parametrize("family", ["gpt2", "neox"])
def test_the_gain_of_a_norm_of_16_bits_is_its_own_whatever_its_shift(folder_of, directions: torch.Tensor, family: str):
    model = load_model(folder_of(family), dtype=torch.bfloat16)
    norm = dict(model.ln_final.named_modules())["_original_component"]
    norm.bias.data += 7.0  # beside which a gain near 1 keeps two bits of eight
    expected = (directions - directions.mean(1, keepdim=True)) * norm.weight.float()
    torch.testing.assert_close(through_final_norm(model, directions), expected, rtol=1e-4, atol=1e-4)
