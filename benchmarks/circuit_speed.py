"""How fast are a circuit's edges? CPU seconds of this process on one thread, and what the plain ways take.

    python benchmarks/circuit_speed.py [--part atlas|gpt2|both] [--tokens 16]

atlas: every measured edge of the Kobe prompt between its places, beside ranking the same places. gpt2: a random model of GPT-2
small's shape with an SAE of 4,096 features at the entrance of each of its 12 blocks, 32 of them active at a token: measured edges beside
one hooked forward pass a source, attributed edges beside one backward pass a target. The plain ways are timed on a few rows of every
place and scaled up.
"""

import argparse
import resource
import time
from collections.abc import Sequence
from typing import Any

import torch
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, GPT2Config, PreTrainedTokenizerFast

from workbench import atlas
from workbench.circuits.depth.layers import rank_layers
from workbench.circuits.graph.attributed import attribute_edges
from workbench.circuits.graph.edges import measure_edges
from workbench.circuits.graph.places import Place, read_places
from workbench.circuits.metrics import ResolvedMetric, logit_diff, resolve
from workbench.model.hooks import hooked, last_logits
from workbench.model.model import load_model
from workbench.model.tokens import to_tokens
from workbench.replay.between import Between
from workbench.sae.sae import SAE, SAEConfig

N_ACTIVE, D_SAE, N_PLAIN = 32, 4_096, 3  # N_PLAIN: rows of each place on which the plain ways are timed


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--part", choices=("atlas", "gpt2", "both"), default="both")
    parser.add_argument("--tokens", type=int, default=16)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.part != "gpt2":
        on_atlas()
    if options.part != "atlas":
        on_gpt2(options.tokens)


def on_atlas() -> None:
    bench, question = atlas.load(), atlas.questions()[0]
    metric, layers = logit_diff(question.answer, question.baseline), dict(bench.layers)
    ours, plain = [], []
    for _ in range(4):
        ours.append(seconds(lambda: edges_of(bench.model, layers, to_tokens(bench.model, question.prompt), resolve(bench.model, metric))))
        plain.append(seconds(lambda: rank_layers(bench, layers, question.prompt, metric, progress=False)))
    ratio = min(ours) / min(plain)
    print(f"atlas, Kobe prompt: every measured edge {min(ours):.2f} s, ranking the same places {min(plain):.2f} s: {ratio:.2f} ×")


def edges_of(model: Any, layers: dict[str, SAE], tokens: torch.Tensor, metric: ResolvedMetric) -> list[Place]:
    between = Between(model, list(layers), tokens)
    places = read_places(model, layers, tokens, metric, between.clean_at)
    for first, then in zip(places, places[1:], strict=False):
        measure_edges(between, first, then)
    return places


def on_gpt2(n_tokens: int) -> None:
    torch.manual_seed(0)
    hf_model = AutoModelForCausalLM.from_config(GPT2Config(), attn_implementation="eager").eval()
    start = "<|start|>"
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({start: 0}, start)), bos_token=start, eos_token=start)
    model = load_model(hf_model, tokenizer=tokenizer)
    tokens = torch.randint(1, 50_000, (1, n_tokens))
    names = [f"blocks.{k}.hook_resid_pre" for k in range(model.cfg.n_layers)]
    metric = ResolvedMetric(5, 7)
    between = Between(model, names, tokens)
    layers = {name: planted(name, between.clean_at[name]) for name in names}
    places = read_places(model, layers, tokens, metric, between.clean_at)
    pairs = list(zip(places, places[1:], strict=False))
    n_sources, n_targets = sum(len(first.pos) for first, _ in pairs), sum(int(then.is_feature.sum()) for _, then in pairs)
    print(f"GPT-2 small's shape, {n_tokens} tokens: {n_sources:,} sources, {n_targets:,} targets, by {between.way}")
    measured = seconds(lambda: [measure_edges(between, *pair) for pair in pairs])
    hooked_one = sum(seconds(lambda pair=pair: plain_forward(model, tokens, *pair)) / N_PLAIN * len(pair[0].pos) for pair in pairs)
    print(f"measured   {measured:6.1f} s; one hooked forward pass a source {hooked_one:7.1f} s: {hooked_one / measured:.1f} ×")
    attributed = seconds(lambda: [attribute_edges(between, *pair) for pair in pairs])
    backward = sum(
        seconds(lambda pair=pair: plain_backward(model, tokens, *pair)) / N_PLAIN * int(pair[1].is_feature.sum()) for pair in pairs
    )
    kept = sum(backward_only(model, tokens, *pair) / N_PLAIN * int(pair[1].is_feature.sum()) for pair in pairs)
    print(f"attributed {attributed:6.1f} s; one forward and backward pass a target {backward:7.1f} s: {backward / attributed:.1f} ×")
    print(f"           the backward passes alone, one graph kept for a place: {kept:.1f} s: {kept / attributed:.1f} ×")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB, the model and the SAEs among it")


