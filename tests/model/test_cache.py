"""A KV cache is found by what it does; where a text would go on differently with it, none is used and the result says so."""

from contextlib import ExitStack

import pytest
import torch
from made_bench import PROMPT, made_bench
from made_models import D_SAE, FAMILIES, n_hooks

from workbench.circuits.intervene import editing
from workbench.circuits.steering.generation import Decoding, generate
from workbench.circuits.steering.steering import steer
from workbench.model.cache import SPELLINGS, kv_cache
from workbench.model.model import load_model
from workbench.replay.replay import Replay

SHORT = Decoding(max_new_tokens=4, progress=False)


@pytest.fixture(params=["gpt2", "llama"])
def bridge(request, folder_of):
    """As TransformerLens makes it: nothing measured, nothing mended."""
    from transformer_lens.model_bridge import TransformerBridge

    return TransformerBridge.boot_transformers(str(folder_of(request.param)), device="cpu", dtype=torch.float32).eval()


def handing(bridge, name: str | None) -> ExitStack:
    """Every attention is handed its cache under another name (None: not at all), as a new release of transformers may do."""

    def renamed(module, args, kwargs):
        found = {key: value for key, value in kwargs.items() if hasattr(value, "update")}
        kept = {key: value for key, value in kwargs.items() if key not in found}
        return args, kept | dict.fromkeys([name] if name and found else [], *found.values())

    stack = ExitStack()
    for block in bridge.blocks:
        stack.callback(block.attn.register_forward_pre_hook(renamed, with_kwargs=True).remove)
    return stack


@pytest.mark.parametrize("family", FAMILIES)
def test_every_block_s_cache_has_a_name_and_two_tokens_with_it_are_two_tokens(model_of, family):
    found = kv_cache(model_of(family))
    assert list(found.names) == [0, 1, 2, 3] and not found.why_not


@pytest.mark.parametrize("spelling", [SPELLINGS[0], "cache", "kv_of_a_later_release"])
def test_attention_that_waits_for_another_name_is_handed_its_cache_under_that(bridge, tokens, spelling):
    """transformers 5.24 says `cache`, TransformerLens 4.3 waits for `past_key_values`: texts went on from the last token alone."""
    with handing(bridge, spelling):
        assert not kv_cache(bridge).why_not
        expected = generate(bridge, tokens, SHORT, use_cache=False)
        found = generate(bridge, tokens, SHORT)
        assert torch.equal(found.tokens, expected.tokens)
        torch.testing.assert_close(found.next_logits, expected.next_logits, rtol=1e-4, atol=1e-4)
        assert Replay(bridge, "blocks.1.hook_resid_pre", tokens).way == "prefix"


def test_a_model_whose_cache_stays_empty_writes_without_one_and_the_result_says_so(bridge):
    most = dict.fromkeys(range(D_SAE), 2.0)
    with handing(bridge, None):
        assert kv_cache(bridge).why_not.startswith("with a cache the logits after two tokens differ by")
        found = steer(made_bench(bridge), PROMPT, {3: 4.0}, SHORT, max_act=most)
    assert "written without a KV cache" in repr(found)
    again = steer(made_bench(bridge), PROMPT, {3: 4.0}, SHORT, max_act=most)
    assert [each.text for each in found.continuations] == [each.text for each in again.continuations]


def test_a_cache_is_measured_on_the_model_as_it_is_whatever_hooks_are_installed(bridge, tokens, sae):
    with editing(bridge, sae, {3: 4.0}):
        found = generate(bridge, tokens, SHORT)
        assert not kv_cache(bridge).why_not
        assert torch.equal(found.tokens, generate(bridge, tokens, SHORT, use_cache=False).tokens)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_another_precision_rounds_and_is_not_taken_for_a_wrong_cache(folder_of, dtype):
    assert not kv_cache(load_model(folder_of("llama"), dtype=dtype)).why_not


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_an_empty_cache_is_not_taken_for_rounding(bridge, dtype):
    bridge.to(dtype)
    with handing(bridge, None):
        assert kv_cache(bridge).why_not


def test_measuring_leaves_no_hook_where_nothing_was_to_mend(bridge):
    bridge(torch.zeros(1, 2, dtype=torch.long))
    with handing(bridge, SPELLINGS[0]):
        at_rest = n_hooks(bridge)
        kv_cache(bridge)
        assert n_hooks(bridge) == at_rest
