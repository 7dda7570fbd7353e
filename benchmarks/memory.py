"""Does every verb stay within the memory that it says it needs, with 131,072 features?

    python benchmarks/memory.py [--verbs rank find …] [--features 131072] [--tokens 5000] [--prompts 2000]

A row a verb, each in a process of its own, on a random model (two layers of width 64) and random TopK dictionaries that let 32 features of
131,072 fire at a token: the plan (what the verb itself checks before it begins, workbench/model/memory.py), the peak of resident memory
beyond what the process held before (model and dictionaries among it; a first call on two words has loaded what is loaded once), and
peak / plan. It should lie within 20 % of 1; where a plan is below 200 MB, the allocator and the libraries decide and the ratio says little.
"""

import argparse
import ctypes
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from workbench.bench import Workbench
from workbench.circuits.evidence.sets import FeatureSets
from workbench.circuits.metrics import logit_diff
from workbench.features.index.index import build_index
from workbench.model import memory
from workbench.model.model import load_model
from workbench.sae.config import SAEConfig, TranscoderConfig
from workbench.sae.evaluate import evaluate
from workbench.sae.evaluate_layers import evaluate_layers
from workbench.sae.sae import SAE
from workbench.sae.transcoder import Transcoder

D_MODEL, N_WORDS, K = 64, 500, 32
READ = "blocks.1.hook_resid_pre"
NOISE = 200e6  # bytes below which a ratio says little


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--verbs", nargs="+", default=list(VERBS), choices=list(VERBS))
    parser.add_argument("--features", type=int, default=131_072)
    parser.add_argument("--tokens", type=int, default=5_000, help="of the prompt that is ranked")
    parser.add_argument("--prompts", type=int, default=2_000, help="that are searched with")
    parser.add_argument("--layers", type=int, default=2, help="of the model")
    parser.add_argument("--alone", action="store_true", help="the one verb in this process")
    return parser.parse_args()


class Setting:
    """The random model and its dictionaries."""

    def __init__(self, options: argparse.Namespace):
        torch.manual_seed(0)
        self.options, self.n, self.d_sae = options, options.tokens, options.features
        self.model = random_model(options.layers)
        self.hooks = [f"blocks.{layer}.hook_resid_pre" for layer in range(options.layers)]
        self.metric = logit_diff("w1", "w2")

    def text(self, n: int, seed: int = 0) -> str:
        draws = torch.randint(1, N_WORDS, (n,), generator=torch.Generator().manual_seed(seed))
        return " ".join(f"w{i}" for i in draws.tolist())

    def texts(self, n: int, length: int) -> list[str]:
        return [self.text(length, seed) for seed in range(n)]

    def sae(self, hook_name: str = READ, k: int = K) -> SAE:
        return filled(SAE(SAEConfig(D_MODEL, self.d_sae, hook_name, architecture="topk", k=k)))

    def jumprelu(self, hook_name: str) -> SAE:
        """As many features fire: their threshold is what so many exceed on some tokens."""
        sae = filled(SAE(SAEConfig(D_MODEL, self.d_sae, hook_name, architecture="jumprelu")))
        x = self.model.run_with_cache(self.text(50), names_filter=hook_name)[1][hook_name][0, 1:]
        sae.threshold.fill_(sae.pre_acts(x).flatten().topk(K * len(x)).values[-1])
        return sae

    def bench(self, **parts: Any) -> Workbench:
        return Workbench(self.model, self.sae(), **parts)

    def transcoders(self) -> dict[int, Transcoder]:
        def one(layer: int) -> Transcoder:
            names = f"blocks.{layer}.ln2.hook_normalized", f"blocks.{layer}.hook_mlp_out"
            return filled(Transcoder(TranscoderConfig(D_MODEL, D_MODEL, self.d_sae, *names, architecture="topk", k=K)))

        return {layer: one(layer) for layer in range(self.options.layers)}


