"""Graphs of transcoders' features beside circuit-tracer's `attribute`, on the same files and in one run: time, memory, the same edges?

    python benchmarks/circuit_peer.py [--peer PYTHON] [--tokens 8 16 32 128] [--batch 8 16 32]

A random model of GPT-2 small's shape with twelve ReLU transcoders of 4,096 features (mlp.hook_in → mlp.hook_out), 32 of them active at a
token, written once; the peer reads them in a process of its own environment (peer_attribute.py), at every size of batch that is named; at
more than 16 tokens at the one that was fastest before. One thread each, nothing left out.

What a clock contains: of both, from the tokens to every row of the graph, forward passes included, loading not, neither pruning nor
tables; a graph of four tokens came before it. Up to 8 tokens each side runs three times, up to 16 twice, and its fastest counts.
Memory: the peak of the first run beyond what the process held before. Ours is taken before and after the peer's, so that other work on
the machine touches both; its better time and its larger memory count. Without --peer ours alone is timed.
"""

import argparse
import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peer_attribute import WARM_UP, measured
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from workbench.circuits.direct.effects import DirectEffects, direct_effects
from workbench.model.model import load_model
from workbench.sae.config import TranscoderConfig
from workbench.sae.formats.circuit_tracer_write import write_set
from workbench.sae.transcoder import Transcoder, load_transcoders

N_ACTIVE, D_SAE, START = 32, 4_096, "<|endoftext|>"
MOST_PEER_TOKENS, MOST_SCANNED = 32, 16  # the longest prompt that the peer gets (7 to 10 minutes), and that it gets at every batch
FASTER, SMALLER, SAME = 10, 0.5, 1e-4  # targets: times as fast; of its memory; largest difference of an edge, of the largest edge
HOW_TO = """no --peer: ours alone. Its environment, anywhere:
    python -m venv PEER && PEER/bin/pip install torch==2.13.0 && PEER/bin/pip install circuit-tracer==0.5.0
    python benchmarks/circuit_peer.py --peer PEER/bin/python"""


@dataclass(frozen=True)
class Taken:
    """One graph: CPU seconds, gigabytes beyond the weights, and whose."""

    seconds: float
    gigabytes: float
    of: str = ""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peer", help="the Python of an environment with circuit-tracer 0.5.0")
    parser.add_argument("--tokens", type=int, nargs="+", default=[8, 16, 32, 128])
    parser.add_argument("--batch", type=int, nargs="+", default=[8, 16, 32], help="of the peer; the fastest counts")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not options.peer:
        print(HOW_TO)
    with tempfile.TemporaryDirectory() as name:
        folder, seconds, batches = Path(name), {}, options.batch
        tokens = write_files(folder, max(options.tokens))
        model, transcoders = load_model(folder / "gpt2"), load_transcoders(folder / "transcoders")
        direct_effects(model, transcoders, tokens[:, :WARM_UP])
        for n in sorted(options.tokens):
            effects, ours = graph(model, transcoders, tokens[:, :n])
            print(f"\n{n} tokens, {effects.nodes.is_feature.sum():,} active features, {len(effects.nodes.layer):,} nodes", flush=True)
            theirs = []
            if options.peer and n <= MOST_PEER_TOKENS:
                theirs = [peer(options.peer, folder, batch, tokens[0, :n].tolist()) for batch in batches]
                batches = [min(zip(theirs, batches, strict=True), key=lambda pair: pair[0].seconds)[1]] if n >= MOST_SCANNED else batches
            again = graph(model, transcoders, tokens[:, :n])[1] if n <= MOST_PEER_TOKENS else ours
            ours = Taken(min(ours.seconds, again.seconds), max(ours.gigabytes, again.gigabytes), "ours")
            seconds[n] = ours.seconds
            report([*theirs, ours])
            if theirs:
                report_edges(folder, effects)
            del effects
    if len(seconds) > 1:
        exponent = np.polyfit(np.log(list(seconds)), np.log(list(seconds.values())), 1)[0]
        print(f"\nours grows as tokens to the power {exponent:.2f}, over {min(seconds)} to {max(seconds)} tokens")


def graph(model: Any, transcoders: dict[int, Transcoder], tokens: torch.Tensor) -> tuple[DirectEffects, Taken]:
    effects, seconds, gigabytes = measured(lambda: direct_effects(model, transcoders, tokens), n_runs(tokens.shape[1]))
    return effects, Taken(seconds, gigabytes, "ours")


def n_runs(n_tokens: int) -> int:
    """Of each side: what takes seconds is measured three times, what takes a minute twice."""
    return 3 if n_tokens <= 8 else 2 if n_tokens <= MOST_SCANNED else 1


def peer(python: str, folder: Path, batch: int, tokens: list[int]) -> Taken:
    """What the peer takes; its graph is then in the folder."""
    script = str(Path(__file__).with_name("peer_attribute.py"))
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    asked = [python, script, str(folder), *map(str, (batch, n_runs(len(tokens)), *tokens))]
    run = subprocess.run(asked, env=env, capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"the peer failed:\n{run.stderr}")
    found = json.loads(run.stdout.splitlines()[-1])
    assert found["tokens"] == tokens, "the peer put another token in front"
    return Taken(found["seconds"], found["gigabytes"], f"{found['versions'][0]}, batch {batch}")


