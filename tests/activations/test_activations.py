"""Harvested activations are the model's own; the stream leaves start tokens and padding out, is scaled and seeded, and goes on anywhere."""

from itertools import islice

import pytest
import torch
from made_models import N_CTX

from workbench.activations.rows import Rows
from workbench.activations.stream import ActivationStream, ActivationStreams, harvest, harvest_many, padded
from workbench.model.model import load_model
from workbench.model.tokens import to_tokens

TEXTS = ["the cat sat", "the dog ran to the mat and the cat sat on the dog", "and the cat"] * 40
LONG = ["the dog ran to the mat and the cat sat on the dog " * 12] * 3
HOOKS = ["blocks.2.hook_resid_pre", "blocks.2.hook_resid_mid", "blocks.2.hook_resid_post", "blocks.2.hook_mlp_out", "blocks.2.attn.hook_z"]


def small(model, texts=TEXTS, **options) -> ActivationStream:
    return ActivationStream(model, texts, HOOKS[0], **{"batch": 16, "buffer": 64, **options})


def sorted_rows(x: torch.Tensor) -> torch.Tensor:
    return x[x[:, 0].argsort()]


@pytest.mark.parametrize("hook_name", [*HOOKS, "hook_embed", "ln_final.hook_in"])
def test_harvest_equals_the_cache(model, hook_name: str):
    tokens = to_tokens(model, TEXTS[1])
    _, cache = model.run_with_cache(tokens)
    assert torch.equal(harvest(model, tokens, hook_name), cache[hook_name].flatten(2))


def test_several_hook_points_come_from_one_pass(model, monkeypatch):
    tokens, n_passes, forward = to_tokens(model, TEXTS[1]), [], model.forward
    monkeypatch.setitem(vars(model), "forward", lambda *args, **kwargs: n_passes.append(1) or forward(*args, **kwargs))
    found = harvest_many(model, tokens, HOOKS)
    assert n_passes == [1]
    for hook_name in HOOKS:
        assert torch.equal(found[hook_name], harvest(model, tokens, hook_name))


def test_padding_changes_nothing_before_it(model):
    tokens, is_text = padded(model, TEXTS[:3])
    together = harvest(model, tokens, HOOKS[0])
    for row, text in enumerate(TEXTS[:3]):
        alone = harvest(model, to_tokens(model, text), HOOKS[0])[0, 1:]
        torch.testing.assert_close(together[row][is_text[row]], alone)


def test_the_stream_deals_the_activation_of_every_token_of_the_texts_once(model):
    expected = torch.cat([harvest(model, to_tokens(model, text), HOOKS[0])[0, 1:] for text in TEXTS[:30]])
    found = torch.cat(list(small(model, TEXTS[:30], batch=1)))
    assert len(found) == len(expected)
    torch.testing.assert_close(sorted_rows(found), sorted_rows(expected), rtol=1e-4, atol=1e-5)


def test_start_tokens_are_left_out_of_packed_rows_too(model):
    x = torch.cat(list(small(model, LONG, context=16, batch=1)))
    start = harvest(model, to_tokens(model, "the"), HOOKS[0])[0, 0]
    assert not torch.isclose(x, start, atol=1e-5).all(1).any()
    assert len(x) == 3 * len(model.tokenizer(LONG[0], add_special_tokens=False)["input_ids"])


def test_a_text_longer_than_the_context_is_read_to_its_end(model):
    n_tokens = len(model.tokenizer(LONG[0], add_special_tokens=False)["input_ids"])
    assert n_tokens > 2 * N_CTX
    assert sum(map(len, small(model, LONG[:1], batch=1))) == n_tokens


def test_activations_are_scaled_to_the_width(model):
    stream = small(model, batch=1, buffer=10_000)
    x = torch.cat(list(stream)) * stream.scale
    assert x.square().sum(1).mean().item() == pytest.approx(stream.d_in, rel=1e-4)


