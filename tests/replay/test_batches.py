"""Rows go through the model in batches: every row once, as many as memory holds, and nothing is left behind by an error."""

import pytest
import torch
from made_models import n_hooks
from made_replay import COLUMNS, changed_at_several_positions, perturbed

from workbench.replay import replay
from workbench.replay.replay import WAYS, Replay

pytestmark = pytest.mark.usefixtures("onednn_for_every_product")


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
