"""What the circuit benchmarks share: the models under test, the tutorial's Hugging Face model beside them, and fair clocks.

Times are CPU seconds of this process (one thread unless asked), medians over rounds in which baseline and ours take turns, so that other
work on the machine touches both alike.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from workbench.circuits.metrics import Metric, logit_diff
from workbench.model.gemm import machine_rate
from workbench.model.model import load_model
from workbench.model.points import place
from workbench.model.tokens import to_tokens
from workbench.sae.config import SAEConfig
from workbench.sae.dictionary import Dictionary
from workbench.sae.sae import SAE

N_ACTIVE, D_SAE = 64, 24_576


@dataclass(frozen=True)
class Setting:
    name: str
    model: Any  # the TransformerBridge
    hf_model: nn.Module  # the same weights in a plain Hugging Face model, as a tutorial would use it
    sae: Dictionary
    tokens: torch.Tensor
    metric: Metric

    @property
    def first_block(self) -> int:
        """The block whose input the SAE reads."""
        block, is_inner = place(self.sae.cfg.hook_name)
        assert not is_inner and block < self.model.cfg.n_layers, f"these benchmarks hook a block's input, not {self.sae.cfg.hook_name}"
        return block

    @property
    def hf_block(self) -> nn.Module:
        layers = next(m for m in self.hf_model.modules() if isinstance(m, nn.ModuleList) and len(m) == self.model.cfg.n_layers)
        return layers[self.first_block]


def arguments(description: str, n_rounds: int, n_tokens: int = 32) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--atlas", action="store_true", help="the bundled atlas instead of a random model of GPT-2-small's shape")
    parser.add_argument("--tokens", type=int, default=n_tokens, help="prompt length of the random model")
    parser.add_argument("--layer", type=int, default=6, help="the SAE reads blocks.LAYER.hook_resid_pre of the random model")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=n_rounds)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    return options


def setting(options: argparse.Namespace) -> Setting:
    return atlas_setting() if options.atlas else random_setting(options.tokens, options.layer)


def random_setting(n_tokens: int, layer: int, device: str = "cpu") -> Setting:
    """GPT-2 small with random weights and a random SAE whose threshold lets 64 features fire at a position on average."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    torch.manual_seed(0)
    hf_model = GPT2LMHeadModel(GPT2Config()).eval().requires_grad_(False).to(device)  # pyright: ignore[reportArgumentType]
    start = "<|endoftext|>"
    words = Tokenizer(models.WordLevel({start: 0} | {f"w{i}": i for i in range(1, hf_model.config.vocab_size)}, start))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, bos_token=start, eos_token=start)
    model = load_model(copy.deepcopy(hf_model), tokenizer=tokenizer)
    tokens = torch.randint(model.cfg.d_vocab, (1, n_tokens)).to(device)

    sae = SAE(SAEConfig(model.cfg.d_model, D_SAE, f"blocks.{layer}.hook_resid_pre"))
    sae.W_dec.data = nn.functional.normalize(torch.randn(D_SAE, model.cfg.d_model), dim=1)
    sae.W_enc.data = sae.W_dec.data.T.contiguous()
    sae.to(device)
    _, cache = model.run_with_cache(tokens, names_filter=sae.cfg.hook_name)
    pre_acts = cache[sae.cfg.hook_name][0] @ sae.W_enc.data
    sae.b_enc.data -= pre_acts.flatten().topk(N_ACTIVE * n_tokens).values[-1]
    return Setting("random GPT-2 small", model, hf_model, sae.requires_grad_(False), tokens, logit_diff(5, 7))


def atlas_setting() -> Setting:
    from transformers import AutoModelForCausalLM

    from workbench import atlas

    bench = atlas.load()
    folder = str(getattr(bench.model.original_model.config, "_name_or_path"))  # noqa: B009
    hf_model = AutoModelForCausalLM.from_pretrained(folder).eval().requires_grad_(False)
    tokens = to_tokens(bench.model, "Fact: The capital of the state where Kobe Bryant played basketball is")
    return Setting("atlas", bench.model, hf_model, bench.sae, tokens, logit_diff(" Sacramento", " Albany"))


def take_turns(ways: dict[str, Callable[[], Any]], n_rounds: int) -> dict[str, float]:
    """Median CPU seconds of each way; a first round warms up and does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for is_warm in [False] + [True] * n_rounds:
        for name, run in ways.items():
            start = time.process_time()
            run()
            if is_warm:
                seconds[name].append(time.process_time() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def product_of(d_model: int, dtype: torch.dtype = torch.float32) -> tuple[Callable[[], Any], float]:
    """(a matrix product as an MLP does it on a good batch, its floating-point operations): the machine's measured rate, the roof."""
    x, weight = torch.randn(1024, d_model, dtype=dtype), torch.randn(4 * d_model, d_model, dtype=dtype)

    def run() -> torch.Tensor:
        with machine_rate():
            return nn.functional.linear(x, weight)

    return run, 2.0 * x.numel() * len(weight)
