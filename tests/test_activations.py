"""Harvested activations are the model's own; start tokens and padding are left out; the stream is scaled and seeded."""

from itertools import islice

import pytest
import torch

from workbench.activations import ActivationStream, harvest, padded
from workbench.model import to_tokens

TEXTS = ["the cat sat", "the dog ran to the mat and the cat sat on the dog", "and the cat"] * 40
HOOKS = ["blocks.2.hook_resid_pre", "blocks.2.hook_resid_mid", "blocks.2.hook_resid_post", "blocks.2.hook_mlp_out", "blocks.2.attn.hook_z"]


@pytest.mark.parametrize("hook_name", HOOKS)
def test_harvest_equals_the_cache(model_of, hook_name: str):
    model = model_of("gpt2")
    tokens = to_tokens(model, TEXTS[1])
    _, cache = model.run_with_cache(tokens)
    assert torch.equal(harvest(model, tokens, hook_name), cache[hook_name].flatten(2))


def test_padding_changes_nothing_before_it(model_of):
    model = model_of("gpt2")
    tokens, is_text = padded(model, TEXTS[:3])
    together = harvest(model, tokens, HOOKS[0])
    for row, text in enumerate(TEXTS[:3]):
        alone = harvest(model, to_tokens(model, text), HOOKS[0])[0, 1:]
        torch.testing.assert_close(together[row][is_text[row]], alone)


def test_the_stream_leaves_start_tokens_out_and_scales_to_the_width(model_of):
    model = model_of("gpt2")
    stream = ActivationStream(model, TEXTS, HOOKS[0], batch=64)
    x = torch.cat(list(stream))
    n_tokens = sum(len(model.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in TEXTS)
    assert n_tokens - 64 < len(x) <= n_tokens
    start = harvest(model, to_tokens(model, "the"), HOOKS[0])[0, 0]
    assert not (x == start).all(1).any()
    assert (stream.first * stream.scale).square().sum(1).mean().item() == pytest.approx(stream.d_in, rel=1e-4)


def test_the_same_seed_gives_the_same_batches_and_another_seed_others(model_of):
    one, same, other = (list(islice(ActivationStream(model_of("gpt2"), TEXTS, HOOKS[0], batch=64, seed=seed), 3)) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_text_shorter_than_a_batch_is_an_error(model_of):
    with pytest.raises(ValueError, match="fewer than one batch of 2,048"):
        ActivationStream(model_of("gpt2"), TEXTS[:2], HOOKS[0])