def test_batches_are_shuffled_over_the_buffer_and_no_further(model):
    options = dict(texts=[LONG[0] * 5], buffer=64, batch=64, context=17)  # four rows of 16 tokens and the start token
    one, other = (next(iter(small(model, seed=seed, **options))) for seed in (0, 1))
    rows = torch.tensor(list(islice(Rows(model, options["texts"], 17), 4)))
    in_order = harvest(model, rows, HOOKS[0])[:, 1:].flatten(0, 1)
    assert not torch.equal(one, other)
    for x in (one, other):
        assert not torch.allclose(x, in_order)
        torch.testing.assert_close(sorted_rows(x), sorted_rows(in_order), rtol=1e-4, atol=1e-5)


def test_no_buffer_holds_more_than_a_row_beyond_its_size(model):
    stream = small(model, LONG * 10)._streams
    list(islice(stream, 40))
    assert all(len(held) <= 64 + N_CTX for held in stream._buffers.values())


def test_the_same_seed_gives_the_same_batches_and_another_seed_others(model):
    one, same, other = (list(islice(small(model, seed=seed), 3)) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("context", [None, 16])
@pytest.mark.parametrize("n_before", [0, 1, 3, 4, 5, 11])
def test_a_fresh_stream_goes_on_at_any_position_to_the_bit(model, context, n_before):
    texts = [*TEXTS, *LONG]
    whole = small(model, texts, context=context)
    batches = list(islice(whole, n_before))
    fresh = small(model, texts, context=context)
    fresh.seek(whole.position())
    assert fresh.position() == whole.position() and fresh.scale == whole.scale
    rest, expected = list(islice(fresh, 9)), list(islice(whole, 9))
    assert len(rest) == 9 and all(torch.equal(a, b) for a, b in zip(rest, expected, strict=True))
    assert all(isinstance(value, int) for value in whole.position().values()) and len(batches) == n_before


def test_a_position_of_other_settings_or_texts_is_refused(model):
    whole = small(model)
    list(islice(whole, 10))
    with pytest.raises(ValueError, match="seed 0 there, 1 here"):
        small(model, seed=1).seek(whole.position())
    with pytest.raises(ValueError, match="batch_size 16 there, 8 here"):
        small(model, batch=8).seek(whole.position())
    with pytest.raises(ValueError, match="these are other texts"):
        small(model, ["and", *TEXTS]).seek(whole.position())
    list(islice(whole, 10))
    with pytest.raises(ValueError, match="seek on a fresh stream"):
        whole.seek({**whole.position(), "n_texts": 1, "n_buffers": 1})


def test_several_hook_points_deal_the_same_tokens(model):
    streams = ActivationStreams(model, TEXTS, HOOKS, batch=16, buffer=64)
    ones = [small(model) if name == HOOKS[0] else ActivationStream(model, TEXTS, name, batch=16, buffer=64) for name in HOOKS]
    for together, *apart in islice(zip(streams, *ones, strict=False), 6):
        for name, alone in zip(HOOKS, apart, strict=True):
            torch.testing.assert_close(together[name], alone)
    assert streams.scale == {name: one.scale for name, one in zip(HOOKS, ones, strict=True)}
    assert streams.d_in == {name: one.d_in for name, one in zip(HOOKS, ones, strict=True)}


def test_a_model_in_16_bits_deals_float32(folder_of):
    stream = small(load_model(folder_of("gpt2"), dtype=torch.bfloat16))
    assert next(iter(stream)).dtype == torch.float32
    assert all(held.dtype == torch.bfloat16 for held in stream._streams._buffers.values())


def test_text_shorter_than_a_batch_is_an_error(model):
    with pytest.raises(ValueError, match=r"the texts hold 1\d tokens, fewer than one batch of 2,048"):
        ActivationStream(model, TEXTS[:2], HOOKS[0])
    with pytest.raises(ValueError, match="hold 0 tokens"):
        ActivationStream(model, [], HOOKS[0])


def test_a_hook_name_that_is_not_there_is_said_before_anything_is_read(model):
    with pytest.raises(ValueError, match="Did you mean 'blocks.2.hook_resid_pre'"):
        ActivationStream(model, "no/such/file", "blocks.2.hook_resid_pree")


def test_a_stream_reads_files(model, tmp_path):
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    for from_file, from_list in zip(small(model, tmp_path / "texts.txt"), small(model), strict=True):
        assert torch.equal(from_file, from_list)
