"""Models that keep more of earlier positions than keys and values: what comes back after a prefix is what whole passes give."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from made_models import GROUPED, SIZES

from workbench.model.hooks import hooked, last_logits
from workbench.model.model import load_model
from workbench.model.points import place_of
from workbench.replay.reading import Columns
from workbench.replay.replay import Replay

PAD: dict[str, Any] = SIZES | dict(pad_token_id=1)
MAMBA: dict[str, Any] = dict(
    vocab_size=300, hidden_size=32, num_hidden_layers=4, state_size=8, pad_token_id=1, bos_token_id=0, eos_token_id=0
)
HYBRID: dict[str, Any] = dict(mamba_n_heads=8, mamba_d_head=8, mamba_d_ssm=64, mamba_d_state=16, mamba_n_groups=2, mamba_chunk_size=8)
LINEAR: dict[str, Any] = dict(linear_num_key_heads=2, linear_num_value_heads=2, linear_key_head_dim=8, linear_value_head_dim=8)
LATENT: dict[str, Any] = dict(
    num_key_value_heads=4, q_lora_rank=16, kv_lora_rank=16, qk_nope_head_dim=8, v_head_dim=8, qk_rope_head_dim=8, n_group=1
)
EXPERTS: dict[str, Any] = dict(num_experts_per_tok=2, n_routed_experts=4, n_shared_experts=1, topk_group=1, moe_intermediate_size=64)
MADE: dict[str, Any] = {
    "a scan": lambda: transformers.MambaConfig(**MAMBA, time_step_rank=8),
    "a chunked scan": lambda: transformers.Mamba2Config(**MAMBA, num_heads=8, head_dim=8, n_groups=2, chunk_size=8),
    "a gated delta rule": lambda: transformers.Qwen3NextConfig(
        **(PAD | GROUPED | LINEAR),
        layer_types=["linear_attention", "full_attention"] * 2,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=64,
        shared_expert_intermediate_size=64,
    ),
    "short convolutions": lambda: transformers.Lfm2Config(**PAD, num_key_value_heads=2, layer_types=["conv", "full_attention"] * 2),
    "a scan beside attention": lambda: transformers.FalconH1Config(**(PAD | HYBRID | GROUPED)),
    "temperatures by position": lambda: transformers.Llama4TextConfig(
        **(PAD | GROUPED), intermediate_size_mlp=64, num_local_experts=4, attention_chunk_size=4
    ),
    "an index of keys": lambda: transformers.GlmMoeDsaConfig(**(PAD | LATENT | EXPERTS), index_n_heads=4, index_head_dim=8, index_topk=4),
    "lists instead of tuples": lambda: transformers.OpenAIGPTConfig(vocab_size=300, n_embd=32, n_layer=4, n_head=4, n_positions=64),
}


@pytest.fixture(scope="module")
def keeping(tokenizer):
    """kind → a model that keeps that."""
    loaded: dict[str, Any] = {}

    def load(kind: str) -> Any:
        if kind not in loaded:
            torch.manual_seed(0)
            config = MADE[kind]()
            classes = {
                "lists instead of tuples": transformers.OpenAIGPTLMHeadModel,
                "temperatures by position": transformers.Llama4ForCausalLM,
            }
            hf_model = classes[kind](config) if kind in classes else transformers.AutoModelForCausalLM.from_config(config)
            for weight in hf_model.parameters():
                weight.data += 0.1 * torch.randn_like(weight)
            loaded[kind] = load_model(hf_model.eval(), tokenizer=tokenizer)
        return loaded[kind]

    return load


def by_hooked_passes(replay: Replay, pos: torch.Tensor, x: torch.Tensor, columns: Columns) -> torch.Tensor:
    found = []
    for p, value in zip(pos.tolist(), x, strict=True):

        def put(stream: torch.Tensor, p: int = p, value: torch.Tensor = value) -> torch.Tensor:
            stream = stream.clone()
            stream[:, p] = value
            return stream

        with torch.no_grad(), hooked(replay.model, replay.hook_name, put):
            found.append(columns.of(last_logits(replay.model, replay.tokens)))
    return torch.cat(found)


@pytest.mark.parametrize("kind", MADE)
@pytest.mark.parametrize("block", [0, 2])
def test_rows_from_any_position_on_equal_whole_passes_in_whatever_order_they_come(keeping, tokens, kind, block):
    replay, columns = Replay(keeping(kind), f"blocks.{block}.hook_resid_pre", tokens), Columns((5, 7), has_mean=True)
    assert replay.way == ("whole" if kind == "lists instead of tuples" else "prefix"), replay.why_not
    for pos in ([3, 3, 5], [9], [1, 2], [len(tokens[0]) - 1], [0, 4], [3]):  # forth and back: states are brought along or made anew
        at = torch.tensor(pos)
        x = replay.clean[at] + replay.clean.std() * torch.randn(len(pos), replay.clean.shape[1])
        expected = by_hooked_passes(replay, at, x, columns)
        torch.testing.assert_close(replay.logits(at, x, columns), expected, rtol=0, atol=1e-4 * expected.abs().max().item())


def test_a_block_that_takes_up_a_state_for_one_position_only_is_found_out(keeping, tokens):
    """Mamba 1 of transformers scans several positions from an empty state, whatever stands in the cache."""
    stepped = {kind: Replay(keeping(kind), "blocks.1.hook_resid_pre", tokens)._tail._past.stepped for kind in ("a scan", "a chunked scan")}
    assert stepped == {"a scan": {1, 2, 3}, "a chunked scan": set()}


def test_a_stream_picked_inside_a_block_stands_inside_it():
    """Gemma 3n's hook_resid_pre is one of the four streams that enter; elsewhere it is another name of what enters."""
    names = {"blocks.2.hook_resid_pre": "blocks.2.hook_resid_pre", "blocks.2.hook_resid_post": "blocks.2.hook_resid_post"}
    picked, same = (
        SimpleNamespace(hook_dict={name: SimpleNamespace(name=of) for name, of in some.items()})
        for some in (names, {"blocks.2.hook_resid_pre": "blocks.2.hook_in", "blocks.2.hook_resid_post": "blocks.2.hook_out"})
    )
    assert [place_of(picked, name) for name in names] == [(2, True), (2, True)]  # pyright: ignore[reportArgumentType]
    assert [place_of(same, name) for name in names] == [(2, False), (3, False)]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("kind", ["a scan", "an index of keys"])
def test_states_are_kept_of_one_prompt_and_several_are_no_reason_to_warn(keeping, tokens, kind, recwarn):
    made = Replay(keeping(kind), "blocks.1.hook_resid_pre", torch.cat([tokens, tokens.flip(1)]))
    assert made.way == "whole" and "of one prompt" in made.why_not
    assert not [each for each in recwarn if "slower way" in str(each.message)]