def random_model(n_layers: int) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    words = {"<s>": 0} | {f"w{i}": i for i in range(1, N_WORDS)}
    tokenizer = Tokenizer(models.WordLevel(words, "<s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    cfg = GPT2Config(vocab_size=N_WORDS, n_embd=D_MODEL, n_layer=n_layers, n_head=1, n_positions=8192, bos_token_id=0, eos_token_id=0)
    hf_model = GPT2LMHeadModel(cfg).eval().requires_grad_(False)
    return load_model(hf_model, tokenizer=PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="<s>"))


def filled(dictionary: Any) -> Any:
    for weight in (dictionary.W_dec, dictionary.W_enc.T):
        nn.init.normal_(weight, std=D_MODEL**-0.5)
    return dictionary.requires_grad_(False)


def rank(s: Setting) -> Callable[[int], Any]:
    bench = s.bench()
    return lambda n: bench.rank(s.text(n or s.n), s.metric, ablate=64, progress=False)


def circuit(s: Setting) -> Callable[[int], Any]:
    saes = [s.jumprelu(name) for name in s.hooks]  # of TopK every row's features are all encoded anew: minutes
    bench = Workbench(s.model, saes[0])
    return lambda n: bench.circuit(s.text(n or 100), s.metric, saes=saes, progress=False)


def circuit_of_transcoders(s: Setting) -> Callable[[int], Any]:
    bench = Workbench(s.model, transcoders=s.transcoders())
    return lambda n: bench.circuit(s.text(n or 300), s.metric, over="transcoders", progress=False)


def sets(s: Setting) -> Callable[[int], Any]:
    bench = s.bench()
    return lambda n: FeatureSets(bench, s.text(n or s.n), s.metric)


def find(s: Setting) -> Callable[[int], Any]:
    bench = s.bench()

    def run(n: int) -> Any:
        prompts = s.texts(n or s.options.prompts, 40)
        return bench.find(prompts[::2], prompts[1::2])

    return run


def index(s: Setting) -> Callable[[int], Any]:
    sae = s.sae(k=4 * K)  # more entries than are summarized together, of fewer tokens

    def run(n: int) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            return build_index(s.model, sae, s.texts(n or 350, 200), folder, progress=False)

    return run


def of_sae(s: Setting) -> Callable[[int], Any]:
    sae = s.sae()
    return lambda n: evaluate(s.model, sae, s.texts(n or 12, 200), n_loss_tokens=4096, progress=False)


def of_layers(s: Setting) -> Callable[[int], Any]:
    transcoders = s.transcoders()
    return lambda n: evaluate_layers(s.model, transcoders, s.texts(n or 12, 200), n_loss_tokens=4096, progress=False)


VERBS: dict[str, Callable[[Setting], Callable[[int], Any]]] = {
    "rank": rank,
    "circuit": circuit,
    "circuit of transcoders": circuit_of_transcoders,
    "sets": sets,
    "find": find,
    "index": index,
    "evaluate": of_sae,
    "evaluate layers": of_layers,
}


def resident(name: str) -> int:
    """VmRSS, or VmHWM: its peak since it was last forgotten."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None, f"/proc/self/status has no {name}"
    return 1024 * int(found[1])


def measured(options: argparse.Namespace) -> str:
    """plan, peak and seconds of one verb, in this process."""
    torch.set_num_threads(1)
    plans: list[int] = []
    check = memory.Need.check

    def noting(self: memory.Need, device: torch.device, insist: bool | None = False, say: bool = False) -> None:
        plans.append(self.n_bytes)
        check(self, device, insist, say)

    memory.Need.check = noting
    run = VERBS[options.verbs[0]](Setting(options))
    run(4)
    plans.clear()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before, start = resident("VmRSS"), time.perf_counter()
    run(0)
    return f"{max(plans, default=0)} {resident('VmHWM') - before} {time.perf_counter() - start}"


def main() -> None:
    options = arguments()
    if options.alone:
        print(measured(options))
        return
    print(f"{'verb':<24}{'plan, MB':>10}{'peak, MB':>10}{'ratio':>8}{'seconds':>9}")
    for verb in options.verbs:
        sizes = [
            f"--features={options.features}",
            f"--tokens={options.tokens}",
            f"--prompts={options.prompts}",
            f"--layers={options.layers}",
        ]
        command = [sys.executable, __file__, "--alone", *sizes, "--verbs", verb]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode:
            print(f"{verb:<24}{(ran.stderr.strip().splitlines() or [f'ended by {-ran.returncode}'])[-1][:120]}")
            continue
        plan, peak, seconds = map(float, ran.stdout.split()[-3:])
        ratio = f"{peak / plan:8.2f}" if plan else f"{'–':>8}"
        print(f"{verb:<24}{plan / 1e6:10.0f}{peak / 1e6:10.0f}{ratio}{seconds:9.1f}{'   small' if plan < NOISE else ''}", flush=True)


if __name__ == "__main__":
    main()
