"""Is the workbench right on this architecture? One line for each name in TransformerLens's own table, on a tiny random checkpoint.

    python benchmarks/architectures.py [--only NAME …] [--seconds 240]

Each checkpoint is written to a folder as a user would have it and read by `load_model`. The reference is the Hugging Face model of the
same folder with one forward hook of torch's own and one whole pass for every edit: nothing of the bridge, nothing of ours. Figures are
the largest difference, in parts of the largest effect (rank), of the largest change that the edits make (clamp), of the median norm
(stream), of the largest gradient (attribution), of the largest logit. An architecture is exact where all are below LIMIT and steering
writes the same tokens with the KV cache as without; refused where `load_model` or the first question says in a ValueError what it does
not do; anything else is a fault.

Each runs in a process of its own with a time limit, so that none stops the others. The whole table takes about 20 minutes of one core.
"""

import argparse
import importlib
import multiprocessing
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from tiny_configs import D_MODEL, N_LAYERS, VARIANTS, tiny_config

LIMIT = 1e-4
D_SAE, N_TOKENS, N_PAIRS, N_NEW = 64, 11, 40, 6
BLOCK = N_LAYERS // 2
HOOK_NAMES = f"blocks.{BLOCK}.hook_resid_pre", f"blocks.{BLOCK}.mlp.hook_out"  # the first that holds a vector a token
BEFORE = "116 exact (77 prefix, 23 whole, 16 forward) in the build of 28 November 2026"


@dataclass
class Trial:
    """What one architecture gave."""

    verdict: str = "fault"  # exact | refused | fault | not made
    way: str = ""
    words: str = ""
    figures: dict[str, float] = field(default_factory=dict)
    heads: str = ""
    seconds: float = 0.0

    def __str__(self) -> str:
        figures = "  ".join(f"{name} {value:.0e}" for name, value in self.figures.items())
        return f"{self.verdict:<9} {self.way:<8} {self.seconds:4.0f} s  {figures}  {self.heads}  {self.words}".rstrip()


def trial(architecture: str, variant: str) -> Trial:
    """Make, load and compare one architecture."""
    import transformers

    if not hasattr(transformers, architecture):
        return Trial("not made", words="no class of this name in transformers: its code comes with the weights, and load_model runs none")
    found, start = Trial(), time.process_time()
    with tempfile.TemporaryDirectory() as folder, without_vision_tower(architecture):
        try:
            hf_model = made(architecture, variant, folder)
        except Exception as error:
            return Trial("not made", words=_words(error))
        try:
            compare(hf_model, folder, found)
        except ValueError as error:
            found.verdict, found.words = "refused", _words(error)
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            found.words = f"{_words(error)} ({Path(place.filename).name}:{place.lineno})"
    found.seconds = time.process_time() - start
    return found


def made(architecture: str, variant: str, folder: str) -> Any:
    """The Hugging Face model, saved in the folder with a tokenizer. Weights larger than at initialization: every part matters."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    torch.manual_seed(0)
    config = tiny_config(architecture, variant)
    hf_model = getattr(transformers, architecture)(config)
    for parameter in hf_model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    hf_model.save_pretrained(folder)
    vocabulary = {"<s>": 0, "<pad>": 1} | {f"w{i}": i for i in range(2, 200)}
    words = Tokenizer(models.WordLevel(vocabulary, "<pad>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"bos_token": "<s>", "eos_token": "<s>", "pad_token": "<pad>", "unk_token": "<pad>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(folder)
    hf_class = type(hf_model)
    return hf_class.from_pretrained(folder, attn_implementation="eager").eval().requires_grad_(False)


@contextmanager
def without_vision_tower(architecture: str) -> Iterator[None]:
    """Gemma 3n's comes from another library, timm; no text goes through it."""
    if architecture != "Gemma3nForConditionalGeneration":
        yield
        return
    from transformers.models.gemma3n import modeling_gemma3n as module

    modeling_gemma3n: Any = module

    real = modeling_gemma3n.AutoModel.from_config
    with patch.object(
        modeling_gemma3n.AutoModel, "from_config", lambda c, **k: torch.nn.Identity() if "vision" in c.model_type else real(c, **k)
    ):
        yield


