"""Rankings on other families than GPT-2: the fast way beside whole passes of the model, in one run on one thread.

    python benchmarks/families.py [--only NAME …] [--active 64] [--tokens 32] [--rounds 3] [--older FOLDER]

Random models of 12 blocks, hook at 6. Cohere, Granite and Falcon-H1 scale their logits, which
once meant a whole pass for every row; Falcon-H1, Qwen 3 Next and Mamba have recurrent layers, whose states the fast way takes from the
clean run. Times are CPU seconds, rounds take turns; the slower ways are timed on N_SLOW of the pairs. --older: the folder of another build
of the workbench, whose `ablate` is timed on the same models in a process of its own, ours in another one.
The share of the physical limit is that of ablation.py; a recurrence's own arithmetic is not counted in it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

import torch
import transformers

WIDTH, N_BLOCKS, HOOK, D_SAE, N_SLOW = 256, 12, "blocks.6.hook_resid_pre", 2048, 32
SIZES: dict[str, Any] = dict(vocab_size=16_384, hidden_size=WIDTH, num_hidden_layers=N_BLOCKS, num_attention_heads=8, num_key_value_heads=8)
SIZES |= dict(intermediate_size=4 * WIDTH, bos_token_id=0, eos_token_id=0, pad_token_id=1)
SHAPES: dict[str, Any] = {
    "GPT-2": lambda: transformers.GPT2Config(vocab_size=16_384, n_embd=WIDTH, n_layer=N_BLOCKS, n_head=8),
    "Cohere": lambda: transformers.CohereConfig(**SIZES),
    "Granite": lambda: transformers.GraniteConfig(**SIZES, logits_scaling=8.0),
    "Falcon-H1": lambda: transformers.FalconH1Config(**SIZES, mamba_d_ssm=WIDTH, mamba_n_heads=8, mamba_d_head=64, mamba_d_state=64),
    "Qwen 3 Next": lambda: transformers.Qwen3NextConfig(**SIZES, num_experts=0, linear_num_key_heads=4, linear_num_value_heads=8),
    "Mamba": lambda: transformers.MambaConfig(vocab_size=16_384, hidden_size=WIDTH, num_hidden_layers=N_BLOCKS),
}


def made(name: str, n_tokens: int, n_active: int) -> tuple[Any, Any, Any, torch.Tensor, torch.Tensor]:
    """(hf_model, model, sae, tokens, every active pair). Nothing here that an older build has not."""
    from workbench.model.model import load_model
    from workbench.sae.sae import SAE, SAEConfig

    torch.manual_seed(0)
    hf_model: Any = transformers.AutoModelForCausalLM.from_config(SHAPES[name](), attn_implementation="eager").eval().requires_grad_(False)
    hf_model.config.architectures = [type(hf_model).__name__]
    model = load_model(hf_model, tokenizer=one_word())
    tokens = torch.randint(2, 16_384, (1, n_tokens))
    sae = SAE(SAEConfig(WIDTH, D_SAE, HOOK))
    sae.W_dec.data = torch.nn.functional.normalize(torch.randn(D_SAE, WIDTH), dim=1)
    sae.W_enc.data = sae.W_dec.data.T.contiguous()
    _, cache = model.run_with_cache(tokens, names_filter=HOOK)
    pre_acts = cache[HOOK][0] @ sae.W_enc.data
    sae.b_enc.data -= pre_acts.flatten().topk(n_active * n_tokens).values[-1]
    active = (pre_acts + sae.b_enc.data > 0).nonzero()
    return hf_model, model, sae.requires_grad_(False), tokens, active


def one_word() -> Any:
    """A tokenizer: loading wants one, tokens here are drawn."""
    from tokenizers import Tokenizer, models

    words = Tokenizer(models.WordLevel({"s": 0}, "s"))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=words, bos_token="s", eos_token="s")


def compare(name: str, options: argparse.Namespace) -> None:
    """One line: ms a pair by the fast way and by whole passes, how far apart their effects are, the share of the machine's limit."""
    from ablation import needed_operations
    from setting import Setting, product_of, take_turns

    from workbench.circuits.metrics import logit_diff, resolve
    from workbench.circuits.ranking.ablation import effects_of
    from workbench.replay.replay import Replay

    hf_model, model, sae, tokens, pairs = made(name, options.tokens, options.active)
    metric = resolve(model, logit_diff(5, 7))
    found: dict[str, torch.Tensor] = {}
    ways: dict[str, str] = {}

    some = torch.randperm(len(pairs))[:N_SLOW].sort().values
    rows = {"prefix": torch.arange(len(pairs)), "whole": some, "forward": some}

    def run(way: str) -> None:
        replay, (p, f) = Replay(model, HOOK, tokens, way), pairs[rows[way]].T
        x = replay.clean[p] - sae.encode(replay.clean)[p, f, None] * sae.W_dec[f]
        found[way], ways[way] = effects_of(replay, metric, p, x), replay.way

    product, operations = product_of(WIDTH)
    timed = {way: lambda way=way: run(way) for way in ("prefix", "whole", "forward")} | {"product": lambda: [product() for _ in range(20)]}
    seconds = take_turns(timed, options.rounds)
    s = Setting(name, model, hf_model, sae, tokens, logit_diff(5, 7))
    share = needed_operations(s, pairs[:, 0]) * seconds["product"] / (20 * operations) / seconds["prefix"]
    error = float((found["prefix"][some] - found["forward"]).abs().max() / found["forward"].abs().max())
    each = {way: 1e3 * seconds[way] / (len(mine) + (way != "prefix")) for way, mine in rows.items()}  # their clean run is one pass more
    milliseconds = "".join(f"{value:>9.2f}" for value in each.values())
    ratios = "".join(f"{each[way] / each['prefix']:>8.1f}×" for way in ("whole", "forward"))
    print(f"{name:<12} {ways['prefix']:<8}{milliseconds}{ratios}{share:>9.2f}{error:>10.0e}", flush=True)


