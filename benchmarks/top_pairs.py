"""Are the ten largest effects certain when `rank(…, until="top 10")` says so, and how much sooner than with all pairs?

    python benchmarks/top_pairs.py [--questions 300] [--texts 400] [--prompts 60] [--confidence 0.9 0.99] [--skip-speed]

Calibration: every pair of every prompt is ablated; the rule (workbench/circuits/ranking/until.py) is then played on those effects.
Prompts: the atlas's held-out questions, its texts cut in half (the model's own two likeliest tokens), and random words on random GPT-2 and
Llama models whose weights are small (nearly linear) to large (attributions are wrong by half of themselves). It holds if at least as
large a share of the prompts as claimed have all of their ten. Speed: GPT-2-small's shape, 32 tokens, 64 active a token, against all
pairs in the same run; target 4 ×.
"""

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from setting import random_setting, take_turns
from torch import nn

from workbench import atlas
from workbench.circuits.metrics import logit_diff
from workbench.circuits.ranking.measurement import Measurement
from workbench.circuits.ranking.until import rounds
from workbench.model.model import load_model
from workbench.model.tokens import to_tokens
from workbench.sae.config import SAEConfig
from workbench.sae.sae import SAE

N_TOP, N_WORDS, D_MODEL = 10, 500, 64
STDS = (0.02, 0.1, 0.25)


def of_questions(n: int) -> Iterator[Measurement]:
    bench = atlas.load()
    for question in atlas.questions(held_out=True)[:n]:
        yield Measurement(bench.model, bench.sae, question.prompt, logit_diff(question.answer, question.baseline))


def of_texts(n: int) -> Iterator[Measurement]:
    bench = atlas.load()
    for text in atlas.texts(11, n):
        tokens = to_tokens(bench.model, str(text))[0]
        if len(tokens) >= 12:
            prompt = bench.model.tokenizer.decode(tokens[1 : len(tokens) // 2])
            first, second = bench.model(to_tokens(bench.model, prompt))[0, -1].topk(2).indices.tolist()
            yield Measurement(bench.model, bench.sae, prompt, logit_diff(first, second))


def of_random(family: str, std: float, n: int, seed: int) -> Iterator[Measurement]:
    torch.manual_seed(seed)
    model = load_model(random_model(family, std).eval().requires_grad_(False), tokenizer=tokenizer())
    sae = SAE(SAEConfig(D_MODEL, 1024, "blocks.1.hook_resid_pre", architecture="topk", k=24))
    nn.init.normal_(sae.W_dec, std=D_MODEL**-0.5)
    sae.W_dec.data /= sae.W_dec.data.norm(dim=1, keepdim=True)
    sae.W_enc.data = sae.W_dec.data.T
    sae.requires_grad_(False)
    draws = np.random.default_rng(seed)
    for _ in range(n):
        words = " ".join(f"w{i}" for i in draws.integers(1, N_WORDS, draws.integers(12, 40)))
        answer, baseline = (f"w{i}" for i in draws.choice(np.arange(1, N_WORDS), 2, replace=False))
        yield Measurement(model, sae, words, logit_diff(answer, baseline))


def random_model(family: str, std: float) -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    ends: dict[str, Any] = dict(vocab_size=N_WORDS, bos_token_id=0, eos_token_id=0, initializer_range=std)
    if family == "gpt2":
        return GPT2LMHeadModel(GPT2Config(n_embd=D_MODEL, n_layer=4, n_head=4, n_positions=256, **ends))
    sizes: dict[str, Any] = dict(hidden_size=D_MODEL, intermediate_size=172, num_hidden_layers=4, max_position_embeddings=256)
    return LlamaForCausalLM(LlamaConfig(num_attention_heads=4, num_key_value_heads=2, **sizes, **ends))


def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.WordLevel({"<s>": 0} | {f"w{i}": i for i in range(1, N_WORDS)}, "<s>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="<s>")


def played(found: Measurement, confidence: float) -> tuple[int, bool]:
    """(pairs that the rule measures, are the ten largest among them?) on effects that are known."""
    truth, effects = found.effects.numpy(), np.full(len(found.pairs), np.nan)
    n = min(N_TOP, len(truth))
    for rows in rounds(found.estimates, effects, n, confidence):
        effects[rows] = truth[rows]
    return int((~np.isnan(effects)).sum()), not np.isnan(effects[np.argsort(-truth)[:n]]).any()


def calibrate(options: argparse.Namespace) -> None:
    sources = {"atlas, questions": of_questions(options.questions), "atlas, texts": of_texts(options.texts)}
    for seed, (family, std) in enumerate((family, std) for family in ("gpt2", "llama") for std in STDS):
        sources[f"{family}, weights {std}"] = of_random(family, std, options.prompts, seed)
    print(f"{'':<22}{'prompts':>8}{'pairs':>8}" + "".join(f"   at {c:<5}: measured, all ten" for c in options.confidence))
    right, n_all = dict.fromkeys(options.confidence, 0), 0
    for name, source in sources.items():
        n, pairs, measured, hits = 0, 0, dict.fromkeys(options.confidence, 0), dict.fromkeys(options.confidence, 0)
        for found in source:
            found.measure(progress=False)
            n, pairs = n + 1, pairs + len(found.pairs)
            for confidence in options.confidence:
                n_measured, is_right = played(found, confidence)
                measured[confidence] += n_measured
                hits[confidence] += is_right
        n_all += n
        shown = "".join(f"{measured[c] / pairs:22.0%}{hits[c]:5}/{n}" for c in options.confidence)
        print(f"{name:<22}{n:8}{pairs / n:8.0f}{shown}", flush=True)
        right = {c: right[c] + hits[c] for c in right}
    print("; ".join(f"claimed {c:.0%}, held {right[c] / n_all:.1%} of {n_all}" for c in options.confidence))


def speed() -> None:
    s = random_setting(32, 6)
    prompt = " ".join(f"w{int(token)}" for token in s.tokens[0] if token)
    found: dict[str, Measurement] = {}

    def all_pairs() -> None:
        found["all"] = Measurement(s.model, s.sae, prompt, s.metric)
        found["all"].measure(progress=False)

    def until_certain() -> None:
        found["until"] = Measurement(s.model, s.sae, prompt, s.metric)
        found["until"].measure_until(N_TOP, 0.99, progress=False)

    seconds = take_turns({"all": all_pairs, "until": until_certain}, 3)
    best = [np.argsort(-np.nan_to_num(each.effects.numpy(), nan=-np.inf), kind="stable")[:N_TOP] for each in found.values()]
    measured = int(found["until"].effects.isfinite().sum())
    same = "the same ten" if set(best[0]) == set(best[1]) else f"{len(set(best[0]) & set(best[1]))} of the ten"
    print(
        f"GPT-2-small's shape, {len(found['all'].pairs):,} pairs: all {seconds['all']:.2f} s, until the top 10 are certain "
        f"{seconds['until']:.2f} s ({measured:,} pairs), {seconds['all'] / seconds['until']:.1f} × (target 4), {same}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--texts", type=int, default=400)
    parser.add_argument("--prompts", type=int, default=60, help="of each random model")
    parser.add_argument("--confidence", type=float, nargs="+", default=[0.9, 0.99])
    parser.add_argument("--skip-speed", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    calibrate(given)
    if not given.skip_speed:
        speed()
