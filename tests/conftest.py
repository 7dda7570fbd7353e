"""Tiny random models of five families, saved as Hugging Face folders and loaded by load_model, and an SAE that many features fire in."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from made_folders import made_folders
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, Gemma2Config, GPT2Config, GPTNeoXConfig, LlamaConfig, PreTrainedTokenizerFast, Qwen3Config

from workbench.bench import Workbench, load
from workbench.model import load_model
from workbench.sae.sae import SAE, SAEConfig

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


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE, built in memory: words of TEXT are one token each."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=N_VOCAB, special_tokens=["<|start|>"], initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator([TEXT] * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<|start|>", eos_token="<|start|>")


def random_hf_model(family: str) -> torch.nn.Module:
    """Weights larger than at initialization, so that every part of the model matters to its logits."""
    torch.manual_seed(0)
    hf_model = AutoModelForCausalLM.from_config(CONFIGS[family], attn_implementation="eager").eval()
    for weight in hf_model.parameters():
        weight.data += 0.1 * torch.randn_like(weight)
    return hf_model


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def folder(family: str) -> Path:
        if family not in made:
            made[family] = tmp_path_factory.mktemp(family)
            random_hf_model(family).save_pretrained(made[family])
            tokenizer.save_pretrained(made[family])
        return made[family]

    return folder


LOADED: dict[str, Any] = {}  # family → model, for the whole session


@pytest.fixture(scope="session")
def model_of(folder_of: Callable[[str], Path]):
    def model(family: str):
        if family not in LOADED:
            LOADED[family] = load_model(folder_of(family))
            LOADED[family](torch.zeros(1, 2, dtype=torch.long))  # the first pass wires hooks of the bridge's own, which stay
            LOADED[family].n_hooks_at_rest = n_hooks(LOADED[family])
        return LOADED[family]

    return model


@pytest.fixture
def model(model_of):
    return model_of("gpt2")


@pytest.fixture
def tokens() -> torch.Tensor:
    torch.manual_seed(1)
    return torch.cat([torch.zeros(1, 1, dtype=torch.long), torch.randint(1, N_VOCAB, (1, 11))], dim=1)


def random_sae(hook_name: str = "blocks.1.hook_resid_pre", d_in: int = D_MODEL, dtype: torch.dtype = torch.float32) -> SAE:
    """About half of its features fire anywhere."""
    torch.manual_seed(2)
    sae = SAE(SAEConfig(d_in, D_SAE, hook_name))
    for weight in sae.parameters():
        weight.data = 0.3 * torch.randn_like(weight)
    return sae.to(dtype).requires_grad_(False)


@pytest.fixture
def sae() -> SAE:
    return random_sae()


def n_hooks(model) -> int:
    """Every hook anywhere in the model: hook points, blocks, the Hugging Face model, which is no submodule of the bridge."""
    modules = {*model.modules(), *model.original_model.modules()}
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) + len(module._backward_hooks) for module in modules)


@pytest.fixture(autouse=True)
def no_hook_is_left():
    """Around every test, whatever it is about."""
    yield
    for family, model in LOADED.items():
        assert n_hooks(model) == model.n_hooks_at_rest, f"a hook was left in the {family} model"


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(a model's folder, an SAE's) as a user would have them."""
    return made_folders(tmp_path_factory.mktemp("folders"))


@pytest.fixture(scope="session")
def bench(folders: tuple[Path, Path]) -> Workbench:
    """The two of them loaded by name."""
    return load(str(folders[0]), sae=folders[1])


@pytest.fixture(scope="session")
def options_of_both(folders: tuple[Path, Path]) -> list[str]:
    """The same for a shell."""
    return ["--model", str(folders[0]), "--sae", str(folders[1])]