def time_ablate(name: str, options: argparse.Namespace) -> None:
    """Prints [CPU seconds of `ablate` by whichever build this process imports, the same in products]: medians over the rounds, each beside
    products of one fixed size, so that a machine that is faster for a while is no faster build."""
    from workbench.circuits.metrics import logit_diff
    from workbench.circuits.ranking.ablation import ablate

    _, model, sae, tokens, pairs = made(name, options.tokens, options.active)
    x, weight = torch.randn(2048, WIDTH), torch.randn(4 * WIDTH, WIDTH)
    seconds, products = [], []
    for _ in range(options.rounds + 1):
        around = [fixed_products(x, weight)]
        start = time.process_time()
        ablate(model, sae, tokens, logit_diff(5, 7), pairs, progress=False)
        seconds.append(time.process_time() - start)
        around.append(fixed_products(x, weight))
        products.append(2 * seconds[-1] / sum(around))
    print(json.dumps([statistics.median(seconds[1:]), statistics.median(products[1:])]))


def fixed_products(x: torch.Tensor, weight: torch.Tensor) -> float:
    start = time.process_time()
    for _ in range(200):
        torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return time.process_time() - start


def beside_older(name: str, options: argparse.Namespace) -> None:
    """Twice each, in the order A B B A; the ratio is of times counted in products."""
    same = ["--child", name, "--active", str(options.active), "--tokens", str(options.tokens), "--rounds", str(options.rounds)]
    ours = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    found: dict[str, list[list[float]]] = {options.older: [], ours: []}
    for build in (options.older, ours, ours, options.older):
        environment = os.environ | {"PYTHONPATH": build, "OMP_NUM_THREADS": "1"}
        done = subprocess.run([sys.executable, __file__, *same], env=environment, capture_output=True, text=True, check=True)
        found[build].append(json.loads(done.stdout.splitlines()[-1]))
    seconds, products = ({build: statistics.mean(each[k] for each in runs) for build, runs in found.items()} for k in (0, 1))
    each = 1e3 / (options.active * options.tokens)
    told = f"{name:<12} older build {each * seconds[options.older]:>8.2f}   ours {each * seconds[ours]:>8.2f} ms a pair"
    apart = ", ".join(f"{one[1] / other[1]:.2f}" for one, other in zip(found[options.older], found[ours], strict=True))
    print(f"{told}   ours is {products[options.older] / products[ours]:.2f}× (pair by pair {apart})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--active", type=int, default=64, help="features at a position, on average")
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--older", help="folder of another build")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.child:
        return time_ablate(options.child, options)
    if options.older:
        for name in options.only:
            beside_older(name, options)
        return None
    print(f"width {WIDTH}, {N_BLOCKS} blocks, {HOOK}, {options.tokens} tokens, {options.active} features active, one thread; ms a pair")
    print(f"{'':<12} {'way':<8}{'fast':>9}{'whole':>9}{'forward':>9}{'whole':>9}{'forward':>9}{'limit':>9}{'error':>10}")
    for name in options.only:
        compare(name, options)


if __name__ == "__main__":
    main()