def compare(hf_model: Any, folder: str, found: Trial) -> None:
    from workbench.bench import Workbench
    from workbench.circuits.intervene import clamp
    from workbench.circuits.metrics import logit_diff
    from workbench.circuits.ranking.ablation import ablate
    from workbench.circuits.ranking.attribution import attribute
    from workbench.circuits.steering.generation import Decoding, generate, read
    from workbench.model.head import Head
    from workbench.model.hooks import check_sae, last_logits
    from workbench.model.model import load_model
    from workbench.model.points import point
    from workbench.replay.replay import Replay
    from workbench.sae.sae import SAE, SAEConfig

    model = load_model(folder)
    if type(hf_model) is not type(model.original_model):  # BloomModel: the class of its checkpoints that have a head
        kind: Any = type(model.original_model)
        hf_model = kind.from_pretrained(folder, attn_implementation="eager").eval().requires_grad_(False)
    torch.manual_seed(1)
    tokens = torch.cat([torch.zeros(1, 1, dtype=torch.long), torch.randint(2, 200, (1, N_TOKENS))], dim=1)
    hook_name = next((name for name in HOOK_NAMES if name in model.hook_dict and point(model, name).width), HOOK_NAMES[0])
    sae = SAE(SAEConfig(D_MODEL, D_SAE, hook_name))
    check_sae(model, sae)
    plain = Plain(hf_model, *module_of(model, hf_model, hook_name))
    x, clean = plain.run(tokens)
    scale = x.norm(dim=-1).median() / D_MODEL**0.5
    for parameter in sae.parameters():
        parameter.data = 0.3 * torch.randn_like(parameter)
    sae.W_dec.data *= scale
    sae.W_enc.data /= scale
    sae.requires_grad_(False)
    found.figures["logits"] = _share(last_logits(model, tokens), clean[:, -1])

    metric = logit_diff(5, 7)
    replay = Replay(model, hook_name, tokens)
    found.way, found.words = replay.way, replay.why_not
    acts = sae.encode(x[0])
    pairs = acts.nonzero()
    pairs = pairs[torch.randperm(len(pairs))[:N_PAIRS]]
    expected = torch.stack([_diff(clean) - _diff(plain.run(tokens, edit_at(sae, int(p), {int(f): 0.0}))[1]) for p, f in pairs])
    found.figures["rank"] = _share(ablate(model, sae, tokens, metric, pairs, progress=False), expected)
    attribution = attribute(model, sae, tokens, metric)
    found.figures["attribution"] = _share(attribution.gradient, plain.gradient(tokens))

    bench, feature, value = Workbench(model=model, sae=sae), int(pairs[0, 1]), 3.0
    worst = largest = 0.0
    for pos in (0, 3, None):
        _, edited = plain.run(tokens, edit_at(sae, pos, {feature: value}))
        with clamp(bench, {feature: value}, pos=pos):
            whole, last = model(tokens), last_logits(model, tokens)
        largest = max(largest, float((edited - clean).abs().max()))
        worst = max(worst, float((whole - edited).abs().max()), float((last - edited[:, -1]).abs().max()))
    found.figures["clamp"] = worst / max(largest, 1e-12)

    rows = torch.randint(2, 200, (3, N_TOKENS))
    head = Head(model, [hook_name])
    x_rows, _ = plain.run(rows)
    found.figures["stream"] = float((head(rows)[hook_name] - x_rows).norm(dim=-1).max() / x_rows.norm(dim=-1).median())
    found.words = found.words or (f"stream by {head.way}: {head.why_not}" if head.way == "bridge" else "")

    written = {}
    for use_cache in (True, False):
        with clamp(bench, {feature: value}):
            written[use_cache] = generate(model, tokens, Decoding(N_NEW, progress=False), use_cache=use_cache)
    ours = torch.cat([tokens, written[False].tokens], dim=1)
    _, edited = plain.run(ours, edit_at(sae, None, {feature: value}))
    greedy = edited[:, N_TOKENS:-1].argmax(-1)
    is_text = written[False].is_text
    found.figures["steer"] = float((written[False].tokens != greedy)[is_text].sum() + (written[True].tokens != written[False].tokens).sum())
    expected = plain.run(ours)[1].log_softmax(-1)[:, N_TOKENS:-1].gather(-1, ours[:, N_TOKENS + 1 :, None])[..., 0]
    found.figures["read"] = _share(read(model, sae, ours, N_TOKENS + 1, [feature]).log_probs, expected)
    found.heads = heads_of(bench, tokens, pairs)
    is_exact = all(value <= LIMIT for value in found.figures.values())
    found.verdict = "exact" if is_exact else "fault"


def heads_of(bench: Any, tokens: torch.Tensor, pairs: torch.Tensor) -> str:
    """Attention edits: seen to be obeyed, or refused in words."""
    from workbench.circuits.depth.heads import head_effects
    from workbench.circuits.metrics import logit_diff

    prompt = " ".join(f"w{i}" for i in tokens[0, 1:].tolist())
    try:
        moved = head_effects(bench, prompt, logit_diff(5, 7), int(pairs[0, 1]), pos=2).table["moved"].abs().max()
        return f"heads move {moved:.1e}"
    except ValueError as error:
        return f"heads: {_words(error)[:60]}"