def report(taken: list[Taken]) -> None:
    for each in taken:
        print(f"  {each.seconds:7.1f} s  {each.gigabytes:5.2f} GB  {each.of}", flush=True)
    *theirs, ours = taken
    if theirs:
        best = min(theirs, key=lambda each: each.seconds)
        faster, share = best.seconds / ours.seconds, ours.gigabytes / best.gigabytes
        print(f"  {faster:.1f} × as fast as {best.of} (target {FASTER}), {share:.2f} of its memory (target {SMALLER})", flush=True)


def report_edges(folder: Path, effects: DirectEffects) -> None:
    """The peer's matrix against ours, for the features that are active in both: the largest difference, of the largest edge."""
    features, logits = np.load(folder / "peer_features.npy"), np.load(folder / "peer_logits.npy")
    theirs = np.load(folder / "peer_edges.npy", mmap_mode="r")
    nodes, n_pos, n_layers = effects.nodes, len(effects.nodes.starts), effects.nodes.starts.shape[1] - 2
    row = {(layer, pos, feature): i for i, (layer, pos, feature) in enumerate(features.tolist())}
    row |= {(layer, pos, -1): len(features) + layer * n_pos + pos for layer in range(n_layers) for pos in range(n_pos)}
    row |= {(-1, pos, -1): len(features) + n_layers * n_pos + pos for pos in range(n_pos)}
    at = np.array([row.get(key, -1) for key in zip(nodes.layer.tolist(), nodes.pos.tolist(), nodes.feature.tolist(), strict=True)])
    is_known, difference, largest = at >= 0, 0.0, 0.0
    for starts, edges in zip(nodes.starts, effects.edges, strict=True):
        mine = is_known[starts[0] : starts[-1]]
        expected = np.asarray(theirs[at[starts[0] : starts[-1]][mine]])
        ours = np.zeros_like(expected)
        ours[:, at[: edges.shape[1]][is_known[: edges.shape[1]]]] = edges[mine][:, is_known[: edges.shape[1]]]
        difference, largest = max(difference, float(np.abs(ours - expected).max())), max(largest, float(np.abs(expected).max()))
    answers = np.asarray(theirs[-len(logits) :])[:, at[is_known]]
    order = [logits.tolist().index(token) for token in effects.logit_tokens.tolist()]
    difference = max(difference, float(np.abs(effects.to_logits[:, is_known] - answers[order]).max()))
    n_other = len(features) + int(nodes.is_feature.sum()) - 2 * int((is_known & nodes.is_feature).sum())
    where = f"the largest difference is {difference / largest:.1e} of the largest edge, {largest:.1f} (target {SAME:.0e})"
    print(f"  {where}; features active in one only: {n_other}", flush=True)


def write_files(folder: Path, n_tokens: int) -> torch.Tensor:
    """The model and its transcoders, as both programs read them, and the prompt's tokens (1, pos), the start token first."""
    torch.manual_seed(0)
    save_model(GPT2LMHeadModel(GPT2Config()).eval(), folder / "gpt2")
    model = load_model(folder / "gpt2")
    start = model.cfg.d_vocab - 1
    tokens = torch.cat([torch.tensor([start]), torch.randint(start, (n_tokens - 1,))])[None]
    names = [f"blocks.{layer}.mlp.hook_{end}" for layer in range(model.cfg.n_layers) for end in ("in", "out")]
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens, names_filter=names)
    places = zip(names[::2], names[1::2], strict=True)
    planted = [plant(reads, writes, cache[reads][0, 1:], cache[writes][0, 1:]) for reads, writes in places]
    write_set(dict(enumerate(planted)), folder / "transcoders")
    return tokens


def save_model(hf_model: GPT2LMHeadModel, folder: Path) -> None:
    """The folder as transformers 5 writes it, but for two words that the peer's older libraries do not find in it."""
    words = {f"w{i}": i for i in range(hf_model.config.vocab_size - 1)} | {START: hf_model.config.vocab_size - 1}
    tokenizer = Tokenizer(models.WordLevel(words, START))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue]
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=START, eos_token=START, unk_token=START).save_pretrained(folder)
    hf_model.save_pretrained(folder)
    for name, said in (("tokenizer_config", {"tokenizer_class": "PreTrainedTokenizerFast"}), ("config", {"n_ctx": 1024})):
        path = folder / f"{name}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | said))


@torch.no_grad()
def plant(hook_name_in: str, hook_name_out: str, x: torch.Tensor, y: torch.Tensor) -> Transcoder:
    """Random directions, a bias that lets N_ACTIVE features fire at a token on average, and writes as large as what the MLP gives."""
    each = Transcoder(TranscoderConfig(x.shape[1], y.shape[1], D_SAE, hook_name_in, hook_name_out, model_name="gpt2"))
    each.W_enc.data = torch.nn.functional.normalize(torch.randn(D_SAE, x.shape[1])).T
    each.W_dec.data = torch.nn.functional.normalize(torch.randn(D_SAE, y.shape[1]))
    each.b_enc -= each.pre_acts(x).flatten().topk(len(x) * N_ACTIVE + 1).values[-2:].mean()  # between two, so that none is at 0
    each.b_dec.data = y.mean(0)
    each.W_dec *= (y - each.b_dec).norm() / (each.encode(x) @ each.W_dec).norm()
    return each.requires_grad_(False)


if __name__ == "__main__":
    main()
