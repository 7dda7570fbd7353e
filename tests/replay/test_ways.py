"""Which way is taken: one that gives other numbers, or that does not apply, is not; where to start, and on which arguments."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from made_replay import COLUMNS, one_at_a_time, perturbed

from workbench.model.head import Head, PlainBlocks
from workbench.model.points import place
from workbench.replay import arguments, tail
from workbench.replay.arguments import from_position
from workbench.replay.between import Between
from workbench.replay.reading import Reading
from workbench.replay.replay import Replay

pytestmark = pytest.mark.usefixtures("onednn_for_every_product")
RESID = "blocks.1.hook_resid_pre"


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


@pytest.mark.parametrize(("wrong", "right"), [(("after_prefix",), "whole"), (("after_prefix", "whole"), "forward")])
def test_a_way_that_gives_other_numbers_is_measured_and_not_taken(model, tokens, monkeypatch, wrong: tuple[str, ...], right: str):
    for way in wrong:
        monkeypatch.setattr(tail.Tail, way, lambda self, rows: 1.1 * self.residual[0, -1:].expand(rows.n_rows, -1))
    made = Replay(model, "blocks.1.hook_resid_pre", tokens)
    assert made.way == right and "logits differ by" in made.why_not


def broken(error: BaseException) -> Callable:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise error

    return fail


WAYS = {  # what computes a faster way, and what asks for it
    "prefix": ((tail.Tail, "after_prefix"), lambda model, tokens: Replay(model, RESID, tokens).why_not),
    "columns": ((Reading, "_linear"), lambda model, tokens: Replay(model, RESID, tokens)._read.is_own and "logits by columns"),
    "between": ((Between, "_block"), lambda model, tokens: Between(model, [RESID, "blocks.2.hook_resid_pre"], tokens).why_not),
    "sdpa": ((PlainBlocks, "run"), lambda model, tokens: head_of(model, tokens).why_not),
}


def head_of(model: Any, tokens: torch.Tensor) -> Head:
    head = Head(model, [RESID])
    head(tokens)
    return head


@pytest.mark.parametrize("way", WAYS)
def test_a_way_that_breaks_off_is_said_with_its_error_and_the_slower_one_taken(model, tokens, monkeypatch, way: str):
    (owner, name), why_not = WAYS[way]
    monkeypatch.setattr(owner, name, broken(RuntimeError("the kernel\nis gone")))
    with pytest.warns(UserWarning, match="a slower way is taken, .*: RuntimeError: the kernel is gone"):
        assert why_not(model, tokens)


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError(), RuntimeError("can't allocate memory"), KeyboardInterrupt()])
@pytest.mark.parametrize("way", WAYS)
def test_what_is_no_property_of_a_model_is_raised(model, tokens, monkeypatch, way: str, error: BaseException):
    (owner, name), why_not = WAYS[way]
    monkeypatch.setattr(owner, name, broken(error))
    with pytest.raises(type(error)):
        why_not(model, tokens)


def test_installed_hooks_are_kept_in_force(model, tokens):
    def doubled(activation, hook):
        return 2 * activation

    with model.hooks(fwd_hooks=[("blocks.2.hook_mlp_out", doubled)]):
        made = Replay(model, "blocks.1.hook_resid_pre", tokens)
        assert made.way == "forward" and "blocks.2" in made.why_not
        pos, x = perturbed(made)
        torch.testing.assert_close(made.logits(pos, x, COLUMNS), one_at_a_time(model, made.hook_name, tokens, pos, x, COLUMNS))


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
