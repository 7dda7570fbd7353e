"""Tiny configurations of any architecture that transformers knows: its own defaults, with every size cut down.

Sizes are found by the names that configurations give them, also inside nested ones (the text part of a multimodal model). SPECIAL holds
what a family needs besides, VARIANTS other settings of a family under which its arithmetic differs.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

N_VOCAB, N_CTX, D_MODEL, N_LAYERS = 300, 64, 32, 4

SIZES: dict[str, Any] = {}


def _sizes(value: Any, *names: str) -> None:
    SIZES.update(dict.fromkeys(names, value))


_sizes(
    D_MODEL, "hidden_size", "d_model", "n_embd", "embed_dim", "attention_hidden_size", "lru_width", "projection_dim", "word_embed_proj_dim"
)
_sizes(
    N_LAYERS, "num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_decoder_layers", "encoder_layers", "decoder_layers", "depth"
)
_sizes(4, "num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads", "decoder_attention_heads")
_sizes(2, "num_key_value_heads", "n_groups", "mamba_n_groups", "mamba_ngroups", "num_experts_per_tok", "num_kv_heads", "n_mamba_groups")
_sizes(8, "head_dim", "d_kv", "global_head_dim", "attention_head_dim", "kv_channels")
_sizes(64, "intermediate_size", "d_ff", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim", "n_inner", "moe_intermediate_size")
_sizes(64, "shared_expert_intermediate_size", "moe_shared_expert_intermediate_size", "intermediate_size_mlp", "ffn_hidden_size")
_sizes(4, "num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_sizes(N_CTX, "max_position_embeddings", "n_positions", "max_seq_len", "n_ctx", "context_length", "max_encoder_position_embeddings")
_sizes(N_CTX, "max_decoder_position_embeddings")
_sizes(N_VOCAB, "vocab_size")
_sizes(1, "pad_token_id")
_sizes(N_VOCAB, "vocab_size_per_layer_input")
_sizes(D_MODEL, "out_hidden_size", "vision_output_dim", "projector_input_dim", "projector_output_dim", "hidden_size_per_layer_input")
_sizes(D_MODEL, "output_dim", "codebook_dim", "output_proj_dims", "base_channels", "embedding_size", "dim")
_sizes(0, "bos_token_id", "eos_token_id", "decoder_start_token_id")
_sizes(4, "sliding_window", "attention_window_size", "local_attention", "attention_chunk_size")
_sizes(16, "q_lora_rank", "kv_lora_rank", "state_size", "mamba_d_state", "ssm_state_size", "time_step_rank", "mamba_dt_rank")
_sizes(8, "qk_nope_head_dim", "v_head_dim", "qk_rope_head_dim", "mamba_head_dim", "linear_key_head_dim", "linear_value_head_dim")
_sizes(2, "linear_num_key_heads", "linear_num_value_heads")
_sizes(8, "chunk_size", "mamba_chunk_size")
_sizes(1, "n_group", "topk_group", "first_k_dense_replace", "n_shared_experts", "num_dense_layers")

MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_ssm": 64}
LATENT = {"num_key_value_heads": 4}  # attention through a latent vector has no groups
THREE_AXES = {"rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 1, 1]}}
SPECIAL: dict[str, dict[str, Any]] = {
    "BambaForCausalLM": MAMBA | {"attn_layer_indices": [1, 3]},
    "GraniteMoeHybridForCausalLM": MAMBA | {"layer_types": ["mamba", "attention"] * 2},
    "FalconH1ForCausalLM": MAMBA,
    "Mamba2ForCausalLM": {"num_heads": 8, "head_dim": 8},
    "YoutuForCausalLM": LATENT,
    "DeepseekV2ForCausalLM": LATENT | {"num_experts_per_tok": 2},
    "DeepseekV3ForCausalLM": LATENT,
    "GlmMoeDsaForCausalLM": LATENT,
    "Glm4MoeLiteForCausalLM": LATENT,
    "CodeGenForCausalLM": {"rotary_dim": 8},
    "GPTJForCausalLM": {"rotary_dim": 8},
    "Ernie4_5_MoeForCausalLM": {"moe_k": 2},
    "Emu3ForConditionalGeneration": {"vocabulary_map": {f"<|visual token {i:06d}|>": 200 + i for i in range(50)} | {"<image>": 299}},
    "Florence2ForConditionalGeneration": {"vision_config": {"embed_dim": [8, 8, 16, 32], "num_heads": [2] * 4, "num_groups": [2] * 4}},
    "MuseGlimmerForConditionalGeneration": {"projector_hidden_size": 32},
    "LEDForConditionalGeneration": {"attention_window": [4] * N_LAYERS},
    "GPTNeoForCausalLM": {"attention_types": [[["global", "local"], N_LAYERS // 2]], "window_size": 4},
    "HunYuanDenseV1ForCausalLM": {"head_dim": 8},
    "Gemma3nForConditionalGeneration": {"text_config": {"intermediate_size": [64] * N_LAYERS, "num_kv_shared_layers": 2, "laurel_rank": 8}},
    "JambaForCausalLM": {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2},
    "Lfm2MoeForCausalLM": {"layer_types": ["conv", "full_attention"] * 2},
    "Zamba2ForCausalLM": {
        "num_key_value_heads": 4,
        "mamba_ngroups": 1,
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
        "layers_block_type": ["linear_attention", "hybrid"] * 2,
    },
    "NemotronForCausalLM": {"num_key_value_heads": 2},
    "Glm4vForConditionalGeneration": {"text_config": THREE_AXES},
    "Qwen2_5_VLForConditionalGeneration": {"text_config": THREE_AXES},
    "Qwen3VLForConditionalGeneration": {"text_config": THREE_AXES},
    "Qwen3VLMoeForConditionalGeneration": {"text_config": THREE_AXES},
}
OTHER_NAMES = {  # of one class of transformers, in the config.json of older checkpoints
    "Gemma1ForCausalLM": "GemmaForCausalLM",
    "JetMoEForCausalLM": "JetMoeForCausalLM",
    "MPTForCausalLM": "MptForCausalLM",
    "PhiMoEForCausalLM": "PhimoeForCausalLM",
    "T5WithLMHeadModel": "T5ForConditionalGeneration",
}
NO_CHECKPOINT = {  # names that TransformerLens gives to models of its own
    *("MinGPTForCausalLM", "NanoGPTForCausalLM", "NeelSoluOldForCausalLM", "NeoForCausalLM", "NeoXForCausalLM"),
    *("TransformerLensNative", "TransformerLensPretrain"),
}
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "BertLMHeadModel": {"decoder": {"is_decoder": True}},
    "CohereForCausalLM": {"qk_norm": {"use_qk_norm": True}},
    "FalconForCausalLM": {
        "alibi": {"alibi": True},
        "new": {"new_decoder_architecture": True, "num_kv_heads": 2},
        "serial": {"parallel_attn": False},
    },
    "GPT2LMHeadModel": {"scaled": {"scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": True}},
    "GPTBigCodeForCausalLM": {"many": {"multi_query": False}},
    "GPTNeoXForCausalLM": {"serial": {"use_parallel_residual": False}},
    "Gemma2ForCausalLM": {"caps": {"final_logit_softcapping": 0.5, "attn_logit_softcapping": 0.5}},
    "Gemma3ForCausalLM": {"caps": {"final_logit_softcapping": 0.5, "attn_logit_softcapping": 0.5}},
    "Gemma4ForCausalLM": {"shared": {"num_kv_shared_layers": 2}},
    "Gemma4ForConditionalGeneration": {"shared": {"text_config": {"num_kv_shared_layers": 2}}},
    "GraniteMoeHybridForCausalLM": {"rope": {"position_embedding_type": "rope"}},
    "GraniteForCausalLM": {"scaled": {"logits_scaling": 8.0, "residual_multiplier": 0.3, "embedding_multiplier": 4.0}},
    "MistralForCausalLM": {"sliding": {"sliding_window": 4}},
    "OPTForCausalLM": {
        "post_norm": {"do_layer_norm_before": False},
        "projected": {"word_embed_proj_dim": 16, "do_layer_norm_before": False},
    },
    "PhiForCausalLM": {"qk_norm": {"qk_layernorm": True}},
    "Qwen2ForCausalLM": {"sliding": {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 2}},
    "StableLmForCausalLM": {"parallel": {"use_parallel_residual": True, "qk_layernorm": True}},
}


def tiny_config(architecture: str, variant: str = "") -> Any:
    """A configuration of the class of this name in transformers. Raises AttributeError for a name that transformers does not know."""
    config_class = class_of(architecture).config_class
    special = SPECIAL.get(architecture, {}) | VARIANTS.get(architecture, {}).get(variant, {})
    config = config_class(**_small(config_class().to_dict(), special))
    config.architectures = [architecture]
    return config


def class_of(architecture: str) -> Any:
    import transformers

    return getattr(transformers, OTHER_NAMES.get(architecture, architecture))


def _small(defaults: dict[str, Any], special: dict[str, Any]) -> dict[str, Any]:
    small: dict[str, Any] = {}
    for name, value in defaults.items():
        if isinstance(value, dict) and "model_type" in value:
            small[name] = {"model_type": value["model_type"]} | _small(value, special.get(name, {}))
        elif name == "pad_token_id" or (name in SIZES and isinstance(value, int)):
            small[name] = SIZES[name]
        elif name in ("layer_types", "layers_block_type", "mlp_layer_types") and isinstance(value, list):
            kinds = list(dict.fromkeys(value))
            small[name] = [kinds[i % len(kinds)] for i in range(N_LAYERS)]
    return small | {name: value for name, value in special.items() if not isinstance(small.get(name), dict)}


def checkpoint(architecture: str, variant: str, folder: str) -> Any:
    """The Hugging Face model, saved in the folder with a tokenizer. Weights larger than at initialization: every part matters."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    torch.manual_seed(0)
    hf_class = class_of(architecture)
    hf_model = hf_class(tiny_config(architecture, variant))
    for parameter in hf_model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    hf_model.save_pretrained(folder)
    config = Path(folder, "config.json")
    config.write_text(json.dumps(json.loads(config.read_text()) | {"architectures": [architecture]}))
    vocabulary = {"<s>": 0, "<pad>": 1} | {f"w{i}": i for i in range(2, 200)}
    words = Tokenizer(models.WordLevel(vocabulary, "<pad>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"bos_token": "<s>", "eos_token": "<s>", "pad_token": "<pad>", "unk_token": "<pad>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(folder)
    return hf_class.from_pretrained(folder, attn_implementation="eager").eval().requires_grad_(False)


def checkpoint_with_code(architecture: str, folder: str) -> None:
    """A folder as of a model whose classes come with its weights, as far as the first look at it goes."""
    auto_map = {"AutoConfig": "configuration.Config", "AutoModelForCausalLM": "modeling.Model"}
    about = {"architectures": [architecture], "model_type": architecture.lower(), "auto_map": auto_map}
    Path(folder, "config.json").write_text(json.dumps(about))


@contextmanager
def without_vision_tower(architecture: str) -> Iterator[None]:
    """Gemma 3n's comes from another library, timm; no text goes through it."""
    if architecture != "Gemma3nForConditionalGeneration":
        yield
        return
    from transformers.models.gemma3n import modeling_gemma3n as module

    modeling_gemma3n: Any = module

    real = modeling_gemma3n.AutoModel.from_config
    with patch.object(
        modeling_gemma3n.AutoModel, "from_config", lambda c, **k: torch.nn.Identity() if "vision" in c.model_type else real(c, **k)
    ):
        yield
