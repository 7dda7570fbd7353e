"""Every way to finish a row equals hooked forward passes of the whole model, and a way that does not apply is not taken."""

import pytest
import torch
from made_models import D_MODEL, FAMILIES, N_VOCAB, n_hooks

from workbench.model import gemm
from workbench.model.points import place
from workbench.replay import arguments, replay, tail
from workbench.replay.arguments import from_position
from workbench.replay.reading import Columns
from workbench.replay.replay import WAYS, Replay

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
COLUMNS = Columns((5, 7), has_mean=True)


@pytest.fixture(autouse=True)
def onednn_for_every_product(monkeypatch):
    """The models here are so small that it would never be used."""
    monkeypatch.setattr(gemm, "SMALLEST", 0)
    monkeypatch.setattr(gemm, "FEWEST_ROWS", 1)


def perturbed(made: Replay, n_rows: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows at every position, in no order, the first and the last one among them."""
    torch.manual_seed(3)
    pos = torch.cat([torch.tensor([made.n_pos - 1, 0]), torch.randint(made.n_pos, (n_rows - 2,))])
    return pos, made.clean[pos] + torch.randn(n_rows, made.clean.shape[1])


def one_at_a_time(model, hook_name, tokens, pos, x, columns):
    """The slow method: one hooked forward pass per row."""
    rows = []
    for p, value in zip(pos.tolist(), x, strict=True):

        def edit(activation, hook, p=p, value=value):
            activation[:, p] = value.view(activation.shape[2:])
            return activation

        rows.append(columns.of(model.run_with_hooks(tokens, fwd_hooks=[(hook_name, edit)])[:, -1]))
    return torch.cat(rows)


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


def changed_at_several_positions(made: Replay) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(row, pos, x) of six rows: two positions each, but the first position only in the first row and all of them in the last."""
    torch.manual_seed(4)
    positions = [[0], [3, 7], [10, 4], [made.n_pos - 1, 5], [8, 9], list(range(made.n_pos))]
    row = torch.tensor([r for r, some in enumerate(positions) for _ in some])
    pos = torch.tensor([p for some in positions for p in some])
    return row, pos, made.clean[pos] + torch.randn(len(pos), made.clean.shape[1])


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


def test_where_memory_is_short_no_row_of_several_positions_is_torn_apart(model, tokens, monkeypatch):
    made = Replay(model, "blocks.1.hook_resid_pre", tokens)
    row, pos, x = changed_at_several_positions(made)
    expected, finish = made.logits(pos, x, COLUMNS, row=row), made._finish

    def scarce(way, rows, columns):
        if rows.n_rows > 1:
            raise MemoryError
        return finish(way, rows, columns)

    monkeypatch.setattr(made, "_finish", scarce)
    torch.testing.assert_close(made.logits(pos, x, COLUMNS, row=row), expected, rtol=1e-4, atol=1e-5)


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


def test_a_hook_outside_of_the_blocks_goes_through_whole_forward_passes(model, tokens):
    made = Replay(model, "hook_embed", tokens)
    assert made.way == "forward" and "not inside a block" in made.why_not
    pos, x = perturbed(made)
    torch.testing.assert_close(made.logits(pos, x, COLUMNS), one_at_a_time(model, "hook_embed", tokens, pos, x, COLUMNS))


def test_a_model_whose_arguments_count_positions_elsewhere_runs_whole_blocks(model, tokens, monkeypatch):
    monkeypatch.setattr(arguments, "POS_AXIS", {"attention_mask": -1})
    made = Replay(model, "blocks.1.hook_resid_pre", tokens)
    assert made.way == "whole" and made.why_not.startswith("prefix: ")
    pos, x = perturbed(made)
    torch.testing.assert_close(made.logits(pos, x, COLUMNS), one_at_a_time(model, made.hook_name, tokens, pos, x, COLUMNS))


def test_a_model_that_does_something_else_with_its_last_residual_stream_reads_it_itself(model, tokens, monkeypatch):
    """A wrong soft cap stands for whatever an unknown architecture does between its last block and its logits."""
    monkeypatch.setattr(model.cfg, "output_logits_soft_cap", 0.1)
    made = Replay(model, "blocks.1.hook_resid_pre", tokens)
    assert (made.way, made.why_not) == ("prefix", "")
    pos, x = perturbed(made)
    torch.testing.assert_close(made.logits(pos, x, COLUMNS), one_at_a_time(model, made.hook_name, tokens, pos, x, COLUMNS))


def test_a_way_that_gives_other_numbers_is_measured_and_not_taken(model, tokens, monkeypatch):
    monkeypatch.setattr(tail.Tail, "whole", lambda self, rows: 1.1 * self.residual[-1:].expand(rows.n_rows, -1))
    made = Replay(model, "blocks.1.hook_resid_pre", tokens)
    assert made.way == "forward" and "logits differ by" in made.why_not


def test_installed_hooks_are_kept_in_force(model, tokens):
    def doubled(activation, hook):
        return 2 * activation

    with model.hooks(fwd_hooks=[("blocks.2.hook_mlp_out", doubled)]):
        made = Replay(model, "blocks.1.hook_resid_pre", tokens)
        assert made.way == "forward" and "blocks.2" in made.why_not
        pos, x = perturbed(made)
        torch.testing.assert_close(made.logits(pos, x, COLUMNS), one_at_a_time(model, made.hook_name, tokens, pos, x, COLUMNS))


def test_compatibility_mode_is_exact_too(folder_of, tokens):
    from workbench.model.model import load_model

    model = load_model(folder_of("gpt2"))
    model.enable_compatibility_mode()
    made = Replay(load_model(model), "blocks.1.hook_resid_pre", tokens)
    pos, x = perturbed(made)
    torch.testing.assert_close(
        made.logits(pos, x, COLUMNS), one_at_a_time(model, "blocks.1.hook_resid_pre", tokens, pos, x, COLUMNS), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("cpu_tokens", [1, 30, 10_000])
def test_batches_hold_every_row_once_and_no_more_tokens_than_asked(model, tokens, monkeypatch, way, cpu_tokens):
    monkeypatch.setattr(replay, "CPU_TOKENS", cpu_tokens)
    monkeypatch.setattr(replay, "CPU_FLOATS", 0)
    made = Replay(model, "blocks.1.hook_resid_pre", tokens, way=way)
    pos, _ = perturbed(made, n_rows=50)
    batches = list(made.batches(pos))
    assert torch.cat(batches).sort().values.tolist() == list(range(50))
    for rows in batches:
        start = int(pos[rows].min()) if way == "prefix" else 0
        assert len(rows) == 1 or len(rows) * (made.n_pos - start) <= cpu_tokens


def test_positions_join_a_batch_only_while_that_costs_less_than_a_call(model, tokens, monkeypatch):
    made = Replay(model, "blocks.1.hook_resid_pre", tokens)
    pos = torch.arange(12).repeat_interleave(5)
    assert len(list(made.batches(pos))) == 1
    monkeypatch.setattr(replay, "CALL_SECONDS", 0.0)
    assert [pos[rows].unique().tolist() for rows in made.batches(pos)] == [[p] for p in range(12)]


def test_batches_halve_until_memory_suffices(model, tokens, monkeypatch):
    made = Replay(model, "blocks.1.hook_resid_pre", tokens)
    pos, x = perturbed(made)
    expected, sizes, finish = made.logits(pos, x, COLUMNS), [], made._finish

    def scarce(way, rows, columns):
        sizes.append(rows.n_rows)
        if rows.n_rows > 5:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")
        return finish(way, rows, columns)

    monkeypatch.setattr(made, "_finish", scarce)
    torch.testing.assert_close(made.logits(pos, x, COLUMNS), expected, rtol=1e-4, atol=1e-5)
    assert max(sizes) == 9 and sum(size for size in sizes if size <= 5) == 9


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("one row is too much"), RuntimeError("something else")])
def test_other_errors_and_a_single_row_that_does_not_fit_are_raised(model, tokens, monkeypatch, error):
    made = Replay(model, "blocks.1.hook_resid_pre", tokens)
    pos, x = perturbed(made, n_rows=2)

    def fail(*_):
        raise error

    monkeypatch.setattr(made, "_finish", fail)
    with pytest.raises(type(error), match=str(error)):
        made.logits(pos, x, COLUMNS)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("point", ["hook_resid_pre", "hook_mlp_out"])
