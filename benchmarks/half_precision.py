"""Half-precision weights: what the float32 finish costs, and what it is worth.

    python benchmarks/half_precision.py [--pairs 48] [--tokens 24] [--rounds 3]

A random model of 6 blocks, hook at 3, its weights in bfloat16 and in float16. The truth is float64 of the same weights. Printed: the
largest error of a ranking's effects, in parts of the largest effect, with the finish (precision.py) and computed in the weights' own type;
and the CPU time of either, and of the same weights in a float32 model, which is what the finish would cost were widening free. Target:
errors within 1e-3, at most 2 times the time without the finish. A processor without bfloat16 products is slower at them than at float32's
(the last column says by how much), so that there the finish is no cost but a gain; where such products are fast, this is to be run again.
"""

import argparse
import copy
from contextlib import nullcontext
from typing import Any
from unittest.mock import patch

import torch
import transformers
from families import SIZES, one_word
from setting import product_of, take_turns

from workbench.circuits.metrics import logit_diff
from workbench.circuits.ranking.ablation import ablate
from workbench.model.model import load_model
from workbench.sae.config import SAEConfig
from workbench.sae.sae import SAE

HOOK, WIDTH, D_SAE, N_ACTIVE = "blocks.3.hook_resid_pre", 512, 4096, 32


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=48)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"{'':<10}{'error':>9}{'without':>9}{'ms a pair':>11}{'without':>9}{'float32':>9}{'× without':>11}{'× float32':>11}{'products':>10}"
    )
    for dtype in (torch.bfloat16, torch.float16):
        print(one_dtype(dtype, options), flush=True)


def one_dtype(dtype: torch.dtype, options: argparse.Namespace) -> str:
    hf_model = random_model().to(dtype)
    wider = (torch.float64, torch.float32)
    models = {wide: load_model(copy.deepcopy(hf_model).to(wide), tokenizer=one_word()) for wide in wider}
    half, tokens = load_model(hf_model, tokenizer=one_word()), torch.randint(2, SIZES["vocab_size"], (1, options.tokens))
    sae, pairs = random_sae(models[torch.float32], tokens, options.pairs)
    truth = ablate(models[torch.float64], copy.deepcopy(sae).double(), tokens, logit_diff(5, 7), pairs, progress=False)
    found: dict[str, torch.Tensor] = {}

    def run(name: str, model: Any, has_finish: bool = True) -> None:
        with nullcontext() if has_finish else patch("workbench.replay.precision.is_half", lambda model: False):
            found[name] = ablate(model, sae, tokens, logit_diff(5, 7), pairs, progress=False)

    narrow, wide = product_of(WIDTH, dtype), product_of(WIDTH)
    seconds = take_turns(
        {
            "with": lambda: run("with", half),
            "without": lambda: run("without", half, has_finish=False),
            "float32": lambda: run("float32", models[torch.float32]),
            "narrow": narrow[0],
            "wide": wide[0],
        },
        options.rounds,
    )
    errors = {name: float((effects.double() - truth).abs().max() / truth.abs().max()) for name, effects in found.items()}
    each = {name: f"{1e3 * seconds[name] / len(pairs):.2f}" for name in found}
    row = f"{str(dtype).removeprefix('torch.'):<10}{errors['with']:>9.0e}{errors['without']:>9.0e}"
    row += f"{each['with']:>11}{each['without']:>9}{each['float32']:>9}"
    row += f"{seconds['with'] / seconds['without']:>11.2f}{seconds['with'] / seconds['float32']:>11.2f}"
    return row + f"{seconds['narrow'] / seconds['wide']:>9.1f}×"


def random_model() -> Any:
    """Weights larger than at initialization: what is computed of them rounds as a trained model's does."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = dict(num_hidden_layers=6, hidden_size=WIDTH, intermediate_size=4 * WIDTH)
    config = transformers.LlamaConfig(**{**SIZES, **sizes})
    hf_model: Any = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval().requires_grad_(False)
    for weight in hf_model.parameters():
        weight.data *= 1.5 if weight.ndim > 1 else 1.0
    return hf_model


def random_sae(model: Any, tokens: torch.Tensor, n_pairs: int) -> tuple[SAE, torch.Tensor]:
    sae = SAE(SAEConfig(WIDTH, D_SAE, HOOK))
    sae.W_dec.data = torch.nn.functional.normalize(torch.randn(D_SAE, WIDTH), dim=1)
    sae.W_enc.data = sae.W_dec.data.T.contiguous()
    _, cache = model.run_with_cache(tokens, names_filter=HOOK)
    pre_acts = cache[HOOK][0] @ sae.W_enc.data
    sae.b_enc.data -= pre_acts.flatten().topk(N_ACTIVE * tokens.shape[1]).values[-1]
    active = (pre_acts + sae.b_enc.data > 0).nonzero()
    return sae.requires_grad_(False), active[torch.randperm(len(active))[:n_pairs].sort().values]


if __name__ == "__main__":
    main()
