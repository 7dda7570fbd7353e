"""What an index costs: one pass over texts for every feature, against harvesting the activations and one product with the encoder.

    python benchmarks/index.py [--features 16384] [--tokens 16384] [--layer 6] [--threads 1] [--rounds 3] [--memory]

A model of GPT-2-small's shape with random weights; an SAE whose threshold lets 64 features fire at a token on average. The baseline runs
the same engine on the same batches of tokens, then the bare product. Whole: tokenizing, encoding, finding the active entries,
summarizing them and writing the files. What an index costs once, whatever the number of tokens (logits and neighbors of every feature),
is printed beside it. --memory: instead, the peak of a build at 65,536 features beyond what the process held before.
"""

import argparse
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from setting import take_turns
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from workbench.activations.rows import as_batch, batches, led
from workbench.features.index.building.collect import BATCH, collect, token_rows
from workbench.features.index.building.finish import finish
from workbench.features.index.building.shards import Shard
from workbench.features.index.index import FeatureIndex, build_index
from workbench.model.gemm import machine_rate
from workbench.model.head import Head
from workbench.model.model import load_model
from workbench.model.tokens import text_ids
from workbench.sae.config import SAEConfig
from workbench.sae.sae import SAE

N_ACTIVE, START, LENGTH = 64, "<|endoftext|>", 127
CHUNK = 256  # tokens of the bare product at once: larger results only cost page faults


@dataclass(frozen=True)
class Setting:
    model: Any
    sae: SAE
    head: Head
    texts: list[str]

    def inputs(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """(tokens, which of them are encoded), in the batches that the pass makes."""
        rows = token_rows(self.model, Shard(0, 0, self.texts), text_ids(self.model, self.texts))
        for batch in batches([len(row.ids) for row in rows], BATCH[self.sae.W_dec.device.type]):
            yield as_batch(self.model, [led(self.model, rows[i].ids) for i in batch])

    def baseline(self) -> None:
        for tokens, is_text in self.inputs():
            x = self.head(tokens)[self.sae.cfg.hook_name][is_text]
            with machine_rate(), torch.no_grad():
                for rows in x.split(CHUNK if x.device.type == "cpu" else 64 * CHUNK):
                    torch.matmul(rows, self.sae.W_enc)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--features", type=int, default=16_384)
    parser.add_argument("--tokens", type=int, default=16_384, help="tokens of a pass")
    parser.add_argument("--layer", type=int, default=6, help="the SAE reads blocks.LAYER.hook_resid_pre")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", action="store_true", help="the peak memory of a build at 65,536 features")
    return parser.parse_args()


def made(n_tokens: int, d_sae: int, layer: int, n_layers: int, device: str = "cpu") -> Setting:
    torch.manual_seed(0)
    config = GPT2Config(n_layer=n_layers)
    vocabulary = {START: 0, **{f"w{i}": i for i in range(1, config.vocab_size)}}
    words = Tokenizer(models.WordLevel(vocabulary, START))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, bos_token=START, eos_token=START)
    model = load_model(GPT2LMHeadModel(config).eval(), device=device, tokenizer=tokenizer)
    sae = SAE(SAEConfig(model.cfg.d_model, d_sae, f"blocks.{layer}.hook_resid_pre")).requires_grad_(False)
    sae.W_dec.copy_(torch.nn.functional.normalize(torch.randn(d_sae, model.cfg.d_model), dim=1))
    sae.W_enc.copy_(sae.W_dec.T)
    sae.to(device)
    rng = random.Random(0)
    texts = [" ".join(f"w{rng.randrange(1, config.vocab_size)}" for _ in range(LENGTH)) for _ in range(n_tokens // LENGTH)]
    s = Setting(model, sae, Head(model, [sae.cfg.hook_name]), texts)
    tokens, is_text = next(s.inputs())
    sample = s.head(tokens)[sae.cfg.hook_name][is_text][:1024]
    sae.b_enc -= sae.pre_acts(sample).flatten().topk(N_ACTIVE * len(sample)).values[-1]
    return s


def print_cost(options: argparse.Namespace) -> None:
    s = made(options.tokens, options.features, options.layer, n_layers=12)
    saes, shard, n_tokens = {"sae": s.sae}, Shard(0, 0, s.texts), len(s.texts) * LENGTH
    with tempfile.TemporaryDirectory() as folder:
        shards = Path(folder, "shards")

        def one_pass() -> None:
            shutil.rmtree(shards, ignore_errors=True)
            collect(s.head, saes, shard, shards)

        seconds = take_turns({"baseline": s.baseline, "ours": one_pass}, options.rounds)
        start = time.process_time()
        finish(s.model, saes, Path(folder), {"corpus": {"n_texts": len(s.texts)}}, progress=False)
        once = time.process_time() - start
    ours, baseline = seconds["ours"] / n_tokens, seconds["baseline"] / n_tokens
    print(f"random GPT-2 small, {s.sae.cfg.hook_name}, {options.features:,} features, {n_tokens:,} tokens, {options.threads} thread(s)")
    print(f"harvest + one product with the encoder: {1e6 * baseline:.0f} µs a token\n")
    print(f"{'the pass, all features':<44}{ours / baseline:>8.2f} ×   target ≤ 1.3")
    print(f"{'once: logits, neighbors, files':<44}{once:>8.1f} s, what the baseline takes for {once / baseline:,.0f} tokens")
    for n in (200_000, 1_000_000, 10_000_000):
        print(f"{f'the whole index of {n:,} tokens':<44}{(ours * n + once) / (baseline * n):>8.2f} ×")
    print(f"\n{options.features / (ours * 200_000 + once):,.0f} features a CPU second at 200,000 tokens")


def print_memory() -> None:
    """As the kernel counts it: the largest resident set, set back before the build."""
    s = made(n_tokens=140_000, d_sae=65_536, layer=0, n_layers=1)
    weights = sum(weight.numel() * weight.element_size() for weight in [*s.sae.parameters(), *s.model.original_model.parameters()])
    with tempfile.TemporaryDirectory() as folder:
        before = _memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        build_index(s.model, s.sae, s.texts, folder)
        peak = _memory("VmHWM")
        n_entries = FeatureIndex.open(folder).sql("SELECT sum(n_active) AS n FROM features")["n"][0]
    print(f"65,536 features of width 768, {len(s.texts) * LENGTH:,} tokens, {n_entries:,.0f} active entries")
    print(f"weights {weights / 1e9:.2f} GB; before the build {before / 1e9:.2f} GB; at its peak {peak / 1e9:.2f} GB")
    print(f"beyond what was there before: {(peak - before) / 1e9:.2f} GB; beyond the weights: {(peak - weights) / 1e9:.2f} GB, target ≤ 2")


def _memory(field: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return 1024 * int(line.split()[1])


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    print_memory() if options.memory else print_cost(options)


if __name__ == "__main__":
    main()
