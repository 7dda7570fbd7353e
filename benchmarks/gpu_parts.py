"""What gpu.py measures, section by section: each yields rows, of which `error` is against float64 or the CPU, `times` how often ours goes
into a way's time, `share` of the roof that the needed operations (or the dense-equivalent ones of an SAE step) would take at the card's
rate. Settings and baselines are those of the benchmarks for CPUs beside it."""

import copy
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import ablation as naive
import attribution as tutorial
import harvest as harvesting
import index as indexing
import numpy as np
import sae_step as steps
import torch
from setting import Setting, random_setting

from workbench.bench import Workbench
from workbench.circuits.ranking.ablation import ablate
from workbench.circuits.ranking.attribution import attribute
from workbench.features.index.building.collect import collect
from workbench.features.index.building.finish import finish
from workbench.features.index.building.shards import Shard
from workbench.model.head import Head
from workbench.replay.replay import Replay
from workbench.sae.kernels.objective import plain_step
from workbench.sae.kernels.step import sparse_step

Rows = Iterator[dict[str, Any]]
SHAPES = [("standard", 768, 16_384), ("topk", 768, 16_384), ("standard", 768, 65_536), ("topk", 768, 65_536)]
SHAPES += [("standard", 768, 262_144), ("standard", 4096, 65_536)]
BATCH = 8192  # tokens of an SAE step
LAYER = 6


@dataclass
class Card:
    device: str
    is_small: bool
    rates: dict[str, float] = field(default_factory=dict)  # operations, or bytes, a second

    def wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def take_turns(self, ways: dict[str, Callable[[], Any]], n_rounds: int = 5) -> dict[str, float]:
        """Median seconds of each way; a first round warms up and does not count. A way that does not fit in memory has none."""
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for is_warm in [False] + [True] * (1 if self.is_small else n_rounds):
            for name, run in ways.items():
                try:
                    self.wait()
                    start = time.perf_counter()
                    run()
                    self.wait()
                    if is_warm:
                        seconds[name].append(time.perf_counter() - start)
                except torch.OutOfMemoryError:
                    torch.cuda.empty_cache()
        return {name: statistics.median(times) for name, times in seconds.items() if times}

    def n(self, whole: int, small: int) -> int:
        return small if self.is_small else whole


def ms(seconds: float) -> float:
    return round(1e3 * seconds, 4)


