"""What tiny models and SAEs are made of: configurations of five families, random weights, an SAE that many features fire in."""

import torch
from transformers import AutoModelForCausalLM, Gemma2Config, GPT2Config, GPTNeoXConfig, LlamaConfig, Qwen3Config

from workbench.sae.config import SAEConfig
from workbench.sae.sae import SAE

TEXT = "the cat sat on the mat and the dog ran to the cat"
D_MODEL, D_SAE, N_LAYERS, N_CTX, N_VOCAB = 32, 64, 4, 64, 300
SIZES = dict(vocab_size=N_VOCAB, hidden_size=D_MODEL, num_hidden_layers=N_LAYERS, num_attention_heads=4, intermediate_size=64)
SIZES |= dict(max_position_embeddings=N_CTX, bos_token_id=0, eos_token_id=0)
GROUPED = dict(num_key_value_heads=2, head_dim=8)
CONFIGS = {
    "gpt2": GPT2Config(vocab_size=N_VOCAB, n_embd=D_MODEL, n_layer=N_LAYERS, n_head=4, n_positions=N_CTX, bos_token_id=0, eos_token_id=0),
    "neox": GPTNeoXConfig(**SIZES),
    "llama": LlamaConfig(**SIZES, **GROUPED),
    # Caps and window small enough to bind on random weights and a dozen tokens.
    "gemma2": Gemma2Config(
        **SIZES, **GROUPED, sliding_window=4, query_pre_attn_scalar=8, final_logit_softcapping=0.5, attn_logit_softcapping=0.5
    ),
    "qwen3": Qwen3Config(**SIZES, **GROUPED),
}
FAMILIES = list(CONFIGS)


def random_hf_model(family: str) -> torch.nn.Module:
    """Weights larger than at initialization, so that every part of the model matters to its logits."""
    torch.manual_seed(0)
    hf_model = AutoModelForCausalLM.from_config(CONFIGS[family], attn_implementation="eager").eval()
    for weight in hf_model.parameters():
        weight.data += 0.1 * torch.randn_like(weight)
    return hf_model


def random_sae(hook_name: str = "blocks.1.hook_resid_pre", d_in: int = D_MODEL, dtype: torch.dtype = torch.float32) -> SAE:
    """About half of its features fire anywhere."""
    torch.manual_seed(2)
    sae = SAE(SAEConfig(d_in, D_SAE, hook_name))
    for weight in sae.parameters():
        weight.data = 0.3 * torch.randn_like(weight)
    return sae.to(dtype).requires_grad_(False)


def n_hooks(model) -> int:
    """Every hook anywhere in the model: hook points, blocks, the Hugging Face model, which is no submodule of the bridge."""
    modules = {*model.modules(), *model.original_model.modules()}
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) + len(module._backward_hooks) for module in modules)