class Plain:
    """The Hugging Face model with a hook of torch's own: at what a module takes, or (is_output) at what it gives."""

    def __init__(self, hf_model: Any, module: torch.nn.Module, is_output: bool):
        self.hf_model, self.module, self.is_output = hf_model, module, is_output

    def run(self, tokens: torch.Tensor, edit: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        """(what stands there, all logits), with edit(x) in its place."""
        caught: list[torch.Tensor] = []

        def changed(x: torch.Tensor) -> torch.Tensor:
            stream = x[0] if x.ndim == 4 else x  # Gemma 3n's stack: its first stream is the one that layers work on
            caught.append(stream.detach())
            new = stream if edit is None else edit(stream)
            return torch.cat([new[None], x[1:]]) if x.ndim == 4 else new

        def enter(_: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
            return ((changed(args[0]), *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": changed(kwargs["hidden_states"])})

        def leave(_: Any, args: tuple, output: Any) -> Any:
            return (changed(output[0]), *output[1:]) if isinstance(output, tuple) else changed(output)

        hooks = (
            self.module.register_forward_hook(leave) if self.is_output else self.module.register_forward_pre_hook(enter, with_kwargs=True)
        )
        try:
            logits = self.hf_model(tokens, use_cache=False).logits
        finally:
            hooks.remove()
        return caught[0], logits

    def gradient(self, tokens: torch.Tensor) -> torch.Tensor:
        leaves: list[torch.Tensor] = []

        def leaf(x: torch.Tensor) -> torch.Tensor:
            leaves.append(x.detach().requires_grad_())
            return leaves[-1]

        with torch.enable_grad():
            _, logits = self.run(tokens, leaf)
            return torch.autograd.grad(_diff(logits), leaves[0])[0][0]


def module_of(model: Any, hf_model: Any, hook_name: str) -> tuple[torch.nn.Module, bool]:
    """(the Hugging Face module at the hook point, is it its output?)"""
    layer = hf_model.get_submodule(f"{model.adapter.component_mapping['blocks'].name}.{BLOCK}")
    return (layer, False) if hook_name == HOOK_NAMES[0] else (layer.get_submodule(model.blocks[BLOCK].mlp.name), True)


def edit_at(sae: Any, pos: int | None, values: dict[int, float]) -> Any:
    """x with features set, at one position or at all."""

    def edit(x: torch.Tensor) -> torch.Tensor:
        acts = sae.encode(x)
        edited = acts.clone()
        for feature, value in values.items():
            edited[..., feature] = value
        change = (edited - acts) @ sae.W_dec
        if pos is not None:
            change[:, [p for p in range(x.shape[1]) if p != pos]] = 0
        return x + change

    return edit


def _diff(logits: torch.Tensor) -> torch.Tensor:
    return logits[0, -1, 5] - logits[0, -1, 7]


def _share(found: torch.Tensor, expected: torch.Tensor) -> float:
    difference = (found - expected).abs().max() / expected.abs().max().clamp(min=1e-12)
    return float(difference) if difference.isfinite() else float("inf")


def _words(error: Exception) -> str:
    return f"{'' if isinstance(error, ValueError) else type(error).__name__ + ': '}{' '.join(str(error).split())}"[:240]


def _child(connection: Any, architecture: str, variant: str) -> None:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        connection.send(trial(architecture, variant))


def in_a_process(architecture: str, variant: str, seconds: float) -> Trial:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(theirs, architecture, variant))
    process.start()
    theirs.close()
    try:
        found = ours.recv() if ours.poll(seconds) else Trial(words=f"no result within {seconds:.0f} s")
    except EOFError:
        found = Trial(words="the process died")
    process.terminate()
    process.join()
    return found


def main() -> None:
    from transformer_lens.factories.architecture_adapter_factory import SUPPORTED_ARCHITECTURES

    for name in ("workbench.bench", "workbench.circuits.depth.heads"):  # once, before the forks
        importlib.import_module(name)

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", default=list(SUPPORTED_ARCHITECTURES), help="architectures by name")
    parser.add_argument("--seconds", type=float, default=240, help="for each, wall clock")
    options = parser.parse_args()
    cases = [(name, variant) for name in options.only for variant in ("", *VARIANTS.get(name, {}))]
    verdicts: Counter[str] = Counter()
    for name, variant in cases:
        found = in_a_process(name, variant, options.seconds)
        verdicts[found.verdict] += 1
        if found.verdict == "exact":
            verdicts[found.way] += 1
        print(f"{f'{name} {variant}':<48} {found}", flush=True)
    ways = ", ".join(f"{verdicts[way]} {way}" for way in ("prefix", "whole", "forward"))
    print(f"\n{len(cases)} configurations of {len(options.only)} names: {verdicts['exact']} exact ({ways}), {verdicts['refused']} refused,")
    print(f"{verdicts['fault']} faults, {verdicts['not made']} not made. Before: {BEFORE}")


if __name__ == "__main__":
    main()