def relative(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float((found.double() - exact.double()).norm() / exact.double().norm())


def roof(card: Card) -> Rows:
    """Large products and a large copy, as torch does them."""
    n = card.n(8192, 512)
    a, b = torch.randn(n, n, device=card.device), torch.randn(n, n, device=card.device)
    half, large = (a.bfloat16(), b.bfloat16()), torch.empty(card.n(2**30, 2**20), device=card.device)
    target = torch.empty_like(large)

    def tf32() -> None:
        torch.set_float32_matmul_precision("high")
        torch.mm(a, b)
        torch.set_float32_matmul_precision("highest")

    ways = {"fp32": lambda: torch.mm(a, b), "tf32": tf32, "bf16": lambda: torch.mm(*half), "copy": lambda: target.copy_(large)}
    amounts = dict.fromkeys(("fp32", "tf32", "bf16"), 2.0 * n**3) | {"copy": 8.0 * large.numel()}
    for name, seconds in card.take_turns(ways, 7).items():
        card.rates[name] = amounts[name] / seconds
        of = f"{card.rates[name] / 1e12:.2f} {'TB' if name == 'copy' else 'TFLOP'}/s"
        yield {"what": f"{name} {'of 4 GB' if name == 'copy' else f'product of {n}³'}", "ms": ms(seconds), "note": of}


def sae(card: Card) -> Rows:
    """One training step, clipping and Adam included; first, without them, its gradients against float64."""
    for architecture, d_in, d_sae in SHAPES[: card.n(len(SHAPES), 2)]:
        d_sae, batch = card.n(d_sae, 2048), card.n(BATCH, 64)
        name = f"{architecture} {d_in} → {d_sae:,}"
        yield from gradients(card, architecture, d_in, d_sae)
        planted, x = steps.planted(d_in, d_sae, architecture, batch=batch, device=card.device)
        dense, sparse = steps.Dense(planted, x), steps.Sparse(planted, x)
        ways = {"plain": dense.step, "ours": sparse.step} | ({} if card.is_small else {"autocast bf16": dense.autocast_step})
        seconds = card.take_turns(ways)
        for way, each in seconds.items():
            row = {"what": f"{name}, {way}", "ms": ms(each), "note": f"{batch / each:,.0f} tokens/s"}
            row |= {"times": each / seconds["ours"]} if "ours" in seconds else {}
            yield row | _share(card, "bf16", 12.0 * batch * d_in * d_sae, each)
        del dense
        if architecture == "standard":
            parts = {part.name: part.run for part in steps.parts_of(sparse)}
            for part, each in card.take_turns(parts).items():
                yield {"what": f"{name}, {part}", "ms": ms(each)}
        del sparse, planted, x
        if card.device == "cuda":
            torch.cuda.empty_cache()


def gradients(card: Card, architecture: str, d_in: int, d_sae: int) -> Rows:
    """Of a batch of 256, ours and the plain step's, against float64's: the largest error among weights, relative to the gradient's norm."""
    planted, x = steps.planted(d_in, d_sae, architecture, batch=256, device=card.device)
    exact = copy.deepcopy(planted).double()
    plain_step(exact, x.double(), steps.L1)
    for way, step in {"plain": plain_step, "ours": sparse_step}.items():
        step(planted, x, steps.L1)
        found, expected = ([weight.grad for weight in each.parameters() if weight.grad is not None] for each in (planted, exact))
        errors = [relative(mine, true) for mine, true in zip(found, expected, strict=True)]
        yield {"what": f"{architecture} {d_in} → {d_sae:,}, gradients, {way}", "error": max(errors)}


def sae_density(card: Card) -> Rows:
    """From which share of active entries on the dense step is the faster one (step.DENSEST)?"""
    d_sae, batch = card.n(16_384, 2048), card.n(BATCH, 64)
    for n_active in (64, 256, 512, 1024, 2048)[: card.n(5, 2)]:
        planted, x = steps.planted(768, d_sae, "standard", batch=batch, n_active=n_active, device=card.device)
        ways = {"plain": lambda p=planted, x=x: plain_step(p, x, 5.0), "ours": lambda p=planted, x=x: sparse_step(p, x, 5.0)}
        seconds = card.take_turns(ways, 3)
        for way, each in seconds.items():
            yield {"what": f"{n_active / d_sae:.1%} active, {way}", "ms": ms(each), "times": each / seconds["ours"]}


def ablation(card: Card) -> Rows:
    """Every active pair of a prompt; the naive loops on a sample, their clean pass counted as one more."""
    for n_tokens in (32, 128, 512)[: card.n(3, 1)]:
        s = random_setting(n_tokens, LAYER, card.device)
        features = attribute(s.model, s.sae, s.tokens, s.metric)
        order = torch.randperm(len(features.pairs))
        pairs = features.pairs[order[: card.n(8192, 16)]]

        def sample(n: int, s: Setting = s, pairs: torch.Tensor = pairs, acts: torch.Tensor = features.feature_acts) -> naive.Sample:
            pos, feature = pairs[:n].T
            return naive.Sample(pairs[:n], acts[pos, feature, None] * s.sae.W_dec[feature])

        measure = partial(ablate, s.model, s.sae, s.tokens, s.metric, progress=False)
        yield from effects(s, sample(card.n(20, 4)), measure, n_tokens)
        few = sample(n_few := card.n(10, 2))
        ways = {
            "ours": partial(measure, pairs),
            "ours, delta form": partial(measure, pairs, precision="delta"),
            "Hugging Face forward hook": lambda s=s, some=few: naive.naive_hf(s, some),
            "TransformerLens run_with_hooks": lambda s=s, some=few: naive.naive_hooked(s, some),
        }
        seconds = card.take_turns(ways, 3)
        ours, replay = seconds["ours"] / len(pairs), Replay(s.model, s.sae.cfg.hook_name, s.tokens)
        for way, whole in seconds.items():
            each = whole / len(pairs) if way.startswith("ours") else whole / (n_few + 1)
            row = {"what": f"{n_tokens} tokens, a pair, {way}", "ms": ms(each), "times": each / ours}
            if way == "ours":
                row |= _share(card, "fp32", naive.needed_operations(s, pairs[:, 0]), whole)
                row["note"] = f"{len(pairs):,} pairs in {whole:.3f} s, way {replay.way} {replay.why_not}"
            yield row


def effects(s: Setting, some: naive.Sample, measure: Callable, n_tokens: int) -> Rows:
    """Ours and the naive loop's, against the naive loop in float64: the largest error, relative to the largest effect."""
    exact = naive.naive_hf(_in_float64(s), naive.Sample(some.pairs, some.contributions.double()))
    delta = measure(some.pairs, precision="delta")
    for way, found in {
        "ours": measure(some.pairs),
        "ours, delta form": delta,
        "Hugging Face forward hook": naive.naive_hf(s, some),
    }.items():
        error = float((found.double() - exact).abs().max() / exact.abs().max())
        yield {"what": f"{n_tokens} tokens, effects, {way}", "error": error, "note": f"largest effect {exact.abs().max():.1e}"}


def _in_float64(s: Setting) -> Setting:
    return Setting(s.name, s.model, copy.deepcopy(s.hf_model).double(), s.sae, s.tokens, s.metric)


def together(card: Card) -> Rows:
    """Prompts of one length ranked together and one at a time."""
    s, n = random_setting(card.n(32, 8), LAYER, card.device), card.n(32, 3)
    bench, most = Workbench(model=s.model, sae=s.sae), card.n(10**6, 4)
    draws = torch.randint(1, s.model.cfg.d_vocab, (n, s.tokens.shape[1] - 1), generator=torch.Generator().manual_seed(0))
    prompts = [" ".join(f"w{i}" for i in row) for row in draws.tolist()]
    ways = {
        "together": lambda: bench.rank_many(prompts, s.metric, ablate=most, progress=False).rankings,
        "one at a time": lambda: [bench.rank(prompt, s.metric, ablate=most, progress=False) for prompt in prompts],
    }
    effects = [torch.tensor(np.concatenate([each.table["effect"].dropna() for each in way()])) for way in ways.values()]
    error, seconds = relative(*effects), card.take_turns(ways, 3)
    for way, whole in seconds.items():
        yield {"what": f"{n} prompts, {way}", "ms": ms(whole / n), "times": whole / seconds["together"], "error": error}


def attribution(card: Card) -> Rows:
    for n_tokens in (32, 512)[: card.n(2, 1)]:
        s = random_setting(n_tokens, LAYER, card.device)
        found = attribute(s.model, s.sae, s.tokens, s.metric).attribution
        exact = Setting(s.name, s.model, copy.deepcopy(s.hf_model).double(), copy.deepcopy(s.sae).double(), s.tokens, s.metric)
        error = relative(found, tutorial.idiom(exact))
        ways = {"ours": lambda s=s: attribute(s.model, s.sae, s.tokens, s.metric), "the tutorial idiom": lambda s=s: tutorial.idiom(s)}
        seconds = card.take_turns(ways | {"one forward pass": lambda s=s: tutorial.forward(s)}, 9)
        for way, each in seconds.items():
            row = {"what": f"{n_tokens} tokens, {way}", "ms": ms(each), "times": each / seconds["ours"]}
            yield row | ({"error": error} if way == "ours" else {}) | {"note": f"{each / seconds['one forward pass']:.2f} forward passes"}


def harvest(card: Card) -> Rows:
    n_rows, n_streamed = card.n(512, 4), card.n(2**18, 2**12)
    hook_name, texts = f"blocks.{LAYER}.hook_resid_pre", harvesting.documents(700, n_streamed)
    tokens = torch.randint(50_000, (n_rows, 128), device=card.device)
    exact = harvesting.through(harvesting.gpt2(torch.float32), tokens[:2].cpu(), hook_name)
    for dtype, roof_name in ((torch.bfloat16, "bf16"), (torch.float32, "fp32")):
        model = harvesting.gpt2(dtype, card.device)
        head = Head(model, [hook_name])
        error, name = relative(head(tokens)[hook_name][:2].cpu(), exact), str(dtype)[6:]
        with torch.no_grad():
            ways: dict[str, Callable[[], Any]] = {
                "Head": lambda head=head: head(tokens),
                "run_with_cache": lambda model=model: harvesting.through(model, tokens, hook_name),
                "stream, packed": lambda model=model: harvesting.streamed(model, texts, hook_name, 128, n_streamed),
            }
            seconds = card.take_turns(ways, 3)
        for way, each in seconds.items():
            n_tokens = n_streamed if way.startswith("stream") else tokens.numel()
            row = {"what": f"{name}, {way}", "ms": ms(each), "times": each / n_tokens / (seconds["Head"] / tokens.numel())}
            row |= _share(card, roof_name, n_tokens * LAYER * 24.0 * model.cfg.d_model**2, each)
            row |= {"error": error} if way == "Head" else {}
            yield row | {"note": f"{n_tokens / each:,.0f} tokens/s" + (f", way {head.way} {head.why_not}" if way == "Head" else "")}


def index(card: Card) -> Rows:
    for d_sae in (16_384, 65_536)[: card.n(2, 1)]:
        s = indexing.made(card.n(2**16, 2**10), card.n(d_sae, 1024), LAYER, n_layers=12, device=card.device)
        saes, shard, n_tokens = {"sae": s.sae}, Shard(0, 0, s.texts), len(s.texts) * indexing.LENGTH
        with tempfile.TemporaryDirectory() as folder:
            shards = Path(folder, "shards")

            def one_pass(s: Any = s, saes: Any = saes, shard: Shard = shard, shards: Path = shards) -> None:
                shutil.rmtree(shards, ignore_errors=True)
                collect(s.head, saes, shard, shards)

            seconds = card.take_turns({"ours, the pass": one_pass, "harvest and one encoder product": s.baseline}, 2)
            start = time.perf_counter()
            finish(s.model, saes, Path(folder), {"corpus": {"n_texts": len(s.texts)}}, progress=False)
            seconds["once: logits, neighbors, files"] = time.perf_counter() - start
        for way, each in seconds.items():
            row = {"what": f"{d_sae:,} features, {way}", "ms": ms(each), "times": each / seconds["ours, the pass"]}
            yield row | {"note": f"{n_tokens:,} tokens, {n_tokens / each:,.0f} tokens/s"}


def _share(card: Card, kind: str, operations: float, seconds: float) -> dict[str, float]:
    return {"share": operations / card.rates[kind] / seconds} if kind in card.rates else {}