def test_no_hook_is_left_when_a_run_is_interrupted(model, tokens, monkeypatch, way, point):
    before = n_hooks(model)
    made = Replay(model, f"blocks.1.{point}", tokens, way=way)
    pos, x = perturbed(made)

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(type(model.blocks[2].mlp), "forward", interrupt)
    with pytest.raises(KeyboardInterrupt):
        made.logits(pos, x, COLUMNS)
    with pytest.raises(KeyboardInterrupt):
        Replay(model, f"blocks.1.{point}", tokens)
    assert n_hooks(model) == before


def test_block_arguments_are_those_of_the_positions_that_run():
    n_pos = 4
    mask, ids = torch.arange(16.0).view(1, 1, 4, 4), torch.arange(4)[None]
    assert torch.equal(from_position("attention_mask", mask, 3, n_pos, 1), mask[:, :, 3:])
    assert torch.equal(from_position("attention_mask", mask[:, :, :1], 3, n_pos, 1), mask[:, :, :1]), "one row stands for all positions"
    assert torch.equal(from_position("position_ids", ids, 3, n_pos, 1), ids[:, 3:])
    cos, sin = from_position("position_embeddings", (mask[0], mask[0] + 1), 2, n_pos, 2)
    assert torch.equal(cos, mask[0][:, 2:]) and torch.equal(sin, mask[0][:, 2:] + 1)
    assert from_position("output_attentions", True, 3, n_pos, 1) is True
    assert torch.equal(from_position("of another name", mask[0, 0], 3, n_pos, 1), mask[0, 0, 3:]), "the first axis as long as the prompt"
    assert torch.equal(from_position("alibi", mask[0, 0][:1], 3, n_pos, 1), mask[0, 0][:1]), "it counts the positions attended to"


def test_hook_names_say_where_to_start():
    assert place("blocks.3.hook_resid_pre") == place("blocks.3.hook_in") == place("blocks.2.hook_resid_post") == (3, False)
    assert place("blocks.3.hook_resid_mid") == place("blocks.3.attn.hook_z") == place("blocks.3.ln1.hook_in") == (3, True)
    assert place("hook_embed") == place("ln_final.hook_in") == (-1, False)


def test_a_mean_column_is_the_mean_of_all_logits(model, tokens):
    made = Replay(model, "blocks.1.hook_resid_pre", tokens)
    pos, x = perturbed(made)
    every = made.logits(pos, x, Columns(tuple(range(N_VOCAB))))
    torch.testing.assert_close(made.logits(pos, x, Columns((), has_mean=True))[:, 0], every.mean(1), rtol=1e-4, atol=1e-5)
    assert made.clean.shape == (made.n_pos, D_MODEL)
