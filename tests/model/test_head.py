"""The first blocks, run directly, give what the bridge gives, and are left alone where they would not."""

import pytest
import torch
from made_models import FAMILIES, N_VOCAB

from workbench.model import head as head_module
from workbench.model.head import Head, through_bridge
from workbench.model.hooks import hooked
from workbench.model.model import load_model

POINTS = [
    "blocks.2.hook_resid_pre",
    "blocks.2.hook_resid_post",
    "blocks.3.hook_resid_post",
    "blocks.2.hook_mlp_out",
    "blocks.2.attn.hook_z",
    "blocks.1.mlp.hook_post",
]


@pytest.fixture
def rows() -> torch.Tensor:
    torch.manual_seed(3)
    return torch.randint(N_VOCAB, (3, 20))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_blocks_alone_give_what_the_cache_holds(model_of, rows, family):
    model = model_of(family)
    _, cache = model.run_with_cache(rows)
    head = Head(model, POINTS)
    found = head(rows)
    assert head.way == ("eager" if family == "gemma2" else "sdpa"), head.why_not  # fused attention knows no soft cap
    for name in POINTS:
        torch.testing.assert_close(found[name], cache[name].flatten(2), rtol=1e-4, atol=1e-5)
        assert torch.equal(found[name], Head(model, [name])(rows)[name])


def test_a_model_in_16_bits_stays_in_16_bits(folder_of, rows):
    model = load_model(folder_of("llama"), dtype=torch.bfloat16)
    head = Head(model, POINTS[:1])
    found, exact = head(rows)[POINTS[0]], through_bridge(load_model(folder_of("llama")), rows, POINTS[:1])[POINTS[0]]
    assert found.dtype == torch.bfloat16 and head.way == "sdpa"
    assert (found - exact).norm() < 0.02 * exact.norm()


def test_the_pass_ends_with_the_last_activation_that_is_wanted(model_of, rows):
    model, ran = model_of("gpt2"), []
    head = Head(model, ["blocks.1.hook_resid_post", "blocks.2.hook_resid_pre"])
    head(rows)
    assert head._blocks is not None, head.why_not
    handles = [block.register_forward_hook(lambda *_, k=k: ran.append(k)) for k, block in enumerate(head._blocks.net.transformer.h)]
    head(rows)
    for handle in handles:
        handle.remove()
    assert ran == [0, 1]


@pytest.mark.parametrize("hook_name", ["blocks.2.attn.hook_q", "blocks.2.ln1.hook_normalized"])
def test_what_no_module_takes_or_gives_comes_from_the_bridge(model_of, rows, hook_name):
    model = model_of("gpt2")
    head = Head(model, [hook_name])
    assert torch.equal(head(rows)[hook_name], model.run_with_cache(rows)[1][hook_name].flatten(2))
    assert head.way == "bridge" and head.why_not


def test_a_forward_that_stands_on_the_object_itself_keeps_nothing_from_the_blocks(model_of, rows, monkeypatch):
    """As a patch leaves it there that puts the bound method back: what runs it runs the bridge's modules, not their copies."""
    hf_model = model_of("gpt2").original_model
    monkeypatch.setitem(vars(hf_model), "forward", hf_model.forward)
    head = Head(model_of("gpt2"), POINTS[:1])
    head(rows)
    assert head.way == "sdpa", head.why_not


def test_blocks_that_compute_something_else_are_not_used(model_of, rows, monkeypatch):
    run = head_module.PlainBlocks.run
    monkeypatch.setattr(head_module.PlainBlocks, "run", lambda self, rows: {name: 1.001 * x for name, x in run(self, rows).items()})
    head = Head(model_of("gpt2"), POINTS[:1])
    assert torch.equal(head(rows)[POINTS[0]], through_bridge(model_of("gpt2"), rows, POINTS[:1])[POINTS[0]])
    assert head.way == "bridge" and "blocks.2.hook_resid_pre differs by 0.001" in head.why_not


def test_an_edit_installed_on_the_model_is_seen(model_of, rows):
    model = model_of("gpt2")
    head = Head(model, POINTS[:1])
    clean = head(rows)[POINTS[0]]
    with hooked(model, "blocks.0.hook_resid_pre", lambda x: 2 * x):
        edited = head(rows)[POINTS[0]]
        assert torch.equal(edited, through_bridge(model, rows, POINTS[:1])[POINTS[0]])
    assert not torch.allclose(edited, clean)
    assert torch.equal(head(rows)[POINTS[0]], clean)


def test_the_bridge_keeps_its_own_attention(model_of, rows):
    model = model_of("llama")
    Head(model, POINTS[:1])(rows)
    assert model.original_model.config._attn_implementation == "eager"
    configs = [module.config for module in model.original_model.modules() if getattr(module, "config", None) is not None]
    assert {config._attn_implementation for config in configs if hasattr(config, "_attn_implementation")} == {"eager"}


def test_a_hook_name_that_is_not_there_is_said_with_the_nearest(model_of):
    with pytest.raises(ValueError, match="no hook point 'blocks.2.hook_resid_pree'. Did you mean 'blocks.2.hook_resid_pre'"):
        Head(model_of("gpt2"), ["blocks.2.hook_resid_pree"])


def test_a_hook_point_without_an_activation_a_token_is_refused(model_of, rows):
    with pytest.raises(
        ValueError, match="blocks.2.attn.hook_pattern holds .3, 4, 20, 20., not one activation for each of the tokens .3, 20."
    ):
        through_bridge(model_of("gpt2"), rows, ["blocks.2.attn.hook_pattern"])
