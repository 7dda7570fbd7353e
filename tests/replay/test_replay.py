"""Every way to finish a row equals hooked forward passes of the whole model."""

import pytest
import torch
from made_models import D_MODEL, FAMILIES, N_VOCAB
from made_replay import COLUMNS, changed_at_several_positions, one_at_a_time, perturbed

from workbench.replay.reading import Columns
from workbench.replay.replay import WAYS, Replay

pytestmark = pytest.mark.usefixtures("onednn_for_every_product")

HOOKS = [
    "hook_resid_pre",
    "hook_resid_mid",
    "hook_resid_post",
    "hook_attn_out",
    "hook_mlp_out",
    "attn.hook_z",
    "attn.hook_v",
    "mlp.hook_post",
    "ln1.hook_out",
]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("point", HOOKS)
def test_every_way_equals_one_hooked_forward_pass_per_row(model_of, tokens, family, point):
    model, hook_name = model_of(family), f"blocks.1.{point}"
    if hook_name not in model.hook_dict:
        pytest.skip(f"{family}'s attention and MLP run side by side: it has no {point}")
    expected = None
    for way in WAYS:
        made = Replay(model, hook_name, tokens, way=way)
        assert (made.way, made.why_not) == (way, "")
        pos, x = perturbed(made)
        expected = one_at_a_time(model, hook_name, tokens, pos, x, COLUMNS) if expected is None else expected
        torch.testing.assert_close(made.logits(pos, x, COLUMNS), expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("point", ["hook_resid_pre", "attn.hook_z"])
@pytest.mark.parametrize("way", WAYS)
def test_rows_changed_at_several_positions_equal_hooked_forward_passes(model_of, tokens, family, point, way):
    model, hook_name = model_of(family), f"blocks.1.{point}"
    made = Replay(model, hook_name, tokens, way=way)
    row, pos, x = changed_at_several_positions(made)
    expected = []
    for r in range(6):

        def edit(activation, hook, r=r):
            activation[:, pos[row == r]] = x[row == r].view(-1, *activation.shape[2:])
            return activation

        expected.append(COLUMNS.of(model.run_with_hooks(tokens, fwd_hooks=[(hook_name, edit)])[:, -1]))
    torch.testing.assert_close(made.logits(pos, x, COLUMNS, row=row), torch.cat(expected), rtol=1e-5, atol=1e-5)


def test_an_edit_of_the_middle_residual_stream_reaches_what_comes_after_the_mlp_too(model, tokens):
    """x_post = x_mid + mlp(x_mid): with the MLP's output held at its clean value, the edit is still there."""
    _, cache = model.run_with_cache(tokens)
    made = Replay(model, "blocks.3.hook_resid_mid", tokens, way="forward")
    with model.hooks(fwd_hooks=[("blocks.3.hook_mlp_out", lambda x, hook: cache["blocks.3.hook_mlp_out"])]):
        found = made.logits(torch.tensor([made.n_pos - 1]), made.clean[-1:] + 1.0, Columns((5,)))
    expected = model.unembed(model.ln_final(cache["blocks.3.hook_resid_post"][:, -1:] + 1.0))[:, -1, 5]
    torch.testing.assert_close(found[:, 0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "hook_name", ["blocks.0.hook_resid_pre", "blocks.3.hook_resid_pre", "blocks.3.hook_mlp_out", "blocks.3.hook_resid_post"]
)
def test_the_first_and_the_last_block_are_no_special_case(model, tokens, hook_name):
    made = Replay(model, hook_name, tokens)
    assert made.way == "prefix"
    pos, x = perturbed(made)
    torch.testing.assert_close(made.logits(pos, x, COLUMNS), one_at_a_time(model, hook_name, tokens, pos, x, COLUMNS), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n_pos", [1, 2])
def test_the_shortest_prompts_work(model, tokens, n_pos):
    made = Replay(model, "blocks.1.hook_resid_pre", tokens[:, :n_pos])
    pos, x = perturbed(made)
    expected = one_at_a_time(model, made.hook_name, tokens[:, :n_pos], pos, x, COLUMNS)
    torch.testing.assert_close(made.logits(pos, x, COLUMNS), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_clean_activation_gives_the_clean_logits(model_of, tokens, family):
    made = Replay(model_of(family), "blocks.1.hook_resid_pre", tokens)
    pos = torch.arange(made.n_pos)
    expected = COLUMNS.of(made.clean_logits).expand(made.n_pos, -1)
    torch.testing.assert_close(made.logits(pos, made.clean, COLUMNS), expected, rtol=1e-5, atol=1e-5)


def test_a_change_at_one_position_reaches_later_ones_only_through_attention(model, tokens):
    """After the last block a change at an earlier position cannot reach the last logits at all."""
    made = Replay(model, "blocks.3.hook_resid_post", tokens)
    pos, x = perturbed(made)
    is_last = pos == made.n_pos - 1
    change = (made.logits(pos, x, COLUMNS) - COLUMNS.of(made.clean_logits)).abs().amax(-1)
    assert (change[is_last] > 1e-3).all() and (change[~is_last] < 1e-6).all()


def test_compatibility_mode_is_exact_too(folder_of, tokens):
    from workbench.model.model import load_model

    model = load_model(folder_of("gpt2"))
    model.enable_compatibility_mode()
    made = Replay(load_model(model), "blocks.1.hook_resid_pre", tokens)
    pos, x = perturbed(made)
    torch.testing.assert_close(
        made.logits(pos, x, COLUMNS), one_at_a_time(model, "blocks.1.hook_resid_pre", tokens, pos, x, COLUMNS), rtol=1e-4, atol=1e-5
    )


def test_a_mean_column_is_the_mean_of_all_logits(model, tokens):
    made = Replay(model, "blocks.1.hook_resid_pre", tokens)
    pos, x = perturbed(made)
    every = made.logits(pos, x, Columns(tuple(range(N_VOCAB))))
    torch.testing.assert_close(made.logits(pos, x, Columns((), has_mean=True))[:, 0], every.mean(1), rtol=1e-4, atol=1e-5)
    assert made.clean.shape == (made.n_pos, D_MODEL)