def planted(hook_name: str, x: torch.Tensor) -> SAE:
    """A random SAE whose biases let N_ACTIVE features fire at a token on average."""
    sae = SAE(SAEConfig(x.shape[1], D_SAE, hook_name))
    sae.W_dec.data = torch.nn.functional.normalize(torch.randn(D_SAE, x.shape[1]))
    sae.W_enc.data = sae.W_dec.data.clone().T
    sae.b_enc.data -= (x @ sae.W_enc).quantile(1 - N_ACTIVE / D_SAE, dim=1).mean()
    return sae.requires_grad_(False)


@torch.no_grad()
def plain_forward(model: Any, tokens: torch.Tensor, first: Place, then: Place) -> None:
    """The idiom: a hook that takes one source away, the model run, the later place encoded; N_PLAIN sources."""
    assert then.sae is not None
    for source in sources(len(first.pos)):

        def without(x: torch.Tensor, source: int = source) -> torch.Tensor:
            x = x.clone()
            x[0, first.pos[source]] -= first.contribution[source]
            return x

        found: list[torch.Tensor] = []
        with hooked(model, first.hook_name, without), hooked(model, then.hook_name, lambda x, found=found: found.append(x.clone())):
            last_logits(model, tokens)
        then.sae.encode(found[0])


def plain_backward(model: Any, tokens: torch.Tensor, first: Place, then: Place) -> None:
    """The idiom: forward, then backward from one target's pre-activation; N_PLAIN targets."""
    for target in sources(int(then.is_feature.sum())):
        x, pre_acts = graph_of(model, tokens, first, then)
        one_backward(x, pre_acts, first, then, target, keep=False)


def backward_only(model: Any, tokens: torch.Tensor, first: Place, then: Place) -> float:
    """The seconds of N_PLAIN backward passes through one graph that is kept."""
    x, pre_acts = graph_of(model, tokens, first, then)
    return seconds(lambda: [one_backward(x, pre_acts, first, then, target, keep=True) for target in sources(int(then.is_feature.sum()))])


def graph_of(model: Any, tokens: torch.Tensor, first: Place, then: Place) -> tuple[torch.Tensor, torch.Tensor]:
    assert then.sae is not None
    leaves, found = [], []

    def leaf(x: torch.Tensor) -> torch.Tensor:
        leaves.append(x.detach().clone().requires_grad_())
        return leaves[-1]

    with torch.enable_grad(), hooked(model, first.hook_name, leaf), hooked(model, then.hook_name, lambda x: found.append(x.clone())):
        last_logits(model, tokens)
        return leaves[0], then.sae.pre_acts(found[0][0])


def one_backward(x: torch.Tensor, pre_acts: torch.Tensor, first: Place, then: Place, target: int, keep: bool) -> torch.Tensor:
    row = then.is_feature.nonzero()[target, 0]
    gradient = torch.autograd.grad(pre_acts[then.pos[row], then.feature[row]], x, retain_graph=keep)[0][0]
    return (gradient[first.pos] * first.contribution).sum(-1)


def sources(n: int) -> Sequence[int]:
    return torch.linspace(0, n - 1, N_PLAIN).long().tolist()


def seconds(work: Any) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


if __name__ == "__main__":
    main()
